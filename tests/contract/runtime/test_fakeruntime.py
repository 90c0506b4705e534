"""The fake runtime keeps the contract."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skerry.testing.contracts.pod_runtime import MOUNTS, PodRuntimeContract, Rig
from skerry.testing.fakeruntime import FakeEngine, FakeRuntime


class TestFakeRuntime(PodRuntimeContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[Rig]:
        engine = FakeEngine()
        rig = Rig(lambda: FakeRuntime(engine), tmp_path, "busybox", "sha256:busybox", frozenset({MOUNTS}))
        yield rig
        await rig.close()
