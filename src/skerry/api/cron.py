"""Cron schedules: five fields, names of months and days, and the ``@`` forms. Pure.

Source of behaviour: robfig/cron v3 ``ParseStandard``, which Kubernetes uses: a day fits when both day fields fit, or
either of them when neither is ``*``; Sunday is 0; ``@every`` counts from the last time.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

from skerry.base.values import Struct

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of week", 0, 6, {name: number for number, name in enumerate(_DAYS)}),
)
_SHORT = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)", re.ASCII)
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
SEARCH_YEARS = 5
"""A schedule that does not come within so many years never comes."""


class Schedule(Struct, frozen=True):
    """When something is to happen.

    Args:
        minutes, hours, days, months, weekdays: what fits.
        is_any_day: either day field was ``*``, so both must fit.
        every_s: of the form ``@every``; then the fields mean nothing.
    """

    minutes: frozenset[int] = frozenset()
    hours: frozenset[int] = frozenset()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    is_any_day: bool = True
    every_s: float = 0.0

    def next_s(self, after_s: float, zone: tzinfo) -> float | None:
        """The first time after ``after_s``.

        Args:
            after_s: Unix seconds.
            zone: whose wall clock the fields mean; an hour that is skipped has no times, one that comes twice has
                them twice.

        Returns:
            Unix seconds; None when there is none within five years.
        """
        if self.every_s:
            return float(int(after_s)) + self.every_s
        at = datetime.fromtimestamp(int(after_s) // 60 * 60 + 60, UTC)
        limit = at + timedelta(days=366 * SEARCH_YEARS)
        while at < limit:
            local = at.astimezone(zone)
            if local.month not in self.months:
                at = _midnight(local, days=32 - local.day, first=True, floor=at)
            elif not self._fits_day(local):
                at = _midnight(local, days=1, first=False, floor=at)
            elif local.hour not in self.hours:
                at += timedelta(minutes=60 - local.minute)
            elif local.minute not in self.minutes:
                at += timedelta(minutes=1)
            else:
                return at.timestamp()
        return None

    def _fits_day(self, local: datetime) -> bool:
        by_date, by_week = local.day in self.days, local.isoweekday() % 7 in self.weekdays
        return (by_date and by_week) if self.is_any_day else (by_date or by_week)


def _midnight(local: datetime, *, days: int, first: bool, floor: datetime) -> datetime:
    day = local + timedelta(days=days)
    day = day.replace(day=1) if first else day
    found = day.replace(hour=0, minute=0, second=0, microsecond=0, fold=0).astimezone(UTC)
    return max(found, floor + timedelta(minutes=1))


def parse_cron(text: str) -> Schedule:
    """Read a schedule.

    Raises:
        ValueError: says which field is wrong and why.
    """
    text = text.strip()
    if text.startswith("@every "):
        return Schedule(every_s=_duration_s(text[len("@every ") :]))
    if text.startswith("@"):
        if text not in _SHORT:
            raise ValueError(f"unrecognized descriptor: {text}")
        text = _SHORT[text]
    pieces = text.split()
    if len(pieces) != len(_FIELDS):
        raise ValueError(f"expected exactly 5 fields, found {len(pieces)}: [{' '.join(pieces)}]")
    sets, stars = [], []
    for piece, (name, low, high, names) in zip(pieces, _FIELDS, strict=True):
        found: set[int] = set()
        is_star = False
        for part in piece.split(","):
            values, star = _part(part, name, low, high, names)
            found |= values
            is_star = is_star or star
        sets.append(frozenset(found))
        stars.append(is_star)
    minutes, hours, days, months, weekdays = sets
    return Schedule(minutes, hours, days, months, weekdays, is_any_day=stars[2] or stars[4])


def _part(part: str, name: str, low: int, high: int, names: dict[str, int]) -> tuple[set[int], bool]:
    span, slash, step_text = part.partition("/")
    first, dash, last = span.partition("-")
    is_star = span in ("*", "?")
    start = low if is_star else _value(first, name, names)
    end = high if is_star or (slash and not dash) else _value(last, name, names) if dash else start
    step = 1
    if slash:
        if not step_text.isdigit() or not int(step_text):
            raise ValueError(f"step of range should be a positive number: {part} ({name})")
        step = int(step_text)
    if start < low or end > high:
        what = f"beginning of range ({start}) below minimum ({low})"
        what = what if start < low else f"end of range ({end}) above maximum ({high})"
        raise ValueError(f"{what}: {part} ({name})")
    if start > end:
        raise ValueError(f"beginning of range ({start}) beyond end of range ({end}): {part} ({name})")
    return set(range(start, end + 1, step)), is_star and step == 1


def _value(text: str, name: str, names: dict[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"failed to parse {name}: {text!r} is not a number")
    return int(text)


def _duration_s(text: str) -> float:
    pieces = _DURATION.findall(text)
    if not pieces or "".join(number + unit for number, unit in pieces) != text.strip():
        raise ValueError(f"failed to parse duration @every {text}")
    total = sum(float(number) * _UNITS_S[unit] for number, unit in pieces)
    return max(1.0, float(int(total)))
