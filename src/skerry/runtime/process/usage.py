"""What host processes use, from ``/proc``: a container is its shim's descendants."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from skerry.base.values import Struct

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessUse(Struct, frozen=True):
    """Of a process with all below it: CPU since the start of those that live, memory now, how many there are."""

    cpu_ns: int = 0
    memory_bytes: int = 0
    count: int = 0


def use_below(roots: Iterable[int]) -> dict[int, ProcessUse]:
    """What the descendants of each of ``roots`` use, without the root itself."""
    parents, own = _table()
    below: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        below.setdefault(parent, []).append(pid)
    return {root: _sum(below, own, root) for root in roots}


def live_user_ids() -> set[int]:
    """User ids (real, effective, saved, of files) that processes of this machine run with."""
    found: set[int] = set()
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            text = path.read_bytes()
        except OSError:
            continue  # it has ended meanwhile
        found.update(int(number) for number in text.partition(b"\nUid:")[2].partition(b"\n")[0].split())
    return found


def _sum(below: dict[int, list[int]], own: dict[int, tuple[int, int]], root: int) -> ProcessUse:
    cpu = memory = count = 0
    waiting = list(below.get(root, ()))
    while waiting:
        pid = waiting.pop()
        waiting.extend(below.get(pid, ()))
        cpu, memory, count = cpu + own[pid][0], memory + own[pid][1], count + 1
    return ProcessUse(cpu * 1_000_000_000 // _TICKS, memory * _PAGE, count)


def _table() -> tuple[dict[int, int], dict[int, tuple[int, int]]]:
    """Parent of each process, and its (ticks, resident pages)."""
    parents: dict[int, int] = {}
    own: dict[int, tuple[int, int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        pid = int(path.parent.name)
        parents[pid] = int(fields[1])
        own[pid] = int(fields[11]) + int(fields[12]), int(fields[21])
    return parents, own
