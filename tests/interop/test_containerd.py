"""Another containerd than the packages have: devices that only newer ones know, by the Container Device Interface.

``SKERRY_CONTAINERD`` names the directory of its programs, 1.7 or later; with it in the environment every other
test runs on that one, too.
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.component.edge.conftest import engine
from tests.component.edge.test_device_plugins import Vendor, amounts, pod, seen
from tests.parts import OTHER_CONTAINERD, Containerd

from skerry.api.gvk import PODS
from skerry.runtime.cri.client import CriClient
from skerry.testing.site import site

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(400),
    pytest.mark.xdist_group("containerd"),
    pytest.mark.skipif(not OTHER_CONTAINERD, reason="SKERRY_CONTAINERD names no directory of another containerd"),
]
__all__ = ["engine"]

_SCRIPT = (
    "echo $SENSORS $DRIVER $(cat /cdi/driver) $(head -c 2 /dev/cdi-sensor | md5sum) >> /data/seen; exec sleep 3600"
)


def described(directory: Path) -> dict[str, object]:
    """What a vendor installs for its kind of device."""
    device = {
        "deviceNodes": [{"path": "/dev/cdi-sensor", "hostPath": "/dev/zero"}],
        "mounts": [{"hostPath": str(directory), "containerPath": "/cdi", "options": ["ro", "bind"]}],
    }
    return {
        "cdiVersion": "0.5.0",
        "kind": "vendor.example/sensor",
        "containerEdits": {"env": ["DRIVER=seven"]},
        "devices": [{"name": "b", "containerEdits": device}],
    }


async def test_a_device_that_the_plugin_only_names_is_there(tmp_path: Path, engine: Containerd) -> None:
    client = CriClient(engine.socket)
    version = (await client.call("Version", {}))["runtime_version"]
    await client.aclose()
    assert tuple(int(word) for word in version.lstrip("v").split(".")[:2]) >= (1, 7), version
    vendor = Vendor(tmp_path)
    vendor.offer({"cdi_devices": [{"name": "vendor.example/sensor=b"}]}, a="Healthy", b="Healthy")
    driver = tmp_path / "cdi-files"
    driver.mkdir()
    (driver / "driver").write_text("by CDI")
    engine.cdi_directory.mkdir()
    (engine.cdi_directory / "sensor.json").write_text(json.dumps(described(driver)))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(vendor.kill)
        environment = {"SKERRY_EDGE_DEVICE_PLUGINS": str(vendor.sockets)}
        at = await stack.enter_async_context(
            site(tmp_path, runtime="cri", cri_socket=engine.socket, environment=environment)
        )
        await vendor.start()
        await amounts(at, "2", "2")
        await at.api.create(PODS, pod("one", script=_SCRIPT), namespace="default")
        assert await seen(at, "one", 1) == ["b seven by CDI c4103f122d27677c9db144cae1394a66 -"]
        await at.reset()
