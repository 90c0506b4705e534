"""Another container engine than containerd: CRI-O, or Docker behind cri-dockerd.

``SKERRY_CRI_SOCKET`` names the socket of one that runs and has a pod network, ``SKERRY_CRI_IMAGE`` an image that it
holds, with ``sh``, ``sleep``, ``cat`` and ``pwd`` (by default the one that the other tests make).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.component.test_pod_streams import by_websocket
from tests.contract.runtime.test_cri import cri_rig
from tests.parts import BUSYBOX_IMAGE, busybox_program, image_archive

from skerry.api.gvk import CONFIGMAPS, PODS, Object
from skerry.base.aio.clock import SystemClock
from skerry.kube.requests import Request
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.engine import CriRuntime
from skerry.runtime.cri.images import CriImages
from skerry.runtime.cri.logrotation import LogRotation
from skerry.testing.contracts.pod_runtime import ABILITIES, LOGS, PodRuntimeContract, Rig, log_lines, started
from skerry.testing.site import Site, site, until

SOCKET = os.environ.get("SKERRY_CRI_SOCKET", "")
IMAGE = os.environ.get("SKERRY_CRI_IMAGE", BUSYBOX_IMAGE)

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(200),
    pytest.mark.xdist_group("containerd"),
    pytest.mark.skipif(not SOCKET, reason="SKERRY_CRI_SOCKET names no socket of a container engine"),
]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    client = CriClient(Path(SOCKET))
    is_docker = (await client.call("Version", {}))["runtime_name"] == "docker"
    await client.aclose()
    abilities = ABILITIES - {LOGS} if is_docker else ABILITIES
    async with cri_rig(Path(SOCKET), tmp_path, image=IMAGE, abilities=abilities, wait_s=30) as found:
        yield found


class TestOtherEngine(PodRuntimeContract):
    """What every runtime does."""


async def test_rotation_keeps_every_line_or_leaves_the_log_to_the_engine(rig: Rig) -> None:
    runtime, spec = rig.adapter(), rig.sandbox()
    assert isinstance(runtime, CriRuntime)
    await started(runtime, spec, rig.container("for i in 1 2 3; do echo $i; done; sleep 300"))
    path = spec.log_directory / "app" / "0.log"
    before = await log_lines(path, 3, wait_s=rig.wait_s)
    is_engines = path.is_symlink()
    await LogRotation(runtime, clock=SystemClock(), max_bytes=1, max_files=3).rotate()
    assert path.with_name("0.log.1").exists() is not is_engines
    assert await log_lines(path if is_engines else path.with_name("0.log.1"), 3, wait_s=rig.wait_s) == before
    assert path.exists()


def wanted() -> Object:
    container = {
        "name": "app",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", "cat /conf/greeting; trap 'exit 0' TERM; sleep 300 & wait"],
        "readinessProbe": {"exec": {"command": ["cat", "/conf/greeting"]}, "periodSeconds": 1},
        "resources": {"limits": {"memory": "64Mi", "cpu": "1"}},
        "volumeMounts": [{"name": "conf", "mountPath": "/conf"}],
    }
    spec = {"containers": [container], "volumes": [{"name": "conf", "configMap": {"name": "conf"}}]}
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": spec}


async def test_an_archive_is_loaded_by_the_engines_own_program(tmp_path: Path) -> None:
    """They find the engine as for any user: ``DOCKER_HOST``, ``CONTAINERS_STORAGE_CONF``."""
    names = ["skerry.test/loaded:1", "skerry.test/loaded:2"]
    async with site(tmp_path, runtime="cri", cri_socket=Path(SOCKET)) as at:
        for name in names:
            archive = tmp_path / "image.tar"
            archive.write_bytes(image_archive(name, busybox_program(), ["/bin/true"]))
            answer = await at.told("image", "load", str(archive), "--data", str(at.edge_data))
            assert answer["loaded"] == [name]
    client = CriClient(Path(SOCKET))
    images = CriImages(client)
    assert [await images.is_present(name) for name in names] == [True, True]
    await images.remove(await images.resolve(names[0]))
    await client.aclose()


async def seen(at: Site) -> Object:
    return await at.api.get(PODS, "web", namespace="default")


async def why_not_ready(at: Site) -> str:
    found = await seen(at)
    statuses = (found.get("status") or {}).get("containerStatuses") or [{}]
    return "" if statuses[0].get("ready") else str(found.get("status"))


async def test_a_pod_from_the_cloud_and_back(tmp_path: Path) -> None:
    async with site(tmp_path, runtime="cri", cri_socket=Path(SOCKET)) as at:
        config = {"metadata": {"name": "conf", "namespace": "default"}, "data": {"greeting": "good day\n"}}
        await at.api.create(CONFIGMAPS, config, namespace="default")
        await at.api.create(PODS, wanted(), namespace="default")
        await until(lambda: why_not_ready(at), within_s=90)
        before = await seen(at)
        assert before["status"]["podIP"]
        answer = await at.transport.send(Request("GET", "/api/v1/namespaces/default/pods/web/log"))
        assert answer.body == b"good day\n"
        assert await by_websocket(at, "cat", "/conf/greeting") == "good day\n"
        await at.agent.kill()
        await at.agent.start()

        async def is_adopted() -> str:
            engine = CriRuntime(CriClient(Path(SOCKET)), node_uid=str(at.joined()["nodeUid"]))
            try:
                pods = list((await engine.observe()).values())
            finally:
                await engine.aclose()
            running = [c.id for pod in pods for c in pod.containers]
            ours = before["status"]["containerStatuses"][0]["containerID"].partition("://")[2]
            return "" if running == [ours] else f"{running} instead of {ours}"

        assert not await is_adopted()
        await at.api.delete(PODS, "web", namespace="default")
        await until(at.no_pods, within_s=90)
        assert (await is_adopted()).startswith("[] instead")
