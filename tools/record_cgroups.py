"""Record what a kernel's control groups of version 2 are like, for unit tests on machines that have none.

`python tools/record_cgroups.py > tests/vectors/cgroup-v2.json`, as root on a machine with version 2 only. It makes
groups below one of its own with the code that the agent makes them with, and removes them again.
"""

from __future__ import annotations

import asyncio
import datetime
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skerry.base.aio.clock import SystemClock
from skerry.base.values import asdict
from skerry.runtime.cgroups import ROOT, Cgroups, GroupLimits, files_of, member_files

_TOP = "skerry-n"
_MEMBER = "podu/app"
_PREFIXES = ("cgroup.", "cpu.", "memory.", "pids.", "io.stat", "hugetlb.2MB.")
_TOO_LONG = ("memory.numa_stat",)
_LIMITS = (
    GroupLimits(cpu_shares=512, cpu_milli=500, memory_bytes=1 << 20, process_count=7),
    GroupLimits(cpu_shares=2, cpu_milli=10, memory_bytes=4096, process_count=1),
    GroupLimits(cpu_shares=262_144, cpu_milli=1_000_000, memory_bytes=1 << 50, process_count=4_000_000),
    GroupLimits(cpu_shares=1024, cpu_milli=1, memory_bytes=5000),
)
_REFUSED = (
    ("cpu.weight", "0"), ("cpu.weight", "10001"), ("cpu.max", "999 100000"), ("cpu.max", "x"),
    ("memory.max", "-1"), ("memory.max", "x"), ("memory.oom.group", "2"), ("pids.max", "-1"),
    ("pids.max", "5000000000"), ("cgroup.subtree_control", "+nothing"), ("cgroup.kill", "2"),
    ("memory.limit_in_bytes", "1"),
)  # fmt: skip
_HOG = "import signal; signal.pause() if {child} else None; held = bytearray(1 << 30)"


def main() -> None:
    groups = Cgroups(_TOP, clock=SystemClock())
    if not groups.is_unified or os.geteuid() != 0:
        sys.exit("needs root, and a machine with control groups of version 2 only")
    try:
        json.dump(_record(groups), sys.stdout, indent=1)
        print()
    finally:
        asyncio.run(groups.remove(""))


def _record(groups: Cgroups) -> dict[str, Any]:
    [member] = groups.make(_MEMBER, GroupLimits())
    found: dict[str, Any] = {
        "kernel": " ".join(os.uname()[i] for i in (0, 2, 4)),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "fresh": {path: _files(ROOT / path) for path in ("", _TOP, f"{_TOP}/podu", f"{_TOP}/{_MEMBER}")},
        "limits": [_limited(member, limits) for limits in _LIMITS],
        "member_files": _written(member, member_files(1 << 20, is_unified=True).items()),
        "refused": [{"file": f, "content": c, "error": _error(lambda: _put(member / f, c))} for f, c in _REFUSED],  # noqa: B023
    }
    groups.make(_MEMBER, _LIMITS[0], is_member=True)
    found["limited"] = {f"{_TOP}/{_MEMBER}": _files(member)}
    asyncio.run(groups.remove("podu"))
    found["rules"] = _rules(groups)
    found["out_of_memory"] = _out_of_memory(groups)
    return found


def _limited(member: Path, limits: GroupLimits) -> dict[str, Any]:
    writes = _written(member, [(file, content) for _, file, content in files_of(limits, is_unified=True)])
    return {"limits": asdict(limits), "writes": writes}


def _written(place: Path, wanted: Any) -> list[dict[str, str]]:
    found = []
    for file, content in wanted:
        error = _error(lambda: _put(place / file, content))  # noqa: B023
        found.append({"file": file, "content": content, "reads": (place / file).read_text(), "error": error})
    return found


def _rules(groups: Cgroups) -> dict[str, str]:
    """What the kernel refuses of groups and processes as such."""
    [member] = groups.make(_MEMBER, GroupLimits())
    pod, inner = member.parent, member / "inner"
    sleeper = subprocess.Popen(["sleep", "600"])
    try:
        found = {
            "a process in a group that hands controllers down": _error(
                lambda: _put(pod / "cgroup.procs", str(sleeper.pid))
            )
        }
        _put(member / "cgroup.procs", str(sleeper.pid))
        found["controllers handed down by a group with a process"] = _error(
            lambda: _put(member / "cgroup.subtree_control", "+memory")
        )
        found["some controllers handed down by a group with a process"] = _error(
            lambda: _put(member / "cgroup.subtree_control", "+pids")
        )
        inner.mkdir()
        found["cgroup.type of a group below that"] = (inner / "cgroup.type").read_text()
        found["a process in a group below that"] = _error(lambda: _put(inner / "cgroup.procs", "0"))
        inner.rmdir()
        _put(member / "cgroup.subtree_control", "-pids")
        inner.mkdir()
        found["a limit in a group that is handed no controller"] = _error(lambda: _put(inner / "memory.max", "1"))
        found["a controller that is not handed to the group"] = _error(
            lambda: _put(inner / "cgroup.subtree_control", "+memory")
        )
        found["controllers of a group that is handed none"] = (inner / "cgroup.controllers").read_text()
        found["removal of a group with a group in it"] = _error(member.rmdir)
        inner.rmdir()
        found["removal of a group with a process"] = _error(member.rmdir)
        found["cgroup.events with a process"] = (member / "cgroup.events").read_text()
        found["a controller taken back that a group below hands down"] = _error(
            lambda: _put(pod.parent / "cgroup.subtree_control", "-memory")
        )
        _put(member / "cgroup.kill", "1")
        found["end by cgroup.kill"] = signal.Signals(-sleeper.wait()).name
        found["cgroup.events without"] = (member / "cgroup.events").read_text()
    finally:
        sleeper.kill()
        sleeper.wait()
    asyncio.run(groups.remove("podu"))
    return found


def _out_of_memory(groups: Cgroups) -> dict[str, str]:
    """A container's counts after the kernel killed in it, with another process beside the one that took too much."""
    found = {}
    for name, is_member in (("one", False), ("whole", True)):
        [place] = groups.make(f"podu/{name}", GroupLimits(memory_bytes=64 << 20), is_member=is_member)
        programs = [subprocess.Popen([sys.executable, "-c", _HOG.format(child=c)], preexec_fn=_entering(place))
                    for c in (True, False)]  # fmt: skip
        programs[1].wait()
        if is_member:
            programs[0].wait()
        found[f"{name}: memory.events"] = (place / "memory.events").read_text()
        found[f"{name}: the other"] = str(programs[0].poll())
        programs[0].kill()
        programs[0].wait()
    asyncio.run(groups.remove("podu"))
    return found


def _entering(place: Path) -> Callable[[], None]:
    return lambda: _put(place / "cgroup.procs", "0")


def _files(place: Path) -> dict[str, str]:
    found = {}
    for path in sorted(place.iterdir()):
        if path.is_file() and path.name.startswith(_PREFIXES) and path.name not in _TOO_LONG:
            try:
                found[path.name] = path.read_text()
            except OSError as exc:  # some are only written to, some need a kernel option
                found[path.name] = "" if exc.errno in (errno.EINVAL, errno.EACCES, errno.EPERM) else _name(exc)
    return found


def _put(path: Path, content: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, content.encode())
    finally:
        os.close(fd)


def _error(action: Callable[[], object]) -> str:
    try:
        action()
    except OSError as exc:
        return _name(exc)
    return ""


def _name(exc: OSError) -> str:
    return errno.errorcode.get(exc.errno or 0, str(exc))


if __name__ == "__main__":
    main()
