"""The CRI adapter on a real, private containerd passes the pod runtime's contract."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.parts import BUSYBOX_IMAGE, cgroups_named, shared_containerd

from skerry.base.aio.clock import SystemClock
from skerry.runtime.cgroups import Cgroups, group_name
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.engine import CriRuntime
from skerry.runtime.cri.images import CriImages
from skerry.runtime.cri.podgroups import PodGroups
from skerry.testing.contracts.pod_runtime import ABILITIES, PodRuntimeContract, Rig

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("containerd")]


@asynccontextmanager
async def cri_rig(
    socket: Path, directory: Path, *, image: str = BUSYBOX_IMAGE, abilities: Collection[str] = ABILITIES, wait_s: float
) -> AsyncIterator[Rig]:
    """A node's adapter on the engine at ``socket``; in the end nothing of the node is left."""
    node_uid = str(uuid.uuid4())
    client = CriClient(socket)
    image_ref = await CriImages(client).resolve(image)
    await client.aclose()

    def open_runtime() -> CriRuntime:
        client = CriClient(socket)
        groups = PodGroups(client, Cgroups(group_name(node_uid), clock=SystemClock()), cpu_count=2)
        return CriRuntime(client, node_uid=node_uid, groups=groups)

    rig = Rig(
        open=open_runtime, directory=directory, image=image, image_ref=image_ref, abilities=frozenset(abilities),
        wait_s=wait_s,
    )  # fmt: skip
    yield rig
    await rig.close()
    assert not cgroups_named(group_name(node_uid))


@pytest.fixture
async def rig(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    engine = await asyncio.to_thread(shared_containerd, request.config)
    async with cri_rig(engine.socket, tmp_path, wait_s=20) as found:
        yield found


class TestCriRuntime(PodRuntimeContract):
    """containerd 1.6: no container events, so changes come from lists."""
