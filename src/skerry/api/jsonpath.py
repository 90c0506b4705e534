"""The subset of JSONPath that printer columns and ``selectableFields`` use: members, indices, ``[*]``, filters.

Source: client-go util/jsonpath (v1.36).
"""

from __future__ import annotations

import re
from typing import Any

from skerry.base.values import Struct

_STEP = re.compile(
    r"""\.(?P<member>(?:\\.|[^.\[\\])+)"""
    r"""|\[(?:(?P<index>-?\d+)|(?P<star>\*)|(?P<quote>['"])(?P<quoted>.*?)(?P=quote)|\?\((?P<filter>.*?)\))\]"""
)
_FILTER = re.compile(r"""@\.(?P<path>[\w./\\-]+)\s*(?P<op>==|!=)\s*(?P<quote>["']?)(?P<value>.*?)(?P=quote)\s*\Z""")


class _Filter(Struct, frozen=True):
    path: tuple[str, ...]
    is_equal: bool
    value: str

    def holds(self, item: Any) -> bool:
        for name in self.path:
            item = item.get(name) if isinstance(item, dict) else None
        text = {True: "true", False: "false"}.get(item, str(item)) if isinstance(item, bool) else str(item)
        return item is not None and (text == self.value) is self.is_equal


Step = str | int | None | _Filter
"""A member, an index, None for ``*``, or a filter."""


def parse_path(text: str) -> tuple[Step, ...]:
    """Read ``.status.conditions[?(@.type=="Ready")].status``; braces around it are allowed.

    Raises:
        ValueError: something that this subset does not know.
    """
    text = text.strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    text = text.removeprefix("$")
    steps: list[Step] = []
    at = 0
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            raise ValueError(f"{text!r} is no path that can be read; use members, indices and [?(@.a=='b')]")
        steps.append(_step(found))
        at = found.end()
    return tuple(steps)


def find_values(path: tuple[Step, ...], obj: Any) -> list[Any]:
    """Every value that the path leads to; missing members lead nowhere."""
    found = [obj]
    for step in path:
        found = [value for item in found for value in _follow(item, step)]
    return found


def _step(found: re.Match[str]) -> Step:
    if found["member"] is not None:
        member = re.sub(r"\\(.)", r"\1", found["member"])
        return None if member == "*" else member
    if found["index"] is not None:
        return int(found["index"])
    if found["quoted"] is not None:
        return found["quoted"]
    if found["filter"] is None:
        return None
    condition = _FILTER.match(found["filter"].strip())
    if condition is None:
        raise ValueError(f"{found['filter']!r} is no filter that can be read; use @.a=='b'")
    return _Filter(tuple(condition["path"].split(".")), condition["op"] == "==", condition["value"])


def _follow(item: Any, step: Step) -> list[Any]:
    if isinstance(step, str):
        return [item[step]] if isinstance(item, dict) and step in item else []
    if isinstance(step, int):
        return [item[step]] if isinstance(item, list) and -len(item) <= step < len(item) else []
    children = list(item.values()) if isinstance(item, dict) else item if isinstance(item, list) else []
    return [child for child in children if step is None or step.holds(child)]
