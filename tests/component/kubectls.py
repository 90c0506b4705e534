"""Unmodified kubectl of several minors, on a real API server of their own.

Found are ``kubectl.1.NN`` (or ``kubectl-1.NN``) in the directories of PATH and beside the real file of ``kubectl``, and
the files listed in ``SKERRY_KUBECTLS``. Three minors run every time, the others with the slow tests.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from skerry.apiserver.core import ApiCore
from skerry.apiserver.http import ApiServer
from skerry.app import pki
from skerry.base.x509 import LocalCertifier
from skerry.kube.ports import KubeletRequest

USUAL = ("1.27", "1.30", "1.33")
EDITOR = "sed -i s/blue/edited/"
NEWEST = 33
OLDEST = 27


def _places() -> Iterator[Path]:
    for directory in os.environ.get("PATH", "").split(os.pathsep):
        if directory:
            yield Path(directory)
    plain = shutil.which("kubectl")
    if plain:
        yield Path(plain).resolve().parent


def find_kubectls() -> dict[str, Path]:
    """kubectl files by minor version such as ``1.30``."""
    found: dict[str, Path] = {}
    for name in os.environ.get("SKERRY_KUBECTLS", "").split(os.pathsep):
        version = re.search(r"(1\.\d+)", Path(name).name)
        if name and version:
            found[version[1]] = Path(name)
    for place in _places():
        for minor in range(OLDEST, NEWEST + 1):
            for name in (f"kubectl.1.{minor}", f"kubectl-1.{minor}"):
                if (place / name).is_file():
                    found.setdefault(f"1.{minor}", place / name)
    return found


KUBECTLS = find_kubectls()


def _versions() -> list[Any]:
    minors = sorted({*USUAL, *KUBECTLS})
    return [pytest.param(minor, marks=() if minor in USUAL else pytest.mark.slow) for minor in minors]


@pytest.fixture(params=_versions())
def version(request: pytest.FixtureRequest) -> str:
    """A minor version; skipped when this machine has no such kubectl."""
    minor: str = request.param
    if minor not in KUBECTLS:
        pytest.skip(f"no kubectl {minor} here: name one kubectl.{minor} in PATH, or list it in SKERRY_KUBECTLS")
    return minor


class Nodes:
    """A ``NodeConnector`` whose one node answers logs."""

    def __init__(self) -> None:
        self.more = asyncio.Event()
        self.status = 200
        self.headers: dict[str, str] = {}

    @asynccontextmanager
    async def request(self, node: str, request: KubeletRequest) -> AsyncIterator[Nodes]:
        yield self

    async def body(self) -> AsyncIterator[bytes]:
        yield b"first line\n"
        await self.more.wait()
        yield b"last line\n"

    def upgrade(self, node: str, request: KubeletRequest) -> Any:
        raise NotADirectoryError


@dataclass
class Kubectl:
    """One binary with its own home, on one server."""

    binary: Path
    kubeconfig: Path
    home: Path
    core: ApiCore
    nodes: Nodes
    version: str
    started: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        """Run it; the caller reads and waits."""
        process = await asyncio.create_subprocess_exec(
            self.binary,
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={
                "KUBECONFIG": str(self.kubeconfig),
                "HOME": str(self.home),
                "PATH": os.environ.get("PATH", ""),
                "TZ": "UTC",
                "KUBE_EDITOR": EDITOR,
            },
        )
        self.started.append(process)
        return process

    async def __call__(self, *words: str, text: str = "", code: int = 0) -> str:
        """Run it to its end, with ``text`` as its input; returns what it wrote."""
        process = await self.start(*words)
        async with asyncio.timeout(30):
            output, _ = await process.communicate(text.encode())
        written = output.decode()
        assert process.returncode == code, f"kubectl {' '.join(words)}: {written}"
        return written

    async def header(self, *words: str) -> list[str]:
        """The column names of a ``get``."""
        return re.split(r"  +", (await self("get", *words)).splitlines()[0].strip())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> pki.ApiFiles:
    return asyncio.run(
        pki.prepare(tmp_path_factory.mktemp("pki"), hosts=["localhost", "127.0.0.1"], certs=LocalCertifier())
    )


@pytest.fixture
async def kubectl(tmp_path: Path, version: str, files: pki.ApiFiles) -> AsyncIterator[Kubectl]:
    core = ApiCore(database=tmp_path / "api.db", token_key=files.token_key, synchronous="NORMAL")
    await core.start()
    nodes = Nodes()
    server = ApiServer(core, nodes=nodes)
    port = await server.listen("127.0.0.1", 0, cert_file=files.cert, key_file=files.key, client_ca_file=files.ca_cert)
    kubeconfig = tmp_path / "kubeconfig"
    pki.write_kubeconfig(kubeconfig, files, server=f"https://127.0.0.1:{port}")
    home = tmp_path / "home"
    home.mkdir()
    runner = Kubectl(KUBECTLS[version], kubeconfig, home, core, nodes, version)
    try:
        await runner("create", "serviceaccount", "default")
        yield runner
    finally:
        for process in runner.started:
            if process.returncode is None:
                process.kill()
                await process.communicate()
        await server.aclose()
        await core.aclose()
