"""Resource quantities: ``100m``, ``1.5Gi``, ``1e3``; read, compare, add, write in canonical form.

A quantity is a whole number of nano units, so arithmetic is exact; finer parts are rounded up, as Kubernetes does.

Source: apimachinery pkg/api/resource/quantity.go (v1.36).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from skerry.base.values import Struct

_TEXT = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?\d+)?\Z", re.ASCII)
_BINARY = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50, "Ei": 1 << 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_NANO = 10**9
_LIMIT = ((1 << 63) - 1) * _NANO
_DIGITS_LIMIT = 64


class Quantity(Struct, frozen=True):
    """An exact amount.

    Args:
        nano: amount in 1e-9 units.
        form: how it is written: ``binary`` (Ki), ``decimal`` (k) or ``exponent`` (e3).
    """

    nano: int
    form: str = "decimal"

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.nano + other.nano, self.form if self.nano else other.form)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(self.nano - other.nano, self.form if self.nano else other.form)

    def __lt__(self, other: Quantity) -> bool:
        return self.nano < other.nano

    def __le__(self, other: Quantity) -> bool:
        return self.nano <= other.nano

    @property
    def value(self) -> int:
        """Whole units, rounded up (bytes, counts)."""
        return -(-self.nano // _NANO)

    @property
    def milli(self) -> int:
        """Thousandths, rounded up (CPU)."""
        return -(-self.nano // 10**6)

    def __str__(self) -> str:
        if self.nano == 0:
            return "0"
        if self.form == "binary" and abs(self.nano) >= 1024 * _NANO and self.nano % _NANO == 0:
            return _binary_text(self.nano // _NANO)
        return _decimal_text(self.nano, with_exponent=self.form == "exponent")


def parse_quantity(text: str | int | float) -> Quantity:
    """Read a quantity as it stands in JSON, a string or a number.

    Raises:
        ValueError: not a quantity.
    """
    found = _TEXT.match(str(text)) if not isinstance(text, bool) else None
    if found is None or len(found[2]) > _DIGITS_LIMIT:
        raise ValueError(f"{text!r} is not a quantity; write a number with a suffix such as 100m, 1.5Gi or 2k")
    sign, digits, suffix = found[1], found[2], found[3] or ""
    whole, _, part = digits.partition(".")
    mantissa, exponent = int((whole + part) or "0"), -len(part)
    form, factor = "decimal", 1
    if suffix in _BINARY:
        form, factor = "binary", _BINARY[suffix]
    elif suffix[:1] in ("e", "E") and suffix != "E":
        form = "exponent"
        exponent += max(-99, min(99, int(suffix[1:])))
    else:
        exponent += _DECIMAL[suffix]
    nano = min(_scaled(mantissa * factor, exponent + 9), _LIMIT)
    return Quantity(-nano if sign == "-" else nano, form)


def is_quantity(text: str) -> bool:
    """Whether a text is a quantity."""
    return _TEXT.match(text) is not None


def milli_cpu(text: str | int | float | None) -> int:
    """CPU request or limit in thousandths of a core; nothing given is 0."""
    return parse_quantity(text).milli if text is not None else 0


def whole_units(text: str | int | float | None) -> int:
    """Bytes or a count; nothing given is 0."""
    return parse_quantity(text).value if text is not None else 0


def canonical(text: str | int | float) -> str:
    """The form in which Kubernetes writes a quantity back."""
    return str(parse_quantity(text))


def add_resources(left: Mapping[str, Quantity], right: Mapping[str, Quantity]) -> dict[str, Quantity]:
    """Sum of two resource lists, name by name."""
    total = dict(left)
    for name, amount in right.items():
        total[name] = total[name] + amount if name in total else amount
    return total


def _scaled(mantissa: int, exponent: int) -> int:
    """``mantissa * 10**exponent``, rounded up."""
    return mantissa * int(10**exponent) if exponent >= 0 else -(-mantissa // int(10**-exponent))


def _binary_text(value: int) -> str:
    suffix = ""
    for name, factor in _BINARY.items():
        if value % factor:
            break
        suffix = name
    return f"{value // _BINARY[suffix] if suffix else value}{suffix}"


def _decimal_text(nano: int, *, with_exponent: bool) -> str:
    exponent = -9
    while exponent < 18 and nano % 1000 == 0:
        nano //= 1000
        exponent += 3
    if with_exponent and exponent:
        return f"{nano}e{exponent}"
    return f"{nano}{_SUFFIX[exponent]}"
