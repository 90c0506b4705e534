"""CEL's standard functions: sizes, conversions, times, and texts.

Source: the CEL language definition (standard definitions); cel-go common/stdlib.
"""

from __future__ import annotations

import datetime
import math
import re
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from skerry.base.regex import is_valid, search
from skerry.cel.errors import EvalError
from skerry.cel.functions import Functions
from skerry.cel.operators import MAX_TIME, MIN_TIME, span
from skerry.cel.values import (
    INT_MAX,
    INT_MIN,
    NANOS,
    Duration,
    Timestamp,
    TypeValue,
    Uint,
    checked_int,
    checked_uint,
    type_name,
)

_DURATION = re.compile(r"([-+]?)((?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+\Z", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": NANOS, "m": 60 * NANOS, "h": 3600 * NANOS}
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))\Z", re.ASCII
)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_OFFSET = re.compile(r"([+-]?)(\d\d):(\d\d)\Z", re.ASCII)
_INT = re.compile(r"[+-]?\d+\Z", re.ASCII)


def parse_duration(text: str) -> Duration:
    """Read ``1h2.5s``.

    Raises:
        EvalError: no duration.
    """
    if text in ("0", "+0", "-0"):
        return Duration(0)
    match = _DURATION.match(text)
    if match is None:
        raise EvalError(f"time: invalid duration {text!r}")
    total = 0
    for number, unit in _PART.findall(text):
        whole, _, part = number.partition(".")
        total += int(whole or 0) * _UNITS[unit]
        if part:
            total += int(part[:18]) * _UNITS[unit] // 10 ** len(part[:18])
    return span(-total if match[1] == "-" else total)


def parse_timestamp(text: str) -> Timestamp:
    """Read RFC 3339.

    Raises:
        EvalError: no such moment.
    """
    match = _TIME.match(text)
    try:
        if match is None:
            raise ValueError(text)
        numbers = [int(match[i]) for i in range(1, 7)]
        moment = datetime.datetime(*numbers, tzinfo=datetime.UTC)  # type: ignore[misc,arg-type]
    except ValueError as exc:
        raise EvalError(f"parsing time {text!r} as RFC 3339 failed") from exc
    seconds = int((moment - _EPOCH).total_seconds())
    if match[8]:
        offset = int(match[9]) * 3600 + int(match[10]) * 60
        seconds -= offset if match[8] == "+" else -offset
    nanos = seconds * NANOS + int((match[7] or "0").ljust(9, "0"))
    return _moment(nanos)


def timestamp_text(value: Timestamp) -> str:
    """RFC 3339 with as many digits as needed."""
    seconds, nanos = divmod(value.nanos, NANOS)
    text = (_EPOCH + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    if text.find("-") < 4:
        text = text.zfill(19)
    return text + (f".{nanos:09d}".rstrip("0") if nanos else "") + "Z"


def duration_text(value: Duration) -> str:
    """Seconds, such as ``1.5s``."""
    seconds, nanos = divmod(abs(value.nanos), NANOS)
    return ("-" if value.nanos < 0 else "") + str(seconds) + (f".{nanos:09d}".rstrip("0") if nanos else "") + "s"


def double_text(value: float) -> str:
    """The shortest text that reads back; with an exponent below 1e-4 and from 1e6 on, as Go's ``%g`` has it."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    if value == 0:
        return "-0" if math.copysign(1.0, value) < 0 else "0"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    power = len(digits) + int(exponent) - 1
    text = "".join(map(str, digits))
    if -4 <= power < 6:
        text = _placed(text, power)
    else:
        text = f"{text[0]}{'.' if len(text) > 1 else ''}{text[1:]}e{power:+03d}"
    return f"-{text}" if sign else text


def _placed(digits: str, power: int) -> str:
    """Digits with the point where the power says."""
    if power < 0:
        return f"0.{'0' * (-power - 1)}{digits}"
    whole, part = digits[: power + 1].ljust(power + 1, "0"), digits[power + 1 :]
    return f"{whole}.{part}" if part else whole


def matches(text: str, pattern: str) -> bool:
    """Whether RE2 finds the pattern.

    Raises:
        EvalError: RE2 does not know it.
    """
    if not is_valid(pattern):
        raise EvalError(f"error parsing regexp: {pattern}")
    return search(pattern, text)


def _moment(nanos: int) -> Timestamp:
    if not MIN_TIME <= nanos <= MAX_TIME:
        raise EvalError("timestamp overflow")
    return Timestamp(nanos)


def _int_of_text(text: str) -> int:
    if not _INT.match(text):
        raise EvalError(f"strconv.ParseInt: parsing {text!r}: invalid syntax")
    return checked_int(int(text)) if len(text) < 25 else _overflow()


def _overflow() -> int:
    raise EvalError("integer overflow")


def _uint_of_text(text: str) -> Uint:
    if not text.isascii() or not text.isdigit() or len(text) > 24:
        raise EvalError(f"strconv.ParseUint: parsing {text!r}: invalid syntax")
    return checked_uint(int(text))


def _int_of_double(value: float) -> int:
    if not math.isfinite(value) or not INT_MIN <= value <= INT_MAX:
        raise EvalError("integer overflow")
    return checked_int(int(value))


def _uint_of_double(value: float) -> Uint:
    if not math.isfinite(value):
        raise EvalError("unsigned integer overflow")
    return checked_uint(int(value)) if value >= 0 else checked_uint(-1)


def _double_of_text(text: str) -> float:
    try:
        if text != text.strip() or "_" in text:
            raise ValueError(text)
        return float(text)
    except ValueError as exc:
        raise EvalError(f"strconv.ParseFloat: parsing {text!r}: invalid syntax") from exc


def _bool_of_text(text: str) -> bool:
    if text in ("true", "True", "TRUE", "t", "T", "1"):
        return True
    if text in ("false", "False", "FALSE", "f", "F", "0"):
        return False
    raise EvalError(f"type conversion error from '{text}' to 'bool'")


def _text_of_bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise EvalError("invalid UTF-8 in bytes, cannot convert to string") from exc


def add_standard(table: Functions) -> None:
    """Put the standard functions into the table."""
    for kind in ("string", "bytes", "list<A>", "map<A, B>"):
        table.both("size", kind, "int", len)
    table.function("type", "dyn", "type", lambda value: TypeValue(type_name(value)))
    table.function("dyn", "dyn", "dyn", lambda value: value)
    table.method("contains", "string, string", "bool", lambda text, part: part in text)
    table.method("startsWith", "string, string", "bool", str.startswith)
    table.method("endsWith", "string, string", "bool", str.endswith)
    table.both("matches", "string, string", "bool", matches)
    _add_conversions(table)
    _add_times(table)


def _add_conversions(table: Functions) -> None:
    def same(value: Any) -> Any:
        return value

    rows: tuple[tuple[str, str, str, Any], ...] = (
        ("int", "int", "int", same),
        ("int", "uint", "int", lambda v: checked_int(int(v))),
        ("int", "double", "int", _int_of_double),
        ("int", "string", "int", _int_of_text),
        ("int", "timestamp", "int", lambda v: v.nanos // NANOS),
        ("int", "duration", "int", lambda v: v.nanos),
        ("uint", "uint", "uint", same),
        ("uint", "int", "uint", checked_uint),
        ("uint", "double", "uint", _uint_of_double),
        ("uint", "string", "uint", _uint_of_text),
        ("double", "double", "double", same),
        ("double", "int", "double", float),
        ("double", "uint", "double", float),
        ("double", "string", "double", _double_of_text),
        ("bool", "bool", "bool", same),
        ("bool", "string", "bool", _bool_of_text),
        ("string", "string", "string", same),
        ("string", "int", "string", str),
        ("string", "uint", "string", lambda v: str(int(v))),
        ("string", "double", "string", double_text),
        ("string", "bool", "string", lambda v: "true" if v else "false"),
        ("string", "bytes", "string", _text_of_bytes),
        ("string", "timestamp", "string", timestamp_text),
        ("string", "duration", "string", duration_text),
        ("bytes", "bytes", "bytes", same),
        ("bytes", "string", "bytes", str.encode),
        ("timestamp", "timestamp", "timestamp", same),
        ("timestamp", "string", "timestamp", parse_timestamp),
        ("timestamp", "int", "timestamp", lambda v: _moment(v * NANOS)),
        ("duration", "duration", "duration", same),
        ("duration", "string", "duration", parse_duration),
        ("duration", "int", "duration", span),
    )
    for name, given, result, call in rows:
        table.function(name, given, result, call)


def _zoned(value: Timestamp, zone: str = "UTC") -> datetime.datetime:
    moment = _EPOCH + datetime.timedelta(microseconds=value.nanos // 1000)
    match = _OFFSET.match(zone)
    if match is not None:
        offset = datetime.timedelta(hours=int(match[2]), minutes=int(match[3]))
        return moment.astimezone(datetime.timezone(-offset if match[1] == "-" else offset))
    if not re.fullmatch(r"[A-Za-z0-9_+\-/]{1,64}", zone):
        raise EvalError(f"unknown time zone {zone}")
    try:
        return moment.astimezone(ZoneInfo(zone))
    except (KeyError, ValueError, OSError) as exc:
        raise EvalError(f"unknown time zone {zone}") from exc


def _add_times(table: Functions) -> None:
    parts: dict[str, Any] = {
        "getFullYear": lambda t: t.year,
        "getMonth": lambda t: t.month - 1,
        "getDate": lambda t: t.day,
        "getDayOfMonth": lambda t: t.day - 1,
        "getDayOfYear": lambda t: t.timetuple().tm_yday - 1,
        "getDayOfWeek": lambda t: t.isoweekday() % 7,
        "getHours": lambda t: t.hour,
        "getMinutes": lambda t: t.minute,
        "getSeconds": lambda t: t.second,
        "getMilliseconds": lambda t: t.microsecond // 1000,
    }
    for name, read in parts.items():
        table.method(name, "timestamp", "int", lambda value, read=read: read(_zoned(value)))
        table.method(name, "timestamp, string", "int", lambda value, zone, read=read: read(_zoned(value, zone)))
    spans = (("getHours", 3600 * NANOS), ("getMinutes", 60 * NANOS), ("getSeconds", NANOS))
    for name, unit in spans:
        table.method(name, "duration", "int", lambda value, unit=unit: _whole_units(value.nanos, unit))
    table.method("getMilliseconds", "duration", "int", lambda value: _whole_units(value.nanos, 10**6))


def _whole_units(nanos: int, unit: int) -> int:
    return nanos // unit if nanos >= 0 else -(-nanos // unit)
