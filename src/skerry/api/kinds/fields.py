"""A compact text form for the fields of custom kinds, and its rendering as ``openAPIV3Schema``.

One field a line, children indented by two blanks: ``name type words``. A type is ``object string int int32 int64
number bool bytes``, ``[]type``, ``map[type]``, or ``@Shape`` for one of ``SHAPES``. A ``!`` after the type means
required. Words: ``enum=a|b``, ``min=0``, ``default=text``, ``free`` (unknown members stay), ``free-items``,
``atomic`` (map-type atomic), ``atomic-items``, ``list=atomic``, ``list=map:key``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skerry.base.values import Struct, field

_SCALARS: dict[str, dict[str, Any]] = {
    "object": {"type": "object"},
    "string": {"type": "string"},
    "bool": {"type": "boolean"},
    "number": {"type": "number"},
    "int": {"type": "integer"},
    "int32": {"format": "int32", "type": "integer"},
    "int64": {"format": "int64", "type": "integer"},
    "bytes": {"format": "byte", "type": "string"},
    "quantity": {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",  # noqa: E501
        "x-kubernetes-int-or-string": True,
    },
}

SHAPES: Mapping[str, str] = {
    "LabelSelector": """
matchExpressions []object list=atomic
  key string!
  operator string!
  values []string list=atomic
matchLabels map[string]
""",
    "NodeSelector": """
nodeSelectorTerms []object! list=atomic atomic-items
  matchExpressions []object list=atomic
    key string!
    operator string!
    values []string list=atomic
  matchFields []object list=atomic
    key string!
    operator string!
    values []string list=atomic
""",
    "EnvVar": """
name string!
value string
valueFrom object
  configMapKeyRef object atomic
    key string!
    name string default=
    optional bool
  fieldRef object atomic
    apiVersion string
    fieldPath string!
  resourceFieldRef object atomic
    containerName string
    divisor quantity
    resource string!
  secretKeyRef object atomic
    key string!
    name string default=
    optional bool
""",
    "ResourceRequirements": """
claims []object list=map:name
  name string!
  request string
limits map[quantity]
requests map[quantity]
""",
    "PolicyRule": """
apiGroups []string list=atomic
nonResourceURLs []string list=atomic
resourceNames []string list=atomic
resources []string list=atomic
verbs []string! list=atomic
""",
    "Subject": """
apiGroup string
kind string!
name string!
namespace string
""",
    "RoleRef": """
apiGroup string!
kind string!
name string!
""",
    "EmbeddedMeta": """
annotations map[string]
finalizers []string
labels map[string]
name string
namespace string
""",
    "ObjectReference": """
apiVersion string
fieldPath string
kind string
name string!
namespace string
resourceVersion string
uid string
""",
    "LocalReference": """
name string default=
""",
    "TwinProperty": """
metadata map[string]
value string!
""",
    "Overriders": """
argsOverriders []object
  containerName string!
  operator string! enum=add|remove
  value []string
commandOverriders []object
  containerName string!
  operator string! enum=add|remove
  value []string
envOverriders []object
  containerName string!
  operator string! enum=add|remove|replace
  value []@EnvVar
imageOverriders []object
  component string! enum=Registry|Repository|Tag
  operator string! enum=add|remove|replace
  predicate object
    path string!
  value string
replicas int
resourcesOverriders []object
  containerName string!
  value @ResourceRequirements!
""",
}


class PrinterColumn(Struct, frozen=True):
    """One column of ``kubectl get``: its head, OpenAPI type and JSONPath."""

    name: str
    type: str
    path: str


class CustomVersion(Struct, frozen=True):
    """One version of a custom kind: its fields in the text form of this module."""

    name: str
    fields: str
    has_status_subresource: bool = False
    columns: tuple[PrinterColumn, ...] = ()


class CustomKind(Struct, frozen=True):
    """A custom kind. The first version is the stored one; all are served."""

    group: str
    kind: str
    plural: str
    versions: tuple[CustomVersion, ...]
    namespaced: bool = True
    short_names: tuple[str, ...] = ()


class _Line(Struct):
    name: str
    type: str
    words: Sequence[str]
    children: list[_Line] = field(default_factory=list)


def schema_of(text: str) -> dict[str, Any]:
    """``openAPIV3Schema`` of a whole object whose own fields the text describes."""
    body = _object(_lines(text))
    identity = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
    body["properties"] = {**identity, **body.get("properties", {})}
    return body


def _lines(text: str) -> list[_Line]:
    roots: list[_Line] = []
    stack: list[tuple[int, _Line]] = []
    for raw in text.strip("\n").split("\n"):
        depth = (len(raw) - len(raw.lstrip(" "))) // 2
        name, kind, *words = raw.split()
        line = _Line(name, kind, words)
        while stack and stack[-1][0] >= depth:
            stack.pop()
        (stack[-1][1].children if stack else roots).append(line)
        stack.append((depth, line))
    return roots


def _object(lines: Sequence[_Line]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    if lines:
        schema["properties"] = {line.name: _field(line) for line in lines}
    needed = [line.name for line in lines if line.type.endswith("!")]
    if needed:
        schema["required"] = needed
    return schema


def _field(line: _Line) -> dict[str, Any]:
    kind = line.type.removesuffix("!")
    if kind.startswith("[]"):
        items = _value(kind.removeprefix("[]"), line.children)
        schema: dict[str, Any] = {"items": items, "type": "array"}
    elif kind.startswith("map["):
        items, schema = {}, {"additionalProperties": _value(kind[4:-1], ()), "type": "object"}
    else:
        items, schema = {}, _value(kind, line.children)
    for word in line.words:
        _apply(word, schema, items)
    return schema


def _value(kind: str, children: Sequence[_Line]) -> dict[str, Any]:
    if kind.startswith("@"):
        return _object(_lines(SHAPES[kind.removeprefix("@")]))
    return _object(children) if kind == "object" else dict(_SCALARS[kind])


def _apply(word: str, schema: dict[str, Any], items: dict[str, Any]) -> None:
    name, _, value = word.partition("=")
    if name == "enum":
        numeric = schema["type"] == "integer"
        schema["enum"] = [int(item) if numeric else item for item in value.split("|")]
    elif name == "min":
        schema["minimum"] = int(value)
    elif name == "default":
        schema["default"] = value
    elif name == "free":
        schema["x-kubernetes-preserve-unknown-fields"] = True
    elif name == "free-items":
        items["x-kubernetes-preserve-unknown-fields"] = True
    elif name == "atomic":
        schema["x-kubernetes-map-type"] = "atomic"
    elif name == "atomic-items":
        items["x-kubernetes-map-type"] = "atomic"
    elif name == "list":
        kind, _, key = value.partition(":")
        schema["x-kubernetes-list-type"] = kind
        if key:
            schema["x-kubernetes-list-map-keys"] = [key]
    else:
        raise ValueError(f"{word!r} is no word of the field form; see the head of this module")
