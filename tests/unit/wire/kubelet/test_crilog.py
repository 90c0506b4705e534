"""CRI log entries."""

import datetime

import pytest

from skerry.wire.errors import Malformed, TooLarge
from skerry.wire.kubelet import crilog


def test_round_trip_keeps_bytes() -> None:
    line = crilog.encode(1_750_000_000_000_000_006, "stderr", b"a \xff b", is_partial=True)
    assert line == b"2025-06-15T15:06:40.000000006Z stderr P a \xff b\n"
    entry = crilog.decode(line)
    assert (entry.stream, entry.is_partial, entry.content) == ("stderr", True, b"a \xff b")
    assert entry.time_s == pytest.approx(1_750_000_000, abs=1e-3)


@pytest.mark.parametrize("seconds", [0, 951_782_400, 951_868_800, 1_709_164_800, 4_102_444_799, 1_735_689_599])
def test_time_agrees_with_the_standard_library(seconds: int) -> None:
    expected = datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.000000000Z")
    assert crilog.format_time(seconds * 1_000_000_000) == expected.encode()
    assert crilog.parse_time(expected.encode()) == seconds


def test_offsets_and_short_fractions_are_read() -> None:
    assert crilog.parse_time(b"2025-06-15T17:06:40.5+02:00") == 1_750_000_000.5
    assert crilog.parse_time(b"2025-06-15T13:36:40-01:30") == 1_750_000_000


def test_empty_line_and_extra_tags() -> None:
    assert crilog.decode(b"2025-06-15T17:06:40Z stdout F\n").content == b""
    assert crilog.decode(b"2025-06-15T17:06:40Z stdout F \n").content == b""
    assert crilog.decode(b"2025-06-15T17:06:40Z stdout P:x hi\n").is_partial


@pytest.mark.parametrize("line", [b"", b"x", b"t stdin F a", b"t stdout Q a"])
def test_nonsense_is_malformed(line: bytes) -> None:
    with pytest.raises(Malformed):
        crilog.decode(line)


@pytest.mark.parametrize(
    "text", [b"yesterday", b"2025-13-01T00:00:00Z", b"2025-02-30T00:00:00Z", b"0000-01-01T00:00:00Z"]
)
def test_bad_time_is_malformed(text: bytes) -> None:
    with pytest.raises(Malformed, match="not with a time"):
        crilog.parse_time(text)


def test_long_entry_is_refused() -> None:
    with pytest.raises(TooLarge):
        crilog.decode(b"x" * 20, limit_bytes=10)


def test_dockers_lines_are_read() -> None:
    line = b'{"log":"good \\u003cday\\u003e\\n","stream":"stdout","time":"2026-11-27T06:47:15.296143409Z"}\n'
    assert crilog.decode(line) == crilog.Entry(b"2026-11-27T06:47:15.296143409Z", "stdout", False, b"good <day>")
    piece = b'{"log":"begins","stream":"stderr","time":"2026-11-27T06:47:15Z"}'
    assert crilog.decode(piece) == crilog.Entry(b"2026-11-27T06:47:15Z", "stderr", True, b"begins")


@pytest.mark.parametrize("line", [
    b"{", b"{}", b'{"log":1,"stream":"stdout","time":"t"}', b'{"log":"a","stream":"stdout","time":null}',
    b'{"log":"a","stream":"other","time":"t"}', b'{"log":"a","stream":[],"time":"t"}',
])  # fmt: skip
def test_other_objects_are_malformed(line: bytes) -> None:
    with pytest.raises(Malformed):
        crilog.decode(line)
