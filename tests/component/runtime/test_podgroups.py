"""Control groups of pods on a real containerd: what the pod asks for, and what the engine does not know any more."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.parts import BUSYBOX_IMAGE, Containerd, shared_containerd

from skerry.base.aio.clock import SystemClock
from skerry.base.values import replace
from skerry.runtime.cgroups import Cgroups, GroupLimits, group_name, member_files
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.engine import CriRuntime
from skerry.runtime.cri.images import CriImages
from skerry.runtime.cri.lostnets import LostNetworks, arguments_of
from skerry.runtime.cri.podgroups import PodGroups, cgroup_driver
from skerry.runtime.cri.supervisors import supervisors_of
from skerry.runtime.ports import ContainerState
from skerry.testing.contracts.pod_runtime import Rig, container_in, started

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("containerd")]

_LOST, _KNOWN = "c0ffee" * 10 + "0123", "beef" * 16


@dataclass
class Node:
    """A node's runtime with its groups."""

    rig: Rig
    engine: Containerd
    client: CriClient
    cgroups: Cgroups


@pytest.fixture
async def node(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Node]:
    engine = await asyncio.to_thread(shared_containerd, request.config)
    node_uid = str(uuid.uuid4())
    client = CriClient(engine.socket)
    image_ref = await CriImages(client).resolve(BUSYBOX_IMAGE)
    cgroups = Cgroups(group_name(node_uid), clock=SystemClock())
    groups = PodGroups(client, cgroups, cpu_count=2, process_count=50)
    rig = Rig(
        open=lambda: CriRuntime(client, node_uid=node_uid, groups=groups),
        directory=tmp_path, image=BUSYBOX_IMAGE, image_ref=image_ref, wait_s=30,
    )  # fmt: skip
    yield Node(rig, engine, client, cgroups)
    await rig.close()


async def _sleeper(cgroups: Cgroups, member: str, *, program: str = "sleep") -> asyncio.subprocess.Process:
    """A process in a group that no engine knows."""
    places = cgroups.make(member, GroupLimits())
    process = await asyncio.create_subprocess_exec(program, "600", executable="/bin/sleep")
    for place in places:
        (place / "cgroup.procs").write_text(str(process.pid))
    return process


async def test_the_engine_says_who_keeps_its_groups(node: Node) -> None:
    assert await cgroup_driver(node.client) == "cgroupfs"


async def test_a_pod_has_one_group_with_its_limits(node: Node) -> None:
    runtime = node.rig.adapter()
    container = {"name": "app", "resources": {"limits": {"cpu": "250m", "memory": "64Mi"}, "requests": {"cpu": "1"}}}
    spec = node.rig.sandbox()
    overhead = {"cpu": "250m", "memory": "16Mi"}
    spec = replace(spec, pod={**spec.pod, "spec": {"containers": [container], "overhead": overhead}})
    sandbox_id, container_id = await started(
        runtime, spec, replace(node.rig.container("sleep 300"), container=container)
    )
    assert node.cgroups.groups() == {f"pod{spec.uid}"}
    members = node.cgroups.members(f"pod{spec.uid}")
    assert set(members) == {sandbox_id, container_id} and all(members.values())
    found = {
        path.name: path.read_text().split()[0]
        for place in node.cgroups.make(f"pod{spec.uid}", GroupLimits())
        for path in place.iterdir()
        if path.name in ("cpu.shares", "cpu.cfs_quota_us", "memory.limit_in_bytes", "pids.max", "cpu.max", "memory.max")
    }
    assert "50" in found.values() and str(80 << 20) in found.values() and "50000" in found.values()
    assert found.get("cpu.shares", "1280") == "1280"


async def test_a_container_does_not_swap(node: Node) -> None:
    runtime, spec = node.rig.adapter(), node.rig.sandbox()
    container = {"name": "app", "resources": {"limits": {"memory": "32Mi"}}}
    _, container_id = await started(runtime, spec, replace(node.rig.container("sleep 300"), container=container))
    files = member_files(32 << 20, is_unified=node.cgroups.is_unified)
    places = node.cgroups.make(f"pod{spec.uid}/{container_id}", GroupLimits())
    found = {p.name: p.read_text().strip() for place in places for p in place.iterdir() if p.name in files}
    assert found and found == {name: files[name] for name in found}


async def test_a_container_is_not_left_half_alive_in_version_2(node: Node) -> None:
    runtime, spec = node.rig.adapter(), node.rig.sandbox()
    container = {"name": "app", "resources": {"limits": {"memory": "32Mi"}}}
    hungry = replace(node.rig.container("dd if=/dev/zero of=/dev/null bs=1G; exit 7"), container=container)
    _, container_id = await started(runtime, spec, hungry)
    ended = await container_in(runtime, container_id, ContainerState.EXITED, wait_s=60)
    # Version 1 kills one process, and the rest sees to it; who asks only hears of the kill.
    assert (ended.exit_code, ended.reason) == (137 if node.cgroups.is_unified else 7, "OOMKilled")


async def test_what_the_engine_lost_ends_before_another_sandbox_is_made(node: Node) -> None:
    runtime, spec = node.rig.adapter(), node.rig.sandbox()
    _, container_id = await started(runtime, spec, node.rig.container("sleep 300"))
    lost = await _sleeper(node.cgroups, f"pod{spec.uid}/{_LOST}")
    await runtime.create_sandbox(replace(spec, attempt=1))
    assert await lost.wait() == -9
    assert _LOST not in node.cgroups.members(f"pod{spec.uid}")
    await container_in(runtime, container_id, ContainerState.RUNNING, wait_s=30)  # known, so not touched


async def test_a_pod_that_only_its_group_tells_of_is_ended(node: Node) -> None:
    runtime = node.rig.adapter()
    spec = node.rig.sandbox()
    sandbox_id, _ = await started(runtime, spec, node.rig.container("sleep 300"))
    lost = await _sleeper(node.cgroups, f"pod{spec.uid}/{_LOST}")
    await runtime.stop_sandbox(sandbox_id)
    await runtime.remove_sandbox(sandbox_id)
    assert runtime.leftovers() == {spec.uid} and lost.returncode is None
    await runtime.clear_pod(spec.uid)
    assert await lost.wait() == -9
    assert runtime.leftovers() == set()


async def test_a_lost_sandbox_gives_its_address_and_name_space_back(node: Node) -> None:
    runtime, spec, other = node.rig.adapter(), node.rig.sandbox(), node.rig.sandbox()
    for each in (spec, other):
        await runtime.create_sandbox(each)
    networks = LostNetworks(node.client)
    notes, [sandbox] = networks.of(spec.uid), (await runtime.observe())[spec.uid].sandboxes
    assert {note.network for note in notes} == {"cni-loopback", node.engine.bridge}
    [address] = sandbox.ips
    [place] = {Path(note.name_space) for note in notes}
    leases = node.engine.directory / "ipam" / node.engine.bridge
    assert place.exists() and (leases / address).read_text().split()[0] == sandbox.id

    await networks.clear(spec.uid, known={sandbox.id})  # the engine knows it: nothing is touched
    assert networks.of(spec.uid) == notes and place.exists()
    await networks.clear(spec.uid, known=set())
    assert networks.of(spec.uid) == [] and not place.exists() and not (leases / address).exists()
    assert str(place) not in Path("/proc/mounts").read_text()

    [left] = (await runtime.observe())[other.uid].sandboxes
    assert len(networks.of(other.uid)) == 2 and (leases / left.ips[0]).exists()


async def test_a_sandbox_without_a_note_gives_its_address_back_by_its_id(node: Node) -> None:
    runtime, spec, other = node.rig.adapter(), node.rig.sandbox(), node.rig.sandbox()
    for each in (spec, other):
        await runtime.create_sandbox(each)
    networks, pods = LostNetworks(node.client), await runtime.observe()
    [sandbox], [kept] = pods[spec.uid].sandboxes, pods[other.uid].sandboxes
    leases = node.engine.directory / "ipam" / node.engine.bridge
    for note in networks.of(spec.uid):  # as if the engine was killed before the library wrote them
        note.path.unlink()
    await networks.give_back(sandbox.id)  # the engine knows what the plugins answered: it undoes it itself
    assert (leases / sandbox.ips[0]).exists()
    metadata = {"namespace": spec.namespace, "name": spec.name, "uid": spec.uid}
    await networks.undo(sandbox.id, arguments_of(sandbox.id, metadata))
    assert not (leases / sandbox.ips[0]).exists() and (leases / kept.ips[0]).exists()
    assert len(networks.of(other.uid)) == 2


async def test_a_supervisor_that_outlives_its_sandbox_ends_with_the_pod(node: Node) -> None:
    runtime, spec, other = node.rig.adapter(), node.rig.sandbox(), node.rig.sandbox()
    sandbox_id, other_id = await runtime.create_sandbox(spec), await runtime.create_sandbox(other)
    await runtime.stop_sandbox(sandbox_id)
    await runtime.remove_sandbox(sandbox_id)
    words = ("containerd-shim-runc-v2", "-c", "sleep 600; exit", "-id", sandbox_id)  # as if the engine had started two
    second = await asyncio.create_subprocess_exec(*words, executable="/bin/sh")
    await runtime.clear_pod(spec.uid)
    assert await second.wait() == -9
    [left] = (await runtime.observe())[other.uid].sandboxes
    assert left.id == other_id and left.is_ready


def test_a_supervisor_of_lost_containers_ends_and_one_of_known_ones_does_not() -> None:
    script = "sleep 600 & echo $!; wait"
    watchers, pids = [], []
    for container_id in (_LOST, _KNOWN):
        words = ["containerd-shim-runc-v2", "-c", script, "-id", container_id]
        watchers.append(subprocess.Popen(words, executable="/bin/sh", stdout=subprocess.PIPE))
        assert watchers[-1].stdout is not None
        pids.append(int(watchers[-1].stdout.readline()))
    lost, known = watchers
    try:
        with supervisors_of(pids, known={_KNOWN}) as found:
            assert found.count == 1
            found.end()
        assert lost.wait(timeout=30) == -9 and known.poll() is None
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for watcher in watchers:
            watcher.kill()
            watcher.communicate()
