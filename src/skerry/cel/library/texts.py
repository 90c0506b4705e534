"""Texts: cel-go's extended string functions, regular expressions on RE2, base64.

Source: cel-go ext/{strings,formatting,encoders}.go; kubernetes apiserver/pkg/cel/library/regex.go (v1.36).
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import Any

from skerry.base.regex import find_all, is_valid
from skerry.cel.errors import EvalError
from skerry.cel.functions import MAX_SIZE, Functions
from skerry.cel.library.standard import double_text, duration_text, timestamp_text
from skerry.cel.values import Duration, Timestamp, TypeValue, type_name

_DIRECTIVE = re.compile(r"%(?:\.(\d+))?([a-zA-Z%])?")
_MOST_DIGITS = 100
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_ASCII_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
_ASCII_UPPER = str.maketrans("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_WHITE = " \t\n\v\f\r\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"  # noqa: E501  # fmt: skip
_QUOTES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\", '"': '\\"'}  # noqa: E501  # fmt: skip


def add_texts(table: Functions) -> None:
    """Put the functions on texts into the table."""
    table.method("charAt", "string, int", "string", _char_at)
    table.method("indexOf", "string, string", "int", lambda text, part: text.find(part))
    table.method("indexOf", "string, string, int", "int", _index_of)
    table.method("lastIndexOf", "string, string", "int", lambda text, part: text.rfind(part))
    table.method("lastIndexOf", "string, string, int", "int", _last_index_of)
    table.method("join", "list<string>", "string", lambda items: join(items, ""))
    table.method("join", "list<string>, string", "string", lambda items, separator: join(items, separator))
    table.method("lowerAscii", "string", "string", lambda text: text.translate(_ASCII_LOWER))
    table.method("upperAscii", "string", "string", lambda text: text.translate(_ASCII_UPPER))
    table.method("replace", "string, string, string", "string", lambda text, old, new: _replace(text, old, new, -1))
    table.method("replace", "string, string, string, int", "string", _replace)
    table.method("split", "string, string", "list<string>", lambda text, separator: _split(text, separator, -1))
    table.method("split", "string, string, int", "list<string>", _split)
    table.method("substring", "string, int", "string", lambda text, start: _substring(text, start, len(text)))
    table.method("substring", "string, int, int", "string", _substring)
    table.method("trim", "string", "string", lambda text: text.strip(_WHITE))
    table.method("reverse", "string", "string", lambda text: text[::-1])
    table.method("format", "string, list<dyn>", "string", format_text)
    table.function("strings.quote", "string", "string", _quote)
    table.method("find", "string, string", "string", lambda text, pattern: _first(_found(pattern, text, 1)))
    table.method("findAll", "string, string", "list<string>", lambda text, pattern: _found(pattern, text, -1))
    table.method("findAll", "string, string, int", "list<string>", lambda text, pattern, n: _found(pattern, text, n))
    table.function("jsonpatch.escapeKey", "string", "string", lambda key: key.replace("~", "~0").replace("/", "~1"))
    table.function("base64.encode", "bytes", "string", lambda value: base64.b64encode(value).decode())
    table.function("base64.decode", "string", "bytes", _decoded)


def join(items: list[Any], separator: str) -> str:
    """Texts with a separator between them.

    Raises:
        EvalError: an item is no text, or the result is too long.
    """
    if any(not isinstance(item, str) for item in items):
        raise EvalError("no such overload: join")
    if sum(map(len, items)) + len(separator) * len(items) > MAX_SIZE:
        raise EvalError(f"result of more than {MAX_SIZE} characters")
    return separator.join(items)


def _char_at(text: str, at: int) -> str:
    if not 0 <= at <= len(text):
        raise EvalError(f"index out of range: {at}")
    return text[at : at + 1]


def _index_of(text: str, part: str, start: int) -> int:
    if part == "" and start == len(text):
        return start
    if not 0 <= start < len(text):
        if start == 0:
            return text.find(part)
        raise EvalError(f"index out of range: {start}")
    return text.find(part, start)


def _last_index_of(text: str, part: str, end: int) -> int:
    if not 0 <= end <= len(text):
        raise EvalError(f"index out of range: {end}")
    return text.rfind(part, 0, end + len(part))


def _substring(text: str, start: int, end: int) -> str:
    if not 0 <= start <= end <= len(text):
        raise EvalError(f"invalid substring range. start: {start}, end: {end}")
    return text[start:end]


def _replace(text: str, old: str, new: str, count: int) -> str:
    times = text.count(old) if count < 0 else min(count, text.count(old))
    if len(text) + times * max(0, len(new) - len(old)) > MAX_SIZE:
        raise EvalError(f"result of more than {MAX_SIZE} characters")
    return text.replace(old, new, count)


def _split(text: str, separator: str, count: int) -> list[str]:
    if count == 0:
        return []
    if separator == "":
        if count < 0 or count >= len(text):
            return list(text)
        return [*text[: count - 1], text[count - 1 :]]
    return text.split(separator) if count < 0 else text.split(separator, count - 1)


def _quote(text: str) -> str:
    return '"' + "".join(_QUOTES.get(char, char) for char in text) + '"'


def _first(found: list[str]) -> str:
    return found[0] if found else ""


def _found(pattern: str, text: str, count: int) -> list[str]:
    if not is_valid(pattern):
        raise EvalError(f"error parsing regexp: {pattern}")
    return find_all(pattern, text, None if count < 0 else count)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text if len(text) % 4 == 0 else text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise EvalError("illegal base64 data") from exc


def format_text(template: str, args: list[Any]) -> str:
    """``template.format(args)``.

    Raises:
        EvalError: a directive that does not fit, or too few arguments.
    """
    rest = iter(args)
    size = 0
    parts: list[str] = []
    at = 0
    for match in _DIRECTIVE.finditer(template):
        parts.append(template[at : match.start()])
        at = match.end()
        word = match[2]
        if word is None:
            raise EvalError("could not parse formatting clause: missing format specifier")
        if word == "%":
            parts.append("%")
            continue
        try:
            value = next(rest)
        except StopIteration as exc:
            raise EvalError("index out of range: too few arguments for the format") from exc
        parts.append(_directive(word, match[1], value))
        size += len(parts[-1])
        if size > MAX_SIZE:
            raise EvalError(f"result of more than {MAX_SIZE} characters")
    parts.append(template[at:])
    return "".join(parts)


def _directive(word: str, precision: str | None, value: Any) -> str:
    digits = min(int(precision or 6), _MOST_DIGITS)
    match word:
        case "s":
            return shown(value)
        case "d":
            return _decimal(value)
        case "f" | "e":
            if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
                return value
            if not isinstance(value, float):
                break_type("%f" if word == "f" else "%e", value)
            if not math.isfinite(value):
                return _infinite(value)
            return f"{value:,.{digits}f}" if word == "f" else _scientific(value, digits)
        case "b":
            if isinstance(value, bool):
                return "1" if value else "0"
            if isinstance(value, int):
                return f"{value:b}"
            break_type("%b", value)
        case "x" | "X":
            return _hex(word, value)
        case "o":
            if isinstance(value, int) and not isinstance(value, bool):
                return f"{value:o}"
            break_type("%o", value)
    raise EvalError(f'could not parse formatting clause: unrecognized formatting clause "{word}"')


def break_type(directive: str, value: Any) -> None:
    """Refuse a value that a directive cannot show.

    Raises:
        EvalError: always.
    """
    raise EvalError(f"error during formatting: {directive} cannot be applied to {type_name(value)}")


def _decimal(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        break_type("%d", value)
    return str(int(value))


def _infinite(value: float) -> str:
    return double_text(value).replace("+Inf", "Infinity").replace("-Inf", "-Infinity")


def _scientific(value: float, digits: int) -> str:
    """``1.234500×10⁰³``: what Kubernetes shows in its fixed locale."""
    mantissa, _, power = f"{value:.{digits}e}".partition("e")
    return f"{mantissa}×10{power.lstrip('+').translate(_RAISED)}"


def _hex(word: str, value: Any) -> str:
    if isinstance(value, str):
        text = value.encode().hex()
    elif isinstance(value, bytes):
        text = value.hex()
    elif isinstance(value, int) and not isinstance(value, bool):
        text = f"{value:x}"
    else:
        break_type("%x", value)
        return ""
    return text.upper() if word == "X" else text


def shown(value: Any, *, is_inside: bool = False) -> str:
    """A value as ``%s`` shows it; texts inside of lists and maps stand in quotes."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6f}" if math.isfinite(value) else _infinite(value)
    if isinstance(value, str):
        return _quote(value) if is_inside else value
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, Timestamp):
        return timestamp_text(value)
    if isinstance(value, Duration):
        return duration_text(value)
    if isinstance(value, list):
        return f"[{', '.join(shown(item, is_inside=True) for item in value)}]"
    if isinstance(value, dict):
        entries = sorted((shown(k, is_inside=True), shown(v, is_inside=True)) for k, v in value.items())
        return "{" + ", ".join(f"{name}:{text}" for name, text in entries) + "}"
    if isinstance(value, TypeValue):
        return value.name
    raise EvalError(f"error during formatting: string clause cannot be applied to {type_name(value)}")
