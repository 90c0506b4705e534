"""Control groups of the kernel, in groups of the test's own: limits are kept, and what is in them is ended."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.parts import cgroups_named

from skerry.base.aio.clock import SystemClock
from skerry.runtime.cgroups import CONTROLLERS, ROOT, Cgroups, GroupLimits

_SPAWNER = "echo ready; read go; for i in 1 2 3 4 5 6; do sleep 60 & done; echo spawned $?"


def _trees() -> list[Path]:
    """The machine's control groups, and, where both versions are mounted, version 2 by itself."""
    return [ROOT, *(path for path in ROOT.glob("unified") if (path / "cgroup.controllers").exists())]


@pytest.fixture(params=_trees(), ids=lambda path: path.name)
def groups(request: pytest.FixtureRequest) -> Iterator[Cgroups]:
    found = Cgroups(f"skerry-test-{uuid.uuid4().hex[:8]}", clock=SystemClock(), root=request.param)
    if not found.is_writable():
        pytest.skip("control groups cannot be made here: run as root")
    yield found
    found.remove_empty()
    assert not cgroups_named(found.top) and not (request.param / found.top).exists()


async def test_what_is_in_a_group_ends_with_it(groups: Cgroups) -> None:
    places = [place for name in ("one", "two") for place in groups.make(f"pod/{name}", GroupLimits())]
    processes = [await asyncio.create_subprocess_exec("sleep", "600") for _ in range(2)]
    try:
        for name, process in zip(("one", "two"), processes, strict=True):
            for place in places:
                if place.name == name:
                    (place / "cgroup.procs").write_text(str(process.pid))
        one, two = processes
        assert groups.groups() == {"pod"}
        assert groups.members("pod") == {"one": {one.pid}, "two": {two.pid}}
        await groups.end("pod", ["one"])
        assert await one.wait() == -9 and two.returncode is None
        assert groups.members("pod") == {"two": {two.pid}}
        await groups.remove("pod")
        assert await two.wait() == -9
        assert groups.groups() == set()
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def test_a_group_that_is_not_there_is_removed_already(groups: Cgroups) -> None:
    await groups.remove("pod-unknown")
    assert groups.members("pod-unknown") == {}


async def test_a_tree_that_hands_no_controllers_down_keeps_no_limits(groups: Cgroups) -> None:
    """As in a container's name space: its root lists controllers, and has processes, so that groups below get none."""
    if not groups.is_unified:
        assert groups.controllers() == set(CONTROLLERS)
        return
    [top] = groups.make("", GroupLimits())
    process = await asyncio.create_subprocess_exec("sleep", "600")
    try:
        (top / "cgroup.procs").write_text(str(process.pid))
        below = Cgroups("skerry-below", clock=SystemClock(), root=top)
        assert below.is_writable() and below.controllers() == frozenset() and below.member_files(1 << 20) == {}
        assert below.make("pod/app", GroupLimits(), is_member=True) == [top / "skerry-below/pod/app"]
        with pytest.raises(OSError):
            below.make("pod/app", GroupLimits(memory_bytes=1 << 20))
    finally:
        await groups.remove("")
        assert await process.wait() == -9


@pytest.mark.parametrize("groups", [ROOT], ids=["cgroup"], indirect=True)  # version 2 beside version 1 keeps no limits
async def test_limits_of_processes_and_of_processor_time_are_kept(groups: Cgroups) -> None:
    assert {"cpu", "pids"} <= groups.controllers()
    places = groups.make("pod/app", GroupLimits(cpu_milli=100, process_count=4))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("/bin/sh", "-c", _SPAWNER, stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdout is not None and process.stdin is not None and process.stderr is not None
    assert await process.stdout.readline() == b"ready\n"
    for place in places:
        (place / "cgroup.procs").write_text(str(process.pid))
    process.stdin.write(b"go\n")
    said = await process.stderr.readline()
    assert b"fork" in said, said
    [quota] = [path for place in places for name in ("cpu.cfs_quota_us", "cpu.max") for path in place.glob(name)]
    assert quota.read_text().split()[0] == "10000"
    await groups.remove("pod")
    await process.communicate()
