"""Schedules as cron writes them, in any time zone."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import pytest

from skerry.api.cron import parse_cron

BERLIN = ZoneInfo("Europe/Berlin")


def following(text: str, after: str, zone: tzinfo = UTC, count: int = 1) -> list[str]:
    schedule, at = parse_cron(text), datetime.fromisoformat(after).replace(tzinfo=zone).timestamp()
    found = []
    for _ in range(count):
        nxt = schedule.next_s(at, zone)
        if nxt is None:
            break
        at = nxt
        found.append(datetime.fromtimestamp(at, UTC).astimezone(zone).strftime("%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("text", "after", "found"),
    [
        ("* * * * *", "2026-01-01T10:00:30", "01-01 10:01"),
        ("*/15 * * * *", "2026-01-01T10:15:00", "01-01 10:30"),
        ("5/20 * * * *", "2026-01-01T10:26:00", "01-01 10:45"),
        ("0 9-17/4 * * *", "2026-01-01T09:30:00", "01-01 13:00"),
        ("30 6 * * mon-fri", "2026-01-02T07:00:00", "01-05 06:30"),  # Friday, so Monday
        ("0 0 31 * *", "2026-02-01T00:00:00", "03-31 00:00"),
        ("0 0 29 feb *", "2026-03-01T00:00:00", "02-29 00:00"),
        ("0 0 13 * fri", "2026-01-03T00:00:00", "01-09 00:00"),  # either day field
        ("0 0 */2 * fri", "2026-01-03T00:00:00", "01-05 00:00"),
        ("0 0 ? * 5", "2026-01-03T00:00:00", "01-09 00:00"),
        ("@hourly", "2026-01-01T10:00:00", "01-01 11:00"),
        ("@weekly", "2026-01-01T10:00:00", "01-04 00:00"),
        ("@yearly", "2026-01-01T10:00:00", "01-01 00:00"),
        ("@every 1h30m", "2026-01-01T10:00:00", "01-01 11:30"),
    ],
)
def test_the_next_time(text: str, after: str, found: str) -> None:
    assert following(text, after) == [found]


def test_a_day_that_never_comes() -> None:
    assert following("0 0 30 feb *", "2026-01-01T00:00:00") == []


def test_summer_time_skips_and_repeats_an_hour() -> None:
    assert following("30 2 * * *", "2026-03-28T03:00:00", BERLIN, 2) == ["03-30 02:30", "03-31 02:30"]
    assert following("*/30 * * * *", "2026-10-25T01:45:00", BERLIN, 5) == [
        "10-25 02:00", "10-25 02:30", "10-25 02:00", "10-25 02:30", "10-25 03:00",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("* * * *", "expected exactly 5 fields"),
        ("60 * * * *", "above maximum"),
        ("* * 0 * *", "below minimum"),
        ("* * * * 7", "above maximum"),
        ("5-2 * * * *", "beyond end"),
        ("*/0 * * * *", "positive number"),
        ("x * * * *", "not a number"),
        ("@sometimes", "unrecognized"),
        ("@every soon", "duration"),
    ],
)
def test_what_is_wrong_is_said(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_cron(text)
