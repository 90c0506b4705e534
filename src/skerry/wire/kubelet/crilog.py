"""One line of a container log file in the CRI format, as text and back; Docker's form is read too.

``<RFC 3339 time with nanoseconds> <stdout|stderr> <P|F> <bytes>\\n``. ``P`` marks a piece whose line goes on in the
next entry of the same stream, ``F`` the last (or only) piece. The content is bytes: nothing promises that it is text.

Behind cri-dockerd the file is Docker's own: one JSON object a line, ``{"log": "text\\n", "stream": "stdout", "time":
"…"}``, where a ``log`` without a line feed is a piece whose line goes on.

Source: kubernetes staging/src/k8s.io/cri-client/pkg/logs/logs.go, design-proposals node/kubelet-cri-logging.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from skerry.base import json
from skerry.base.values import Struct
from skerry.wire.errors import Malformed, TooLarge

MAX_ENTRY_BYTES = 16 * 1024
"""Longest content of one entry; longer lines are written in pieces."""

MAX_READ_BYTES = 1024 * 1024
"""Longest entry that is read; engines may be configured to write longer ones than we do."""

_TIME = re.compile(rb"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))\Z")


class Entry(Struct, frozen=True):
    """One entry.

    Args:
        time: as written, RFC 3339 with nanoseconds.
        stream: ``stdout`` or ``stderr``.
        is_partial: the line goes on in the next entry of this stream.
        content: without the line feed.
    """

    time: bytes
    stream: str
    is_partial: bool
    content: bytes

    @property
    def time_s(self) -> float:
        """Seconds since 1970.

        Raises:
            Malformed: not an RFC 3339 time.
        """
        return parse_time(self.time)


def format_time(time_ns: int) -> bytes:
    """``2026-01-02T03:04:05.000000006Z`` from nanoseconds since 1970."""
    seconds, nanos = divmod(time_ns, 1_000_000_000)
    days, rest = divmod(seconds, 86400)
    year, month, day = _civil(days)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{year:04}-{month:02}-{day:02}T{clock}.{nanos:09}Z".encode()


def parse_time(text: bytes) -> float:
    """Seconds since 1970.

    Raises:
        Malformed: not an RFC 3339 time.
    """
    found = _TIME.match(text)
    if found is None:
        raise Malformed(f"log entry begins with {text[:40]!r}, not with a time")
    parts = found.groups()
    year, month, day, hour, minute, second = map(int, parts[:6])
    try:
        seconds = datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError as exc:
        raise Malformed(f"log entry begins with {text[:40]!r}, not with a time: {exc}") from exc
    if parts[7]:
        offset = int(parts[8]) * 3600 + int(parts[9]) * 60
        seconds += -offset if parts[7] == b"+" else offset
    return seconds + (int(parts[6].ljust(9, b"0")) / 1e9 if parts[6] else 0.0)


def encode(time_ns: int, stream: str, content: bytes, *, is_partial: bool = False) -> bytes:
    """One entry with its line feed. ``content`` holds no line feed; at most ``MAX_ENTRY_BYTES`` by convention."""
    return b"%s %s %s %s\n" % (format_time(time_ns), stream.encode(), b"P" if is_partial else b"F", content)


def decode(line: bytes, *, limit_bytes: int = MAX_READ_BYTES) -> Entry:
    """Read one line of the file in either form, with or without its line feed.

    Raises:
        TooLarge: over ``limit_bytes``.
        Malformed: fewer than three fields, or an unknown stream or tag. Further tags after ``P`` or ``F``, joined by
            a colon, are ignored. In Docker's form: no such object.
    """
    if len(line) > limit_bytes:
        raise TooLarge(f"log entry of {len(line)} bytes is larger than {limit_bytes} bytes")
    if line.startswith(b"{"):
        return _decode_docker(line)
    parts = line.removesuffix(b"\n").split(b" ", 3)
    if len(parts) < 3:
        raise Malformed(f"log entry {line[:40]!r} has fewer than three fields")
    time, stream, tags = parts[:3]
    tag = tags.split(b":", 1)[0]
    if stream not in (b"stdout", b"stderr") or tag not in (b"P", b"F"):
        raise Malformed(f"log entry has stream {stream[:20]!r} and tag {tag[:20]!r}")
    return Entry(time, stream.decode(), tag == b"P", parts[3] if len(parts) > 3 else b"")


def _decode_docker(line: bytes) -> Entry:
    try:
        found = json.loads(line)
        text, stream, time = found["log"], found["stream"], found["time"]
        if stream in ("stdout", "stderr"):
            content = text.encode()
            return Entry(time.encode(), stream, not content.endswith(b"\n"), content.removesuffix(b"\n"))
    except (json.JsonError, KeyError, AttributeError) as exc:
        raise Malformed(f"log entry {line[:40]!r} is no line of Docker's: {exc}") from exc
    raise Malformed(f"log entry has stream {str(stream)[:20]!r}")


def _civil(days: int) -> tuple[int, int, int]:
    """Date of a day number since 1970 (proleptic Gregorian). Source: H. Hinnant, civil_from_days."""
    days += 719468
    era, day_of_era = divmod(days, 146097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    return year_of_era + era * 400 + (month <= 2), month, day
