"""Limits as files of version 1 and version 2; version 2 on the tree of such a machine, written down in a directory.

Machines that run these tests may have version 1 only: what needs a kernel with version 2 is shown here by its paths.
"""

from pathlib import Path

import pytest

from skerry.runtime.cgroups import Cgroups, GroupLimits, files_of
from skerry.runtime.process.shim import out_of_memory
from skerry.testing.clock import VirtualClock

_ALL = GroupLimits(cpu_shares=512, cpu_milli=500, memory_bytes=1 << 20, process_count=7)
_RECORDED = {
    "cgroup.procs": "", "cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma misc\n",
    "cgroup.subtree_control": "", "cgroup.kill": "", "cpu.max": "max 100000\n", "cpu.weight": "100\n",
    "memory.max": "max\n", "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n", "pids.max": "max\n",
}  # fmt: skip
"""A group of version 2 only, written down from the documentation of Linux 6.1; its root has no limits."""


def recorded(place: Path, *, is_root: bool = False) -> Path:
    place.mkdir(parents=True)
    for name, content in _RECORDED.items():
        if not is_root or (name.startswith("cgroup.") and name != "cgroup.kill"):
            (place / name).write_text(content)
    return place


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = recorded(tmp_path / "cgroup", is_root=True)
    for path in ("skerry-n", "skerry-n/podu", "skerry-n/podu/app"):
        recorded(root / path)
    return root


def test_version_1_has_a_period_before_its_quota() -> None:
    assert files_of(_ALL, is_unified=False) == [
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("memory", "memory.limit_in_bytes", "1048576"),
        ("pids", "pids.max", "7"),
    ]


def test_version_2_has_a_weight_instead_of_shares() -> None:
    assert files_of(_ALL, is_unified=True) == [
        ("cpu", "cpu.weight", "20"),
        ("cpu", "cpu.max", "50000 100000"),
        ("memory", "memory.max", "1048576"),
        ("pids", "pids.max", "7"),
    ]


@pytest.mark.parametrize(("shares", "weight"), [(2, "1"), (1024, "39"), (262_144, "10000")])
def test_weights_are_those_of_the_kubelet(shares: int, weight: str) -> None:
    assert files_of(GroupLimits(cpu_shares=shares), is_unified=True) == [("cpu", "cpu.weight", weight)]


def test_nothing_is_written_that_was_not_asked_for() -> None:
    assert files_of(GroupLimits(), is_unified=True) == files_of(GroupLimits(), is_unified=False) == []


def test_a_kernel_keeps_what_it_has_controllers_for() -> None:
    assert _ALL.within({"cpu", "memory", "pids"}) == _ALL
    assert _ALL.within({"pids"}) == GroupLimits(process_count=7)
    assert _ALL.within({"cpu", "memory"}) == GroupLimits(cpu_shares=512, cpu_milli=500, memory_bytes=1 << 20)
    assert _ALL.within(()) == GroupLimits()


def test_a_tree_of_version_2_is_one_place_for_all_limits(tree: Path) -> None:
    groups = Cgroups("skerry-n", clock=VirtualClock(), root=tree)
    assert groups.is_unified and groups.controllers() == {"cpu", "memory", "pids"}
    assert groups.make("podu/app", _ALL) == [tree / "skerry-n/podu/app"]
    own = tree / "skerry-n/podu/app"
    written = {name: (own / name).read_text() for name in ("cpu.weight", "cpu.max", "memory.max", "pids.max")}
    # A write to a plain file leaves what was longer before; the kernel's files take each write as a whole.
    assert written["cpu.max"].startswith("50000 100000") and written["memory.max"].startswith("1048576")
    assert written["cpu.weight"].startswith("20") and written["pids.max"].startswith("7")


def test_controllers_are_handed_down_in_version_2(tree: Path) -> None:
    Cgroups("skerry-n", clock=VirtualClock(), root=tree).make("podu/app", _ALL)
    for path in ("", "skerry-n", "skerry-n/podu"):  # written one by one, so that one that is not there stops no other
        assert (tree / path / "cgroup.subtree_control").read_text().startswith("+pids")
    assert (tree / "skerry-n/podu/app/cgroup.subtree_control").read_text() == ""


def test_members_of_version_2_are_read_with_all_below_them(tree: Path) -> None:
    inner = recorded(tree / "skerry-n/podu/app/inner")
    (tree / "skerry-n/podu/app/cgroup.procs").write_text("11\n12\n")
    (inner / "cgroup.procs").write_text("13\n")
    groups = Cgroups("skerry-n", clock=VirtualClock(), root=tree)
    assert groups.groups() == {"podu"}
    assert groups.members("podu") == {"app": {11, 12, 13}}
    assert groups.members("podother") == {}


def test_a_limit_that_the_kernel_does_not_keep_is_an_error(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    (root / "cpu").mkdir(parents=True)
    (root / "cpu/cgroup.procs").touch()
    groups = Cgroups("skerry-n", clock=VirtualClock(), root=root)
    assert groups.controllers() == {"cpu"}
    with pytest.raises(OSError, match="no pids controller"):
        groups.make("podu", GroupLimits(process_count=7))


def test_no_groups_at_all(tmp_path: Path) -> None:
    groups = Cgroups("skerry-n", clock=VirtualClock(), root=tmp_path / "nothing")
    assert not groups.is_writable() and groups.groups() == set() and groups.controllers() == frozenset()


@pytest.mark.parametrize(
    ("name", "content", "is_killed"),
    [
        ("memory.events", "low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\noom_group_kill 0\n", True),  # version 2
        ("memory.events", _RECORDED["memory.events"], False),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", True),  # version 1
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", False),
    ],
)
def test_a_kill_for_memory_is_found(tmp_path: Path, name: str, content: str, is_killed: bool) -> None:
    (tmp_path / name).write_text(content)
    assert out_of_memory([str(tmp_path / "gone"), str(tmp_path)]) is is_killed
