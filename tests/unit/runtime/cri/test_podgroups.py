"""Who keeps the engine's control groups, as containerd before 2.0 tells it."""

from pathlib import Path

import pytest

from skerry.base import json
from skerry.runtime.cgroups import Cgroups
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.podgroups import PodGroups, configured_driver
from skerry.testing.clock import VirtualClock


@pytest.mark.parametrize(("options", "driver"), [
    ({"BinaryName": "", "SystemdCgroup": True}, "systemd"),
    ({"BinaryName": "", "SystemdCgroup": False}, "cgroupfs"),
    (None, "cgroupfs"),
])  # fmt: skip
def test_the_default_runtime_counts(options: object, driver: str) -> None:
    runtimes = {"runc": {"runtimeType": "io.containerd.runc.v2", "options": options}, "kata": {"options": {}}}
    told = {"containerd": {"defaultRuntimeName": "runc", "runtimes": runtimes}}
    assert configured_driver({"config": json.dumps(told).decode()}) == driver


@pytest.mark.parametrize(("limit", "given"), [(0, {}), (4096, {"memory_swap_limit_in_bytes": 4096})])
async def test_a_container_may_not_swap_beyond_its_limit_in_version_1(
    tmp_path: Path, limit: int, given: dict[str, int]
) -> None:
    (tmp_path / "memory").mkdir()
    for name in ("cgroup.procs", "memory.memsw.limit_in_bytes"):
        (tmp_path / "memory" / name).touch()
    groups = PodGroups(CriClient(tmp_path / "none"), Cgroups("n", clock=VirtualClock(), root=tmp_path), cpu_count=1)
    assert groups.member_resources(limit) == given


async def test_a_container_may_not_swap_and_ends_as_a_whole_in_version_2(tmp_path: Path) -> None:
    files = {"cgroup.controllers": "memory\n", "memory.swap.max": "max\n", "memory.oom.group": "0\n"}
    for place in (tmp_path, tmp_path / "n"):
        place.mkdir(exist_ok=True)
        for name, content in files.items():
            (place / name).write_text(content)
    groups = PodGroups(CriClient(tmp_path / "none"), Cgroups("n", clock=VirtualClock(), root=tmp_path), cpu_count=1)
    assert groups.member_resources(0) == {"unified": {"memory.oom.group": "1", "memory.swap.max": "0"}}


@pytest.mark.parametrize("text", ["", "null", "{}", '{"containerd": {"defaultRuntimeName": "x", "runtimes": {}}}'])
def test_an_engine_that_does_not_tell(text: str) -> None:
    assert configured_driver({"config": text}) == configured_driver({}) == ""
