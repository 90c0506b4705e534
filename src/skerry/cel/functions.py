"""The table of functions: what the libraries put in, the checker types and the evaluator calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from skerry.cel.types import Type, fits, parse_type

MAX_SIZE = 4 * 1024 * 1024
"""Characters or items that one function may produce."""


@dataclass(frozen=True, slots=True)
class Overload:
    """One signature of a function. The receiver of a method is its first argument."""

    args: tuple[Type, ...]
    result: Type
    call: Callable[..., Any]

    def takes(self, values: tuple[Any, ...]) -> bool:
        """Whether these values fit at run time."""
        return len(values) == len(self.args) and all(map(fits, values, self.args))


@dataclass(slots=True)
class Functions:
    """Functions and methods by name. Read-only once built."""

    functions: dict[str, list[Overload]] = field(default_factory=dict)
    methods: dict[str, list[Overload]] = field(default_factory=dict)

    def function(self, name: str, args: str, result: str, call: Callable[..., Any]) -> None:
        """Add ``name(args)``."""
        self.functions.setdefault(name, []).append(_overload(args, result, call))

    def method(self, name: str, args: str, result: str, call: Callable[..., Any]) -> None:
        """Add ``first.name(rest)``."""
        self.methods.setdefault(name, []).append(_overload(args, result, call))

    def both(self, name: str, args: str, result: str, call: Callable[..., Any]) -> None:
        """Add a function that is a method too."""
        self.function(name, args, result, call)
        self.method(name, args, result, call)


def _overload(args: str, result: str, call: Callable[..., Any]) -> Overload:
    return Overload(tuple(parse_type(arg) for arg in _split(args)), parse_type(result), call)


def _split(args: str) -> Iterator[str]:
    """Arguments at the commas that are outside of angle brackets."""
    depth, start = 0, 0
    for index, char in enumerate(args):
        depth += {"<": 1, ">": -1}.get(char, 0)
        if char == "," and depth == 0:
            yield args[start:index].strip()
            start = index + 1
    if args.strip():
        yield args[start:].strip()
