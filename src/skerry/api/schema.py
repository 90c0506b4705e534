"""One schema form for built-in definitions and for the schemas of CustomResourceDefinitions.

Here: the node, the table of built-in definitions, and the walks that need no error texts: unknown fields, pruning,
defaults. Not here: compiling a CRD's schema (``structural``), validation (``validation``), patches (``patch``).
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from skerry.api.quantity import canonical
from skerry.api.schema_table import DEFINITIONS
from skerry.base.json import deep_copy, loads
from skerry.base.values import Struct, field

_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_PROPS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
_PROPS_OR = frozenset((f"{_PROPS}OrBool", f"{_PROPS}OrArray"))
_FREE = frozenset(
    {
        "io.k8s.apimachinery.pkg.runtime.RawExtension",
        "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
    }
)


class Schema(Struct, eq=False):
    """What is known of one place in an object. Treat as read-only once built; nodes may refer to themselves.

    Args:
        type: ``object array string integer number boolean``; empty when any type may stand here.
        properties: named members; ``additional`` is the schema of all other members.
        preserve_unknown: unnamed members stay; inside them nothing is known.
        list_type: ``atomic``, ``set`` or ``map``; empty means atomic.
        merge_key, merge_strategy: strategic merge patch (``patch-strategy`` split at its commas).
        definition: name of the built-in definition, empty for other places.
        keywords: the validations as written: enum, pattern, minimum, maxLength, default and so on.
        rules: ``x-kubernetes-validations`` as written.
    """

    type: str = ""
    properties: dict[str, Schema] = field(default_factory=dict)
    additional: Schema | None = None
    items: Schema | None = None
    required: tuple[str, ...] = ()
    nullable: bool = False
    int_or_string: bool = False
    quantity: bool = False
    preserve_unknown: bool = False
    embedded: bool = False
    format: str = ""
    list_type: str = ""
    list_map_keys: tuple[str, ...] = ()
    map_type: str = ""
    merge_key: str = ""
    merge_strategy: tuple[str, ...] = ()
    definition: str = ""
    keywords: dict[str, Any] = field(default_factory=dict)
    rules: tuple[dict[str, Any], ...] = ()

    @property
    def has_default(self) -> bool:
        """Whether a missing value is filled in."""
        return "default" in self.keywords

    @property
    def is_free(self) -> bool:
        """Whether nothing is known of what stands below."""
        return not self.properties and self.additional is None and self.items is None

    def member(self, name: str) -> Schema | None:
        """Schema of a member of an object; None when the member is unknown."""
        return self.properties.get(name) or self.additional


class SchemaTable:
    """Built-in definitions, decoded on first use and compiled one by one.

    One table per process is enough; it costs about 2 MB once decoded.
    """

    def __init__(self) -> None:
        self._raw: dict[str, dict[str, Any]] = {}
        self._nodes: dict[str, Schema] = {}
        self._names: dict[tuple[str, str, str], str] = {}

    def raw(self) -> dict[str, dict[str, Any]]:
        """Every definition as JSON schema with bare ``$ref``; do not change it."""
        if not self._raw:
            self._raw = loads(zlib.decompress(base64.b64decode(DEFINITIONS)))
        return self._raw

    def definition(self, name: str) -> Schema:
        """The compiled definition.

        Raises:
            KeyError: no definition has this name.
        """
        node = self._nodes.get(name)
        if node is None:
            raw = self.raw()[name]
            node = self._nodes[name] = Schema(definition=name)
            self._fill(node, raw)
        return node

    def name_of(self, group: str, version: str, kind: str) -> str | None:
        """Definition name of a kind, None when there is none."""
        if not self._names:
            for name, raw in self.raw().items():
                gvks = raw.get("x-kubernetes-group-version-kind") or []
                if len(gvks) == 1:  # DeleteOptions and its like are in every group
                    self._names[(gvks[0]["group"], gvks[0]["version"], gvks[0]["kind"])] = name
        return self._names.get((group, version, kind))

    def kind(self, group: str, version: str, kind: str) -> Schema | None:
        """The compiled schema of a kind, None when it is not built in."""
        name = self.name_of(group, version, kind)
        return self.definition(name) if name else None

    def metadata(self) -> Schema:
        """ObjectMeta, the same for every kind."""
        return self.definition(_META)

    def definitions_closure(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Definitions and all that they refer to, as OpenAPI v3 component schemas."""
        closure: dict[str, dict[str, Any]] = {}
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in closure:
                closure[name] = _openapi(name, self.raw()[name])
                waiting += _references(self.raw()[name])
        return dict(sorted(closure.items()))

    def _node(self, raw: dict[str, Any]) -> Schema:
        name = raw.get("$ref")
        if name is None:
            return self._fill(Schema(), raw)
        node = self.definition(name)
        if len(raw) == 1:
            return node
        return self._annotate(_copied(node), raw)

    def _fill(self, node: Schema, raw: dict[str, Any]) -> Schema:
        node.type = raw.get("type", "")
        node.required = tuple(raw.get("required") or ())
        node.format = raw.get("format", "")
        node.preserve_unknown = node.definition in _FREE
        node.int_or_string = node.definition == _INT_OR_STRING
        node.quantity = node.definition == _QUANTITY
        self._annotate(node, raw)
        if node.definition in _PROPS_OR:  # the source says nothing of them; an object in their place is a schema
            node.properties = self.definition(_PROPS).properties
        for name, child in (raw.get("properties") or {}).items():
            node.properties[name] = self._node(child)
        if isinstance(raw.get("additionalProperties"), dict):
            node.additional = self._node(raw["additionalProperties"])
        if isinstance(raw.get("items"), dict):
            node.items = self._node(raw["items"])
        return node

    @staticmethod
    def _annotate(node: Schema, raw: dict[str, Any]) -> Schema:
        node.list_type = raw.get("x-kubernetes-list-type", node.list_type)
        node.list_map_keys = tuple(raw.get("x-kubernetes-list-map-keys") or node.list_map_keys)
        node.map_type = raw.get("x-kubernetes-map-type", node.map_type)
        node.merge_key = raw.get("x-kubernetes-patch-merge-key", node.merge_key)
        strategy = raw.get("x-kubernetes-patch-strategy")
        node.merge_strategy = tuple(strategy.split(",")) if strategy else node.merge_strategy
        return node


def find_unknown(obj: Any, schema: Schema, *, path: str = "") -> list[str]:
    """Paths of fields that the schema does not name, such as ``spec.containers[0].foo``, in document order."""
    return list(_unknown(obj, schema, path))


def prune(obj: Any, schema: Schema, *, drop_null: bool = False) -> Any:
    """A copy without the members that the schema does not name.

    Args:
        drop_null: also without ``null`` members, and with quantities as texts, as decoding into Go structs does. For
            built-in kinds.
    """
    if isinstance(obj, dict):
        return _pruned_members(obj, schema, drop_null)
    if isinstance(obj, list) and schema.items is not None:
        below = schema.items
        return [_zero(below) if item is None and drop_null else prune(item, below, drop_null=drop_null) for item in obj]
    if schema.quantity and drop_null and isinstance(obj, (int, float)):
        return canonical(obj)  # clients read a text
    return deep_copy(obj) if isinstance(obj, list) else obj


def apply_defaults(obj: Any, schema: Schema) -> Any:
    """Fill the schema's defaults into ``obj`` in place and return it.

    A ``null`` where none is allowed counts as missing when a default exists.
    """
    if isinstance(obj, dict):
        _default_members(obj, schema)
    elif isinstance(obj, list) and schema.items is not None:
        for item in obj:
            apply_defaults(item, schema.items)
    return obj


def drop_nulls(obj: Any, schema: Schema) -> Any:
    """Take out of ``obj``, in place, the ``null`` members of places that allow none, and return it.

    Go clients of custom resources write them for every nil field without ``omitempty``. Apply defaults first.
    """
    if isinstance(obj, dict):
        for name in list(obj):
            child = schema.member(name)
            if child is None:
                continue
            if obj[name] is None and not child.nullable and child.type:
                del obj[name]
            else:
                drop_nulls(obj[name], child)
    elif isinstance(obj, list) and schema.items is not None:
        for item in obj:
            drop_nulls(item, schema.items)
    return obj


def _unknown(obj: Any, schema: Schema, path: str) -> Iterator[str]:
    if isinstance(obj, dict):
        for name, value in obj.items():
            child = schema.member(name)
            here = f"{path}.{name}" if path else name
            if child is not None:
                yield from _unknown(value, child, here)
            elif not _keeps(schema, name):
                yield here
    elif isinstance(obj, list) and schema.items is not None:
        for index, item in enumerate(obj):
            yield from _unknown(item, schema.items, f"{path}[{index}]")


def _keeps(schema: Schema, name: str) -> bool:
    """Whether an unnamed member stays."""
    if schema.preserve_unknown or (not schema.type and schema.is_free):
        return True
    if schema.embedded:
        return name in ("apiVersion", "kind", "metadata")
    return schema.type != "object" and bool(schema.type)


def _pruned_members(obj: dict[str, Any], schema: Schema, drop_null: bool) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in obj.items():
        child = schema.member(name)
        if child is None:
            if _keeps(schema, name):
                kept[name] = deep_copy(value)
        elif value is not None or not drop_null:
            kept[name] = prune(value, child, drop_null=drop_null)
        elif schema.additional is child and child.type == "string":
            kept[name] = ""
    return kept


def _zero(schema: Schema) -> Any:
    """What ``null`` in a list of Go values becomes."""
    zeros: dict[str, Any] = {"object": {}, "string": "", "integer": 0, "number": 0, "boolean": False}
    return zeros.get(schema.type)


def _default_members(obj: dict[str, Any], schema: Schema) -> None:
    for name, child in schema.properties.items():
        if child.has_default and (name not in obj or (obj[name] is None and not child.nullable)):
            obj[name] = deep_copy(child.keywords["default"])
        if name in obj:
            apply_defaults(obj[name], child)
    if schema.additional is not None:
        for name, value in obj.items():
            if name not in schema.properties:
                if value is None and not schema.additional.nullable and schema.additional.has_default:
                    obj[name] = deep_copy(schema.additional.keywords["default"])
                apply_defaults(obj[name], schema.additional)


def _copied(node: Schema) -> Schema:
    """A second node over the same members, which may still be in the making."""
    return Schema(**{name: getattr(node, name) for name in Schema.__struct_fields__})


def _openapi(name: str, raw: dict[str, Any]) -> dict[str, Any]:
    if name == _INT_OR_STRING:
        return {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}
    rendered: dict[str, Any] = {}
    for key, value in raw.items():
        if key == "$ref":
            rendered[key] = f"#/components/schemas/{value}"
        elif key == "properties":
            rendered[key] = {field_name: _openapi("", child) for field_name, child in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            rendered[key] = _openapi("", value)
        else:
            rendered[key] = value
    if "$ref" in rendered and len(rendered) > 1:  # siblings of a $ref are ignored by readers, so wrap it
        rendered["allOf"] = [{"$ref": rendered.pop("$ref")}]
    return rendered


def _references(raw: Any) -> Iterator[str]:
    if isinstance(raw, dict):
        for key, value in raw.items():
            if key == "$ref" and isinstance(value, str):
                yield value
            elif key == "properties":
                for child in value.values():
                    yield from _references(child)
            elif key in ("items", "additionalProperties"):
                yield from _references(value)
