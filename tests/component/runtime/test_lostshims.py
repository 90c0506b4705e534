"""Shims that a killed containerd forgets: each is ended by the node whose it was, and by no other."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
import struct
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.component.runtime.sandboxes import bare_sandbox
from tests.parts import Containerd, PartMissing

from skerry.base.aio.clock import SystemClock
from skerry.runtime.cgroups import Cgroups, group_name
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.engine import CriRuntime
from skerry.runtime.cri.lostshims import LostShims, Owner
from skerry.runtime.cri.podgroups import PodGroups
from skerry.runtime.cri.supervisors import words_of
from skerry.runtime.ports import EngineUnavailable, SandboxSpec
from skerry.wire.pb.codec import Interface

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("containerd")]

_TTRPC = Interface(
    messages={
        "Request": {1: ("service", "string", "", ""), 2: ("method", "string", "", ""), 3: ("payload", "bytes", "", "")},
        "DeleteRequest": {1: ("id", "string", "", "")},
    },
    enums={},
    methods={},
)


@dataclass
class Node:
    """A node on an engine that may be killed."""

    engine: Containerd
    client: CriClient
    runtime: CriRuntime
    cgroups: Cgroups
    uid: str
    directory: Path

    def shims(self, node_uid: str) -> LostShims:
        return LostShims(self.client, Owner(node_uid, logs=Path("/nowhere")), clock=SystemClock())

    def sandbox(self) -> SandboxSpec:
        return bare_sandbox(self.directory)

    def shim_of(self, sandbox_id: str) -> int:
        """A handle of the process that watches over a sandbox."""
        pids = [int(path.name) for path in Path("/proc").glob("[0-9]*") if sandbox_id in words_of(int(path.name))]
        assert len(pids) == 1, pids
        return os.pidfd_open(pids[0])

    def bundle_of(self, sandbox_id: str) -> Path:
        return self.engine.directory / "state/io.containerd.runtime.v2.task/k8s.io" / sandbox_id

    async def lose(self, spec: SandboxSpec) -> tuple[str, int]:
        """Stop a sandbox so that the engine is killed after the end of its task and before that of its shim."""
        sandbox_id = await self.runtime.create_sandbox(spec)
        [pids] = self.cgroups.members(f"pod{spec.uid}").values()
        shim = self.shim_of(sandbox_id)
        await asyncio.to_thread(self.engine.kill)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await _delete_task((self.bundle_of(sandbox_id) / "address").read_text().removeprefix("unix://"), sandbox_id)
        await asyncio.to_thread(self.engine.start)
        async with asyncio.timeout(60):
            while not await self._is_answering():
                await asyncio.sleep(0.05)
        [seen] = (await self.runtime.observe())[spec.uid].sandboxes
        assert not seen.is_ready and not _has_ended(shim)
        return sandbox_id, shim

    async def _is_answering(self) -> bool:
        try:
            await self.runtime.observe()
        except EngineUnavailable:
            return False
        return True


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    try:
        engine = Containerd()
    except PartMissing as exc:
        pytest.skip(str(exc))
    try:
        await asyncio.to_thread(engine.start)
        client = CriClient(engine.socket)
        node_uid = str(uuid.uuid4())
        cgroups = Cgroups(group_name(node_uid), clock=SystemClock())
        groups = PodGroups(client, cgroups, cpu_count=2)
        runtime = CriRuntime(client, node_uid=node_uid, groups=groups)
        yield Node(engine, client, runtime, cgroups, node_uid, tmp_path)
        for uid in runtime.leftovers():
            await runtime.clear_pod(uid)
        await runtime.aclose()
    finally:
        await asyncio.to_thread(engine.close)


async def _delete_task(address: str, sandbox_id: str) -> None:
    """What containerd asks a shim for as the last but one thing: ttrpc's framing around one message."""
    payload = _TTRPC.encode("DeleteRequest", {"id": sandbox_id})
    call = {"service": "containerd.task.v2.Task", "method": "Delete", "payload": payload}
    request = _TTRPC.encode("Request", call)
    reader, writer = await asyncio.open_unix_connection(address)
    try:
        async with asyncio.timeout(30):
            while True:
                writer.write(struct.pack(">IIBB", len(request), 1, 1, 0) + request)
                size, _, kind, _ = struct.unpack(">IIBB", await reader.readexactly(10))
                assert kind == 2
                answer = await reader.readexactly(size)
                if b"must be stopped" not in answer and b"running" not in answer:
                    break
                await asyncio.sleep(0.02)
    finally:
        writer.close()
        await writer.wait_closed()


def _has_ended(handle: int) -> bool:
    ended = select.poll()
    ended.register(handle, select.POLLIN)
    return bool(ended.poll(0))


async def _ends(handle: int) -> None:
    async with asyncio.timeout(30):
        while not _has_ended(handle):
            await asyncio.sleep(0.02)
    os.close(handle)


async def test_a_shim_that_has_outlived_its_sandbox_ends_when_it_is_removed(node: Node) -> None:
    other = await node.runtime.create_sandbox(node.sandbox())
    sandbox_id, shim = await node.lose(node.sandbox())
    listens = Path((node.bundle_of(sandbox_id) / "address").read_text().removeprefix("unix://"))
    assert listens.is_socket()
    await node.runtime.remove_sandbox(sandbox_id)
    await _ends(shim)
    assert not listens.exists()
    [left] = [sandbox for pod in (await node.runtime.observe()).values() for sandbox in pod.sandboxes]
    assert left.id == other and left.is_ready


async def test_a_shim_of_a_sandbox_that_nobody_knows_ends_if_it_is_ours(node: Node) -> None:
    spec, other = node.sandbox(), node.sandbox()
    kept = await node.runtime.create_sandbox(other)
    sandbox_id, shim = await node.lose(spec)
    assert await node.shims(node.uid).end() == 0  # the engine knows it
    await node.client.call("RemovePodSandbox", {"pod_sandbox_id": sandbox_id})  # and here the agent was killed
    assert await node.shims(str(uuid.uuid4())).end() == 0 and not _has_ended(shim)  # another tenant's
    assert await node.shims(node.uid).end() == 1
    await _ends(shim)
    assert (await node.runtime.observe())[other.uid].sandboxes[0].id == kept
    assert await node.shims(node.uid).end() == 0


async def test_a_shim_without_a_bundle_ends_if_nobody_else_has_anything_on_the_engine(node: Node) -> None:
    tenant = CriRuntime(CriClient(node.engine.socket), node_uid=str(uuid.uuid4()))
    sandbox_id, shim = await node.lose(node.sandbox())
    theirs = await tenant.create_sandbox(node.sandbox())
    await node.client.call("RemovePodSandbox", {"pod_sandbox_id": sandbox_id})
    await asyncio.to_thread(shutil.rmtree, node.bundle_of(sandbox_id))  # as the engine does at its next start
    assert await node.shims(node.uid).end() == 0 and not _has_ended(shim)
    await tenant.stop_sandbox(theirs)
    await tenant.remove_sandbox(theirs)
    await tenant.aclose()
    assert await node.shims(node.uid).end() == 1
    await _ends(shim)


async def test_a_sandbox_that_is_kept_needs_no_shim(node: Node) -> None:
    spec = node.sandbox()
    sandbox_id, shim = await node.lose(spec)
    shims = node.shims(node.uid)
    assert await shims.end() == 0 and not _has_ended(shim)
    assert await shims.end() == 1
    await _ends(shim)
    assert [sandbox.id for sandbox in (await node.runtime.observe())[spec.uid].sandboxes] == [sandbox_id]
    await node.runtime.remove_sandbox(sandbox_id)
