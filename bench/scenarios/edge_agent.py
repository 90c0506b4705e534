"""The agent's memory, CPU and wear of the disk, and the time from delivery to Running beside containerd alone.

Memory is VmRSS of the whole agent process, counted as ``rss_bare_mib`` (the interpreter with asyncio, ssl and sqlite3)
says for another interpreter; PSS and private memory stand beside it. CPU and bytes written are from ``/proc`` over
windows of ``_WINDOW_S`` seconds; an hour is the window times 60. ``start_10``: from just before the requests that make
ten bound pods to the moment at which the engine runs ten containers, and the same ten sandboxes and containers made
by CRI calls alone on the same engine, in turn; the image is on the node already.

``python bench/run.py edge_agent``. containerd needs root and the Debian packages; without, its numbers are missing and
the reason stands in their place.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.parts import BUSYBOX_IMAGE, Containerd, PartMissing

from skerry.api.gvk import DEVICEMODELS, DEVICES, PODS, Object
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.engine import CriRuntime
from skerry.runtime.cri.images import CriImages
from skerry.runtime.ports import ContainerSpec, ContainerState, SandboxSpec
from skerry.testing.site import Site, rss_mib, site, until

_PODS, _MANY, _ROUNDS = 10, 30, 3
_DEVICES, _PROPERTIES = 20, 10
_REST_S, _WINDOW_S = 30.0, 60.0
_TICKS = os.sysconf("SC_CLK_TCK")
_SCRIPT = "trap 'exit 0' TERM; while true; do sleep 1; done"
_BARE = "import asyncio, ssl, sqlite3; print(open('/proc/self/status').read())"
_MAPPER = """
import itertools, sys
from skerry.sdk.mapper import Driver, Mapper, Sample

mapper = Mapper("bench", "bench", edge_socket=sys.argv[1], reports_per_s=50)

@mapper.driver
class Counter(Driver):
    async def connect(self): self.count = itertools.count()
    async def read(self, points): return {point.name: Sample(next(self.count)) for point in points}

mapper.run()
"""


def run() -> dict[str, Any]:
    """The numbers by runtime."""
    bare = subprocess.run([sys.executable, "-c", _BARE], capture_output=True, text=True, check=True).stdout
    bare_kib = next(int(line.split()[1]) for line in bare.splitlines() if line.startswith("VmRSS:"))
    found: dict[str, Any] = {
        "interpreter": f"{sys.implementation.name} {sys.version.split()[0]}",
        "rss_bare_mib": round(bare_kib / 1024, 1),
    }
    with tempfile.TemporaryDirectory() as folder:
        try:
            engine = Containerd()
        except PartMissing as exc:
            found["containerd"] = f"not measured: {exc}"
        else:
            try:
                engine.start()
                found["containerd"] = asyncio.run(_on_containerd(Path(folder) / "containerd", engine))
            finally:
                engine.close()
        found["process"] = asyncio.run(_on_processes(Path(folder) / "process"))
    return found


async def _on_containerd(data: Path, engine: Containerd) -> dict[str, Any]:
    async with site(data, runtime="cri", cri_socket=engine.socket) as at:
        try:
            await asyncio.sleep(_REST_S)
            found = {"idle": await _window(at)}
            ours = CriRuntime(CriClient(engine.socket), node_uid=str(at.joined()["nodeUid"]), list_interval_s=0.02)
            alone = Alone(engine, data / "alone")
            agent_s, alone_s = [], []
            for round_ in range(_ROUNDS):
                alone_s.append(await alone.start(round_))
                await alone.end()
                agent_s.append(await _start_pods(at, ours, round_))
                if round_ < _ROUNDS - 1:
                    await _end_pods(at, ours, round_)
            await alone.aclose()
            found["start_10"] = {
                "agent_s": round(statistics.median(agent_s), 3),
                "containerd_alone_s": round(statistics.median(alone_s), 3),
                "ratio": round(statistics.median(agent_s) / statistics.median(alone_s), 2),
                "rounds": [[round(a, 3), round(b, 3)] for a, b in zip(agent_s, alone_s, strict=True)],
            }
            await asyncio.sleep(_REST_S)
            found["pods_10"] = await _window(at)
            found["pods_10_readings_200"] = await _with_readings(at)
            for number in range(_PODS, _MANY):
                await at.api.create(PODS, _pod(f"more-{number}"), namespace="default")
            await until(lambda: _runs(ours, _MANY), within_s=120)
            await asyncio.sleep(_REST_S)
            found["pods_30"] = await _window(at)
            await ours.aclose()
            return found
        finally:
            await at.reset()


async def _on_processes(data: Path) -> dict[str, Any]:
    async with site(data, runtime="process") as at:
        try:
            await asyncio.sleep(_REST_S)
            found = {"idle": await _window(at)}
            for number in range(_PODS):
                await at.api.create(PODS, _pod(f"pod-{number}"), namespace="default")
            await until(lambda: _all_ready(at), within_s=60)
            await asyncio.sleep(_REST_S)
            return found | {"pods_10": await _window(at)}
        finally:
            await at.reset()


async def _window(at: Site) -> dict[str, float]:
    """CPU, bytes written and memory of the agent over a window."""
    pid = at.agent.pid
    cpu_s, written = _cpu_s(pid), _written(pid)
    await asyncio.sleep(_WINDOW_S)
    return {
        "cpu_percent": round((_cpu_s(pid) - cpu_s) / _WINDOW_S * 100, 2),
        "written_kib_per_hour": round((_written(pid) - written) / 1024 * 3600 / _WINDOW_S),
        "rss_mib": rss_mib(pid),
        **_rollup(pid),
        "load_1m": round(os.getloadavg()[0], 1),
    }


async def _with_readings(at: Site) -> dict[str, float]:
    socket = str(at.agent.ready["sockets"]["dmi"])
    mapper = await asyncio.create_subprocess_exec(sys.executable, "-c", _MAPPER, socket, stderr=subprocess.DEVNULL)
    names = [f"p{number}" for number in range(_PROPERTIES)]
    kinds = [{"name": name, "type": "INT", "accessMode": "ReadOnly"} for name in names]
    model = {"metadata": {"name": "counter"}, "spec": {"protocol": "bench", "properties": kinds}}
    await at.api.create(DEVICEMODELS, model, namespace="default")
    for number in range(_DEVICES):
        properties = [
            {"name": n, "collectCycle": 1000, "reportCycle": 1000, "reportToCloud": True,
             "visitors": {"protocolName": "bench", "configData": {}}} for n in names
        ]  # fmt: skip
        spec = {
            "deviceModelRef": {"name": "counter"}, "nodeName": at.node, "properties": properties,
            "protocol": {"protocolName": "bench", "configData": {}},
        }  # fmt: skip
        await at.api.create(DEVICES, {"metadata": {"name": f"d{number}"}, "spec": spec}, namespace="default")
    await asyncio.sleep(_REST_S)
    try:
        before = _readings(at)
        found = await _window(at)
        return found | {"readings_per_s": round((_readings(at) - before) / _WINDOW_S, 1)}
    finally:
        mapper.terminate()
        await mapper.wait()


def _readings(at: Site) -> int:
    status = json.loads((at.edge_data / "status.json").read_bytes())
    return int((status.get("readings") or {}).get("accepted", 0))


class Alone:
    """The same ten pods by CRI calls only."""

    def __init__(self, engine: Containerd, directory: Path) -> None:
        self._client = CriClient(engine.socket)
        self._runtime = CriRuntime(self._client, node_uid="alone", list_interval_s=0.02)
        self._directory = directory
        self._sandboxes: list[str] = []

    async def start(self, round_: int) -> float:
        image = await CriImages(self._client).resolve(BUSYBOX_IMAGE)
        started_s = time.monotonic()
        await asyncio.gather(*(self._one(f"alone-{round_}-{number}", image) for number in range(_PODS)))
        await until(lambda: _runs(self._runtime, _PODS), within_s=60)
        return time.monotonic() - started_s

    async def _one(self, name: str, image: str) -> None:
        logs = self._directory / name
        (logs / "app").mkdir(parents=True)
        pod = _pod(name)
        sandbox = SandboxSpec("default", name, name, 0, name, logs, pod)
        sandbox_id = await self._runtime.create_sandbox(sandbox)
        self._sandboxes.append(sandbox_id)
        command = ["/bin/sh", "-c", _SCRIPT]
        container = pod["spec"]["containers"][0]
        spec = ContainerSpec("app", 0, BUSYBOX_IMAGE, image, command, [], [], [], "app/0.log", container)
        await self._runtime.start_container(await self._runtime.create_container(sandbox_id, spec, sandbox))

    async def end(self) -> None:
        for sandbox_id in self._sandboxes:
            await self._runtime.stop_sandbox(sandbox_id)
            await self._runtime.remove_sandbox(sandbox_id)
        self._sandboxes.clear()

    async def aclose(self) -> None:
        await self._runtime.aclose()


async def _start_pods(at: Site, engine: CriRuntime, round_: int) -> float:
    started_s = time.monotonic()
    names = [f"pod-{round_}-{number}" for number in range(_PODS)]
    await asyncio.gather(*(at.api.create(PODS, _pod(name, at.node), namespace="default") for name in names))
    await until(lambda: _runs(engine, _PODS), within_s=60)
    return time.monotonic() - started_s


async def _end_pods(at: Site, engine: CriRuntime, round_: int) -> None:
    for number in range(_PODS):
        await at.api.delete(PODS, f"pod-{round_}-{number}", namespace="default")
    await until(lambda: _runs(engine, 0), within_s=60)


async def _runs(engine: CriRuntime, count: int) -> str:
    pods = (await engine.observe()).values()
    running = sum(c.state is ContainerState.RUNNING for pod in pods for c in pod.containers)
    return "" if running == count else f"{running} of {count} run"


async def _all_ready(at: Site) -> str:
    pods = (await at.api.list(PODS, namespace="default")).items
    wrong = [p["metadata"]["name"] for p in pods if (p.get("status") or {}).get("phase") != "Running"]
    return f"{wrong} do not run" if wrong else ""


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _written(pid: int) -> int:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def _rollup(pid: int) -> dict[str, float]:
    lines = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    kib = {line[0].rstrip(":"): int(line[1]) for line in lines if len(line) == 3}
    private = kib["Private_Clean"] + kib["Private_Dirty"]
    return {"pss_mib": round(kib["Pss"] / 1024, 1), "private_mib": round(private / 1024, 1)}


def _pod(name: str, node: str = "") -> Object:
    container = {
        "name": "app", "image": BUSYBOX_IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["/bin/sh", "-c", _SCRIPT],
    }  # fmt: skip
    spec = {"terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False, "containers": [container]}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec | ({"nodeName": node} if node else {})}
