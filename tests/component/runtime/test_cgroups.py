"""The sweep on real cgroups, in a tree of the test's own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.runtime.cri.cgroups import CgroupSweep
from skerry.testing.clock import VirtualClock

_LOST, _BUSY, _FOREIGN = "a" * 64, "b" * 64, "not-a-container"


@pytest.fixture
def tree() -> Iterator[Path]:
    """``k8s.io`` with an empty cgroup, one with a process, and one of another kind of name."""
    mounted = [Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")]
    root = next(place for place in mounted if (place / "cgroup.procs").exists()) / "skerry-sweep-test"
    try:
        for name in (_LOST, _BUSY, _FOREIGN):
            (root / "k8s.io" / name).mkdir(parents=True)
    except OSError as exc:
        pytest.skip(f"cgroups cannot be made here: {exc}")
    process = subprocess.Popen(["sleep", "60"])
    (root / "k8s.io" / _BUSY / "cgroup.procs").write_text(str(process.pid))
    yield root
    process.kill()
    process.wait()
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
    root.rmdir()


def test_an_empty_cgroup_goes_at_the_second_look(tree: Path) -> None:
    sweep = CgroupSweep(clock=VirtualClock(), root=tree)
    assert sweep.look() == 0
    assert (tree / "k8s.io" / _LOST).is_dir()
    assert sweep.look() == 1
    assert {path.name for path in (tree / "k8s.io").iterdir() if path.is_dir()} == {_BUSY, _FOREIGN}
