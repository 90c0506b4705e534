"""A machine that shuts down, on a real bus: the agent holds it up until its pods have ended in their order."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.parts import PartMissing, fetch

from skerry.api.gvk import EVENTS, NODES, PODS, Object
from skerry.base import json
from skerry.edge.node.logind import Logind
from skerry.testing.site import Site, site, until

pytestmark = pytest.mark.timeout(150)

_STUB = Path(__file__).with_name("logind_process.py")
_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><listen>unix:path={path}</listen><auth>EXTERNAL</auth><policy context="default">
<allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/></policy></busconfig>
"""


class Machine:
    """The bus and the stand-in for logind."""

    def __init__(self, socket: Path, process: asyncio.subprocess.Process) -> None:
        self.socket = socket
        self._process = process

    async def said(self, word: str) -> None:
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            assert (await self._process.stdout.readline()).decode().strip() == word

    def shut_down(self, begins: bool = True) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"true\n" if begins else b"false\n")


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    try:
        daemon = fetch("dbus-daemon", "dbus-daemon")
    except PartMissing as exc:
        pytest.skip(str(exc))
    socket, config = tmp_path / "bus", tmp_path / "bus.conf"
    config.write_text(_CONFIG.format(path=socket))
    bus = await asyncio.create_subprocess_exec(
        daemon.path, f"--config-file={config}", "--nofork", "--nopidfile", env=daemon.env()
    )
    while not socket.exists():
        assert bus.returncode is None
        await asyncio.sleep(0.02)
    pipe = asyncio.subprocess.PIPE
    stub = await asyncio.create_subprocess_exec(sys.executable, str(_STUB), str(socket), stdin=pipe, stdout=pipe)
    found = Machine(socket, stub)
    try:
        await found.said("ready")
        yield found
    finally:
        for process in (stub, bus):
            process.kill()
            await process.wait()


async def test_logind_gives_a_lock_and_tells_of_shutdowns(machine: Machine) -> None:
    logind = Logind(machine.socket)
    assert await logind.hold() == 25.0
    await machine.said("held")
    told = logind.announcements()
    machine.shut_down()
    assert await anext(told) is True
    logind.release()
    await machine.said("released")
    machine.shut_down(begins=False)
    assert await anext(told) is False
    await logind.hold()
    await machine.said("held")
    await logind.aclose()
    await machine.said("released")
    assert [heard async for heard in told] == []


def pod(name: str, **spec: Any) -> Object:
    script = "trap 'echo yes > /data/ended; exit 0' TERM; echo yes > /data/started; while true; do sleep 0.1; done"
    container = {
        "name": "app", "image": "none", "command": [shutil.which("sh"), "-c", script],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }  # fmt: skip
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": Site.node, "automountServiceAccountToken": False, "containers": [container],
            "volumes": [{"name": "data", "emptyDir": {}}], **spec,
        },
    }  # fmt: skip


async def made(at: Site, found: Object) -> Path:
    """The volume of a pod that has just been made and runs; it is there also when the pod has ended."""
    place = at.data / "volumes" / str(found["metadata"]["name"])
    place.mkdir(parents=True)
    place.chmod(0o777)
    found["spec"]["volumes"] = [{"name": "data", "hostPath": {"path": str(place)}}]
    await at.api.create(PODS, found, namespace="default")

    async def complaint() -> str:
        return "" if (place / "started").exists() else f"{found['metadata']['name']} has not started"

    await until(complaint, within_s=60)
    return place


async def phase(at: Site, name: str, wanted: str) -> dict[str, Any]:
    async def complaint() -> str:
        found = (await at.api.get(PODS, name, namespace="default")).get("status") or {}
        return "" if found.get("phase") == wanted else f"{name}: {found}"

    await until(complaint, within_s=60)
    found: dict[str, Any] = (await at.api.get(PODS, name, namespace="default"))["status"]
    return found


async def ready(at: Site, wanted: str) -> dict[str, Any]:
    async def complaint() -> str:
        return "" if (await condition(at))["status"] == wanted else f"Ready is not {wanted}"

    await until(complaint, within_s=60)
    return await condition(at)


async def condition(at: Site) -> dict[str, Any]:
    node = await at.api.get(NODES, Site.node)
    return next(dict(item) for item in node["status"]["conditions"] if item["type"] == "Ready")


async def test_pods_end_in_order_while_the_shutdown_waits(tmp_path: Path, machine: Machine) -> None:
    environment = {
        "SKERRY_EDGE_SYSTEM_BUS": str(machine.socket),
        "SKERRY_EDGE_SHUTDOWN_GRACE_S": "20",
        "SKERRY_EDGE_SHUTDOWN_GRACE_CRITICAL_S": "10",
        "SKERRY_EDGE_ALLOW_PRIVILEGED": "true",
    }
    async with AsyncExitStack() as stack:
        at = await stack.enter_async_context(site(tmp_path, runtime="process", environment=environment))
        await machine.said("held")
        web = await made(at, pod("web"))
        dns = await made(at, pod("dns", priorityClassName="system-node-critical"))
        machine.shut_down()
        failed = await phase(at, "web", "Failed")
        assert failed["reason"] == "Terminated"
        assert failed["message"] == "Pod was terminated in response to imminent node shutdown."
        told = await ready(at, "False")
        assert (told["reason"], told["message"]) == ("KubeletNotReady", "node is shutting down")
        await machine.said("released")
        assert (web / "ended").stat().st_mtime_ns < (dns / "ended").stat().st_mtime_ns
        await at.api.create(PODS, pod("late"), namespace="default")
        late = await phase(at, "late", "Failed")
        assert (late["reason"], late["message"]) == ("NodeShutdown", "Pod was rejected as the node is shutting down.")
        machine.shut_down(begins=False)
        await ready(at, "True")
        await machine.said("held")
        await until(lambda: untold(at), within_s=60)
        await at.reset()


async def untold(at: Site) -> str:
    """Events about the node that are missing, found as kubectl finds them."""
    wanted = {
        ("Starting", "Starting the edge agent."),
        ("NodeHasSufficientMemory", "Node edge-1 status is now: NodeHasSufficientMemory"),
        ("NodeReady", "Node edge-1 status is now: NodeReady"),
        ("NodeNotReady", "Node edge-1 status is now: NodeNotReady: node is shutting down"),
        ("Shutdown", "Shutdown manager detected shutdown event"),
        ("Shutdown", "Shutdown manager detected shutdown cancellation"),
    }
    selector = f"involvedObject.kind=Node,involvedObject.name={Site.node},involvedObject.uid={Site.node}"
    found = (await at.api.list(EVENTS, field_selector=selector)).items
    missing = wanted - {(event["reason"], event["message"]) for event in found}
    return f"{sorted(missing)} of {sorted(event['reason'] for event in found)}" if missing else ""


_STATIC = """
kind: Pod
metadata: {{name: lamp}}
spec:
  automountServiceAccountToken: false
  containers:
  - name: app
    image: none
    command: [{shell}, -c, "trap 'echo yes > /data/ended; exit 0' TERM; echo yes > /data/started; while true; do sleep 0.1; done"]
    volumeMounts: [{{name: data, mountPath: /data}}]
  volumes: [{{name: data, emptyDir: {{}}}}]
"""  # noqa: E501


async def seen(file: Path) -> None:
    """Wait for a file, and take it away."""

    async def complaint() -> str:
        return "" if file.exists() else f"there is no {file}"

    await until(complaint, within_s=60)
    file.unlink()


async def test_who_would_not_be_replaced_ends_and_comes_back(tmp_path: Path, machine: Machine) -> None:
    environment = {
        "SKERRY_EDGE_SYSTEM_BUS": str(machine.socket), "SKERRY_EDGE_SHUTDOWN_GRACE_S": "20",
        "SKERRY_EDGE_ALLOW_PRIVILEGED": "true",
    }  # fmt: skip
    manifest = tmp_path / "edge/static-pods/lamp.yaml"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(_STATIC.format(shell=shutil.which("sh")))
    async with AsyncExitStack() as stack:
        at = await stack.enter_async_context(site(tmp_path, runtime="process", environment=environment))
        await machine.said("held")
        web = await made(at, pod("web"))
        await phase(at, f"lamp-{Site.node}", "Running")
        [lamp] = [path for path in (at.edge_data / "pods").glob("*/volumes/data") if path != web]
        for place in (web, lamp):
            await seen(place / "started")
        first = await at.api.get(PODS, "web", namespace="default")

        at.cut()
        await until(lambda: offline(at), within_s=60)
        machine.shut_down()
        await machine.said("released")
        for place in (web, lamp):
            await seen(place / "ended")
        machine.shut_down(begins=False)
        await machine.said("held")
        for place in (web, lamp):
            await seen(place / "started")
        at.mend()
        await until(lambda: restarted(at, "web"), within_s=60)
        again = await at.api.get(PODS, "web", namespace="default")
        assert again["metadata"]["uid"] == first["metadata"]["uid"]

        machine.shut_down()
        await machine.said("released")
        assert (await phase(at, "web", "Failed"))["reason"] == "Terminated"  # somebody would replace this one now
        for place in (web, lamp):
            await seen(place / "ended")
        machine.shut_down(begins=False)
        await machine.said("held")
        await seen(lamp / "started")
        await phase(at, f"lamp-{Site.node}", "Running")
        await at.reset()


async def offline(at: Site) -> str:
    told = json.loads((at.edge_data / "status.json").read_bytes())
    return "" if not told["link_up"] else "the agent believes that it is online"


async def restarted(at: Site, name: str) -> str:
    found = (await at.api.get(PODS, name, namespace="default")).get("status") or {}
    counts = [container["restartCount"] for container in found.get("containerStatuses") or []]
    return "" if found.get("phase") == "Running" and counts == [1] else f"{name}: {found}"
