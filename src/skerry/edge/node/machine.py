"""Facts of this machine from ``/proc``, ``/etc`` and the file system."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from skerry import __version__
from skerry.edge.node.status import Machine

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


def read_machine(
    name: str, *, labels: Mapping[str, str], taints: Sequence[Mapping[str, str]], capacity: Mapping[str, str],
    allocatable: Mapping[str, str],
) -> Machine:  # fmt: skip
    """What the Node says about the machine."""
    system = os.uname()
    return Machine(
        name=name,
        architecture=architecture(),
        kernel=system.release,
        os_image=_os_image(),
        machine_id=_first_line("/etc/machine-id"),
        boot_id=_first_line("/proc/sys/kernel/random/boot_id"),
        capacity=capacity,
        allocatable=allocatable,
        kubelet_version=f"v1.33.0-skerry-{__version__}",
        labels=labels,
        taints=taints,
    )


def architecture() -> str:
    """As Kubernetes calls it, such as ``amd64``."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def cpu_count() -> int:
    """Processors that this machine has online."""
    return os.cpu_count() or 1


def cpu_ns() -> int:
    """CPU time of all processors since the boot, without idling."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    busy = sum(fields) - fields[3] - fields[4]
    return busy * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def memory() -> dict[str, int]:
    """``/proc/meminfo`` in bytes."""
    found = {"MemTotal": 0, "MemAvailable": 0}
    with Path("/proc/meminfo").open() as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in found:
                found[name] = int(rest.split()[0]) * 1024
    return found


def disk(path: Path) -> tuple[int, int]:
    """Total and free bytes of the file system of ``path``."""
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def _os_image() -> str:
    try:
        for line in Path("/etc/os-release").read_text().splitlines():
            if line.startswith("PRETTY_NAME="):
                return line.partition("=")[2].strip().strip('"')
    except OSError:
        pass
    return "Linux"


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
