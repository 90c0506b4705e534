"""Sets of field paths in the form that ``managedFields`` carries: FieldsV1 trees.

A tree is nested dicts. Its keys are path elements: ``f:<name>`` a member of an object, ``k:<JSON of the keys>`` an
item of a list of objects, ``v:<JSON>`` an item of a set, ``i:<n>`` an index. A node with no children, or with a child
``.``, is itself in the set; any other node is only on the way to one. The root is never a member. All functions give
new trees and leave their arguments as they are.

Source: structured-merge-diff fieldpath/{set,serialize,element}.go (v6).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from skerry.api.schema import Schema
from skerry.base import json

FieldSet = dict[str, Any]
SELF = "."


def field(name: str) -> str:
    """Path element of an object's member."""
    return f"f:{name}"


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    """Paths that are in one of both."""
    return _children_union(left, right)


def difference(left: FieldSet, right: FieldSet) -> FieldSet:
    """Paths of ``left`` that are not in ``right``."""
    return _children_difference(left, right)


def intersection(left: FieldSet, right: FieldSet) -> FieldSet:
    """Paths that are in both."""
    found = {}
    for part, node in left.items():
        other = right.get(part)
        if part == SELF or other is None:
            continue
        common = _node(_is_in(node) and _is_in(other), intersection(node, other))
        if common is not None:
            found[part] = common
    return found


def with_containers(tree: FieldSet, schema: Schema | None) -> FieldSet:
    """The set, and the members of fixed objects that its paths lead through."""
    found = {}
    for part, node in tree.items():
        if part == SELF:
            continue
        is_named = part.startswith("f:") and schema is not None and part[2:] in schema.properties
        below = with_containers(node, below_schema(schema, part))
        kept = _node(_is_in(node) or is_named, below)
        if kept is not None:
            found[part] = kept
    return found


def below_schema(schema: Schema | None, part: str) -> Schema | None:
    """What is known of the place behind a path element."""
    if schema is None:
        return None
    return schema.member(part[2:]) if part.startswith("f:") else schema.items


def paths(tree: FieldSet) -> Iterator[tuple[str, ...]]:
    """Every path in the set, sorted."""
    for part in sorted(tree):
        if part == SELF:
            continue
        node = tree[part]
        if _is_in(node):
            yield (part,)
        for rest in paths(node):
            yield (part, *rest)


def has(tree: FieldSet, path: tuple[str, ...]) -> bool:
    """Whether one path is in the set."""
    for part in path:
        found = tree.get(part)
        if found is None:
            return False
        tree = found
    return _is_in(tree)


def path_text(path: tuple[str, ...]) -> str:
    """A path for people: ``.spec.containers[name="web"].image``."""
    return "".join(_part_text(part) for part in path)


def _part_text(part: str) -> str:
    mark, text = part[:2], part[2:]
    if mark == "f:":
        return f".{text}"
    if mark == "v:":
        return f"[={text}]"
    if mark == "i:":
        return f"[{text}]"
    keys = json.loads(text)
    return "[" + ",".join(f"{name}={json.dumps(keys[name]).decode()}" for name in sorted(keys)) + "]"


def is_well_formed(tree: Any, *, depth: int = 0) -> bool:
    """Whether a decoded FieldsV1 document is one of these trees."""
    if not isinstance(tree, dict) or depth > 200:
        return False
    return all(
        (part == SELF and node == {}) or (_is_part(part) and is_well_formed(node, depth=depth + 1))
        for part, node in tree.items()
    )


def _is_part(part: str) -> bool:
    mark, text = part[:2], part[2:]
    if mark == "f:":
        return True
    if mark == "i:":
        return text.isascii() and text.isdigit()
    if mark not in ("k:", "v:"):
        return False
    try:
        value = json.loads(text)
    except json.JsonError:
        return False
    return isinstance(value, dict) if mark == "k:" else True


def _is_in(node: FieldSet) -> bool:
    return not node or SELF in node


def _node(is_in: bool, children: FieldSet) -> FieldSet | None:
    """A node in its one form; None when nothing is left of it."""
    if not children:
        return {} if is_in else None
    return {SELF: {}, **children} if is_in else children


def _children_union(left: FieldSet, right: FieldSet) -> FieldSet:
    found = {}
    for part, node in left.items():
        if part == SELF:
            continue
        other = right.get(part)
        if other is None or other is node:
            found[part] = node
            continue
        is_in = _is_in(node) or _is_in(other)
        found[part] = _node(is_in, _children_union(node, other)) or {}
    for part, node in right.items():
        if part != SELF and part not in left:
            found[part] = node
    return found


def _children_difference(left: FieldSet, right: FieldSet) -> FieldSet:
    found = {}
    for part, node in left.items():
        if part == SELF:
            continue
        other = right.get(part)
        if other is None:
            found[part] = node
            continue
        kept = _node(_is_in(node) and not _is_in(other), _children_difference(node, other))
        if kept is not None:
            found[part] = kept
    return found
