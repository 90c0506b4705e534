"""Results on stdout, progress on stderr, errors in words."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from skerry.base import json


def emit(value: Any, *, as_json: bool, text: str) -> None:
    """Print one result: as one JSON line, or as text."""
    print(json.dumps(value).decode() if as_json else text, flush=True)


def write(text: str) -> None:
    """Text on stdout as it is, at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def progress(text: str) -> None:
    """One step of long work, on stderr."""
    print(text, file=sys.stderr, flush=True)


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns padded as kubectl pads them; ``None`` and empty cells become ``<none>``."""
    cells = [[str(h) for h in headers]] + [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def age(seconds: float) -> str:
    """A duration as kubectl shows it: ``45s``, ``3m20s``, ``5h``."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 10:
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours = minutes // 60
    return f"{hours}h" if hours < 48 else f"{hours // 24}d"


def fail(message: str, hint: str = "") -> None:
    """One error for a person: what is wrong, and what to do."""
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"  what to do: {hint}", file=sys.stderr)


def _cell(value: Any) -> str:
    return "<none>" if value is None or value == "" else str(value)
