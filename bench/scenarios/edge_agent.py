"""The agent's memory, CPU and wear of the disk, and the time from delivery to Running beside containerd alone.

Everything runs at the same time but the measurements of time; about thirteen minutes. Agents have the environment of
the installed unit, and their modules are compiled before, as an installation does it. Three things are measured:

- ``memory``: agents without pods, their VmRSS after ten minutes, then with thirty pods; by interpreter (this one, and
  the system's where there is another of the same version) and runtime. ``rss_bare_mib`` is that interpreter with
  asyncio, ssl and sqlite3. CPU and bytes written are of the last five minutes, the latter scaled to an hour.
- ``loaded``: ten pods started, three times, in turn with the same sandboxes and containers made by CRI calls alone on
  the same engine (from just before the requests that make ten bound pods to the moment at which ten containers run;
  the image is on the node); a minute with ten pods; three minutes with 200 readings a second, scaled to an hour.
- ``go_edgecore``: the same of a Go edgecore that ``SKERRY_EDGECORE`` names, on a cloud of its own.

``python bench/run.py edge_agent``. containerd needs root and the Debian packages; without, its numbers are missing and
the reason stands in their place.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.interop.goedge import GoEdge
from tests.parts import BUSYBOX_IMAGE, Containerd, PartMissing, own_containerd

from skerry.api.gvk import DEVICEMODELS, DEVICES, NODES, PODS, Object
from skerry.kube.ports import KubeApi
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.engine import CriRuntime
from skerry.runtime.cri.images import CriImages
from skerry.runtime.ports import ContainerSpec, SandboxSpec
from skerry.testing.interpreters import as_installed, system_python, told
from skerry.testing.site import Site, rss_mib, site, until

_PODS, _MANY, _ROUNDS = 10, 30, 3
_DEVICES, _PROPERTIES = 20, 10
_REST_S, _WINDOW_S, _READINGS_S = 30.0, 60.0, 180.0
_OLD_S, _IDLE_WINDOW_S = 600.0, 300.0
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
    """The numbers."""
    with tempfile.TemporaryDirectory(prefix="skb-") as folder:
        return asyncio.run(_run(Path(folder)))


async def _run(folder: Path) -> dict[str, Any]:
    pythons = {"this": sys.executable} | system_python(folder / "python")
    quiet = asyncio.Event()
    memory = {
        f"{runtime}, {told(python)}": _memory(folder / f"{runtime}-{name}", runtime, python)
        for name, python in pythons.items()
        for runtime in ("containerd", "process")
    }
    jobs = {**memory, "loaded": _loaded(folder / "loaded", quiet), "go_edgecore": _go(folder / "go", quiet)}
    found = dict(zip(jobs, await asyncio.gather(*jobs.values()), strict=True))
    return {"memory": {name: found.pop(name) for name in memory}, **found}


async def _memory(data: Path, runtime: str, python: str) -> dict[str, Any] | str:
    if runtime == "process":
        return await _aging(data, None, python)
    try:
        async with own_containerd() as engine:
            return await _aging(data, engine, python)
    except PartMissing as exc:
        return f"not measured: {exc}"


async def _aging(data: Path, engine: Containerd | None, python: str) -> dict[str, Any]:
    async with _agent(data, engine, python=python) as at:
        await asyncio.sleep(_OLD_S - _IDLE_WINDOW_S)
        found: dict[str, Any] = {"rss_bare_mib": _bare_mib(python)}
        found["idle"] = await _window(at.agent.pid, _IDLE_WINDOW_S)
        for number in range(_MANY):
            await at.api.create(PODS, _pod(f"pod-{number}", at.node), namespace="default")
        await until(lambda: _all_run(at.api), within_s=300)
        await asyncio.sleep(_REST_S)
        found["pods_30"] = await _window(at.agent.pid, _WINDOW_S)
        return found


async def _loaded(data: Path, quiet: asyncio.Event) -> dict[str, Any] | str:
    try:
        async with own_containerd() as engine, _agent(data, engine) as at:
            await asyncio.sleep(_REST_S)
            alone = Alone(engine, data / "alone")
            agent_s, alone_s = [], []
            try:
                for round_ in range(_ROUNDS):
                    alone_s.append(await alone.start(round_))
                    await alone.end()
                    agent_s.append(await _start_pods(at.api, engine, at.node, round_))
                    if round_ < _ROUNDS - 1:
                        await _end_pods(at.api, engine, round_)
            finally:
                await alone.aclose()
                quiet.set()
            found: dict[str, Any] = {
                "start_10": {
                    "agent_s": round(statistics.median(agent_s), 3),
                    "containerd_alone_s": round(statistics.median(alone_s), 3),
                    "ratio": round(statistics.median(agent_s) / statistics.median(alone_s), 2),
                    "rounds": [[round(a, 3), round(b, 3)] for a, b in zip(agent_s, alone_s, strict=True)],
                }
            }
            await asyncio.sleep(_REST_S)
            found["pods_10"] = await _window(at.agent.pid, _WINDOW_S)
            found["pods_10_readings_200"] = await _with_readings(at)
            return found
    except PartMissing as exc:
        quiet.set()
        return f"not measured: {exc}"


async def _go(data: Path, quiet: asyncio.Event) -> dict[str, Any] | str:
    if not Path(os.environ.get("SKERRY_EDGECORE", "")).is_file():
        return "not measured: SKERRY_EDGECORE names no program"
    try:
        async with own_containerd() as engine, _edgecore(data, engine) as (at, edge):
            pid = edge.process.pid
            await asyncio.sleep(_REST_S)
            found: dict[str, Any] = {"idle": await _window(pid, _WINDOW_S)}
            await quiet.wait()
            took_s = []
            for round_ in range(_ROUNDS):
                took_s.append(await _start_pods(at.api, engine, edge.node, round_))
                if round_ < _ROUNDS - 1:
                    await _end_pods(at.api, engine, round_)
            found["start_10_s"] = round(statistics.median(took_s), 3)
            await asyncio.sleep(_REST_S)
            found["pods_10"] = await _window(pid, _WINDOW_S)
            for number in range(_PODS, _MANY):
                await at.api.create(PODS, _pod(f"more-{number}", edge.node), namespace="default")
            await until(lambda: _all_run(at.api), within_s=300)
            await asyncio.sleep(_REST_S)
            found["pods_30"] = await _window(pid, _WINDOW_S)
            return found
    except PartMissing as exc:
        return f"not measured: {exc}"


@asynccontextmanager
async def _agent(data: Path, engine: Containerd | None, *, python: str = "") -> AsyncIterator[Site]:
    socket = engine.socket if engine is not None else None
    kind = "cri" if engine is not None else "process"
    program = python or sys.executable
    environment = await asyncio.to_thread(as_installed, program, data.parent / "compiled")
    async with site(data, runtime=kind, cri_socket=socket, environment=environment, agent_python=python) as at:
        try:
            yield at
        finally:
            await at.reset()


@asynccontextmanager
async def _edgecore(data: Path, engine: Containerd) -> AsyncIterator[tuple[Site, GoEdge]]:
    at = Site(data, runtime="cri")
    edge: GoEdge | None = None
    try:
        await at.cloud.start()
        token = await at.told("token", "create", "--node", "go-1", "--data", str(data / "cloud"))
        hub, join = (at.cloud.ready["endpoints"][name].partition("://")[2] for name in ("hub", "join"))
        edge = GoEdge(data / "go", engine=engine, node="go-1", hub=hub, join=join, token=token["token"], verbosity=0)
        await edge.process.start()
        await until(lambda: _node_is_ready(at.api, "go-1"), within_s=120)
        yield at, edge
    finally:
        if edge is not None:
            await edge.process.stop()
            edge.clear()
        await at.close()


def _bare_mib(python: str) -> float:
    lines = subprocess.run([python, "-c", _BARE], capture_output=True, text=True, check=True).stdout.splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024, 1)


async def _window(pid: int, window_s: float) -> dict[str, float]:
    """CPU, bytes written and memory of a process over a window."""
    cpu_s, written = _cpu_s(pid), _written(pid)
    await asyncio.sleep(window_s)
    return {
        "cpu_percent": round((_cpu_s(pid) - cpu_s) / window_s * 100, 2),
        "written_kib_per_hour": round((_written(pid) - written) / 1024 * 3600 / window_s),
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
        found = await _window(at.agent.pid, _READINGS_S)
        return found | {"readings_per_s": round((_readings(at) - before) / _READINGS_S, 1)}
    finally:
        mapper.terminate()
        await mapper.wait()


def _readings(at: Site) -> int:
    status = json.loads((at.edge_data / "status.json").read_bytes())
    return int((status.get("readings") or {}).get("accepted", 0))


class Alone:
    """The same ten pods by CRI calls only."""

    def __init__(self, engine: Containerd, directory: Path) -> None:
        self._engine = engine
        self._client = CriClient(engine.socket)
        self._runtime = CriRuntime(self._client, node_uid="alone", list_interval_s=0.02)
        self._directory = directory
        self._sandboxes: list[str] = []

    async def start(self, round_: int) -> float:
        image = await CriImages(self._client).resolve(BUSYBOX_IMAGE)
        started_s = time.monotonic()
        await asyncio.gather(*(self._one(f"alone-{round_}-{number}", image) for number in range(_PODS)))
        await _until_running(self._engine, _PODS)
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
        await self.end()
        await self._runtime.aclose()
        shutil.rmtree(self._directory, ignore_errors=True)


async def _start_pods(api: KubeApi, engine: Containerd, node: str, round_: int) -> float:
    started_s = time.monotonic()
    names = [f"pod-{round_}-{number}" for number in range(_PODS)]
    await asyncio.gather(*(api.create(PODS, _pod(name, node), namespace="default") for name in names))
    await _until_running(engine, _PODS)
    return time.monotonic() - started_s


async def _end_pods(api: KubeApi, engine: Containerd, round_: int) -> None:
    for number in range(_PODS):
        await api.delete(PODS, f"pod-{round_}-{number}", namespace="default")
    await _until_running(engine, 0)

    async def left() -> str:
        return "pods are left" if (await api.list(PODS, namespace="default")).items else ""

    await until(left, within_s=120)


async def _until_running(engine: Containerd, count: int) -> None:
    client = CriClient(engine.socket)
    try:
        await until(_running(client, count), within_s=120)
    finally:
        await client.aclose()


def _running(client: CriClient, count: int) -> Callable[[], Awaitable[str]]:
    async def look() -> str:
        answer = await client.call("ListContainers", {"filter": {"state": {"state": 1}}})
        found = len(answer.get("containers", []))
        return "" if found == count else f"{found} of {count} run"

    return look


async def _all_run(api: KubeApi) -> str:
    pods = (await api.list(PODS, namespace="default")).items
    wrong = [p["metadata"]["name"] for p in pods if (p.get("status") or {}).get("phase") != "Running"]
    return f"{wrong} do not run" if wrong else ""


async def _node_is_ready(api: KubeApi, name: str) -> str:
    conditions = (await api.get(NODES, name)).get("status", {}).get("conditions", [])
    return "" if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions) else "not ready"


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
