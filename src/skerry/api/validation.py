"""Validation against schemas: field errors of custom resources, type errors of built-in kinds.

Not here: rules that a schema cannot say (``kinds``).

Source: kube-openapi pkg/validation, apiextensions-apiserver pkg/apiserver/validation/validation.go,
sigs.k8s.io/json (v1.36).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from typing import Any

from skerry.api.field import FieldError, duplicate, invalid, not_supported, required, too_long, too_many, type_invalid
from skerry.api.meta import is_rfc3339
from skerry.api.patch import json_equal
from skerry.api.quantity import is_quantity
from skerry.api.schema import Schema
from skerry.api.status import BadRequest
from skerry.base.json import dumps

Match = Callable[[str, str], bool]
"""``match(pattern, text)``: whether the pattern is found anywhere in the text. The engine must run in linear time."""

_INT_RANGES = {"int32": 1 << 31, "int64": 1 << 63}
_NUMBERS = ("number", "integer")


ABSENT = object()
"""Stands for an old value that there is none to compare with."""


def validate(obj: Any, schema: Schema, *, match: Match, path: str = "", old: Any = ABSENT) -> list[FieldError]:
    """Everything in a custom resource that its schema forbids, worded as Kubernetes words it.

    Args:
        obj: already pruned and defaulted.
        match: search of a pattern in a text.
        old: the object before the change; what did not change is not judged again, so that a schema may be tightened.
    """
    return list(_Walk(match).value(obj, schema, path, old))


def check_types(obj: dict[str, Any], schema: Schema, *, kind: str, version: str) -> None:
    """Check that a built-in object decodes into its Go type.

    Args:
        kind: as in the object, for the message.
        version: group version such as ``apps/v1``; the message names its last part.

    Raises:
        BadRequest: the first value of a wrong type, in Go's words.
    """
    for text in _mismatches(obj, schema, kind, ""):
        short = version.rpartition("/")[2]
        raise BadRequest(f'{kind} in version "{short}" cannot be handled as a {kind}: {text}')


class _Walk:
    def __init__(self, match: Match) -> None:
        self._match = match

    def value(self, value: Any, schema: Schema, path: str, old: Any = ABSENT) -> Iterator[FieldError]:
        if value is None and schema.nullable:
            return
        if old is not ABSENT and json_equal(value, old):
            return
        wrong = _type_error(value, schema, path)
        if wrong is not None:
            yield wrong
            return
        yield from self._keywords(value, schema.keywords, path)
        yield from _format_errors(value, schema, path)
        if isinstance(value, dict):
            yield from self._object(value, schema, path, old if isinstance(old, dict) else {})
        elif isinstance(value, list):
            yield from self._array(value, schema, path, old)

    def _object(self, value: dict[str, Any], schema: Schema, path: str, old: dict[str, Any]) -> Iterator[FieldError]:
        for name in schema.required:
            if name not in value:
                yield required(_join(path, name))
        if schema.embedded:
            yield from _embedded_errors(value, path)
        for name, child in value.items():
            below = schema.properties.get(name)
            before = old.get(name, ABSENT)
            if below is not None:
                yield from self.value(child, below, _join(path, name), before)
            elif schema.additional is not None:
                yield from self.value(child, schema.additional, _join(path, name), before)

    def _array(self, value: list[Any], schema: Schema, path: str, old: Any) -> Iterator[FieldError]:
        if schema.items is not None:
            for index, item in enumerate(value):
                yield from self.value(item, schema.items, f"{path}[{index}]", counterpart(item, old, schema))
        if schema.list_type in ("set", "map"):
            yield from _duplicates(value, schema, path)

    def _keywords(self, value: Any, words: dict[str, Any], path: str) -> Iterator[FieldError]:
        if not words:
            return
        if "enum" in words and not any(
            dumps(value, sort_keys=True) == dumps(item, sort_keys=True) for item in words["enum"]
        ):
            yield not_supported(path, value, words["enum"])
        if isinstance(value, str):
            yield from self._text(value, words, path)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield from _number_errors(value, words, path)
        elif isinstance(value, list):
            yield from _size_errors(len(value), words, path, ("minItems", "maxItems"), "items")
        elif isinstance(value, dict):
            yield from _size_errors(len(value), words, path, ("minProperties", "maxProperties"), "properties")
        yield from self._junctors(value, words, path)

    def _text(self, value: str, words: dict[str, Any], path: str) -> Iterator[FieldError]:
        if len(value) > words.get("maxLength", len(value)):
            yield too_long(path, words["maxLength"])
        if len(value) < words.get("minLength", 0):
            yield invalid(path, value, f"{path} in body should be at least {words['minLength']} chars long")
        if "pattern" in words and not self._match(words["pattern"], value):
            yield invalid(path, value, f"{path} in body should match '{words['pattern']}'")

    def _junctors(self, value: Any, words: dict[str, Any], path: str) -> Iterator[FieldError]:
        for part in words.get("allOf") or ():
            yield from self.value(value, _loose(part), path)
        if words.get("anyOf") and not any(self._holds(value, part, path) for part in words["anyOf"]):
            yield invalid(path, value, f"{path} in body must validate at least one schema (anyOf)")
        if words.get("oneOf") and sum(self._holds(value, part, path) for part in words["oneOf"]) != 1:
            yield invalid(path, value, f"{path} in body must validate one and only one schema (oneOf)")
        if words.get("not") and self._holds(value, words["not"], path):
            yield invalid(path, value, f"{path} in body must not validate the schema (not)")

    def _holds(self, value: Any, part: dict[str, Any], path: str) -> bool:
        return next(self.value(value, _loose(part), path), None) is None


def counterpart(item: Any, old: Any, schema: Schema) -> Any:
    """The item of an old list that is the same one, or ``ABSENT``; only lists that are maps can tell."""
    if not isinstance(old, list) or schema.list_type != "map" or not isinstance(item, dict):
        return ABSENT

    def key(of: Any) -> list[Any]:
        return [of.get(name) if isinstance(of, dict) else None for name in schema.list_map_keys]

    wanted = key(item)
    return next((each for each in old if key(each) == wanted), ABSENT)


def _loose(raw: dict[str, Any]) -> Schema:
    """A schema inside a junctor: it only restricts, so it need not be structural."""
    return Schema(
        type=raw.get("type", ""),
        properties={name: _loose(child) for name, child in (raw.get("properties") or {}).items()},
        items=_loose(raw["items"]) if isinstance(raw.get("items"), dict) else None,
        required=tuple(raw.get("required") or ()),
        nullable=True,
        keywords=raw,
    )


def _type_error(value: Any, schema: Schema, path: str) -> FieldError | None:
    have = json_type(value)
    if schema.int_or_string:
        is_right, want = have in ("integer", "string"), "integer,string"
    elif not schema.type:
        is_right, want = True, ""
    else:
        want = schema.type
        is_right = have == want or (want == "number" and have == "integer") or _is_whole(value, want)
    if is_right:
        return None
    return type_invalid(path, have, f'{path or "<root>"} in body must be of type {want}: "{have}"')


def _is_whole(value: Any, want: str) -> bool:
    return want == "integer" and isinstance(value, float) and value.is_integer()


def json_type(value: Any) -> str:
    """Name of a value's JSON type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, dict) else "string"


def _number_errors(value: float, words: dict[str, Any], path: str) -> Iterator[FieldError]:
    low, high, step = words.get("minimum"), words.get("maximum"), words.get("multipleOf")
    if low is not None and words.get("exclusiveMinimum") and value <= low:
        yield invalid(path, value, f"{path} in body should be greater than {_short(low)}")
    elif low is not None and value < low:
        yield invalid(path, value, f"{path} in body should be greater than or equal to {_short(low)}")
    if high is not None and words.get("exclusiveMaximum") and value >= high:
        yield invalid(path, value, f"{path} in body should be less than {_short(high)}")
    elif high is not None and value > high:
        yield invalid(path, value, f"{path} in body should be less than or equal to {_short(high)}")
    if step and abs(value / step - round(value / step)) > 1e-9:
        yield invalid(path, value, f"{path} in body should be a multiple of {_short(step)}")


def _short(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)


def _size_errors(
    count: int, words: dict[str, Any], path: str, names: tuple[str, str], what: str
) -> Iterator[FieldError]:
    low, high = words.get(names[0]), words.get(names[1])
    if low is not None and count < low:
        yield invalid(path, count, f"{path} in body should have at least {low} {what}")
    if high is not None and count > high:
        yield too_many(path, count, high)


def _duplicates(value: list[Any], schema: Schema, path: str) -> Iterator[FieldError]:
    seen: set[bytes] = set()
    for index, item in enumerate(value):
        key = item
        if schema.list_type == "map":
            if not isinstance(item, dict):
                continue
            key = {name: _key_value(item, name, schema) for name in schema.list_map_keys}
            key = {name: part for name, part in key.items() if part is not None}
        text = dumps(key, sort_keys=True)
        if text in seen:
            yield duplicate(f"{path}[{index}]", key)
        seen.add(text)


def _key_value(item: dict[str, Any], name: str, schema: Schema) -> Any:
    if name in item:
        return item[name]
    child = schema.items.properties.get(name) if schema.items else None
    return child.keywords.get("default") if child else None


def _embedded_errors(value: dict[str, Any], path: str) -> Iterator[FieldError]:
    for name in ("apiVersion", "kind"):
        if not value.get(name):
            yield required(_join(path, name), "must not be empty")
    metadata = value.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        yield type_invalid(_join(path, "metadata"), json_type(metadata), "must be an object")


def _format_errors(value: Any, schema: Schema, path: str) -> Iterator[FieldError]:
    name = schema.format
    if not name:
        return
    if name in _INT_RANGES and isinstance(value, int) and not isinstance(value, bool):
        limit = _INT_RANGES[name]
        if not -limit <= value < limit:
            yield invalid(path, value, f"{path} in body must be of type {name}: {value}")
    elif isinstance(value, str) and name in _FORMATS and not _FORMATS[name](value):
        yield type_invalid(path, value, f'{path} in body must be of type {name}: "{value}"')


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _is_date(text: str) -> bool:
    return re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", text) is not None


def _is_ipv4(text: str) -> bool:
    parts = text.split(".")
    return len(parts) == 4 and all(re.fullmatch(r"0|[1-9]\d{0,2}", part) and int(part) < 256 for part in parts)


def _is_uuid(text: str) -> bool:
    return re.fullmatch(r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", text) is not None


_FORMATS: dict[str, Callable[[str], bool]] = {
    "byte": _is_base64,
    "date": _is_date,
    "date-time": is_rfc3339,
    "ipv4": _is_ipv4,
    "uuid": _is_uuid,
}


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


_GO_VALUES = {"boolean": "bool", "integer": "number", "null": "null"}
_GO_TYPES = {"boolean": "bool", "number": "float64", "string": "string"}
_TIME = "io.k8s.apimachinery.pkg.apis.meta.v1.Time"
_MICRO_TIME = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"


def is_plain(obj: Any, schema: Schema) -> bool:
    """Whether an object of a built-in kind surely is as it will be stored: every field known and of its type, no null.

    One cheap walk that saves three; a "no" decides nothing.
    """
    if type(obj) is dict:
        if schema.type != "object":
            return False
        properties, additional = schema.properties, schema.additional
        if not properties and additional is None:
            return True
        for name, value in obj.items():
            below = properties.get(name) or additional
            if below is None or not _is_plain_value(value, below):
                return False
        return True
    if type(obj) is not list or schema.items is None or schema.type != "array":
        return False
    items = schema.items
    return all(_is_plain_value(value, items) for value in obj)


def _is_plain_value(value: Any, schema: Schema) -> bool:
    kind = type(value)
    if kind is str:
        if schema.type == "string" and not schema.format and not schema.quantity:
            return schema.definition not in (_TIME, _MICRO_TIME)
        if schema.quantity:
            return is_quantity(value)
        if schema.definition in (_TIME, _MICRO_TIME):
            return is_rfc3339(value)
        return schema.int_or_string or (schema.format == "byte" and _is_base64(value))
    if kind is int:
        return schema.int_or_string or (schema.type == "integer" and -(1 << 31) <= value < 1 << 31)
    if kind is bool:
        return schema.type == "boolean"
    return is_plain(value, schema) if kind is dict or kind is list else False


def _mismatches(value: Any, schema: Schema, struct: str, path: str) -> Iterator[str]:
    """Go's texts for values that do not fit; ``struct`` is the Go type that holds the field."""
    have = json_type(value)
    if have == "null" or (not schema.type and schema.is_free and not (schema.int_or_string or schema.quantity)):
        return
    if schema.int_or_string or schema.quantity:
        yield from _scalar_mismatch(value, schema)
    elif schema.definition in (_TIME, _MICRO_TIME):
        yield from _time_mismatch(value, schema)
    elif not _fits(value, have, schema):
        where = f"Go struct field {struct}.{path}" if path else "Go value"
        shown = _GO_VALUES.get(have, have)
        if have in ("integer", "number") and schema.type == "integer":
            shown = f"number {dumps(value).decode()}"
        yield f"json: cannot unmarshal {shown} into {where} of type {_go_type(schema)}"
    elif have == "object":
        name = schema.definition.rpartition(".")[2] or struct
        for key, child in value.items():
            below = schema.member(key)
            if below is not None:
                yield from _mismatches(child, below, name, f"{path}.{key}" if path else key)
    elif have == "array" and schema.items is not None:
        for item in value:
            yield from _mismatches(item, schema.items, struct, path)
    elif schema.format == "byte" and not _is_base64(value):
        yield f"illegal base64 data at input byte {_first_bad(value)}"


def _fits(value: Any, have: str, schema: Schema) -> bool:
    if schema.type == "integer" and have == "integer":
        limit = _INT_RANGES.get(schema.format or "int64", 1 << 63)
        return bool(-limit <= value < limit)
    return have == schema.type or (schema.type == "number" and have == "integer") or not schema.type


def _scalar_mismatch(value: Any, schema: Schema) -> Iterator[str]:
    if schema.quantity:
        text = value if isinstance(value, str) else dumps(value).decode()
        if isinstance(value, (dict, list, bool)) or not is_quantity(text):
            yield "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    elif isinstance(value, bool) or not isinstance(value, (int, str)):
        shown = {"boolean": "bool"}.get(json_type(value), json_type(value))
        yield f"json: cannot unmarshal {shown} into Go value of type int32"


def _time_mismatch(value: Any, schema: Schema) -> Iterator[str]:
    layout = "2006-01-02T15:04:05Z07:00" if schema.definition == _TIME else "2006-01-02T15:04:05.000000Z07:00"
    if not isinstance(value, str):
        shown = _GO_VALUES.get(json_type(value), json_type(value))
        yield f"json: cannot unmarshal {shown} into Go value of type string"
    elif not is_rfc3339(value):
        yield f'parsing time "{value}" as "{layout}": cannot parse "{value}" as "2006"'


def _go_type(schema: Schema) -> str:
    if schema.definition:
        parts = schema.definition.split(".")
        return f"{parts[-2]}.{parts[-1]}"
    if schema.type == "array":
        return f"[]{_go_type(schema.items) if schema.items else 'interface {}'}"
    if schema.type == "object":
        return f"map[string]{_go_type(schema.additional) if schema.additional else 'interface {}'}"
    if schema.type == "integer":
        return schema.format or "int64"
    return "[]uint8" if schema.format == "byte" else _GO_TYPES.get(schema.type, schema.type)


def _first_bad(text: str) -> int:
    return next((i for i, char in enumerate(text) if not re.match(r"[A-Za-z0-9+/=\r\n]", char)), len(text))
