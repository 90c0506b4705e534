"""How defaults are filled: Go clients always send empty structs, so ``null``, ``""`` and ``{}`` count as missing."""

from __future__ import annotations

from typing import Any


def fill(obj: dict[str, Any], name: str, value: Any) -> None:
    """Set a member that is missing, ``null``, ``""`` or ``{}``. ``0`` and ``false`` stay."""
    if obj.get(name) in (None, "", {}):
        obj[name] = value


def fill_number(obj: dict[str, Any], name: str, value: int) -> None:
    """Set a number whose Go field is no pointer, so that ``0`` means missing too."""
    if not obj.get(name):
        obj[name] = value


def part(obj: dict[str, Any], name: str) -> dict[str, Any]:
    """A member object, created when it is missing or ``null``."""
    value = obj.get(name)
    if not isinstance(value, dict):
        value = obj[name] = {}
    return value


def rows(obj: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects of a member list; nothing is changed."""
    return [item for item in obj.get(name) or [] if isinstance(item, dict)]
