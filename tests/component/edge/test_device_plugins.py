"""A vendor's device plugin, the agent and containerd as real processes: what a pod gets, and that it keeps it."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.parts import BUSYBOX_IMAGE, Containerd

from skerry.api.gvk import NODES, PODS, Object
from skerry.base.aio.clock import SystemClock
from skerry.base.errors import ConfigError
from skerry.base.grpc import GrpcClient, GrpcError, Status
from skerry.edge.plugins.registrar import Registrar
from skerry.testing.site import Site, site, until
from skerry.wire.pb.codec import DEVICE_PLUGIN

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("containerd")]

RESOURCE = "vendor.example/sensor"
PROGRAM = Path(__file__).with_name("plugin_process.py")


class Vendor:
    """The plugin's process, what it offers, and what it was asked."""

    def __init__(self, directory: Path) -> None:
        self.sockets = directory / "dp"
        self._wishes, self._calls = directory / "wishes.json", directory / "calls.jsonl"
        self._calls.touch()
        self._shared = directory / "shared"
        self._shared.mkdir()
        (self._shared / "driver").write_text("of the vendor")
        self._process: asyncio.subprocess.Process | None = None

    def offer(self, answer: Object | None = None, **health: str) -> None:
        """Devices with their health, and what a container of one gets: by default a mount, a file and a note."""
        wishes = {
            "devices": health,
            "options": {"pre_start_required": True, "get_preferred_allocation_available": True},
            "prefer": ["b"],
            "answer": answer
            or {
                "mounts": [{"host_path": str(self._shared), "container_path": "/vendor", "read_only": True}],
                "devices": [{"host_path": "/dev/zero", "container_path": "/dev/sensor", "permissions": "rw"}],
                "annotations": {"vendor.example/note": "taken"},
            },
        }
        new = self._wishes.with_suffix(".new")
        new.write_text(json.dumps(wishes))
        new.replace(self._wishes)

    async def start(self) -> None:
        arguments = [PROGRAM, self.sockets, RESOURCE, self._wishes, self._calls]
        self._process = await asyncio.create_subprocess_exec(sys.executable, *map(str, arguments))

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None

    def asked(self, method: str) -> list[Any]:
        return [request for name, request in map(json.loads, self._calls.read_text().splitlines()) if name == method]


_SCRIPT = (
    "echo $SENSORS $(cat /vendor/driver) $(head -c 2 /dev/sensor | md5sum) >> /data/seen;"
    "trap 'exit 0' TERM; while true; do sleep 0.2; done"
)


def pod(name: str, count: int = 1, *, script: str = _SCRIPT) -> Object:
    amount = {RESOURCE: str(count)}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": Site.node, "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "app", "image": BUSYBOX_IMAGE, "imagePullPolicy": "Never",
                    "command": ["/bin/sh", "-c", script], "resources": {"limits": amount, "requests": amount},
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }
            ],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    }  # fmt: skip


async def amounts(at: Site, capacity: str, allocatable: str) -> None:
    async def complaint() -> str:
        status = (await at.api.get(NODES, Site.node)).get("status") or {}
        found = [(status.get(kind) or {}).get(RESOURCE) for kind in ("capacity", "allocatable")]
        return "" if found == [capacity, allocatable] else f"capacity, allocatable: {found}"

    await until(complaint, within_s=120)


async def phase(at: Site, name: str, wanted: str) -> dict[str, Any]:
    async def complaint() -> str:
        status = (await at.api.get(PODS, name, namespace="default")).get("status") or {}
        return "" if status.get("phase") == wanted else f"{name} is {status}"

    await until(complaint, within_s=120)
    found: dict[str, Any] = (await at.api.get(PODS, name, namespace="default"))["status"]
    return found


async def seen(at: Site, name: str, lines: int) -> list[str]:
    """What the container wrote at each of its starts."""
    uid = (await at.api.get(PODS, name, namespace="default"))["metadata"]["uid"]
    file = at.edge_data / "pods" / uid / "volumes/data/seen"

    async def complaint() -> str:
        found = file.read_text().splitlines() if file.exists() else []
        return "" if len(found) == lines else f"{name} wrote {found}"

    await until(complaint, within_s=60)
    return file.read_text().splitlines()


async def offered(at: Site, times: int) -> str:
    found = at.agent.log_file.read_text().count("plugin.devices")
    return "" if found >= times else f"devices were offered {found} times"


async def test_a_pod_has_its_device_over_a_killed_agent_and_a_reboot(tmp_path: Path, engine: Containerd) -> None:
    vendor = Vendor(tmp_path)
    vendor.offer(a="Healthy", b="Healthy", c="Unhealthy")
    two_zeros = "c4103f122d27677c9db144cae1394a66"
    async with AsyncExitStack() as stack:
        stack.push_async_callback(vendor.kill)
        environment = {"SKERRY_EDGE_DEVICE_PLUGINS": str(vendor.sockets)}
        at = await stack.enter_async_context(
            site(tmp_path, runtime="cri", cri_socket=engine.socket, environment=environment)
        )
        await vendor.start()
        await amounts(at, "3", "2")

        await at.api.create(PODS, pod("one"), namespace="default")
        assert await seen(at, "one", 1) == [f"b of the vendor {two_zeros} -"], "the plugin prefers b to a"
        assert vendor.asked("GetPreferredAllocation")[0]["container_requests"][0]["available_deviceIDs"] == ["a", "b"]
        assert vendor.asked("PreStartContainer") == [{"devices_ids": ["b"]}]

        await at.api.create(PODS, pod("greedy", 2), namespace="default")
        failed = await phase(at, "greedy", "Failed")
        assert failed["reason"] == "UnexpectedAdmissionError"
        assert f"devices unavailable for {RESOURCE}. Requested: 2, Available: 1" in failed["message"]

        vendor.offer(a="Healthy", b="Unhealthy", c="Unhealthy")
        await amounts(at, "3", "1")
        vendor.offer(a="Healthy", b="Healthy", c="Unhealthy")
        await amounts(at, "3", "2")

        await at.agent.kill()
        await at.agent.start()
        await amounts(at, "3", "2")
        await at.api.create(PODS, pod("two"), namespace="default")
        assert await seen(at, "two", 1) == [f"a of the vendor {two_zeros} -"], "b is still that of the first pod"

        at.cut()
        await at.agent.kill()
        await vendor.kill()
        told = at.agent.log_file.read_text().count("plugin.devices")
        await asyncio.to_thread(engine.reboot)
        await asyncio.to_thread(engine.start)
        await at.agent.start()
        await vendor.start()
        assert [line[0] for line in (await seen(at, "one", 2) + await seen(at, "two", 2))] == ["b", "b", "a", "a"]
        assert len(vendor.asked("Allocate")) == 2, "what was allotted is not asked for again"
        await until(lambda: offered(at, told + 1), within_s=60)  # the cloud would tell what was before
        at.mend()
        await amounts(at, "3", "2")

        await at.api.delete(PODS, "one", namespace="default")
        await at.api.create(PODS, pod("three"), namespace="default")
        await vendor.kill()
        await amounts(at, "3", "0")
        await at.reset()


async def test_a_plugin_that_is_quick_to_come_back_keeps_its_socket(tmp_path: Path) -> None:
    folder = tmp_path / "dp"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as old, socket.socket(socket.AF_UNIX) as new:
        old.bind(str(folder / "v.sock"))

        def come_back() -> None:
            """As plugins do that watch for our socket."""
            while not (folder / "kubelet.sock").exists():
                pass
            (folder / "v.sock").unlink(missing_ok=True)
            new.bind(str(folder / "v.sock"))

        coming = asyncio.ensure_future(asyncio.to_thread(come_back))
        registrar = Registrar(folder, known=[], changed=lambda: None, clock=SystemClock())
        await registrar.start()
        try:
            await coming
            assert (folder / "v.sock").is_socket()
        finally:
            await registrar.aclose()


async def test_registrations_that_are_not_to_be_trusted_are_refused(tmp_path: Path) -> None:
    stale = tmp_path / "dp/old.sock"
    stale.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(stale))
    registrar = Registrar(tmp_path / "dp", known=["known.example/x"], changed=lambda: None, clock=SystemClock())
    await registrar.start()
    assert not stale.exists(), "a plugin whose socket went registers again"
    client = GrpcClient(tmp_path / "dp/kubelet.sock", DEVICE_PLUGIN)
    good = {"version": "v1beta1", "endpoint": "v.sock", "resource_name": RESOURCE}
    bad = [
        {"version": "v1alpha"}, {"endpoint": "../../run/docker.sock"}, {"endpoint": "kubelet.sock"}, {"endpoint": ""},
        {"resource_name": "cpu"}, {"resource_name": "kubernetes.io/cpu"}, {"resource_name": "x.kubernetes.io/cpu"},
        {"resource_name": "a/b/c"}, {"resource_name": f"v.example/{'x' * 64}"},
    ]  # fmt: skip
    try:
        for change in bad:
            with pytest.raises(GrpcError, match=r"invalid|not supported") as caught:
                await client.call("/v1beta1.Registration/Register", good | change, timeout_s=30)
            assert caught.value.status is Status.INVALID_ARGUMENT
        for number in range(63):
            another = good | {"resource_name": f"v.example/{number}"}
            await client.call("/v1beta1.Registration/Register", another, timeout_s=30)
        with pytest.raises(GrpcError, match="64 device plugins"):
            await client.call("/v1beta1.Registration/Register", good, timeout_s=30)
        second = Registrar(tmp_path / "dp", known=(), changed=lambda: None, clock=SystemClock())
        with pytest.raises(ConfigError, match="served by another process"):
            await second.start()
        assert registrar.amounts()["known.example/x"] == (0, 0) and registrar.get("known.example/x") is None
    finally:
        await client.aclose()
        await registrar.aclose()
