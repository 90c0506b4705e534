"""Configuration files of KubeEdge as input: what becomes of each key. Pure; the tables are in their own modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from skerry.base.errors import ConfigError
from skerry.base.values import Struct, field

TAKEN = "taken"
JOINED = "by the join"
NEEDLESS = "not needed"
MISSING = "not supported"
UNKNOWN = "unknown"


class Rule(Struct, frozen=True):
    """What becomes of one key.

    Args:
        key: dotted path; ``.*`` at its end stands for everything below.
        default: KubeEdge's own; a file that says the same needs no word. None: every value is told.
        to: our setting as our file spells it.
        fact: what a join brings instead (``node``, ``hub``, …).
        why: why it is not needed; with ``lacks`` what is missing.
        lacks: there is nothing like it yet, and somebody may miss it.
        take: the value as our setting wants it; None leaves our default.
    """

    key: str
    default: Any = None
    to: str = ""
    fact: str = ""
    why: str = ""
    lacks: bool = False
    take: Callable[[Any], Any] = lambda value: value

    @property
    def fate(self) -> str:
        """One of the words above."""
        return TAKEN if self.to else JOINED if self.fact else MISSING if self.lacks else NEEDLESS


class Line(Struct, frozen=True):
    """What became of one key of a file."""

    key: str
    value: Any
    fate: str
    why: str

    def to_json(self) -> dict[str, Any]:
        """For ``-o json``."""
        return {"key": self.key, "value": self.value, "fate": self.fate, "why": self.why}


class Converted(Struct, frozen=True):
    """A file, converted.

    Args:
        settings: of our file, by its keys.
        facts: what a join brings.
        report: every key that differs from KubeEdge's default, or is not one of its keys.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    report: Sequence[Line] = ()


def convert(document: Mapping[str, Any], rules: Sequence[Rule], *, name: str) -> Converted:
    """Convert a parsed file.

    Args:
        name: of the file, for messages.

    Raises:
        ConfigError: a value that cannot be what its key says.
    """
    exact = {rule.key: rule for rule in rules if not rule.key.endswith(".*")}
    below = sorted((rule for rule in rules if rule.key.endswith(".*")), key=lambda rule: -len(rule.key))
    settings: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    report: list[Line] = []
    for key, value in _leaves(document, exact, "", depth=0):
        rule = exact.get(key) or next((rule for rule in below if key.startswith(rule.key[:-1])), None)
        if rule is None:
            report.append(Line(key, value, UNKNOWN, "not a key of KubeEdge v1.23"))
            continue
        if value == rule.default:
            continue
        if rule.to or rule.fact:
            _keep(settings if rule.to else facts, rule, value, name)
        report.append(Line(key, _shown(key, value), rule.fate, rule.why or _told(rule)))
    return Converted(settings, facts, report)


def _keep(into: dict[str, Any], rule: Rule, value: Any, name: str) -> None:
    try:
        taken = rule.take(value)
    except (TypeError, ValueError, AttributeError) as exc:
        raise ConfigError(f"{name}: {rule.key} is {value!r}: {exc}", hint="correct it, or remove the key") from exc
    if taken is not None:
        into[rule.to or rule.fact] = taken


def _leaves(value: Mapping[str, Any], exact: Mapping[str, Rule], path: str, *, depth: int) -> Iterator[tuple[str, Any]]:
    """Each key with its value; a mapping that is a value itself (labels) is not taken apart."""
    for name, inner in value.items():
        key = f"{path}.{name}" if path else str(name)
        if isinstance(inner, Mapping) and inner and key not in exact and depth < 8:
            yield from _leaves(inner, exact, key, depth=depth + 1)
        else:
            yield key, inner


def _told(rule: Rule) -> str:
    return f"is {rule.to}" if rule.to else f"`skerry join` brings the {rule.fact}"


def _shown(key: str, value: Any) -> Any:
    """Secrets are not repeated."""
    return "(hidden)" if key.endswith((".token", "Password")) and value else value
