"""``skerry cloud backup`` and ``restore`` on real processes: what comes back, what clients see, what is refused."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from skerry.api.gvk import CONFIGMAPS, NAMESPACES
from skerry.api.meta import STORE_GENERATION
from skerry.api.status import ApiError, Gone
from skerry.app.backup import ScheduledBackups
from skerry.app.children import Child, process_environment
from skerry.base.aio.clock import SystemClock
from skerry.base.aio.supervise import Supervisor
from skerry.kube import kubeconfig as credentials
from skerry.kube.http import HttpKubeApi, HttpTransport

pytestmark = pytest.mark.timeout(60)


def skerry(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "skerry.cli.main", *arguments, "-o", "json"],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class Cloud:
    """A cloud process on free ports, and its administrator's client."""

    def __init__(self, data: Path, log: Path, **environment: str) -> None:
        words = ["cloud", "run", "--data", str(data), "--listen", "127.0.0.1", "--ports", "any", "-o", "json"]
        self.child = Child("cloud", words, log_file=log, environment=process_environment() | environment)
        self.data = data

    @property
    def transport(self) -> HttpTransport:
        return HttpTransport(credentials.find(Path(self.child.ready["kubeconfig"])))


@asynccontextmanager
async def running(cloud: Cloud) -> AsyncIterator[HttpKubeApi]:
    await cloud.child.start()
    transport = cloud.transport
    try:
        yield HttpKubeApi(transport)
    finally:
        await transport.aclose()
        await cloud.child.stop()


async def put(api: HttpKubeApi, name: str, word: str) -> int:
    try:
        obj = await api.create(CONFIGMAPS, {"metadata": {"name": name}, "data": {"v": word}}, namespace="default")
    except ApiError:
        obj = await api.patch(CONFIGMAPS, name, {"data": {"v": word}}, namespace="default")
    return int(obj["metadata"]["resourceVersion"])


async def generation(api: HttpKubeApi) -> str:
    namespace = await api.get(NAMESPACES, "kube-system")
    return str(namespace["metadata"]["annotations"][STORE_GENERATION])


async def words(api: HttpKubeApi) -> dict[str, str]:
    found = await api.list(CONFIGMAPS, namespace="default")
    return {obj["metadata"]["name"]: obj["data"]["v"] for obj in found.items if "v" in obj["data"]}


async def test_a_lost_cloud_comes_back_from_its_backup(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path / "old", tmp_path / "cloud.log")
    async with running(cloud) as api:
        for number in range(20):
            await put(api, f"n{number}", "before")
        token = told(skerry("token", "create", "--node", "gate-1", "--data", str(cloud.data)))["token"]
        busy = asyncio.gather(*(put(api, f"busy-{number}", "x") for number in range(100)))
        saved = told(await asyncio.to_thread(skerry, "cloud", "backup", "--data", str(cloud.data)))
        await busy
        assert Path(saved["file"]).stat().st_mode & 0o777 == 0o600
        last_rv = 0
        for number in range(500):
            last_rv = await put(api, f"n{number % 50}", f"after {number}")
        before, history = await words(api), await generation(api)
        old_ports = json.loads((cloud.data / "ports.json").read_bytes())
        await cloud.child.kill()
    shutil.copy(saved["file"], tmp_path / "kept.tar.gz")
    shutil.rmtree(cloud.data)

    facts = told(skerry("cloud", "restore", str(tmp_path / "kept.tar.gz"), "--data", str(tmp_path / "new")))
    assert facts["cluster_uid"] == saved["cluster_uid"]
    assert facts["generation"] != saved["generation"] == history
    again = Cloud(tmp_path / "new", tmp_path / "again.log")
    async with running(again) as api:
        found = await words(api)
        assert {name: found[name] for name in found if name.startswith("n")} == {f"n{n}": "before" for n in range(20)}
        assert set(found) <= set(before) | {f"busy-{n}" for n in range(100)}
        assert await put(api, "n0", "new") >= last_rv + (1 << 19)
        assert await generation(api) == facts["generation"]
        with pytest.raises(Gone):
            async for _ in api.watch(CONFIGMAPS, namespace="default", resource_version=str(last_rv)):
                pass
        assert json.loads((tmp_path / "new/ports.json").read_bytes()) == old_ports
        listed = skerry("token", "list", "--data", str(tmp_path / "new"))
        assert "gate-1" in listed.stdout and token.partition(".")[0] not in listed.stderr


async def test_a_cloud_that_is_there_is_moved_aside_only_when_told(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path / "cloud", tmp_path / "cloud.log")
    async with running(cloud) as api:
        await put(api, "kept", "1")
        saved = told(await asyncio.to_thread(skerry, "cloud", "backup", "--data", str(cloud.data)))
        newest = await put(api, "later", "1")
        busy = await asyncio.to_thread(skerry, "cloud", "restore", saved["file"], "--data", str(cloud.data), "--force")
        assert (busy.returncode, "in use by another Skerry process" in busy.stderr) == (2, True)
    refused = skerry("cloud", "restore", saved["file"], "--data", str(cloud.data))
    assert refused.returncode == 2
    assert "holds a cloud already" in refused.stderr and "--force" in refused.stderr
    facts = told(skerry("cloud", "restore", saved["file"], "--data", str(cloud.data), "--force"))
    assert (Path(facts["replaced"]) / "cluster.db").exists()
    async with running(cloud) as api:
        assert await words(api) == {"kept": "1"}
        assert await put(api, "kept", "2") > newest + (1 << 20)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A backup of a cloud that has never run more than its start."""
    data = tmp_path / "source"

    async def once() -> None:
        async with running(Cloud(data, tmp_path / "source.log")):
            pass

    asyncio.run(once())
    file = tmp_path / "good.tar.gz"
    told(skerry("cloud", "backup", "--data", str(data), "--out", str(file)))
    return file


def repacked(
    source: Path, target: Path, *, change: dict[str, bytes | None], add: dict[str, bytes] | None = None
) -> Path:
    """The backup with other contents for some members, without some (None), and with further ones."""
    with tarfile.open(source) as old, tarfile.open(target, "w:gz") as new:
        for member in old:
            file = old.extractfile(member)
            assert file is not None
            content = change.get(member.name, file.read())
            if content is not None:
                member.size = len(content)
                new.addfile(member, io.BytesIO(content))
        for name, content in (add or {}).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    return target


def test_damaged_and_hostile_backups_are_refused_and_leave_nothing(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    other = tmp_path / "other.tar.gz"
    other.write_bytes(b"not a backup")
    with tarfile.open(saved) as tar:
        file = tar.extractfile("cluster.db")
        assert file is not None
        database = bytearray(file.read())
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        newer = json.dumps({**json.loads(manifest.read()), "format": 99}).encode()
    database[5000] ^= 0xFF
    target = tmp_path / "target"
    cases = {
        cut: "cannot read backup",
        other: "cannot read backup",
        repacked(saved, tmp_path / "flipped.tar.gz", change={"cluster.db": bytes(database)}): "is damaged",
        repacked(saved, tmp_path / "lacking.tar.gz", change={"pki/ca.key": None}): "lacks pki/ca.key",
        repacked(saved, tmp_path / "more.tar.gz", change={}, add={"../../evil": b"x"}): "does not describe",
        repacked(saved, tmp_path / "newer.tar.gz", change={"manifest.json": newer}): "format 99 is not known",
        tmp_path / "nowhere.tar.gz": "cannot read backup",
    }
    for file, complaint in cases.items():
        done = skerry("cloud", "restore", str(file), "--data", str(target))
        assert done.returncode == 2, (file, done.stderr)
        assert complaint in done.stderr, (file, done.stderr)
        assert {path.name for path in target.iterdir()} <= {"lock"}
    assert not (tmp_path / "evil").exists()
    told(skerry("cloud", "restore", str(saved), "--data", str(target)))


def test_a_backup_needs_a_cloud_and_a_place(saved: Path, tmp_path: Path) -> None:
    nowhere = skerry("cloud", "backup", "--data", str(tmp_path / "nothing"))
    assert nowhere.returncode == 2
    assert "no cloud with an API server of its own has run in" in nowhere.stderr
    again = skerry("cloud", "backup", "--data", str(tmp_path / "source"), "--out", str(saved))
    assert (again.returncode, "exists" in again.stderr) == (2, True)


async def test_scheduled_backups_are_written_and_the_oldest_go(saved: Path, tmp_path: Path) -> None:
    directory = tmp_path / "backups"
    work = ScheduledBackups(tmp_path / "source", directory=directory, every_s=0.05, keep=2, clock=SystemClock())
    seen: set[str] = set()
    async with Supervisor("test") as supervisor, asyncio.timeout(30):
        supervisor.keep("backups", work.run)
        while len(seen) < 4:
            found = {path.name for path in directory.glob("skerry-cloud-*.tar.gz")} if directory.exists() else set()
            seen |= found
            assert len(found) <= 3
            await asyncio.sleep(0.02)
    newest = max(directory.glob("skerry-cloud-*.tar.gz"))
    assert os.stat(newest).st_mode & 0o777 == 0o600
    assert os.stat(directory).st_mode & 0o777 == 0o700
    told(skerry("cloud", "restore", str(newest), "--data", str(tmp_path / "target")))
