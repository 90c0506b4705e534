"""What objects of a row mean: the one place where the server asks ``api`` for schemas, rules, patches and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from skerry.api.ages import age
from skerry.api.field import FieldError, invalid_object
from skerry.api.gvk import Object
from skerry.api.kinds.rules import Rules
from skerry.api.patch import merge_patch, strategic_merge_patch
from skerry.api.schema import Schema, SchemaTable, apply_defaults, find_unknown, prune
from skerry.api.selectors import FieldTerm, LabelSelector, parse_fields, parse_labels
from skerry.api.structural import compile_structural
from skerry.api.table import columns, table_rows
from skerry.api.validation import ABSENT, check_types, is_plain, validate
from skerry.apiserver.patch_growth import bounded_json_patch
from skerry.apiserver.registry import Kind
from skerry.apiserver.schema_checks import schema_errors
from skerry.apiserver.store.entry import Entry
from skerry.base.regex import search
from skerry.cel.rules import RuleSet

_PARTIAL = ("status", "binding", "finalize", "approval", "ephemeralcontainers", "resize", "eviction")
"""Subresources that write a part which the rules of the whole object would not let anybody change."""

_FREE = Schema(type="object", preserve_unknown=True)


ExpressionErrors = Callable[[str, Object, Object | None], Iterable[FieldError]]


def _no_errors(kind: str, obj: Object, old: Object | None) -> Iterable[FieldError]:
    return ()


class Semantics:
    """Schemas are compiled once per row; custom ones are dropped with their CRD's row.

    Args:
        expression_errors: judges the expressions of webhook configurations and policies: kind, new and old object.
    """

    def __init__(self, *, expression_errors: ExpressionErrors = _no_errors) -> None:
        self.table = SchemaTable()
        self._expression_errors = expression_errors
        self._rules = Rules()
        self._custom: dict[int, tuple[Kind, Schema]] = {}
        self._rule_sets: dict[int, tuple[Kind, RuleSet]] = {}

    def schema(self, kind: Kind) -> Schema:
        """The schema of a row."""
        if kind.custom is None:
            resource = kind.resource
            return self.table.kind(resource.group, resource.version, resource.kind) or _FREE
        found = self._custom.get(id(kind))
        if found is None:
            raw = kind.custom.schema
            schema = compile_structural(raw) if raw else _FREE
            found = self._custom[id(kind)] = (kind, schema)
        return found[1]

    def forget(self, kind: Kind) -> None:
        """Drop what was compiled for a custom row."""
        self._custom.pop(id(kind), None)
        self._rule_sets.pop(id(kind), None)

    def definition_name(self, kind: Kind) -> str:
        """Name of the row's schema in OpenAPI documents; empty when it has none."""
        resource = kind.resource
        if kind.custom is None:
            return self.table.name_of(resource.group, resource.version, resource.kind) or ""
        group = ".".join(reversed(resource.group.split(".")))
        return f"{group}.{resource.version}.{resource.kind}"

    def prune(self, kind: Kind, obj: Object) -> list[str]:
        """Take out of ``obj``, in place, what the schema does not name; returns the paths of what was unknown."""
        schema = self.schema(kind)
        if kind.custom is None:
            if is_plain(obj, schema):
                return []
            check_types(obj, schema, kind=kind.resource.kind, version=kind.resource.api_version)
        unknown = find_unknown(obj, schema)
        is_custom = kind.custom is not None
        meta = prune(obj["metadata"], self.table.metadata(), drop_null=True)
        unknown_meta = find_unknown(obj["metadata"], self.table.metadata(), path="metadata") if is_custom else []
        pruned = prune(obj, schema, drop_null=not is_custom)
        pruned["metadata"] = meta
        obj.clear()
        obj.update(pruned)
        if is_custom:
            unknown = sorted(unknown + unknown_meta)
        return unknown

    def default(self, kind: Kind, obj: Object) -> None:
        """Fill defaults into ``obj`` in place."""
        if kind.custom is not None:
            apply_defaults(obj, self.schema(kind))
        else:
            self._rules.default(kind.resource.group, kind.resource.kind, obj)

    def default_read(self, kind: Kind, obj: Object) -> None:
        """Defaults that were declared after the object was stored."""
        if self.changes_on_read(kind):
            apply_defaults(obj, self.schema(kind))

    def changes_on_read(self, kind: Kind) -> bool:
        """Whether stored objects of this row may differ from what is served."""
        return kind.custom is not None and _has_defaults(self.schema(kind))

    def validate_create(self, kind: Kind, obj: Object) -> None:
        """Check a new object.

        Raises:
            Invalid: with every cause.
        """
        errors = self._rules.validate_create(*self._rules_key(kind), obj)
        self._refuse(kind, obj, errors or self._schema_errors(kind, obj))

    def validate_update(self, kind: Kind, obj: Object, old: Object, subresource: str) -> None:
        """Check a change.

        Raises:
            Invalid: with every cause.
        """
        if subresource in _PARTIAL:
            errors = self._rules.validate_status_update(*self._rules_key(kind), obj, old)
        else:
            errors = self._rules.validate_update(*self._rules_key(kind), obj, old)
        self._refuse(kind, obj, errors or self._schema_errors(kind, obj, old))

    @staticmethod
    def _rules_key(kind: Kind) -> tuple[str, str]:
        """Custom kinds follow the rules of metadata alone, whatever their kind is called."""
        return ("", "") if kind.custom is not None else (kind.resource.group, kind.resource.kind)

    def _schema_errors(self, kind: Kind, obj: Object, old: Object | None = None) -> list[FieldError]:
        if kind.resource.kind == "CustomResourceDefinition" and kind.custom is None:
            return list(schema_errors(obj, old))
        if kind.custom is None:
            if kind.resource.group == "admissionregistration.k8s.io":
                return list(self._expression_errors(kind.resource.kind, obj, old))
            return []
        before = ABSENT if old is None else old
        errors = validate(obj, self.schema(kind), match=search, old=before)
        # a rule may rely on the types that its schema declares, so it runs on valid objects only
        return errors or self._rule_set(kind).errors(obj, before)

    def _rule_set(self, kind: Kind) -> RuleSet:
        found = self._rule_sets.get(id(kind))
        if found is None:
            found = self._rule_sets[id(kind)] = (kind, RuleSet(self.schema(kind)))
        return found[1]

    @staticmethod
    def _refuse(kind: Kind, obj: Object, errors: list[FieldError]) -> None:
        if errors:
            resource = kind.resource
            raise invalid_object(resource.kind, resource.group, obj["metadata"].get("name", ""), errors)

    def patch(self, kind: Kind, patch_type: str, obj: Object, patch: Any) -> Object:
        """The patched copy of an object.

        Raises:
            BadRequest, Invalid: the patch cannot be applied.
        """
        if patch_type == "json":
            patched = bounded_json_patch(obj, patch)
        elif patch_type == "strategic":
            patched = strategic_merge_patch(obj, patch, self.schema(kind))
        else:
            patched = merge_patch(obj, patch)
        result: Object = patched
        return result

    def matcher(self, kind: Kind, labels: str, fields: str) -> Callable[[Entry], bool] | None:
        """What a selector pair matches; None for everything.

        Raises:
            BadRequest: a selector cannot be read.
        """
        selector = parse_labels(labels) if labels else LabelSelector()
        selectable = kind.custom.selectable_fields if kind.custom is not None else None
        terms = parse_fields(fields, kind.resource, selectable=selectable).terms if fields else ()
        if selector.is_everything and not terms:
            return None

        def matches(entry: Entry) -> bool:
            return all(_term_matches(term, entry) for term in terms) and (
                selector.is_everything or selector.matches(entry.labels())
            )

        return matches

    def selects_converted(self, kind: Kind, fields: str) -> bool:
        """Whether a field selector reads what a webhook makes of an object, not what is stored."""
        if kind.custom is None or kind.custom.conversion is None or not fields:
            return False
        terms = parse_fields(fields, kind.resource, selectable=kind.custom.selectable_fields).terms
        return any(term.label not in _METADATA_FIELDS for term in terms)

    def columns(self, kind: Kind, subresource: str) -> list[dict[str, Any]]:
        """Column definitions of tables."""
        if subresource == "scale":
            return _scale_columns()
        return columns(kind.resource, crd_columns=kind.custom.printer_columns if kind.custom is not None else None)

    def row(self, kind: Kind, subresource: str, obj: Object, *, now_s: float) -> dict[str, Any]:
        """A table's row, without its object."""
        if subresource == "scale":
            return _scale_row(obj, now_s)
        printed = kind.custom.printer_columns if kind.custom is not None else None
        return table_rows(kind.resource, [obj], now_s=now_s, crd_columns=printed)[0]


_METADATA_FIELDS = ("metadata.name", "metadata.namespace")


def _term_matches(term: FieldTerm, entry: Entry) -> bool:
    if term.label == "metadata.name":
        return (entry.key.name == term.value) is term.is_equal
    if term.label == "metadata.namespace":
        return (entry.key.ns == term.value) is term.is_equal
    return (entry.field(term.label, term.read) == term.value) is term.is_equal


def _scale_columns() -> list[dict[str, Any]]:
    words = (
        ("Name", "string", "name"),
        ("Desired", "integer", ""),
        ("Available", "integer", ""),
        ("Age", "string", ""),
    )
    return [{"name": n, "type": t, "format": f, "description": "", "priority": 0} for n, t, f in words]


def _scale_row(obj: Object, now_s: float) -> dict[str, Any]:
    meta = obj["metadata"]
    desired, found = obj["spec"]["replicas"], obj["status"]["replicas"]
    return {"cells": [meta["name"], desired, found, age(meta.get("creationTimestamp"), now_s)]}


def _has_defaults(schema: Schema, seen: frozenset[int] = frozenset()) -> bool:
    if schema.has_default:
        return True
    if id(schema) in seen:
        return False
    seen |= {id(schema)}
    children = [*schema.properties.values(), schema.additional, schema.items]
    return any(child is not None and _has_defaults(child, seen) for child in children)
