"""A power cut far from home: the machine boots without a network, with a clock of 1970, the engine after the agent."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.parts import BUSYBOX_IMAGE, OTHER_HANDLER, Containerd, unpack

from skerry.api.gvk import (
    PERSISTENTVOLUMES,
    PODS,
    RUNTIMECLASSES,
    SERVICEACCOUNTS,
    STATEFULSETS,
    STORAGECLASSES,
    Object,
)
from skerry.app.children import Child, process_environment
from skerry.controllers.volumes.node_local import default_class
from skerry.kube.ports import KubeApi
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.engine import CriRuntime
from skerry.runtime.ports import ContainerState, EngineUnavailable
from skerry.testing.site import Site, site, until

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("containerd")]

_ACCOUNTS = {"one": "shared", "two": "shared", "three": "own"}
_WITH_CLAIM, _OF_A_CLASS = "db-0", "three"
_ALL = [*_ACCOUNTS, _WITH_CLAIM]
_SCRIPT = "trap 'exit 0' TERM; echo $(cat /token/token | md5sum) >> /data/starts; while true; do sleep 1; done"
_ISLAND = """
import asyncio, subprocess, sys

async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()

async def carry(path, reader, writer):
    there = await asyncio.open_unix_connection(path)
    await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

async def main():
    print("apart", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for way in sys.argv[1:]:
        port, path = way.split("=", 1)
        await asyncio.start_server(lambda r, w, path=path: carry(path, r, w), "127.0.0.1", int(port))
    print("joined", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Island:
    """A network namespace without any interface that is up, until ``join`` lets the ports of the site in."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def program(self) -> tuple[str, ...]:
        """Prefix of a command that is to run there."""
        return ("nsenter", f"--net=/proc/{self._process.pid}/ns/net", sys.executable, "-m", "skerry.cli.main")

    async def said(self, word: str) -> None:
        assert self._process.stdout is not None
        assert (await self._process.stdout.readline()).decode().strip() == word

    async def join(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        await self.said("joined")


@asynccontextmanager
async def island(directory: Path, ports: list[int]) -> AsyncIterator[Island]:
    async with AsyncExitStack() as stack:
        ways = []
        for port in ports:
            path = directory / f"{port}.s"

            async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = port) -> None:
                there = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))

            server = await asyncio.start_unix_server(carry, path)
            stack.callback(server.close)
            ways.append(f"{port}={path}")
        process = await asyncio.create_subprocess_exec(
            "unshare", "-n", sys.executable, "-c", _ISLAND, *ways,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        found = Island(process)
        try:
            await found.said("apart")
            yield found
        finally:
            process.kill()
            await process.wait()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


def pod(name: str) -> Object:
    spec = pod_spec(_ACCOUNTS[name])
    spec["volumes"] += [{"name": "data", "emptyDir": {}}]
    if name == _OF_A_CLASS:
        spec["runtimeClassName"] = "strict"
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


def pod_spec(account: str) -> dict[str, Any]:
    """Writes a line into its volume ``data`` at each start; that volume is still missing."""
    token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}
    return {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": "app",
                "image": BUSYBOX_IMAGE,
                "command": ["/bin/sh", "-c", _SCRIPT],
                "volumeMounts": [{"name": "token", "mountPath": "/token"}, {"name": "data", "mountPath": "/data"}],
            }
        ],
        "volumes": [{"name": "token", "projected": {"sources": [token]}}],
    }


def stateful_set() -> Object:
    """One pod with a claim of the class ``node-local``."""
    claim = {
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "node-local",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    spec = {
        "serviceName": "db",
        "replicas": 1,
        "selector": {"matchLabels": {"app": "db"}},
        "template": {"metadata": {"labels": {"app": "db"}}, "spec": pod_spec("own")},
        "volumeClaimTemplates": [claim],
    }
    return {"metadata": {"name": "db", "namespace": "default"}, "spec": spec}


def _fake_clock() -> Path:
    root = unpack("libfaketime")
    [library] = root.glob("usr/lib/*/faketime/libfaketime.so.1")
    return library


async def test_pods_come_back_after_a_power_cut_without_a_network(tmp_path: Path, engine: Containerd) -> None:
    library = _fake_clock()
    async with AsyncExitStack() as stack:
        at = await stack.enter_async_context(site(tmp_path, runtime="cri", cri_socket=engine.socket))
        await _deploy(at.api, tmp_path / "disk")
        volumes = await _volumes(at)
        data = await _places(at, volumes)
        await until(lambda: _starts(data, 1), within_s=20)
        assert (await _handlers(engine))[_OF_A_CLASS] == OTHER_HANDLER
        before = {name: (path / "token/token").read_text() for name, path in volumes.items()}
        at.cut()
        await at.agent.kill()
        await asyncio.to_thread(engine.reboot)
        joined = at.joined()
        ports = [int(port) for _, port in (joined["join"], *joined["hubs"], *joined["tunnels"])]
        apart = await stack.enter_async_context(island(tmp_path, ports))
        clock = tmp_path / "clock"
        clock.write_text("@1970-01-01 00:00:42\n")
        agent = _agent(at, apart, library, clock)
        stack.push_async_callback(agent.stop)
        await agent.start()
        assert (await _seen(at, engine)) == "no engine"
        await asyncio.to_thread(engine.start)
        took_s = await until(lambda: _complaint(at, engine), within_s=40)
        (tmp_path / "times.txt").write_text(f"all pods ran {took_s:.1f} s after the engine answered\n")
        assert {name: (path / "token/token").read_text() for name, path in volumes.items()} == before
        handlers = await _handlers(engine)
        assert handlers.pop(_OF_A_CLASS) == OTHER_HANDLER and OTHER_HANDLER not in handlers.values()
        await until(lambda: _starts(data, 2), within_s=20)
        assert "token.age_unknown" in agent.log_file.read_text()
        clock.write_text(time.strftime("@%Y-%m-%d %H:%M:%S\n", time.localtime(time.time() + 26 * 3600)))
        at.mend()
        await apart.join()
        took_s = await until(lambda: _stale(volumes, before), within_s=60)
        with (tmp_path / "times.txt").open("a") as times:
            times.write(f"all tokens were fresh {took_s:.1f} s after the network came back\n")
        assert await _volumes(at) == volumes, "pods were made anew"
        assert not await _starts(data, 2)
        await agent.stop()
        await at.reset()


def _agent(at: Site, apart: Island, library: Path, clock: Path) -> Child:
    environment = process_environment() | {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    arguments = ["edge", "run", "--data", str(at.edge_data), "-o", "json", "--log-format", "text"]
    return Child(
        "edge", arguments, program=apart.program, log_file=at.data / "logs/island.log", environment=environment
    )


async def _deploy(api: KubeApi, disk: Path) -> None:
    await api.delete(STORAGECLASSES, "node-local")
    await api.create(STORAGECLASSES, default_class() | {"parameters": {"directory": str(disk)}})
    await api.create(RUNTIMECLASSES, {"metadata": {"name": "strict"}, "handler": OTHER_HANDLER})
    for account in set(_ACCOUNTS.values()):
        await api.create(SERVICEACCOUNTS, {"metadata": {"name": account}}, namespace="default")
    for name in _ACCOUNTS:
        await api.create(PODS, pod(name), namespace="default")
    await api.create(STATEFULSETS, stateful_set(), namespace="default")

    async def complaint() -> str:
        found = [await api.get(PODS, name, namespace="default") for name in _ALL]
        waiting = [p["metadata"]["name"] for p in found if (p.get("status") or {}).get("phase") != "Running"]
        return f"{waiting} do not run" if waiting else ""

    await until(complaint, within_s=60)


async def _volumes(at: Site) -> dict[str, Path]:
    found = [await at.api.get(PODS, name, namespace="default") for name in _ALL]
    return {p["metadata"]["name"]: at.edge_data / "pods" / p["metadata"]["uid"] / "volumes" for p in found}


async def _seen(at: Site, engine: Containerd) -> str:
    """What runs now, from the engine."""
    runtime = CriRuntime(CriClient(engine.socket), node_uid=str(at.joined()["nodeUid"]))
    try:
        pods = (await runtime.observe()).values()
    except EngineUnavailable:
        return "no engine"
    finally:
        await runtime.aclose()
    running = [p.name for p in pods if any(c.state is ContainerState.RUNNING for c in p.containers)]
    return ",".join(sorted(running))


async def _handlers(engine: Containerd) -> dict[str, str]:
    """The handler that runs each sandbox, by the engine's word."""
    client = CriClient(engine.socket)
    try:
        items = (await client.call("ListPodSandbox", {"filter": {"state": {"state": 0}}}))["items"]  # ready ones
        return {item["metadata"]["name"]: str(item.get("runtime_handler", "")) for item in items}
    finally:
        await client.aclose()


async def _complaint(at: Site, engine: Containerd) -> str:
    seen = await _seen(at, engine)
    return "" if seen == ",".join(sorted(_ALL)) else f"only {seen!r} run"


async def _places(at: Site, volumes: dict[str, Path]) -> dict[str, Path]:
    """Where each pod's ``data`` is: emptyDirs, and the directory of the one volume that a claim got."""
    [claimed] = (await at.api.list(PERSISTENTVOLUMES)).items
    disk = Path(claimed["spec"]["hostPath"]["path"])
    return {name: path / "data" for name, path in volumes.items()} | {_WITH_CLAIM: disk}


async def _starts(data: dict[str, Path], count: int) -> str:
    """Each container wrote a line at each of its starts, and no line is lost."""
    starts = {name: (path / "starts").read_text().count("\n") for name, path in data.items()}
    return "" if starts == dict.fromkeys(_ALL, count) else f"starts: {starts}"


async def _stale(volumes: dict[str, Path], before: dict[str, str]) -> str:
    old = [name for name, path in volumes.items() if (path / "token/token").read_text() == before[name]]
    return f"{old} have their old tokens" if old else ""
