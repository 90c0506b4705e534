"""How fast the number of pods may change: limits, policies per period, and windows that smooth it. Pure.

Source of behaviour: kubernetes pkg/controller/podautoscaler/horizontal.go (v1.36).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from skerry.base.values import Struct, field

_DOUBLE = {"type": "Percent", "value": 100, "periodSeconds": 15}
_UP: dict[str, Any] = {
    "stabilizationWindowSeconds": 0, "selectPolicy": "Max",
    "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}, _DOUBLE],
}  # fmt: skip
_DOWN: dict[str, Any] = {
    "stabilizationWindowSeconds": 300, "selectPolicy": "Max",
    "policies": [_DOUBLE],
}  # fmt: skip


class Memory(Struct):
    """What an autoscaler did and wished lately.

    Args:
        wishes: time and number of replicas.
        changes: time and how many replicas came (positive) or went.
    """

    wishes: list[tuple[float, int]] = field(default_factory=list)
    changes: list[tuple[float, int]] = field(default_factory=list)

    @classmethod
    def beginning(cls, current: int, *, now_s: float) -> Memory:
        """At the first look the number that is there counts as wished: who starts anew takes nothing away at once."""
        return cls(wishes=[(now_s, current)])


class Bounded(Struct, frozen=True):
    """A number within its bounds.

    Args:
        replicas: what it may be now.
        stabilized: why an earlier wish counts; reason and message, empty when none does.
        limited: which bound it met; reason and message.
        is_limited: whether it met one.
    """

    replicas: int
    stabilized: tuple[str, str]
    limited: tuple[str, str]
    is_limited: bool


def rules(behavior: Mapping[str, Any] | None, direction: str) -> dict[str, Any]:
    """The rules of ``scaleUp`` or ``scaleDown``, with what an absent one means."""
    asked = {key: value for key, value in ((behavior or {}).get(direction) or {}).items() if value is not None}
    return {**(_UP if direction == "scaleUp" else _DOWN), **asked}


def bound(
    current: int,
    wished: int,
    memory: Memory,
    *,
    least: int,
    most: int,
    behavior: Mapping[str, Any] | None,
    now_s: float,
) -> Bounded:
    """Bound a wish, and remember it."""
    up, down = rules(behavior, "scaleUp"), rules(behavior, "scaleDown")
    calm, stabilized = _stabilize(current, wished, memory, up, down, now_s)
    if calm > current:
        limit = max(current, _up_limit(current, memory, up, now_s))
        cap, reason = (limit, "ScaleUpLimit") if most > limit else (most, "TooManyReplicas")
        if calm > cap:
            return Bounded(cap, stabilized, (reason, _TEXT[reason]), is_limited=True)
    elif calm < current:
        limit = min(current, _down_limit(current, memory, down, now_s))
        floor, reason = (limit, "ScaleDownLimit") if least < limit else (least, "TooFewReplicas")
        if calm < floor:
            return Bounded(floor, stabilized, (reason, _TEXT[reason]), is_limited=True)
    elif calm < least or calm > most:
        reason = "TooFewReplicas" if calm < least else "TooManyReplicas"
        return Bounded(min(max(calm, least), most), stabilized, (reason, _TEXT[reason]), is_limited=True)
    within = ("DesiredWithinRange", "the desired count is within the acceptable range")
    return Bounded(calm, stabilized, within, is_limited=False)


_TEXT = {
    "ScaleUpLimit": "the desired replica count is increasing faster than the maximum scale rate",
    "TooManyReplicas": "the desired replica count is more than the maximum replica count",
    "ScaleDownLimit": "the desired replica count is decreasing faster than the maximum scale rate",
    "TooFewReplicas": "the desired replica count is less than the minimum replica count",
}


def _stabilize(
    current: int, wished: int, memory: Memory, up: Mapping[str, Any], down: Mapping[str, Any], now_s: float
) -> tuple[int, tuple[str, str]]:
    """Not higher than the lowest wish of the one window, not lower than the highest of the other."""
    up_s, down_s = float(up["stabilizationWindowSeconds"]), float(down["stabilizationWindowSeconds"])
    lowest = min([n for at, n in memory.wishes if now_s - at < up_s], default=wished)
    highest = max([n for at, n in memory.wishes if now_s - at < down_s], default=wished)
    kept = [(at, n) for at, n in memory.wishes if now_s - at < max(up_s, down_s)]
    memory.wishes[:] = [*kept, (now_s, wished)]
    lowest, highest = min(lowest, wished), max(highest, wished)
    calm = min(max(current, lowest), highest)
    if calm == wished:
        return calm, ("", "")
    if wished < calm:
        text = "recent recommendations were higher than current one, applying the highest recent recommendation"
        return calm, ("ScaleDownStabilized", text)
    text = "recent recommendations were lower than current one, applying the lowest recent recommendation"
    return calm, ("ScaleUpStabilized", text)


def _at_start(current: int, memory: Memory, policy: Mapping[str, Any], now_s: float) -> int:
    """How many there were when the policy's period began."""
    return current - sum(change for at, change in memory.changes if now_s - at <= float(policy["periodSeconds"]))


def _up_limit(current: int, memory: Memory, asked: Mapping[str, Any], now_s: float) -> int:
    if asked["selectPolicy"] == "Disabled":
        return current
    limits = []
    for policy in asked["policies"]:
        start = _at_start(current, memory, policy, now_s)
        value = int(policy["value"])
        limits.append(start + value if policy["type"] == "Pods" else math.ceil(start * (1 + value / 100)))
    return _choose(limits, asked, highest=asked["selectPolicy"] != "Min")


def _down_limit(current: int, memory: Memory, asked: Mapping[str, Any], now_s: float) -> int:
    if asked["selectPolicy"] == "Disabled":
        return current
    limits = []
    for policy in asked["policies"]:
        start = _at_start(current, memory, policy, now_s)
        value = int(policy["value"])
        limits.append(start - value if policy["type"] == "Pods" else int(start * (1 - value / 100)))
    return _choose(limits, asked, highest=asked["selectPolicy"] == "Min")


def _choose(limits: Sequence[int], asked: Mapping[str, Any], *, highest: bool) -> int:
    return max(limits) if highest else min(limits)


def remember_change(memory: Memory, change: int, *, now_s: float) -> None:
    """A change was written. Half an hour is the longest period that a policy may have."""
    memory.changes[:] = [(at, n) for at, n in memory.changes if now_s - at <= 1800.0]
    memory.changes.append((now_s, change))
