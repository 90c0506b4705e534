"""Spans of time as kubectl prints them.

Source: apimachinery pkg/util/duration/duration.go (v1.36).
"""

from __future__ import annotations

from functools import lru_cache

from skerry.api.meta import parse_rfc3339

UNKNOWN = "<unknown>"


def human_duration(seconds: float) -> str:
    """A span of time in at most two units, as kubectl prints ages.

    Source: apimachinery pkg/util/duration/duration.go:HumanDuration.
    """
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    years = days // 365
    return _two(years, "y", days % 365, "d") if days < 8 * 365 else f"{years}y"


@lru_cache(maxsize=512)  # objects of one list are often made in the same second
def age(stamp: str | None, now_s: float) -> str:
    """Age of a time stamp; ``<unknown>`` when there is none."""
    then_s = parse_rfc3339(stamp)
    return UNKNOWN if then_s is None else human_duration(now_s - then_s)


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"
