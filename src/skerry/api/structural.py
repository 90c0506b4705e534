"""From ``openAPIV3Schema`` of a CustomResourceDefinition to a schema node, with Kubernetes' structural rules.

Source: apiextensions-apiserver pkg/apiserver/schema/{convert,validation}.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from skerry.api.field import FieldError, forbidden, not_supported, required
from skerry.api.schema import Schema

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_VALIDATIONS = frozenset(
    {
        "enum", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength",
        "maxLength", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "default",
        "allOf", "anyOf", "oneOf", "not",
    }
)  # fmt: skip
_JUNCTORS = ("allOf", "anyOf", "oneOf")


def compile_structural(raw: dict[str, Any], *, is_root: bool = True) -> Schema:
    """Compile a schema that ``structural_errors`` finds nothing wrong with.

    Args:
        raw: JSONSchemaProps as decoded JSON.
        is_root: the schema of a whole object; apiVersion, kind and metadata are then always known.
    """
    node = Schema(
        type=raw.get("type", ""),
        required=tuple(raw.get("required") or ()),
        nullable=bool(raw.get("nullable")),
        int_or_string=bool(raw.get("x-kubernetes-int-or-string")),
        preserve_unknown=bool(raw.get("x-kubernetes-preserve-unknown-fields")),
        embedded=bool(raw.get("x-kubernetes-embedded-resource")),
        format=raw.get("format", ""),
        list_type=raw.get("x-kubernetes-list-type", ""),
        list_map_keys=tuple(raw.get("x-kubernetes-list-map-keys") or ()),
        map_type=raw.get("x-kubernetes-map-type", ""),
        keywords={key: value for key, value in raw.items() if key in _VALIDATIONS},
        rules=tuple(raw.get("x-kubernetes-validations") or ()),
    )
    for name, child in (raw.get("properties") or {}).items():
        node.properties[name] = compile_structural(child, is_root=False)
    additional, items = raw.get("additionalProperties"), raw.get("items")
    if isinstance(additional, dict):
        node.additional = compile_structural(additional, is_root=False)
    elif additional is True:
        node.preserve_unknown = True
    if isinstance(items, dict):
        node.items = compile_structural(items, is_root=False)
    if is_root or node.embedded:
        _add_identity(node)
    return node


def structural_errors(raw: dict[str, Any], path: str = "spec.validation.openAPIV3Schema") -> list[FieldError]:
    """What keeps a schema from being structural."""
    errors: list[FieldError] = []
    if raw.get("type") != "object":
        kind = raw.get("type", "")
        errors.append(
            required(f"{path}.type", "must not be empty at the root") if not kind
            else FieldError(f"{path}.type", "FieldValueInvalid", f'Invalid value: "{kind}": must be object at the root')
        )  # fmt: skip
    errors += _root_metadata(raw, path)
    errors += _place(raw, path, is_root=True)
    return errors


def _add_identity(node: Schema) -> None:
    """The members that every object has; its metadata is checked and pruned elsewhere."""
    node.properties.setdefault("apiVersion", Schema(type="string"))
    node.properties.setdefault("kind", Schema(type="string"))
    metadata = node.properties.get("metadata") or Schema(type="object")
    metadata.preserve_unknown = True
    node.properties["metadata"] = metadata


def _root_metadata(raw: dict[str, Any], path: str) -> Iterator[FieldError]:
    metadata = (raw.get("properties") or {}).get("metadata") or {}
    for name in metadata.get("properties") or {}:
        if name not in ("name", "generateName"):
            yield forbidden(
                f"{path}.properties[metadata]",
                "must not specify anything other than name and generateName, but metadata is implicitly specified",
            )
            return


def _place(raw: dict[str, Any], path: str, *, is_root: bool = False) -> Iterator[FieldError]:
    yield from _type(raw, path, is_root)
    yield from _extensions(raw, path)
    if raw.get("properties") and raw.get("additionalProperties"):
        yield forbidden(f"{path}.additionalProperties", "must not be used together with properties")
    for name, child in (raw.get("properties") or {}).items():
        yield from _place(child, f"{path}.properties[{name}]")
    for key in ("additionalProperties", "items"):
        if isinstance(raw.get(key), dict):
            yield from _place(raw[key], f"{path}.{key}")
    if isinstance(raw.get("items"), list):
        yield forbidden(f"{path}.items", "items must be a schema object and not an array")
    yield from _junctors(raw, path)


def _type(raw: dict[str, Any], path: str, is_root: bool) -> Iterator[FieldError]:
    kind = raw.get("type", "")
    if kind and kind not in _TYPES:
        yield not_supported(f"{path}.type", kind, _TYPES)
    elif kind and raw.get("x-kubernetes-int-or-string"):
        yield forbidden(f"{path}.type", "must be empty if x-kubernetes-int-or-string is true")
    elif not kind and not is_root and not _may_lack_type(raw):
        yield required(f"{path}.type", _lack(path))
    if kind == "array" and not raw.get("items"):
        yield required(f"{path}.items", "must be specified")


def _may_lack_type(raw: dict[str, Any]) -> bool:
    return bool(raw.get("x-kubernetes-int-or-string") or raw.get("x-kubernetes-preserve-unknown-fields"))


def _lack(path: str) -> str:
    if path.endswith(".items"):
        return "must not be empty for specified array items"
    return "must not be empty for specified object fields"


def _extensions(raw: dict[str, Any], path: str) -> Iterator[FieldError]:
    if raw.get("x-kubernetes-embedded-resource"):
        if raw.get("type") != "object":
            yield required(f"{path}.type", "must be object if x-kubernetes-embedded-resource is true")
        if not raw.get("properties") and not raw.get("x-kubernetes-preserve-unknown-fields"):
            yield required(f"{path}.properties", "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields")  # noqa: E501  # fmt: skip
    if raw.get("x-kubernetes-preserve-unknown-fields") is False:
        yield FieldError(
            f"{path}.x-kubernetes-preserve-unknown-fields",
            "FieldValueInvalid",
            "Invalid value: false: must be true or undefined",
        )
    yield from _list_type(raw, path)
    if raw.get("default") is not None and raw.get("uniqueItems"):
        yield forbidden(f"{path}.uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes quadratic")  # noqa: E501  # fmt: skip
    if raw.get("$ref"):
        yield forbidden(f"{path}.$ref", "$ref is not supported")


def _list_type(raw: dict[str, Any], path: str) -> Iterator[FieldError]:
    list_type, keys = raw.get("x-kubernetes-list-type"), raw.get("x-kubernetes-list-map-keys") or []
    if list_type is None:
        if keys:
            yield FieldError(
                f"{path}.x-kubernetes-list-type", "FieldValueRequired",
                "Required value: must be map if x-kubernetes-list-map-keys is non-empty",
            )  # fmt: skip
        return
    if list_type not in ("atomic", "map", "set"):
        yield not_supported(f"{path}.x-kubernetes-list-type", list_type, ("atomic", "map", "set"))
    if raw.get("type") != "array":
        yield required(f"{path}.type", "must be array if x-kubernetes-list-type is specified")
    if list_type != "map":
        return
    if not keys:
        yield required(f"{path}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map")
    items = raw.get("items") if isinstance(raw.get("items"), dict) else {}
    known = (items or {}).get("properties") or {}
    for index, key in enumerate(keys):
        if key not in known:
            yield FieldError(
                f"{path}.x-kubernetes-list-map-keys[{index}]", "FieldValueInvalid",
                f'Invalid value: "{key}": entries must all be names of item properties',
            )  # fmt: skip
        elif key not in (items or {}).get("required", []) and "default" not in known[key]:
            yield required(f"{path}.items.properties[{key}].default", "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property")  # noqa: E501  # fmt: skip


def _junctors(raw: dict[str, Any], path: str) -> Iterator[FieldError]:
    parts = [(f"{path}.{key}[{index}]", part) for key in _JUNCTORS for index, part in enumerate(raw.get(key) or [])]
    if isinstance(raw.get("not"), dict):
        parts.append((f"{path}.not", raw["not"]))
    for where, part in parts:
        for key in ("type", "default", "nullable", "description", "title"):
            if part.get(key) and not (key == "type" and raw.get("x-kubernetes-int-or-string")):
                yield forbidden(f"{where}.{key}", "must be empty to be structural" if key == "type" else "must be undefined to be structural")  # noqa: E501  # fmt: skip
