"""How many processes each container has, by the control groups of every process of the machine. Blocking.

Engines do not tell. The group's name has the container's id in it whoever keeps the groups, cgroupfs or systemd, and
whichever version they are of.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

_ID = re.compile(rb"[0-9a-f]{64}")
_LONGEST_BYTES = 1 << 16


def process_counts(containers: Collection[str], *, proc: Path = Path("/proc")) -> dict[str, int]:
    """Processes by container id; those of other containers and of the machine are not counted.

    Args:
        containers: ids of the engine, 64 hexadecimal digits.
        proc: where the processes are told.
    """
    wanted = {name.encode(): name for name in containers}
    found: Counter[str] = Counter()
    for place in proc.iterdir() if wanted else ():
        if not place.name.isdecimal():
            continue
        try:
            with (place / "cgroup").open("rb") as file:
                text = file.read(_LONGEST_BYTES)
        except OSError:  # it has ended meanwhile
            continue
        ours = next((wanted[match] for match in _ID.findall(text) if match in wanted), None)
        if ours is not None:
            found[ours] += 1
    return dict(found)
