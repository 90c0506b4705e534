"""Quantities and semantic versions.

Source: kubernetes apiserver/pkg/cel/library/{quantity,semverlib}.go (v1.36).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

from skerry.api.quantity import Quantity, is_quantity, parse_quantity
from skerry.cel.errors import EvalError
from skerry.cel.functions import Functions
from skerry.cel.values import INT_MAX, INT_MIN

_NANO = 10**9
_POWERS = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_Q, _V = "kubernetes.Quantity", "kubernetes.Semver"
_VERSION = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?\Z",
    re.ASCII,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CelQuantity:
    """A quantity as a value of expressions.

    Args:
        is_whole: whether it was written without a fraction: ``1000m`` and ``1.0`` are no integers to Kubernetes.
    """

    cel_type: ClassVar[str] = _Q
    nano: int
    is_whole: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True)
class Semver:
    """A semantic version."""

    cel_type: ClassVar[str] = _V
    numbers: tuple[int, int, int]
    pre: tuple[str, ...] = ()
    build: tuple[str, ...] = ()

    def key(self) -> tuple[Any, ...]:
        """The order of versions: a pre-release comes before its release, numbers before words."""
        parts = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in self.pre)
        return (self.numbers, not self.pre, parts)


def add_quantities(table: Functions) -> None:
    """Put the functions on quantities into the table."""
    table.function("quantity", "string", _Q, _read)
    table.function("isQuantity", "string", "bool", is_quantity)
    table.method("sign", _Q, "int", lambda q: (q.nano > 0) - (q.nano < 0))
    table.method("isInteger", _Q, "bool", _is_integer)
    table.method("asInteger", _Q, "int", _as_integer)
    table.method("asApproximateFloat", _Q, "double", lambda q: q.nano / _NANO)
    table.method("add", f"{_Q}, {_Q}", _Q, lambda a, b: CelQuantity(a.nano + b.nano, a.is_whole and b.is_whole))
    table.method("add", f"{_Q}, int", _Q, lambda a, b: CelQuantity(a.nano + b * _NANO, a.is_whole))
    table.method("sub", f"{_Q}, {_Q}", _Q, lambda a, b: CelQuantity(a.nano - b.nano, a.is_whole and b.is_whole))
    table.method("sub", f"{_Q}, int", _Q, lambda a, b: CelQuantity(a.nano - b * _NANO, a.is_whole))
    table.method("isLessThan", f"{_Q}, {_Q}", "bool", lambda a, b: a.nano < b.nano)
    table.method("isGreaterThan", f"{_Q}, {_Q}", "bool", lambda a, b: a.nano > b.nano)
    table.method("compareTo", f"{_Q}, {_Q}", "int", lambda a, b: (a.nano > b.nano) - (a.nano < b.nano))


def add_versions(table: Functions) -> None:
    """Put the functions on semantic versions into the table."""
    table.function("semver", "string", _V, lambda text: _version(text, is_loose=False))
    table.function("semver", "string, bool", _V, lambda text, loose: _version(text, is_loose=loose))
    table.function("isSemver", "string", "bool", lambda text: _is_version(text, is_loose=False))
    table.function("isSemver", "string, bool", "bool", lambda text, loose: _is_version(text, is_loose=loose))
    for place, name in enumerate(("major", "minor", "patch")):
        table.method(name, _V, "int", lambda version, place=place: version.numbers[place])
    table.method("isLessThan", f"{_V}, {_V}", "bool", lambda a, b: a.key() < b.key())
    table.method("isGreaterThan", f"{_V}, {_V}", "bool", lambda a, b: a.key() > b.key())
    table.method("compareTo", f"{_V}, {_V}", "int", lambda a, b: (a.key() > b.key()) - (a.key() < b.key()))


def _read(text: str) -> CelQuantity:
    try:
        quantity = parse_quantity(text)
        return CelQuantity(quantity.nano, _is_written_whole(text, quantity.form))
    except ValueError as exc:
        raise EvalError(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        ) from exc


def _is_written_whole(text: str, form: str) -> bool:
    """Whether the digits after the point, and the suffix, leave no fraction in the way the number is kept."""
    if form == "binary":
        return "." not in text
    number, power = text, 0
    if text[-1] in _POWERS:
        number, power = text[:-1], _POWERS[text[-1]]
    elif "e" in text or "E" in text:
        number, _, exponent = text.replace("E", "e").partition("e")
        power = int(exponent)
    return power >= len(number.partition(".")[2])


def _is_integer(quantity: CelQuantity) -> bool:
    nano = quantity.nano
    return quantity.is_whole and nano % _NANO == 0 and INT_MIN <= nano // _NANO <= INT_MAX


def _as_integer(quantity: CelQuantity) -> int:
    if not _is_integer(quantity):
        raise EvalError(f"cannot convert value to integer: {Quantity(quantity.nano)}")
    return quantity.nano // _NANO


def _loosened(text: str) -> str:
    text = text.strip().removeprefix("v")
    numbers, mark, rest = re.match(r"([0-9.]*)([-+]?)(.*)\Z", text, re.DOTALL).groups()  # type: ignore[union-attr]
    parts = [part.lstrip("0") or "0" for part in numbers.split(".")] if numbers else []
    parts += ["0"] * (3 - len(parts))
    return ".".join(parts) + mark + rest


def _is_version(text: str, *, is_loose: bool) -> bool:
    try:
        _version(text, is_loose=is_loose)
    except EvalError:
        return False
    return True


def _version(text: str, *, is_loose: bool) -> Semver:
    match = _VERSION.match(_loosened(text) if is_loose else text)
    if match is None or len(text) > 256:
        raise EvalError(f"{text!r} is not a semantic version")
    pre = tuple((match[4] or "").split(".")) if match[4] else ()
    if any(part.isdigit() and len(part) > 1 and part[0] == "0" for part in pre):
        raise EvalError(f"numeric PreRelease version must not contain leading zeroes {text!r}")
    numbers = (int(match[1]), int(match[2]), int(match[3]))
    return Semver(numbers, pre, tuple(match[5].split(".")) if match[5] else ())
