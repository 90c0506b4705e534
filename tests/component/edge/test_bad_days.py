"""What people see when their manifest, or the node, is not as it should be; on a real, private containerd."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.component.edge.desk import Desk
from tests.component.edge.test_pods_containerd import put, wanted
from tests.parts import Containerd

from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.engine import CriRuntime
from skerry.runtime.cri.images import CriImages
from skerry.testing.contracts.pod_runtime import end_pods

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("containerd")]


@pytest.fixture
async def desk(tmp_path: Path, containerd: Containerd) -> AsyncIterator[Desk]:
    client = CriClient(containerd.socket)
    runtime = CriRuntime(client, node_uid=str(uuid.uuid4()), list_interval_s=0.2)
    desk = Desk(tmp_path / "edge", runtime, CriImages(client), measure_s=0.5)
    await desk.roster.start()
    yield desk
    await desk.roster.aclose()
    try:
        await end_pods(runtime)
    finally:
        await desk.close()


def told(desk: Desk, reason: str) -> list[dict[str, Any]]:
    """The newest form of each Event of a reason."""
    entries = [e.envelope.content for e in desk.outbox.entries() if "/event/" in e.key]
    return list({e["metadata"]["name"]: e for e in entries if e["reason"] == reason}.values())


async def test_a_probe_whose_program_is_missing_restarts_nothing_and_is_told_once(desk: Desk) -> None:
    probe = {"exec": {"command": ["no-such-program"]}, "periodSeconds": 1, "failureThreshold": 1}
    await put(desk, wanted("sleep 300", container={"livenessProbe": probe}))
    await desk.until(lambda: told(desk, "Unhealthy"))
    await desk.until(lambda: told(desk, "Unhealthy")[0]["count"] > 1)
    [event] = told(desk, "Unhealthy")  # though the engine names each command by another id
    assert event["message"].startswith("Liveness probe errored: ") and "no-such-program" in event["message"]
    assert desk.state()["running"] and desk.status()["containerStatuses"][0]["restartCount"] == 0


async def test_an_image_that_cannot_be_had_backs_off_and_a_missing_secret_is_told(desk: Desk) -> None:
    container = {"image": "127.0.0.1:9/shop/till:1", "imagePullPolicy": "IfNotPresent"}
    await put(desk, wanted("sleep 300", container=container, imagePullSecrets=[{"name": "regcred"}]))
    waiting = await desk.until(lambda: desk.state().get("waiting", {}).get("message") and desk.state()["waiting"])
    assert waiting["reason"] == "RegistryUnavailable" and "cannot reach 127.0.0.1:9" in waiting["message"]
    [event] = told(desk, "FailedToRetrieveImagePullSecret")
    assert "(regcred)" in event["message"] and event["type"] == "Warning"
    await desk.until(lambda: desk.state()["waiting"]["reason"] == "ImagePullBackOff")
    message = desk.state()["waiting"]["message"]
    assert message.startswith('Back-off pulling image "127.0.0.1:9/shop/till:1": RegistryUnavailable: ')
    assert [e["message"] for e in told(desk, "BackOff")] == ['Back-off pulling image "127.0.0.1:9/shop/till:1"']


async def test_a_container_that_fills_the_disk_is_evicted_without_its_long_grace(desk: Desk) -> None:
    limits = {"resources": {"limits": {"ephemeral-storage": "1Mi"}}}
    script = "trap : TERM; dd if=/dev/zero of=/big bs=1M count=4; while true; do sleep 1; done"
    await put(desk, wanted(script, container=limits, terminationGracePeriodSeconds=3600))
    await desk.until(lambda: "running" in desk.state())
    await desk.until(lambda: desk.status().get("phase") == "Failed")
    assert desk.status()["reason"] == "Evicted"
    assert 'Container app exceeded its local ephemeral storage limit "1Mi"' in desk.status()["message"]


async def test_a_sub_path_that_is_not_there_holds_the_container(desk: Desk) -> None:
    await desk.objects.put("default/configmap/c", {"kind": "ConfigMap", "data": {"app.conf": "x"}})
    mounts = [{"name": "v", "mountPath": "/app.conf", "subPath": "ap.conf"}]
    volumes = [{"name": "v", "configMap": {"name": "c"}}]
    await put(desk, wanted("sleep 300", volumes=volumes, container={"volumeMounts": mounts}))
    waiting = await desk.until(lambda: desk.state().get("waiting", {}).get("message") and desk.state()["waiting"])
    assert waiting["reason"] == "CreateContainerConfigError"
    assert waiting["message"] == "volumeMount 'v': subPath 'ap.conf' is not in its volume"


async def test_a_host_path_that_cannot_be_made_says_so(desk: Desk) -> None:
    volumes = [{"name": "v", "hostPath": {"path": "/proc/none", "type": "DirectoryOrCreate"}}]
    await put(desk, wanted("sleep 300", volumes=volumes))
    [event] = await desk.until(lambda: told(desk, "FailedMount"))
    assert "hostPath /proc/none cannot be made: " in event["message"] and "make it on the node" in event["message"]
