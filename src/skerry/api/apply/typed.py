"""Walks over objects with their schema: which fields are there, what differs, merging, taking fields out.

One rule decides at every place what counts as one field: an object is walked unless its map type is ``atomic``, a list
is walked when its list type is ``map`` (items by their keys) or ``set`` (items by value); everything else is one leaf.
Where the schema is silent, objects are walked and lists are leaves.

Source: structured-merge-diff typed/{tofieldset,compare,merge,remove,helpers}.go (v6).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

from skerry.api.apply.fieldsets import SELF, FieldSet, path_text
from skerry.api.schema import Schema
from skerry.base import json
from skerry.base.values import Struct

_ABSENT: Any = object()
_KEY_DEFAULTS = {"protocol": "TCP"}
"""Defaults of list keys that Go code fills in and the definitions do not name."""

_EMBEDDED = frozenset(
    {"metadata", "spec", "status", "template", "jobTemplate", "strategy", "updateStrategy", "resources", "loadBalancer"}
)
"""Members of built-in kinds that are plain structs in Go: always there, so nobody owns the struct as such."""


class NotTyped(ValueError):
    """The object does not fit its schema: an item of a keyed list without keys, or two with the same."""


class Comparison(Struct, frozen=True):
    """What a new state changed: paths that are new or have another value, and paths that are gone."""

    changed: FieldSet
    removed: FieldSet


def check_keys(config: Any, schema: Schema | None, *, path: str = "") -> None:
    """See that every item of a walked list can be told from the others.

    Raises:
        NotTyped: names the list and the key.
    """
    if isinstance(config, dict):
        for name, value in config.items():
            check_keys(value, schema.member(name) if schema is not None else None, path=f"{path}.{name}")
    elif isinstance(config, list) and _is_walked_list(schema):
        assert schema is not None
        seen: set[str] = set()
        for item in config:
            try:
                part = _element(item, schema)
            except NotTyped as exc:
                raise NotTyped(f"{path}: {exc}") from None
            if part in seen:
                raise NotTyped(f"{path}: duplicate entries for key {path_text((part,))}")
            seen.add(part)
            check_keys(item, schema.items, path=f"{path}{path_text((part,))}")


def field_set(obj: Any, schema: Schema | None) -> FieldSet:
    """Every field that an object names. Items of lists that have no key are left out."""
    return _fields(obj, schema)


def compare(old: Any, new: Any, schema: Schema | None) -> Comparison:
    """What differs between two states of an object; lists with double items count as far as they can be told apart."""
    changed, removed = _compare(old, new, schema, "")
    return Comparison(changed or {}, removed or {})


def all_fields(obj: Any, schema: Schema | None) -> FieldSet:
    """Every field of a new object: what ``compare({}, obj, schema)`` calls changed, in one cheaper walk."""
    node = _added(obj, schema, "")
    return {part: child for part, child in node.items() if part != SELF}


def merge(live: Any, config: Any, schema: Schema | None) -> Any:
    """The live object with all that a checked configuration says; nothing is taken out. Parts may be shared."""
    if isinstance(live, dict) and isinstance(config, dict) and not _is_atomic_map(schema):
        merged = dict(live)
        for name, value in config.items():
            child = schema.member(name) if schema is not None else None
            merged[name] = merge(live[name], value, child) if name in live else value
        return merged
    if isinstance(live, list) and isinstance(config, list) and _is_walked_list(schema):
        assert schema is not None
        return _merge_lists(live, config, schema)
    return config


def without(obj: Any, fields: FieldSet, schema: Schema | None) -> Any:
    """The object without these fields; containers that become empty stay."""
    if isinstance(obj, dict) and not _is_atomic_map(schema):
        kept = {}
        for name, value in obj.items():
            node = fields.get(f"f:{name}")
            if node is None:
                kept[name] = value
            elif node and SELF not in node:
                kept[name] = without(value, node, schema.member(name) if schema is not None else None)
        return kept
    if isinstance(obj, list) and _is_walked_list(schema):
        assert schema is not None
        left = []
        for at, item in enumerate(obj):
            node = fields.get(_element_or_index(item, schema, at))
            if node is None:
                left.append(item)
            elif node and SELF not in node:
                left.append(without(item, node, schema.items))
        return left
    return obj


def _is_atomic_map(schema: Schema | None) -> bool:
    return schema is not None and schema.map_type == "atomic"


def _is_walked_list(schema: Schema | None) -> bool:
    return schema is not None and schema.list_type in ("map", "set")


def _is_walked(value: Any, schema: Schema | None) -> bool:
    if isinstance(value, dict):
        return not _is_atomic_map(schema)
    return isinstance(value, list) and _is_walked_list(schema)


def _element(item: Any, schema: Schema) -> str:
    """Path element of a list item.

    Raises:
        NotTyped: it has none of the keys, or is no value that a set may hold.
    """
    if schema.list_type == "set":
        if isinstance(item, dict | list) or item is None:
            raise NotTyped("an item of a set must be a string, a number or a boolean")
        return "v:" + json.dumps(item).decode()
    if not isinstance(item, dict):
        raise NotTyped("an item of a keyed list must be an object")
    keys = {}
    for name in schema.list_map_keys:
        value = item.get(name, _ABSENT)
        if value is _ABSENT:
            value = _key_default(name, schema.items)
        if value is not None:
            keys[name] = value
    if not keys:
        raise NotTyped(f"an item of a list has none of its keys {', '.join(schema.list_map_keys)}")
    return "k:" + json.dumps(keys, sort_keys=True).decode()


def _key_default(name: str, items: Schema | None) -> Any:
    known = items.properties.get(name) if items is not None else None
    if known is not None and known.has_default:
        return known.keywords["default"]
    return _KEY_DEFAULTS.get(name) if items is not None and items.definition else None


def _indexed(items: list[Any], schema: Schema) -> dict[str, list[Any]]:
    """Items by path element; those that have none are left out."""
    found: dict[str, list[Any]] = {}
    for item in items:
        try:
            found.setdefault(_element(item, schema), []).append(item)
        except NotTyped:
            continue
    return found


def _fields(value: Any, schema: Schema | None) -> FieldSet:
    """Children of a walked value's node; empty for a leaf."""
    found: FieldSet = {}
    if isinstance(value, dict) and not _is_atomic_map(schema):
        for name, child in value.items():
            is_named = schema is not None and name in schema.properties
            below = schema.member(name) if schema is not None else None
            node = _fields(child, below)
            if node:
                found[f"f:{name}"] = node if is_named else {SELF: {}, **node}
            elif not is_named or not _is_walked(child, below) or child == {}:
                found[f"f:{name}"] = {}
    elif isinstance(value, list) and _is_walked_list(schema):
        assert schema is not None
        seen: set[str] = set()
        for at, item in enumerate(value):
            part = _element_or_index(item, schema, at)
            if part.startswith("i:"):
                continue
            below_item = {} if part in seen else _fields(item, schema.items)
            seen.add(part)
            found[part] = {SELF: {}, **below_item} if below_item else {}
    return found


_Node = FieldSet | None
_LEAF: FieldSet = {}


def _added(value: Any, schema: Schema | None, name: str) -> FieldSet:
    """Node of a value that was not there before; never None, for such a value is always a change."""
    if not value or not _is_walked(value, schema):
        return _LEAF
    node: FieldSet = {}
    if isinstance(value, dict):
        properties = schema.properties if schema is not None else {}
        additional = schema.additional if schema is not None else None
        for key, child in value.items():
            kind = type(child)
            is_leaf = kind is not dict and kind is not list
            node[f"f:{key}"] = _LEAF if is_leaf else _added(child, properties.get(key) or additional, key)
    else:
        assert schema is not None
        for part, items in _indexed(value, schema).items():
            node[part] = _added(items[0], schema.items, "") if len(items) == 1 else _LEAF
    if not node:
        return _LEAF
    if not (schema is not None and bool(schema.definition) and name in _EMBEDDED):
        node[SELF] = {}
    return node


def _compare(old: Any, new: Any, schema: Schema | None, name: str) -> tuple[_Node, _Node]:
    """Nodes of what is changed and what is removed at one place; None for nothing."""
    if old is not _ABSENT and new is not _ABSENT and old == new:
        return None, None
    walks_old = old is not _ABSENT and bool(old) and _is_walked(old, schema)
    walks_new = new is not _ABSENT and bool(new) and _is_walked(new, schema)
    is_list = isinstance(old if walks_old else new, list)
    if walks_old and walks_new and isinstance(old, list) != isinstance(new, list):
        return _compare(_ABSENT, new, schema, name)[0], _compare(old, _ABSENT, schema, name)[1]
    if not walks_old and not walks_new:
        return (None, {}) if new is _ABSENT else ({}, None)
    changed: FieldSet = {}
    removed: FieldSet = {}
    pairs = _list_pairs if is_list else _map_pairs
    for part, before, after, below in pairs(old if walks_old else None, new if walks_new else None, schema):
        child_changed, child_removed = _compare(before, after, below, part[2:])
        if child_changed is not None:
            changed[part] = child_changed
        if child_removed is not None:
            removed[part] = child_removed
    is_struct = schema is not None and bool(schema.definition) and name in _EMBEDDED
    if (old is _ABSENT and not is_struct) or (not walks_new and new is not _ABSENT and new not in ({}, [])):
        changed[SELF] = {}
    if new is _ABSENT and not is_struct:
        removed[SELF] = {}
    return _tidy(changed), _tidy(removed)


def _tidy(node: FieldSet) -> _Node:
    if not node:
        return None
    return {} if len(node) == 1 and SELF in node else node


_Pair = tuple[str, Any, Any, Schema | None]


def _map_pairs(old: dict[str, Any] | None, new: dict[str, Any] | None, schema: Schema | None) -> Iterator[_Pair]:
    old, new = old or {}, new or {}
    for name, before in old.items():
        yield f"f:{name}", before, new.get(name, _ABSENT), schema.member(name) if schema is not None else None
    for name, after in new.items():
        if name not in old:
            yield f"f:{name}", _ABSENT, after, schema.member(name) if schema is not None else None


def _list_pairs(old: list[Any] | None, new: list[Any] | None, schema: Schema | None) -> Iterator[_Pair]:
    assert schema is not None
    before, after = _indexed(old or [], schema), _indexed(new or [], schema)
    for part in (*before, *(part for part in after if part not in before)):
        was, now = before.get(part), after.get(part)
        if was is not None and now is not None and (len(was) > 1 or len(now) > 1):
            yield part, was, now, None  # double items count as one leaf
            continue
        yield part, was[0] if was else _ABSENT, now[0] if now else _ABSENT, schema.items


def _merge_lists(live: list[Any], config: list[Any], schema: Schema) -> list[Any]:
    """Items of both: those of the configuration in its order, the others where they stood between them.

    Source: structured-merge-diff typed/merge.go:visitListItems (v6).
    """
    wanted = {_element(item, schema): item for item in config}
    there = [(_element_or_index(item, schema, at), item) for at, item in enumerate(live)]
    counts = Counter(part for part, _ in there)
    bases = {part: item for part, item in there if counts[part] == 1}
    order = list(wanted)
    shared = deque(part for part in order if part in counts)
    merged: list[Any] = []
    done: set[str] = set()
    left = right = 0
    while left < len(there) or right < len(order):
        if left < len(there):
            part, item = there[left]
            if part not in wanted:
                merged.append(item)
                left += 1
                continue
            if right < len(order) and part != order[right] and shared and shared[0] != part:
                left += 1  # its turn comes later
                continue
            if part in done or (right < len(order) and part == order[right]):
                left += 1
        if right < len(order):
            part = order[right]
            merged.append(merge(bases[part], wanted[part], schema.items) if part in bases else wanted[part])
            done.add(part)
            if shared and shared[0] == part:
                shared.popleft()
            right += 1
    return merged


def _element_or_index(item: Any, schema: Schema, at: int) -> str:
    try:
        return _element(item, schema)
    except NotTyped:
        return f"i:{at}"
