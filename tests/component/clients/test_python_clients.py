"""Python clients that people use, unmodified, each in a process of its own against a real API server."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skerry.api.gvk import SERVICEACCOUNTS
from skerry.apiserver.auth.authn import MASTERS, User
from skerry.apiserver.core import ApiCore
from skerry.apiserver.http import ApiServer
from skerry.apiserver.local import LocalKubeApi
from skerry.app import pki
from skerry.base.x509 import LocalCertifier

STORIES: dict[str, dict[str, Any]] = {
    "kubernetes": {
        "version": "1",
        "data": {"a": "1", "b": "2"},
        "watched": "DELETED",
        "scale": 3,
        "missing": [404, "NotFound"],
        "applied": ["3", "py"],
        "custom": "modbus",
    },
    "kr8s": {
        "whoami": "skerry-admin",
        "version": "1",
        "kinds": True,
        "data": [{"a": "1", "b": "2"}],
        "pod": [True, "Pending"],
        "watched": ["ADDED", "p"],
        "replicas": 2,
        "gone": True,
    },
    "lightkube": {
        "managed": ["lk", "Update"],
        "listed": [{"x": "1", "y": "2"}],
        "conflict": [409, ".data.x"],
        "forced": {"x": "9", "y": "2"},
        "status": "Running",
        "watched": ["MODIFIED", "conf"],
        "custom": "modbus",
        "missing": [404, "NotFound"],
    },
}


@pytest.fixture
async def kubeconfig(tmp_path: Path) -> AsyncIterator[Path]:
    files = await pki.prepare(tmp_path / "pki", hosts=["localhost", "127.0.0.1"], certs=LocalCertifier())
    core = ApiCore(database=tmp_path / "api.db", token_key=files.token_key, synchronous="NORMAL")
    await core.start()
    admin = LocalKubeApi(core, user=User("setup", (MASTERS,)))
    await admin.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, namespace="default")
    server = ApiServer(core)
    port = await server.listen("127.0.0.1", 0, cert_file=files.cert, key_file=files.key, client_ca_file=files.ca_cert)
    path = tmp_path / "kubeconfig"
    pki.write_kubeconfig(path, files, server=f"https://127.0.0.1:{port}")
    yield path
    await server.aclose()
    await core.aclose()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", STORIES)
async def test_client(name: str, kubeconfig: Path) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"no {name} here: it is in the extra `dev`")
    script = Path(__file__).with_name(f"story_{name}.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(kubeconfig), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(50):
        output, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    assert json.loads(output) == STORIES[name]
