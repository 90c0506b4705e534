"""CustomResourceDefinition: defaults and validation.

Source: apiextensions-apiserver pkg/apis/apiextensions/{v1/defaults,validation/validation}.go (v1.36).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from skerry.api.field import FieldError, duplicate, forbidden, invalid, not_supported, required, too_many
from skerry.api.gvk import Object
from skerry.api.kinds.filling import fill, fill_number, part, rows
from skerry.api.kinds.hooks import client_errors
from skerry.api.names import dns_1035_label, dns_subdomain
from skerry.api.structural import structural_errors

_APPROVED = "api-approved.kubernetes.io"
_UNAPPROVED = "protected groups must have approval annotation, see https://github.com/kubernetes/enhancements/pull/1111"
_PRESERVES = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
_MOST_SELECTABLE = 8
_SIMPLE_PATH = re.compile(r"(\.[A-Za-z_][A-Za-z0-9_-]*)+\Z", re.ASCII)
_FORMATS = ("binary", "bsonobjectid", "byte", "date", "date-time", "double", "email", "float", "hostname", "int32", "int64", "ipv4", "ipv6", "isbn", "mac", "password", "uri", "uuid")  # noqa: E501  # fmt: skip


def default_crd(obj: Object) -> None:
    """Fill names and the conversion strategy."""
    spec = part(obj, "spec")
    names = part(spec, "names")
    kind = names.get("kind") or ""
    fill(names, "singular", kind.lower())
    fill(names, "listKind", f"{kind}List" if kind else "")
    conversion = part(spec, "conversion")
    fill(conversion, "strategy", "None")
    service = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("service")
    if isinstance(service, dict):
        fill_number(service, "port", 443)


def crd_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a CustomResourceDefinition."""
    spec = obj.get("spec") or {}
    names, group = spec.get("names") or {}, spec.get("group") or ""
    yield from _name_errors(obj, names, group)
    if spec.get("preserveUnknownFields"):
        yield invalid("spec.preserveUnknownFields", True, _PRESERVES)
    if (group == "k8s.io" or group.endswith((".k8s.io", ".kubernetes.io"))) and not _has_approval(obj):
        yield required(f"metadata.annotations[{_APPROVED}]", _UNAPPROVED)
    if spec.get("scope") not in ("Cluster", "Namespaced"):
        yield not_supported("spec.scope", spec.get("scope") or "", ("Cluster", "Namespaced"))
    yield from _version_errors(rows(spec, "versions"))
    yield from _conversion_errors(spec.get("conversion") or {})


def crd_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """Group, plural, kind and scope never change; a stored version stays listed."""
    new, before = obj.get("spec") or {}, old.get("spec") or {}
    for name in ("group", "scope"):
        if new.get(name) != before.get(name):
            yield invalid(f"spec.{name}", new.get(name), "field is immutable")
    for name in ("plural", "kind"):
        if (new.get("names") or {}).get(name) != (before.get("names") or {}).get(name):
            yield invalid(f"spec.names.{name}", (new.get("names") or {}).get(name), "field is immutable")
    listed = {version.get("name") for version in rows(new, "versions")}
    for index, stored in enumerate((old.get("status") or {}).get("storedVersions") or []):
        if stored not in listed:
            yield invalid(f"status.storedVersions[{index}]", stored, "missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from status.storedVersions".replace("v1", stored))  # noqa: E501  # fmt: skip


def _name_errors(obj: Object, names: dict[str, Any], group: str) -> Iterator[FieldError]:
    plural, wanted = names.get("plural") or "", f"{names.get('plural') or ''}.{group}"
    name = (obj.get("metadata") or {}).get("name") or ""
    if name != wanted:
        yield invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group')
    if not group:
        yield required("spec.group")
    else:
        yield from (invalid("spec.group", group, text) for text in dns_subdomain(group))
        if "." not in group:
            yield invalid("spec.group", group, "should be a domain with at least one dot")
    for key, text in (("plural", plural), ("singular", names.get("singular") or "")):
        if not text:
            yield required(f"spec.names.{key}")
        else:
            yield from (invalid(f"spec.names.{key}", text, error) for error in dns_1035_label(text))
    for key in ("kind", "listKind"):
        if not names.get(key):
            yield required(f"spec.names.{key}")
        else:
            yield from (invalid(f"spec.names.{key}", names[key], text) for text in dns_1035_label(names[key].lower()))
    for key in ("shortNames", "categories"):
        for index, word in enumerate(names.get(key) or ()):
            yield from (invalid(f"spec.names.{key}[{index}]", word, text) for text in dns_1035_label(word))
    if names.get("kind") and names.get("kind") == names.get("listKind"):
        yield invalid("spec.names.listKind", names["listKind"], "kind and listKind may not be the same")


def _version_errors(versions: list[dict[str, Any]]) -> Iterator[FieldError]:
    if not versions:
        yield required("spec.versions", "must have at least one version")
        return
    if sum(bool(version.get("storage")) for version in versions) != 1:
        yield invalid("spec.versions", versions, "must have exactly one version marked as storage version")
    seen: set[str] = set()
    for index, version in enumerate(versions):
        where, name = f"spec.versions[{index}]", version.get("name") or ""
        yield from (invalid(f"{where}.name", name, text) for text in dns_1035_label(name))
        if name in seen:
            yield duplicate(f"{where}.name", name)
        seen.add(name)
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if not isinstance(schema, dict):
            yield required(f"{where}.schema.openAPIV3Schema", "schemas are required")
            continue
        place = "spec.validation" if len(versions) == 1 else f"{where}.schema"
        yield from structural_errors(schema, f"{place}.openAPIV3Schema")
        for at, column in enumerate(rows(version, "additionalPrinterColumns")):
            yield from _column_errors(column, f"{where}.additionalPrinterColumns[{at}]")
        yield from _scale_errors((version.get("subresources") or {}).get("scale"), f"{where}.subresources.scale")
        yield from _selectable_errors(rows(version, "selectableFields"), schema, f"{where}.selectableFields")


def _conversion_errors(conversion: dict[str, Any]) -> Iterator[FieldError]:
    strategy, webhook, path = conversion.get("strategy"), conversion.get("webhook"), "spec.conversion.webhook"
    if strategy not in (None, "None", "Webhook"):
        yield not_supported("spec.conversion.strategy", strategy, ("None", "Webhook"))
    elif strategy != "Webhook":
        if webhook is not None:
            yield forbidden(path, "should not be set when strategy is not set to Webhook")
    elif not isinstance(webhook, dict) or webhook.get("clientConfig") is None:
        yield required(f"{path}.clientConfig", "required when strategy is set to Webhook")
    else:
        yield from client_errors(webhook["clientConfig"], f"{path}.clientConfig")
        versions = webhook.get("conversionReviewVersions") or []
        if not versions:
            yield required(f"{path}.conversionReviewVersions")
        elif not set(versions) & {"v1", "v1beta1"}:
            yield invalid(f"{path}.conversionReviewVersions", versions, "must include at least one of v1, v1beta1")


def _scale_errors(scale: dict[str, Any] | None, path: str) -> Iterator[FieldError]:
    if not isinstance(scale, dict):
        return
    for name, roots in (("specReplicasPath", (".spec",)), ("statusReplicasPath", (".status",))):
        yield from _path_errors(scale.get(name) or "", f"{path}.{name}", roots)
    if scale.get("labelSelectorPath"):
        yield from _path_errors(scale["labelSelectorPath"], f"{path}.labelSelectorPath", (".spec", ".status"))


def _path_errors(value: str, path: str, roots: tuple[str, ...]) -> Iterator[FieldError]:
    if not value:
        yield required(path)
    elif not _SIMPLE_PATH.match(value):
        yield invalid(path, value, "is an invalid json path: only dot notation without arrays is allowed")
    elif not value.startswith(tuple(f"{root}." for root in roots)):
        yield invalid(path, value, f"should be a json path under {' or '.join(roots)}")


def _selectable_errors(fields: list[dict[str, Any]], schema: dict[str, Any], path: str) -> Iterator[FieldError]:
    if len(fields) > _MOST_SELECTABLE:
        yield too_many(path, len(fields), _MOST_SELECTABLE)
    seen: set[str] = set()
    for index, item in enumerate(fields):
        where, value = f"{path}[{index}].jsonPath", str(item.get("jsonPath") or "")
        if not value:
            yield required(where)
        elif not _SIMPLE_PATH.match(value):
            yield invalid(where, value, "is an invalid path: only dot notation without arrays is allowed")
        elif value.startswith(".metadata"):
            yield invalid(where, value, "must not point to fields in metadata")
        elif _scalar_at(schema, value.split(".")[1:]) is False:
            yield invalid(where, value, "must point to a field of type string, boolean or integer")
        if value in seen:
            yield duplicate(where, value)
        seen.add(value)


def _scalar_at(schema: dict[str, Any], steps: list[str]) -> bool:
    for step in steps:
        child = (schema.get("properties") or {}).get(step)
        if not isinstance(child, dict):
            return False
        schema = child
    return schema.get("type") in ("boolean", "integer", "string")


def _has_approval(obj: Object) -> bool:
    note = ((obj.get("metadata") or {}).get("annotations") or {}).get(_APPROVED, "")
    return str(note).startswith(("https://", "http://", "unapproved"))


def _column_errors(column: dict[str, Any], path: str) -> Iterator[FieldError]:
    types = ("boolean", "date", "integer", "number", "string")
    if not column.get("name"):
        yield required(f"{path}.name")
    if column.get("type") not in types:
        yield invalid(f"{path}.type", column.get("type") or "", f"must be one of {','.join(types)}")
    path_text = column.get("jsonPath") or ""
    if not path_text:
        yield required(f"{path}.jsonPath")
    elif not path_text.startswith("."):
        yield invalid(f"{path}.jsonPath", path_text, "is an invalid json path: must begin with a dot")
    if column.get("format") and column["format"] not in _FORMATS:
        yield invalid(f"{path}.format", column["format"], f"must be one of {','.join(_FORMATS)}")
