"""OpenAPI v3 of one group version (pure): paths as kubectl reads them, and schemas closed under their references."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from skerry.api.schema_table import RELEASE
from skerry.apiserver.registry import Kind
from skerry.apiserver.semantics import Semantics

_BUILTIN_PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_CUSTOM_PATCHES = (*_BUILTIN_PATCHES[:2], "application/apply-patch+yaml")
_DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
_STATUS = "io.k8s.apimachinery.pkg.apis.meta.v1.Status"
_LIST_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"
_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_WORDS = {
    "apiVersion": "APIVersion defines which version of the schema this object follows.",
    "kind": "Kind names what this object is; it is written in CamelCase and never changes.",
    "metadata": "Standard object's metadata.",
}
_REFERENCE = f"https://kubernetes.io/docs/reference/generated/kubernetes-api/{RELEASE.rpartition('.')[0]}/"
_META_WORDS = {
    "annotations": "Annotations are free texts by name, for tools and people; nothing selects by them.",
    "creationTimestamp": "CreationTimestamp is a timestamp of the moment at which the server made this object.",
    "deletionGracePeriodSeconds": "How many seconds the object gets to end by itself.",
    "deletionTimestamp": "DeletionTimestamp is when the object will have been removed; set by the server.",
    "finalizers": "Who must agree before the object is removed; each removes its own entry.",
    "generateName": "The beginning of a name that the server completes when no name is given.",
    "generation": "Counts the changes of the desired state.",
    "labels": "Labels are short texts by name, by which selectors find objects.",
    "managedFields": "Who owns which fields; kept by the server.",
    "name": "The name of the object; unique among its kind in its namespace, and never changed.",
    "namespace": "The namespace that the object lives in.",
    "ownerReferences": "Objects that this one belongs to; when all are gone, it goes too.",
    "resourceVersion": "Changes with every write; compare it only for equality, and send it back unchanged.",
    "uid": "Unique over all objects and all time; set by the server.",
}


def document(
    group: str, version: str, rows: Iterable[Kind], semantics: Semantics, *, is_v2: bool = False
) -> dict[str, Any]:
    """The document, without ``info``.

    Args:
        is_v2: its schemas are for an OpenAPI v2 document.
    """
    paths: dict[str, Any] = {}
    names: set[str] = {_DELETE_OPTIONS, _STATUS, _LIST_META}
    custom: dict[str, Any] = {}
    for row in rows:
        name = semantics.definition_name(row)
        if row.custom is None and name:
            names.add(name)
        elif row.custom is not None:
            custom |= custom_schemas(row, name, semantics, is_v2=is_v2)
        paths |= _paths(row, name)
    schemas = described(semantics.table.definitions_closure(names | {_OBJECT_META}))
    return {"openapi": "3.0.0", "paths": paths, "components": {"schemas": {**schemas, **custom}}}


def custom_schemas(row: Kind, name: str, semantics: Semantics, *, is_v2: bool = False) -> dict[str, Any]:
    """Schemas of a custom resource and of its list.

    Args:
        is_v2: leave out what OpenAPI v2 cannot say, and what old kubectls read wrongly.

    Source: apiextensions-apiserver pkg/controller/openapi/{builder/builder.go,v2/conversion.go} (v1.36).
    """
    assert row.custom is not None
    resource = row.resource
    gvk = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    raw = row.custom.schema
    if raw is None or (is_v2 and raw.get("x-kubernetes-preserve-unknown-fields")):
        schema: dict[str, Any] = {"type": "object"}
    else:
        schema = _plain_v2(raw) if is_v2 else dict(raw)
        schema["properties"] = {
            **(schema.get("properties") or {}),
            "apiVersion": {"type": "string", "description": _WORDS["apiVersion"]},
            "kind": {"type": "string", "description": _WORDS["kind"]},
            "metadata": _meta_reference(),
        }
    schema["x-kubernetes-group-version-kind"] = [gvk]
    if row.custom.selectable_fields:
        schema["x-kubernetes-selectable-fields"] = [{"fieldPath": path} for path in row.custom.selectable_fields]
    listing = {
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"$ref": f"#/components/schemas/{_LIST_META}"},
            "items": {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}},
        },
        "x-kubernetes-group-version-kind": [{**gvk, "kind": f"{resource.kind}List"}],
    }
    return {name: schema, f"{name}List": listing}


def _meta_reference() -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{_OBJECT_META}"}
    return {"description": _WORDS["metadata"], "allOf": [reference]}


def described(schemas: dict[str, Any]) -> dict[str, Any]:
    """The schemas; each says where its fields are described, and those that every object has are described here."""
    groups = _groups(schemas)
    found = {name: {"description": _described_at(name, groups), **schema} for name, schema in schemas.items()}
    meta = found.get(_OBJECT_META)
    if meta is not None:
        properties = {
            name: {**schema, "description": _META_WORDS[name]} if name in _META_WORDS else schema
            for name, schema in (meta.get("properties") or {}).items()
        }
        found[_OBJECT_META] = {**meta, "description": "What every object says about itself.", "properties": properties}
    return found


def _groups(schemas: dict[str, Any]) -> dict[str, str]:
    """API groups by the packages of their definitions."""
    found = {}
    for name, schema in schemas.items():
        kinds = list(schema.get("x-kubernetes-group-version-kind") or ())
        if len(kinds) == 1:  # what every group has, such as DeleteOptions, names them all
            found[name.rpartition(".")[0]] = str(kinds[0]["group"])
    return found


def _described_at(name: str, groups: dict[str, str]) -> str:
    """A line about a definition, such as ``io.k8s.api.core.v1.Container``, with the place of its description."""
    package, _, kind = name.rpartition(".")
    short, version = package.split(".")[-2:]
    group = groups.get(package) or short
    if not version[1:2].isdigit():  # a plain type such as Quantity
        return f"{kind}. What it means: {_REFERENCE}"
    anchor = f"{kind}-{version}-{group.replace('.', '-')}".lower()
    return f"{kind} of {group}/{version}. What its fields mean: {_REFERENCE}#{anchor}"


def _plain_v2(schema: dict[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in schema.items() if key not in ("allOf", "oneOf", "anyOf", "not")}
    properties = plain.get("properties") or {}
    if plain.pop("nullable", False):
        plain.pop("type", None)
        plain.pop("items", None)
        plain.pop("properties", None)
    if plain.get("x-kubernetes-preserve-unknown-fields"):
        plain.pop("items", None)
        plain.pop("properties", None)
        if plain.get("type") == "object":
            del plain["type"]
    if plain.get("type") == "array" and "items" not in plain:
        del plain["type"]
    if isinstance(plain.get("items"), dict):
        plain["items"] = _plain_v2(plain["items"])
    if isinstance(plain.get("additionalProperties"), dict):
        plain["additionalProperties"] = _plain_v2(plain["additionalProperties"])
    if "properties" in plain:
        plain["properties"] = {name: _plain_v2(child) for name, child in properties.items()}
    if "required" in plain:
        plain["required"] = [name for name in plain["required"] if not (properties.get(name) or {}).get("nullable")]
        if not plain["required"]:
            del plain["required"]
    return plain


def _paths(row: Kind, name: str) -> dict[str, Any]:
    resource = row.resource
    base = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    own = f"{base}/namespaces/{{namespace}}/{resource.plural}" if resource.namespaced else f"{base}/{resource.plural}"
    paths: dict[str, Any] = {own: _collection(row, name)}
    if row.is_stored:
        paths[f"{own}/{{name}}"] = _item(row, name)
        for sub in row.subresources:
            paths[f"{own}/{{name}}/{sub.name}"] = _subresource(row, name, sub.name, sub.verbs)
        if resource.namespaced:
            paths[f"{base}/{resource.plural}"] = {"get": _operation(row, name, "list")}
    for path, item in paths.items():
        item["parameters"] = _path_parameters(path)
    return paths


def _collection(row: Kind, name: str) -> dict[str, Any]:
    operations = {"post": _operation(row, name, "post", has_body=True)}
    if row.is_stored:
        operations["get"] = _operation(row, name, "list")
    if "deletecollection" in row.verbs:
        operations["delete"] = _operation(row, name, "deletecollection")
    return operations


def _item(row: Kind, name: str) -> dict[str, Any]:
    return {
        "get": _operation(row, name, "get"),
        "put": _operation(row, name, "put", has_body=True),
        "patch": _operation(row, name, "patch", has_body=True),
        "delete": _operation(row, name, "delete"),
    }


def _subresource(row: Kind, name: str, sub: str, verbs: Iterable[str]) -> dict[str, Any]:
    methods = {"get": "get", "update": "put", "patch": "patch", "create": "post"}
    return {
        methods[verb]: _operation(row, name, methods[verb], has_body=verb != "get", sub=sub)
        for verb in verbs
        if verb in methods
    }


def _operation(row: Kind, name: str, action: str, *, has_body: bool = False, sub: str = "") -> dict[str, Any]:
    resource = row.resource
    reference = {"$ref": f"#/components/schemas/{name}"} if name else {"type": "object"}
    found: dict[str, Any] = {
        "operationId": f"{action}{resource.version.title()}{resource.kind}{sub.title()}",
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {
            "group": resource.group,
            "version": resource.version,
            "kind": resource.kind,
        },
    }
    if has_body:
        found["parameters"] = [
            _query("dryRun"),
            _query("fieldManager"),
            _query("fieldValidation"),
            *([_query("force", "boolean")] if action == "patch" else []),
        ]
        found["requestBody"] = {"content": _contents(row, action, reference), "required": True}
    return found


def _contents(row: Kind, action: str, reference: dict[str, Any]) -> dict[str, Any]:
    if action != "patch":
        return {"*/*": {"schema": reference}}
    types = _BUILTIN_PATCHES if row.custom is None else _CUSTOM_PATCHES
    return {name: {"schema": {"type": "object"}} for name in types}


def _query(name: str, kind: str = "string") -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": True}}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "uniqueItems": True}}
        for name in ("namespace", "name")
        if f"{{{name}}}" in path
    ]
