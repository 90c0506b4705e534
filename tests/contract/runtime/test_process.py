"""The process runtime keeps the contract."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skerry.runtime.process.engine import ProcessRuntime
from skerry.testing.contracts.pod_runtime import PodRuntimeContract, Rig


class TestProcessRuntime(PodRuntimeContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[Rig]:
        rig = Rig(lambda: ProcessRuntime(tmp_path / "runtime"), tmp_path, "label", "label")
        yield rig
        await rig.close()
