"""The three patches: JSON Patch (RFC 6902), JSON Merge Patch (RFC 7386), strategic merge patch.

All take decoded JSON and give a new value; arguments are never changed. Not here: server-side apply (`apply`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Any

from skerry.api.schema import Schema
from skerry.api.status import BadRequest, Invalid, TooLargeBody
from skerry.base.json import deep_copy, dumps

JSON_PATCH_LIMIT = 10_000
MOST_OF_ONE_KEY = 16
"""How often one list of a strategic patch may name the same item: each time costs a walk through all inside it."""

_REJECTED = "the server rejected our request due to an error in our request"
_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"


def json_patch(obj: Any, operations: Any) -> Any:
    """Apply RFC 6902 operations; ``replace`` of a missing member adds it.

    Raises:
        BadRequest: not a list of operations.
        TooLargeBody: more than 10 000 operations.
        Invalid: an operation cannot be applied, or a ``test`` fails.
    """
    if not isinstance(operations, list) or not all(isinstance(item, dict) for item in operations):
        raise BadRequest("error decoding patch: json: cannot unmarshal into Go value of type jsonpatch.Patch")
    if len(operations) > JSON_PATCH_LIMIT:
        raise TooLargeBody(
            f"The allowed maximum operations in a JSON patch is {JSON_PATCH_LIMIT}, got {len(operations)}"
        )
    root = {"": deep_copy(obj)}
    for operation in operations:
        try:
            _operate(root, operation)
        except (KeyError, IndexError, ValueError, TypeError) as exc:
            raise Invalid(_REJECTED, details={}, hint=f"{operation.get('op')} {operation.get('path')}") from exc
    return root[""]


def merge_patch(obj: Any, patch: Any) -> Any:
    """Apply an RFC 7386 patch: objects merge, ``null`` removes, everything else replaces."""
    return _merged(deep_copy(obj), patch)


def strategic_merge_patch(obj: dict[str, Any], patch: dict[str, Any], schema: Schema) -> dict[str, Any]:
    """Apply a strategic merge patch.

    Args:
        obj: the object as stored.
        patch: with the directives ``$patch``, ``$retainKeys``, ``$setElementOrder/<list>``,
            ``$deleteFromPrimitiveList/<list>``.
        schema: of the kind; it says which lists merge and by which key.

    Raises:
        BadRequest: the patch is malformed.

    Source: apimachinery pkg/util/strategicpatch/patch.go (v1.36).
    """
    if not isinstance(patch, dict):
        raise BadRequest("unable to unmarshal the patch: it must be a JSON object")
    return _merge_map(deep_copy(obj), deep_copy(patch), schema)


def json_equal(left: Any, right: Any) -> bool:
    """Whether two JSON values are equal; unlike ``==`` it tells ``true`` from ``1``."""
    return left == right and dumps(left, sort_keys=True) == dumps(right, sort_keys=True)


def _operate(root: dict[str, Any], operation: dict[str, Any]) -> None:
    name, path = operation["op"], operation["path"]
    if not isinstance(path, str) or not isinstance(operation.get("from", ""), str):
        raise TypeError("a pointer is a text")
    if name == "add":
        _add(root, path, deep_copy(operation["value"]))
    elif name == "replace":
        _replace(root, path, deep_copy(operation["value"]))
    elif name == "remove":
        _take(root, path)
    elif name == "test":
        _test(root, path, operation.get("value"))
    elif name == "move":
        if path.startswith(operation["from"] + "/"):
            raise ValueError("a value cannot be moved into itself")
        _add(root, path, _take(root, operation["from"]))
    elif name == "copy":
        parent, key = _locate(root, operation["from"])
        _add(root, path, deep_copy(parent[_existing(parent, key)]))
    else:
        raise ValueError("unknown operation")


def _locate(root: dict[str, Any], path: str) -> tuple[Any, str]:
    """The container that holds the last part of a pointer, and that part."""
    if path and not path.startswith("/"):
        raise ValueError("a pointer starts with /")
    parts = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")]
    holder: Any = root
    for part in parts[:-1]:
        holder = holder[_existing(holder, part)]
    return holder, parts[-1]


def _existing(holder: Any, part: str) -> Any:
    if isinstance(holder, list):
        index = _index(part)
        index += len(holder) if index < 0 else 0
        if not 0 <= index < len(holder):
            raise IndexError(part)
        return index
    if not isinstance(holder, dict) or part not in holder:
        raise KeyError(part)
    return part


def _index(part: str) -> int:
    digits = part[1:] if part.startswith("-") else part
    if not (digits.isascii() and digits.isdigit()) or (len(digits) > 1 and digits[0] == "0"):
        raise ValueError("not an array index")
    return int(part)


def _add(root: dict[str, Any], path: str, value: Any) -> None:
    holder, part = _locate(root, path)
    if isinstance(holder, dict):
        holder[part] = value
        return
    if not isinstance(holder, list):
        raise TypeError("neither object nor array")
    index = len(holder) if part == "-" else _index(part)
    index += len(holder) + 1 if index < 0 else 0
    if not 0 <= index <= len(holder):
        raise IndexError(part)
    holder.insert(index, value)


def _replace(root: dict[str, Any], path: str, value: Any) -> None:
    holder, part = _locate(root, path)
    if isinstance(holder, dict):
        holder[part] = value
    else:
        holder[_existing(holder, part)] = value


def _take(root: dict[str, Any], path: str) -> Any:
    holder, part = _locate(root, path)
    return holder.pop(_existing(holder, part))


def _test(root: dict[str, Any], path: str, value: Any) -> None:
    holder, part = _locate(root, path)
    if isinstance(holder, dict) and part not in holder and value is None:
        return
    if not json_equal(holder[_existing(holder, part)], value):
        raise ValueError("test failed")


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return deep_copy(patch)
    result = target if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _merge_map(original: dict[str, Any], patch: dict[str, Any], schema: Schema | None) -> dict[str, Any]:
    if _DIRECTIVE in patch:
        directive = patch.pop(_DIRECTIVE)
        if directive == "replace":
            return dict(_plain(patch))
        if directive == "delete":
            return {}
        if directive != "merge":
            raise BadRequest(f"unknown patch type: {directive} in map: {dumps(patch).decode()}")
    _retain(original, patch)
    _merge_ordered_lists(original, patch, schema)
    for key in sorted(patch):
        if key.startswith(_DELETE):
            name = key.removeprefix(_DELETE)
            original[name] = _without(original.get(name), patch[key]) if name in original else None
            if original[name] is None:
                del original[name]
        else:
            _merge_member(original, key, patch[key], schema)
    return original


def _merge_member(original: dict[str, Any], key: str, value: Any, schema: Schema | None) -> None:
    if value is None:
        original.pop(key, None)
        return
    have = original.get(key)
    child = schema.member(key) if schema else None
    if isinstance(have, dict) and isinstance(value, dict):
        is_replaced = child is not None and "replace" in child.merge_strategy
        original[key] = _plain(value) if is_replaced else _merge_map(have, value, child)
    elif isinstance(have, list) and isinstance(value, list):
        original[key] = _merge_list(have, value, child)
    else:
        kept = _plain(value)
        if kept is not None:
            original[key] = kept


def _retain(original: dict[str, Any], patch: dict[str, Any]) -> None:
    """Drop the original's members that ``$retainKeys`` does not name."""
    if _RETAIN not in patch:
        return
    keys = patch.pop(_RETAIN)
    if not isinstance(keys, list):
        raise BadRequest("invalid patch format of retainKeys")
    kept = {key for key in keys if isinstance(key, str)}
    for key, value in patch.items():
        if value is not None and not _is_directive(key) and key not in kept:
            raise BadRequest("invalid patch format of retainKeys")
    for key in [key for key in original if key not in kept]:
        del original[key]


def _merge_ordered_lists(original: dict[str, Any], patch: dict[str, Any], schema: Schema | None) -> None:
    """Merge the lists for which the patch gives an element order, and take both out of the patch."""
    for directive in [key for key in patch if key.startswith(_ORDER)]:
        name, order = directive.removeprefix(_ORDER), patch.pop(directive)
        if not isinstance(order, list):
            raise BadRequest("invalid patch format of setElementOrder list")
        have, change = original.get(name), patch.pop(name, None)
        if have is None and change is None:
            continue
        child = schema.member(name) if schema else None
        key = _merge_key(child)
        _check_order(change or [], order, key)
        merged = _plain(change) if have is None else have if change is None else _merge_list(have, change, child)
        original[name] = _ordered(merged, order, have or [], key)


def _check_order(change: list[Any], order: list[Any], key: str) -> None:
    """Every item of the patch must stand in the order list, in the same sequence."""
    position = 0
    for item in change:
        if isinstance(item, dict) and item.get(_DIRECTIVE) in ("delete", "replace"):
            continue
        while position < len(order) and not _same(order[position], item, key):
            position += 1
        if position == len(order):
            raise BadRequest("The order in patch list doesn't match the $setElementOrder list")


def _merge_key(schema: Schema | None) -> str:
    return schema.merge_key if schema else ""


def _merge_list(original: list[Any], patch: list[Any], schema: Schema | None) -> list[Any]:
    if schema is None or "merge" not in schema.merge_strategy:
        return list(_plain(patch))
    if not original and not patch:
        return original
    if not isinstance((original or patch)[0], dict):
        merged = _unique([*original, *patch])
        return _ordered(merged, patch, original, "")
    key = schema.merge_key
    if not key:
        raise BadRequest("cannot merge lists without merge key")
    original, patch = _apply_item_directives(original, patch, key)
    return _ordered(_merge_items(original, patch, key, schema.items), patch, original, key)


def _apply_item_directives(original: list[Any], patch: list[Any], key: str) -> tuple[list[Any], list[Any]]:
    is_replaced = False
    changes: list[Any] = []
    deleted: set[bytes | None] = set()  # never None: an item without the key is refused
    for item in patch:
        if not isinstance(item, dict):
            raise BadRequest("invalid patch format of a list of objects")
        directive = item.get(_DIRECTIVE)
        if directive == "delete":
            _need_key(item, key)
            deleted.add(_identity(item, key))
        elif directive == "replace":
            is_replaced = True
        elif directive in (None, "merge"):
            changes.append({name: value for name, value in item.items() if name != _DIRECTIVE})
        else:
            raise BadRequest(f"unknown patch type: {directive} in map: {dumps(item).decode()}")
    if is_replaced:
        return list(_plain(changes)), []
    return [have for have in original if _identity(have, key) not in deleted] if deleted else original, changes


def _merge_items(original: list[Any], patch: list[Any], key: str, schema: Schema | None) -> list[Any]:
    """Each item of the patch merged into the first one of its identity, or appended."""
    merged = list(original)
    places: defaultdict[bytes | None, list[int]] = defaultdict(list)  # a heap of indices per identity
    for index, have in enumerate(merged):
        places[_identity(have, key)].append(index)  # under None nothing is ever looked up
    named: Counter[bytes | None] = Counter()
    for item in patch:
        _need_key(item, key)
        identity = _identity(item, key)
        if not (found := places[identity]):
            merged.append(_plain(item))
            heappush(places[_identity(merged[-1], key)], len(merged) - 1)
            continue
        named[identity] += 1
        if named[identity] > MOST_OF_ONE_KEY:
            shown = dumps(item[key]).decode()[:100]
            raise Invalid(
                f"a patch may name an item at most {MOST_OF_ONE_KEY} times: {key} {shown} stands there oftener"
            )
        index = found[0]
        is_shared = index < len(original) and merged[index] is original[index]
        merged[index] = _merge_map(deep_copy(merged[index]) if is_shared else merged[index], item, schema)
        if (now := _identity(merged[index], key)) != identity:
            heappop(found)
            heappush(places[now], index)
    return merged


def _need_key(item: dict[str, Any], key: str) -> None:
    if key not in item:
        raise BadRequest(f"map: {dumps(item).decode()} does not contain declared merge key: {key}")


def _same(left: Any, right: Any, key: str) -> bool:
    if key and isinstance(left, dict) and isinstance(right, dict):
        return key in left and key in right and json_equal(left[key], right[key])
    return json_equal(left, right)


def _identity(item: Any, key: str) -> bytes | None:
    """A text that two items share exactly if they are ``_same``; ``None`` if the item is the same as no other."""
    if key and isinstance(item, dict):
        return b"key " + dumps(item[key], sort_keys=True) if key in item else None
    return dumps(item, sort_keys=True)


def _ordered(merged: list[Any], patch_order: list[Any], server_order: list[Any], key: str) -> list[Any]:
    """Patch items in the patch's order and the others in the server's, interleaved.

    One of the others goes first only where both stood in the original list and it stood earlier; so items that are
    new come before those that the patch does not touch.
    """
    wanted = _positions(patch_order, key)
    placed = [(wanted.get(_identity(item, key), -1), item) for item in merged]
    mine = [item for _, item in sorted((pair for pair in placed if pair[0] >= 0), key=lambda pair: pair[0])]
    others = [item for place, item in placed if place < 0]
    if not mine or not others:
        return mine + others
    stood = _positions(server_order, key)
    lefts = [stood.get(_identity(item, key), -1) for item in others]
    rights = [stood.get(_identity(item, key), -1) for item in mine]
    result: list[Any] = []
    left = right = 0
    while left < len(others) and right < len(mine):
        if 0 <= lefts[left] < rights[right]:
            result.append(others[left])
            left += 1
        else:
            result.append(mine[right])
            right += 1
    return result + mine[right:] + others[left:]


def _positions(order: Iterable[Any], key: str) -> dict[bytes | None, int]:
    """Where each identity stands first."""
    positions: dict[bytes | None, int] = {}
    for index, item in enumerate(order):
        positions.setdefault(_identity(item, key), index)
    positions.pop(None, None)
    return positions


def _unique(items: list[Any]) -> list[Any]:
    seen: dict[bytes | None, Any] = {}
    for item in items:
        seen.setdefault(_identity(item, ""), item)
    return list(seen.values())


def _without(have: Any, removed: Any) -> list[Any]:
    if not isinstance(have, list) or not isinstance(removed, list):
        raise BadRequest("invalid patch format of primitive list")
    gone = {_identity(item, "") for item in removed}
    return [item for item in have if _identity(item, "") not in gone]


def _plain(value: Any) -> Any:
    """A value of the patch as it is stored: without directives and nulls."""
    if isinstance(value, dict):
        if value.get(_DIRECTIVE) == "delete":
            return None
        pairs = ((key, _plain(child)) for key, child in value.items() if not _is_directive(key))
        return {key: child for key, child in pairs if child is not None}
    if isinstance(value, list):
        items = [_plain(item) for item in value]
        return [item for item, old in zip(items, value, strict=True) if item is not None or old is None]
    return value


def _is_directive(key: str) -> bool:
    return key in (_DIRECTIVE, _RETAIN) or key.startswith((_ORDER, _DELETE))
