"""What is left of the machine, by eviction signal."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from skerry.edge.resources.pressure import Amount


def read_signals(data: Path, images: Path | None) -> Mapping[str, Amount]:
    """Amounts of every signal that this machine tells.

    Args:
        data: on the file system of the agent, its pods and their logs.
        images: on that of the engine's images; None where images take no place.

    Raises:
        OSError: ``/proc`` or a file system cannot be read.
    """
    memory = _meminfo()
    found = {"memory.available": Amount(memory.get("MemAvailable", 0), memory.get("MemTotal", 0))}
    for name, place in (("nodefs", data), ("imagefs", images)):
        if place is not None:
            found |= _filesystem(name, place)
    limit = min(_number("/proc/sys/kernel/pid_max"), _number("/proc/sys/kernel/threads-max"))
    used = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    return found | {"pid.available": Amount(max(0, limit - used), limit)}


def _filesystem(name: str, place: Path) -> dict[str, Amount]:
    found = os.statvfs(place)
    amounts = {f"{name}.available": Amount(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)}
    if found.f_files:  # some file systems make inodes as they need them
        amounts[f"{name}.inodesFree"] = Amount(found.f_favail, found.f_files)
    return amounts


def _meminfo() -> dict[str, int]:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if len(line) == 3}


def _number(path: str) -> int:
    return int(Path(path).read_text())
