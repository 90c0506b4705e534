"""The process runtime keeps the contract, with and without file system views of its own."""

import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.parts import cgroups_named

from skerry.base.aio.clock import SystemClock
from skerry.base.values import replace
from skerry.runtime.cgroups import Cgroups, group_name
from skerry.runtime.ports import EngineRefused, Mount
from skerry.runtime.process.engine import ProcessRuntime
from skerry.runtime.process.settings import ProcessSettings
from skerry.testing.contracts.pod_runtime import MOUNTS, RESOLVER, PodRuntimeContract, Rig, log_lines, started


class TestProcessRuntime(PodRuntimeContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[Rig]:
        clock = SystemClock()
        groups = Cgroups(group_name(str(uuid.uuid4())), clock=clock)
        kept = groups if groups.is_writable() else None  # as root with control groups, else without
        rig = Rig(lambda: ProcessRuntime(tmp_path / "runtime", groups=kept, clock=clock), tmp_path, "label", "label")
        has_views = (await rig.adapter().info()).message.endswith("mount namespaces")
        rig.abilities = frozenset({MOUNTS, RESOLVER}) if has_views else frozenset()
        yield rig
        await rig.close()
        assert not cgroups_named(groups.top)


async def test_root_without_namespaces_is_refused_and_a_user_gets_links(tmp_path: Path) -> None:
    settings = ProcessSettings(use_namespaces=False)
    rig = Rig(lambda: ProcessRuntime(tmp_path / "runtime", settings=settings), tmp_path, "label", "label")
    runtime = rig.adapter()
    if os.geteuid() == 0:
        assert not (await runtime.info()).is_ready
        with pytest.raises(EngineRefused, match="CAP_SYS_ADMIN"):
            await runtime.create_sandbox(rig.sandbox())
    else:
        spec = rig.sandbox()
        (tmp_path / "volume").mkdir()
        (tmp_path / "volume" / "word").write_text("linked\n")
        container = rig.container("cat $SKERRY_VOLUMES/data/word")
        await started(runtime, spec, replace(container, mounts=(Mount(tmp_path / "volume", "/data"),)))
        assert await log_lines(spec.log_directory / "app" / "0.log", 1) == [("stdout", b"linked")]
        [sandbox] = (await runtime.observe())[spec.uid].sandboxes
        assert sandbox.annotations["skerry.dev/process-mounts"] == "linked"
    await rig.close()
