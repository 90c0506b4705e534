"""Limits as files of version 1 and version 2; version 2 on the tree of such a machine, as its kernel had it.

Machines that run these tests may have version 1 only. ``tools/record_cgroups.py`` has recorded what a kernel with
version 2 shows and answers; ``tests/component/runtime/test_cgroups.py`` does the same on the machine's own.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from skerry.runtime.cgroups import Cgroups, GroupLimits, files_of, member_files
from skerry.runtime.process.shim import out_of_memory
from skerry.testing.clock import VirtualClock

_ALL = GroupLimits(cpu_shares=512, cpu_milli=500, memory_bytes=1 << 20, process_count=7)
_RECORD: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors/cgroup-v2.json").read_text())
_APP = "skerry-n/podu/app"


def lay(root: Path, groups: dict[str, dict[str, str]]) -> Path:
    """A recorded tree as a directory."""
    for group, files in groups.items():
        (root / group).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (root / group / name).write_text(content)
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Before anything was limited."""
    return lay(tmp_path / "cgroup", _RECORD["fresh"])


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
    assert (tree / _APP / "cgroup.subtree_control").read_text() == ""


@pytest.mark.parametrize("each", _RECORD["limits"], ids=lambda each: "-".join(map(str, each["limits"].values())))
def test_the_kernel_has_taken_what_is_written(each: dict[str, Any]) -> None:
    written = [(file, content) for _, file, content in files_of(GroupLimits(**each["limits"]), is_unified=True)]
    assert written == [(write["file"], write["content"]) for write in each["writes"]]
    for write in each["writes"]:
        page = int(write["content"]) // 4096 * 4096 if write["file"] == "memory.max" else write["content"]
        assert (write["error"], write["reads"]) == ("", f"{page}\n")


def test_the_kernel_has_taken_what_a_container_has_beside_its_limits(tree: Path) -> None:
    files = member_files(1 << 20, is_unified=True)
    taken = [{"file": f, "content": c, "reads": f"{c}\n", "error": ""} for f, c in files.items()]
    assert _RECORD["member_files"] == taken
    groups = Cgroups("skerry-n", clock=VirtualClock(), root=tree)
    assert groups.member_files(1 << 20) == files
    groups.make("podu/app", _ALL, is_member=True)
    limited = _RECORD["limited"][_APP]
    for name in (*files, *(file for _, file, _ in files_of(_ALL, is_unified=True))):
        assert limited[name] != _RECORD["fresh"][_APP][name] and (tree / _APP / name).read_text().startswith(
            limited[name].rstrip()
        )


def test_a_kernel_without_account_of_swap_is_not_told_to_limit_it(tree: Path) -> None:
    for path in tree.rglob("memory.swap.*"):
        path.unlink()
    groups = Cgroups("skerry-n", clock=VirtualClock(), root=tree)
    assert groups.member_files(1 << 20) == {"memory.oom.group": "1"}


def test_controllers_that_a_root_keeps_to_itself_are_none(tree: Path) -> None:
    """The root of a container's name space has processes, and so hands nothing down, though it lists everything."""
    busy = {**_RECORD["fresh"][_APP], "cgroup.procs": "1\n"}
    root = lay(tree / "in", {"": busy, "skerry-n": {"cgroup.controllers": ""}})
    groups = Cgroups("skerry-n", clock=VirtualClock(), root=root)
    assert groups.is_writable() and (root / "cgroup.controllers").read_text().split()
    assert (root / "cgroup.subtree_control").read_text() == ""  # with some of them, none could enter the groups below
    assert groups.controllers() == frozenset() and groups.member_files(1 << 20) == {}


@pytest.mark.parametrize(("memory_bytes", "files"), [(0, {}), (4096, {"memory.memsw.limit_in_bytes": "4096"})])
def test_version_1_counts_swap_and_memory_together(tmp_path: Path, memory_bytes: int, files: dict[str, str]) -> None:
    (tmp_path / "memory").mkdir()
    for name in ("cgroup.procs", "memory.limit_in_bytes"):
        (tmp_path / "memory" / name).touch()
    groups = Cgroups("skerry-n", clock=VirtualClock(), root=tmp_path)
    assert groups.member_files(memory_bytes) == {}  # swap is not counted
    (tmp_path / "memory/memory.memsw.limit_in_bytes").touch()
    assert groups.member_files(memory_bytes) == files


def test_members_of_version_2_are_read_with_all_below_them(tree: Path) -> None:
    inner = lay(tree / _APP / "inner", {"": _RECORD["fresh"][_APP]})
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
        ("memory.events", _RECORD["fresh"][_APP]["memory.events"], False),
        ("memory.events", _RECORD["out_of_memory"]["one: memory.events"], True),
        ("memory.events", _RECORD["out_of_memory"]["whole: memory.events"], True),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", True),  # version 1
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", False),
    ],
)
def test_a_kill_for_memory_is_found(tmp_path: Path, name: str, content: str, is_killed: bool) -> None:
    (tmp_path / name).write_text(content)
    assert out_of_memory([str(tmp_path / "gone"), str(tmp_path)]) is is_killed
