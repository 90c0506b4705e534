"""Whether the node runs short of memory, disk or process ids. Pure.

A pressure begins when an amount is below its threshold and ends when it has been above for some minutes, so that a node
does not flap. Source: kubernetes pkg/kubelet/eviction/helpers.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from skerry.base.values import Struct, field
from skerry.edge.resources.amounts import threshold

SETTLE_S = 300.0
MEMORY, DISK, PID = "MemoryPressure", "DiskPressure", "PIDPressure"
_KIND_OF = {
    "memory.available": MEMORY,
    "nodefs.available": DISK,
    "nodefs.inodesFree": DISK,
    "imagefs.available": DISK,
    "imagefs.inodesFree": DISK,
    "pid.available": PID,
}
SIGNALS = tuple(_KIND_OF)
_QUICK = ("memory.available", "pid.available")
"""A program can use these up within seconds."""
DEFAULTS = {
    "memory.available": "5%",
    "nodefs.available": "5%",
    "nodefs.inodesFree": "5%",
    "imagefs.available": "5%",
    "pid.available": "5%",
}
"""Thresholds where the configuration gives none; shares, because nodes have from 256 MB to 256 GB."""


class Amount(Struct, frozen=True):
    """How much of something is left."""

    available: int
    total: int


class Shortage(Struct, frozen=True):
    """One amount that is below its threshold."""

    signal: str
    available: int
    threshold: int

    @property
    def kind(self) -> str:
        """The node condition: MemoryPressure, DiskPressure or PIDPressure."""
        return _KIND_OF[self.signal]

    @property
    def is_of_pieces(self) -> bool:
        """Whether it is counted in pieces, not in bytes."""
        return not self.signal.endswith(".available") or self.kind == PID


class Pressures(Struct, frozen=True):
    """What holds now.

    Args:
        shortages: below their thresholds at this moment.
        last_s: monotonic time at which each kind was last short; kinds that have settled are not in it.
    """

    shortages: Sequence[Shortage] = ()
    last_s: Mapping[str, float] = field(default_factory=dict)

    def holds(self, kind: str) -> bool:
        """Whether the node has this pressure, or had it a short time ago."""
        return kind in self.last_s


def judge(
    amounts: Mapping[str, Amount],
    thresholds: Mapping[str, str],
    before: Pressures,
    *,
    now_s: float,
    settle_s: float = SETTLE_S,
) -> Pressures:
    """Pressures from what is left.

    Args:
        amounts: by signal; a signal that cannot be read is missing and holds nothing.
        now_s: monotonic.
        settle_s: for how long a shortage must be over before its pressure ends.
    """
    shortages = []
    for signal, text in thresholds.items():
        found = amounts.get(signal)
        if found is not None and (least := threshold(text, found.total)) > found.available:
            shortages.append(Shortage(signal, found.available, least))
    short = {shortage.kind for shortage in shortages}
    last_s = {kind: at_s for kind, at_s in before.last_s.items() if now_s - at_s < settle_s}
    return Pressures(tuple(shortages), last_s | dict.fromkeys(short, now_s))


def is_near(amounts: Mapping[str, Amount], thresholds: Mapping[str, str]) -> bool:
    """Whether something that goes quickly is below twice its threshold, so that the next look should come soon."""
    found = ((signal, amounts.get(signal)) for signal in _QUICK if signal in thresholds)
    return any(left is not None and left.available < 2 * threshold(thresholds[s], left.total) for s, left in found)
