"""Control groups of this node's pods, below one group of the node's own; version 1, version 2, and both side by side.

``<root>[/<controller>]/<top>/<group>/<member>``: a group for each pod, in it a member for each of its containers, which
the container engine makes, or the process runtime. Not here: what the amounts of a pod are (``podlimits``).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Iterator
from pathlib import Path

from skerry.base.aio.clock import Clock
from skerry.base.values import Struct

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "memory", "pids")
PERIOD_US = 100_000
_PROCESSES, _KILL = "cgroup.procs", "cgroup.kill"
LEAST_QUOTA_US = 1_000
_END_S, _LOOK_S = 10.0, 0.02


class GroupLimits(Struct, frozen=True):
    """What a group may have; 0 leaves it as it is.

    Args:
        cpu_shares: weight against its neighbours as version 1 counts it, 1024 for a core.
        cpu_milli: thousandths of a core, at most.
        memory_bytes: at most.
        process_count: processes and threads, at most.
    """

    cpu_shares: int = 0
    cpu_milli: int = 0
    memory_bytes: int = 0
    process_count: int = 0

    def within(self, controllers: Collection[str]) -> GroupLimits:
        """What of it a kernel with these controllers can keep."""
        has_cpu = "cpu" in controllers
        return GroupLimits(
            cpu_shares=self.cpu_shares if has_cpu else 0,
            cpu_milli=self.cpu_milli if has_cpu else 0,
            memory_bytes=self.memory_bytes if "memory" in controllers else 0,
            process_count=self.process_count if "pids" in controllers else 0,
        )


def group_name(node_uid: str) -> str:
    """Name of a node's own group: the agents of one machine do not meet."""
    return f"skerry-{node_uid}"


def files_of(limits: GroupLimits, *, is_unified: bool) -> list[tuple[str, str, str]]:
    """(controller, file, content) in the order in which they are to be written. Pure.

    Source: kernel Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/; the weight as runc and the kubelet make it
    of shares, runc libcontainer/cgroups/utils.go:ConvertCPUSharesToCgroupV2Value.
    """
    found = []
    quota_us = max(LEAST_QUOTA_US, limits.cpu_milli * PERIOD_US // 1000)
    if limits.cpu_shares:
        weight = 1 + (limits.cpu_shares - 2) * 9999 // 262142
        found.append(("cpu", "cpu.weight", str(weight)) if is_unified
                     else ("cpu", "cpu.shares", str(limits.cpu_shares)))  # fmt: skip
    if limits.cpu_milli and is_unified:
        found.append(("cpu", "cpu.max", f"{quota_us} {PERIOD_US}"))
    elif limits.cpu_milli:
        found += [("cpu", "cpu.cfs_period_us", str(PERIOD_US)), ("cpu", "cpu.cfs_quota_us", str(quota_us))]
    if limits.memory_bytes:
        name = "memory.max" if is_unified else "memory.limit_in_bytes"
        found.append(("memory", name, str(limits.memory_bytes)))
    if limits.process_count:
        found.append(("pids", "pids.max", str(limits.process_count)))
    return found


def member_files(memory_bytes: int, *, is_unified: bool) -> dict[str, str]:
    """What a container's group is given beside its limits, where the kernel has such files. Pure.

    It may not swap, and in version 2 it ends as a whole when the kernel kills in it for its memory: half a container
    does not go on.

    Source: kubernetes pkg/kubelet/kuberuntime/kuberuntime_container_linux.go:ConfigureNoSwap,
    calculateLinuxResources (singleProcessOOMKill is off by default in version 2), v1.36.
    """
    if is_unified:
        return {"memory.oom.group": "1", "memory.swap.max": "0"}
    return {"memory.memsw.limit_in_bytes": str(memory_bytes)} if memory_bytes else {}


class Cgroups:
    """The groups of one node.

    Args:
        top: name of the node's own group.
        root: where the control groups of the machine are mounted.
    """

    def __init__(self, top: str, *, clock: Clock, root: Path = ROOT) -> None:
        self.top = top
        self._clock = clock
        self._root = root

    @property
    def is_unified(self) -> bool:
        """Version 2 only."""
        return (self._root / "cgroup.controllers").exists()

    def controllers(self) -> frozenset[str]:
        """Which limits can be kept here at all.

        In version 2 that is known once the node's own group is made: the root of a container's name space lists what it
        hands nothing down of while processes are in it.
        """
        if not self.is_unified:
            return frozenset(name for name in CONTROLLERS if (self._root / name / _PROCESSES).exists())
        own = _controllers(self._root / self.top)
        return (_controllers(self._root) or frozenset()) if own is None else own

    def member_files(self, memory_bytes: int) -> dict[str, str]:
        """As the function, without files that this kernel does not have."""
        is_unified = self.is_unified
        if "memory" not in self.controllers():
            return {}
        wanted = member_files(memory_bytes, is_unified=is_unified)
        pattern = "*/{}" if is_unified else "memory/{}"  # in version 2 the root has none of them
        return {name: content for name, content in wanted.items() if any(self._root.glob(pattern.format(name)))}

    def is_writable(self) -> bool:
        """Whether we may make groups at all: no, for one who is not root, and where they are mounted read-only.

        That the node's own is there says nothing: an agent that was root may have made it.
        """
        try:
            places = self.make("", GroupLimits())
        except OSError:
            return False
        return bool(places) and all(os.access(place, os.W_OK) for place in places)

    def path_of(self, group: str) -> str:
        """A group as an engine is told it."""
        return f"/{self.top}/{group}"

    def make(self, group: str, limits: GroupLimits, *, is_member: bool = False) -> list[Path]:
        """Make a group, or take the one that is there, and set its limits; its directories.

        Args:
            group: ``""`` for the node's own, ``pod``, or ``pod/member``.
            is_member: it is a container's, and has its ``member_files``, too.

        Raises:
            OSError: we may not, or the kernel does not keep such a limit.
        """
        relative = Path(self.top, group)
        if self.is_unified:
            place = self._make_unified(relative)
            places = dict.fromkeys(CONTROLLERS, place)
        else:
            places = {name: self._root / name / relative for name in self.controllers()}
            for place in places.values():
                place.mkdir(parents=True, exist_ok=True)
        for controller, file, content in files_of(limits, is_unified=self.is_unified):
            if controller not in places:
                raise OSError(f"the kernel has no {controller} controller for {file}")
            _write(places[controller] / file, content)
        if is_member:
            for file, content in self.member_files(limits.memory_bytes).items():
                _write(places["memory"] / file, content)
        return list(dict.fromkeys(places.values()))

    def groups(self) -> set[str]:
        """Names of the groups below the node's own, whoever made them."""
        return {path.name for place in self._places("") for path in _below(place)}

    def members(self, group: str) -> dict[str, set[int]]:
        """The processes of each member of a group."""
        found: dict[str, set[int]] = {}
        for place in self._places(group):
            for path in _below(place):
                found.setdefault(path.name, set()).update(_processes(path))
        return found

    async def end(self, group: str, members: Collection[str]) -> None:
        """Kill what runs in some members of a group, and remove them.

        Raises:
            OSError: something does not end.
        """
        for name in members:
            await self._end(f"{group}/{name}")

    async def remove(self, group: str) -> None:
        """Kill whatever runs in a group and remove it.

        Raises:
            OSError: something does not end.
        """
        await self._end(group)

    def remove_empty(self) -> None:
        """Remove the node's own group where nothing is in it."""
        for place in self._places(""):
            with contextlib.suppress(OSError):
                place.rmdir()

    async def _end(self, group: str) -> None:
        places = list(self._places(group))
        deadline_s = self._clock.monotonic_s() + _END_S
        while left := [place for place in places if place.exists() and not _is_removed(place)]:
            if self._clock.monotonic_s() > deadline_s:
                pids = sorted(pid for place in left for pid in _processes(place))
                raise OSError(f"control group {left[0]} cannot be removed; processes in it: {pids}")
            for place in left:
                _kill(place)
            await self._clock.sleep(_LOOK_S)

    def _make_unified(self, relative: Path) -> Path:
        place = self._root
        for name in relative.parts:
            for controller in sorted(_controllers(place) or ()) if _may_hand_down(place) else ():
                with contextlib.suppress(OSError):  # some cannot be had below; what needs them fails when it is written
                    _write(place / "cgroup.subtree_control", f"+{controller}")
            place = place / name
            place.mkdir(exist_ok=True)
        return place

    def _places(self, group: str) -> Iterator[Path]:
        """A group in every tree, where it is: engines make it in trees that we make nothing in."""
        trees = [self._root]
        if not self.is_unified:
            with contextlib.suppress(OSError):
                trees = [path for path in self._root.iterdir() if not path.is_symlink()]
        for tree in trees:
            if (place := tree / self.top / group).is_dir():
                yield place


def _write(path: Path, content: str) -> None:
    """In one call, without making the file: a group has the files that it has."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, content.encode())
    finally:
        os.close(fd)


def _controllers(place: Path) -> frozenset[str] | None:
    """What a group of version 2 can limit of what we limit; None where there is none."""
    try:
        return frozenset((place / "cgroup.controllers").read_text().split()) & frozenset(CONTROLLERS)
    except OSError:
        return None


def _may_hand_down(place: Path) -> bool:
    """Not with processes in it, unless it is the kernel's root: some controllers it refuses to hand down then, and with
    the others the groups below become threaded ones, which no process can enter."""
    try:
        return not (place / "cgroup.type").exists() or not (place / _PROCESSES).read_text()
    except OSError:  # is itself a threaded one
        return False


def _below(place: Path) -> list[Path]:
    try:
        return [path for path in place.iterdir() if path.is_dir()]
    except OSError:
        return []


def _processes(place: Path) -> set[int]:
    """In a group and below it."""
    found: set[int] = set()
    for each in (place, *_tree(place)):
        with contextlib.suppress(OSError):
            found |= {int(word) for word in (each / _PROCESSES).read_text().split()}
    return found


def _tree(place: Path) -> list[Path]:
    """Everything below, the deepest first."""
    return [each for path in _below(place) for each in (*_tree(path), path)]


def _is_removed(place: Path) -> bool:
    try:
        for each in (*_tree(place), place):
            each.rmdir()
    except FileNotFoundError:
        return not place.exists()
    except OSError:
        return False
    return True


def _kill(place: Path) -> None:
    with contextlib.suppress(OSError):
        _write(place / _KILL, "1")
        return
    for pid in _processes(place):
        try:
            process = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            if pid in _processes(place):  # the number is still that of a process in it, so the handle is of this one
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            os.close(process)
