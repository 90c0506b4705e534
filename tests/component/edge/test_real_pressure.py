"""A machine that really runs short: of memory, of process ids, of disk; what pods, node and cloud see of it.

Thresholds lie below what the machine has at that moment, by more than other tests use beside this one; the greedy pod
takes more than that in steps, and less than a small machine has.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.parts import BUSYBOX_IMAGE, Containerd

from skerry.api.gvk import NODES, PODS, Object
from skerry.edge.resources.signals import read_signals
from skerry.kube.requests import Request
from skerry.testing.site import Site, pod_state, site, until

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("containerd")]

MIB = 1 << 20
SETTLE_S = 5.0
MARGIN_BYTES, STEP_BYTES, MOST_BYTES = 900 * MIB, 64 * MIB, 2560 * MIB
MARGIN_PIDS, FORKED = 500, 1500
DISK_MIB, LEAST_FREE_MIB, WRITTEN_MIB = 256, 100, 200
WITHIN_S = 60
AS_KUBELETS = r"The node was low on resource: {0}\. Threshold quantity: \d+(\w*), available: \d+(\w*)\. {1}$"
TOO_MUCH = r"Container app was using \d+\w*, request is 0, has larger consumption of {0}\. "


def pod(
    name: str, script: str, *, volume: dict[str, Any] | None = None, amounts: dict[str, str] | None = None
) -> Object:
    container: dict[str, Any] = {"name": "app", "image": BUSYBOX_IMAGE, "command": ["/bin/sh", "-c", script]}
    if amounts:
        container["resources"] = {"requests": amounts, "limits": amounts}
    spec: dict[str, Any] = {"containers": [container], "terminationGracePeriodSeconds": 600, "nodeName": Site.node}
    if volume is not None:
        container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
        spec["volumes"] = [{"name": "data", "emptyDir": volume}]
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


class Node:
    """A site with one modest pod that runs, and its condition of one kind."""

    def __init__(self, at: Site, kind: str) -> None:
        self.at = at
        self.kind = kind

    async def run(self, wanted: Object) -> Object:
        await self.at.api.create(PODS, wanted, namespace="default")
        await until(lambda: self._is(wanted["metadata"]["name"], "Running"), within_s=WITHIN_S)
        return await self.pod(wanted["metadata"]["name"])

    async def pod(self, name: str) -> Object:
        return await self.at.api.get(PODS, name, namespace="default")

    async def failed(self, name: str) -> tuple[str, str]:
        """Reason and message of a pod, once it has failed."""
        await until(lambda: self._is(name, "Failed"), within_s=WITHIN_S)
        status = (await self.pod(name))["status"]
        return status["reason"], status["message"]

    async def has_pressure(self, wanted: str) -> None:
        async def look() -> str:
            node = await self.at.api.get(NODES, self.at.node)
            found = {c["type"]: c["status"] for c in node["status"]["conditions"]}
            return "" if found[self.kind] == wanted else f"{self.kind} is {found[self.kind]}"

        await until(look, within_s=WITHIN_S)

    async def _is(self, name: str, phase: str) -> str:
        found = await self.pod(name)
        return "" if (found.get("status") or {}).get("phase") == phase else pod_state(found)


@asynccontextmanager
async def node(data: Path, engine: Containerd, kind: str, thresholds: dict[str, str]) -> AsyncIterator[Node]:
    calm = {"memory.available": "0", "nodefs.available": "0", "imagefs.available": "0", "pid.available": "0"}
    calm |= {"nodefs.inodesFree": "0"} | thresholds
    environment = {
        "SKERRY_EDGE_EVICTION_HARD": ",".join(f"{signal}={text}" for signal, text in calm.items()),
        "SKERRY_EDGE_EVICTION_SETTLE_S": str(SETTLE_S),
    }
    async with site(data, runtime="cri", cri_socket=engine.socket, environment=environment) as at:
        yield Node(at, kind)
        for left in (await at.api.list(PODS, namespace="default")).items:
            await at.api.delete(PODS, left["metadata"]["name"], namespace="default", grace_period_s=0)
        await until(at.no_pods, within_s=WITHIN_S)
        await at.reset()


async def evicts(on: Node, greedy: Object, resource: str, *, why: str) -> None:
    """A greedy pod beside a modest one: all that is promised of its end."""
    amounts = {"cpu": "10m", "memory": "64Mi"}
    modest = await on.run(pod("modest", "sleep 3600", volume={}, amounts=amounts))
    await on.has_pressure("False")
    await on.at.api.create(PODS, greedy, namespace="default")
    await on.has_pressure("True")
    await on.at.api.create(PODS, pod("late", "sleep 3600"), namespace="default")
    reason, message = await on.failed("late")
    assert (reason, message) == ("Evicted", f"Pod was rejected: The node had condition: [{on.kind}]. ")
    reason, message = await on.failed("greedy")
    assert reason == "Evicted" and re.match(AS_KUBELETS.format(resource, why), message), message
    [told] = [c for c in (await on.pod("greedy"))["status"]["conditions"] if c["type"] == "DisruptionTarget"]
    assert (told["status"], told["reason"]) == ("True", "TerminationByKubelet")
    await on.has_pressure("False")
    await on.run(pod("next", "sleep 3600"))
    after = await on.pod("modest")
    assert after["status"]["phase"] == "Running"
    assert after["status"]["qosClass"] == "Guaranteed" and after["metadata"]["uid"] == modest["metadata"]["uid"]
    assert after["status"]["containerStatuses"] == modest["status"]["containerStatuses"], "it was touched"


async def test_memory_that_a_pod_takes_is_given_back_by_its_eviction(tmp_path: Path, containerd: Containerd) -> None:
    left = read_signals(tmp_path, None)["memory.available"].available - MARGIN_BYTES
    if left < 2 * MARGIN_BYTES:
        pytest.skip("this machine has less than 3 GB of memory to spare")
    steps = min(MOST_BYTES, left) // STEP_BYTES
    step = f"dd if=/dev/zero of=/data/$n bs=1M count={STEP_BYTES // MIB} 2>/dev/null"
    script = f"n=0; while [ $n -lt {steps} ]; do {step}; n=$((n+1)); done; sleep 3600"
    async with node(tmp_path / "site", containerd, "MemoryPressure", {"memory.available": str(left)}) as on:
        await evicts(on, pod("greedy", script, volume={"medium": "Memory"}), "memory", why=TOO_MUCH.format("memory"))


async def test_process_ids_that_a_pod_takes_are_given_back_by_its_eviction(
    tmp_path: Path, containerd: Containerd
) -> None:
    left = read_signals(tmp_path, None)["pid.available"].available - MARGIN_PIDS
    script = f"n=0; while [ $n -lt {FORKED} ]; do sleep 3600 & n=$((n+1)); done; wait"
    async with node(tmp_path / "site", containerd, "PIDPressure", {"pid.available": str(left)}) as on:
        await evicts(on, pod("greedy", script), "pids", why="")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small ext4 of its own, where the agent will have its data."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts file systems")
    place, image = tmp_path / "site/edge", tmp_path / "ext4"
    place.mkdir(parents=True)
    image.touch()
    os.truncate(image, DISK_MIB * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    (place / "lost+found").rmdir()
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


async def test_disk_that_a_pod_fills_is_given_back_by_its_eviction(
    disk: Path, tmp_path: Path, containerd: Containerd
) -> None:
    script = f"echo begun; dd if=/dev/zero of=/data/file bs=1M count={WRITTEN_MIB} 2>/dev/null; sleep 3600"
    thresholds = {"nodefs.available": f"{LEAST_FREE_MIB}Mi"}
    async with node(tmp_path / "site", containerd, "DiskPressure", thresholds) as on:
        free = read_signals(disk, None)["nodefs.available"].available
        assert LEAST_FREE_MIB * MIB < free < (LEAST_FREE_MIB + WRITTEN_MIB) * MIB, "the pod would not fill it"
        await evicts(
            on, pod("greedy", script, volume={}), "ephemeral-storage", why=f"({TOO_MUCH.format('ephemeral-storage')})?"
        )
        assert read_signals(disk, None)["nodefs.available"].available > LEAST_FREE_MIB * MIB
        log = await on.at.transport.send(Request("GET", "/api/v1/namespaces/default/pods/greedy/log"))
        assert log.body == b"begun\n", "what an evicted pod has said can still be read"
