"""What is wrong with the schemas of a CustomResourceDefinition beyond their structure: patterns, defaults, rules.

Source: apiextensions-apiserver pkg/apis/apiextensions/validation/validation.go, pkg/apiserver/schema/defaulting
(v1.36).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from skerry.api.field import FieldError, invalid
from skerry.api.gvk import Object
from skerry.api.schema import Schema, find_unknown
from skerry.api.structural import compile_structural
from skerry.api.validation import validate
from skerry.base.json import deep_copy
from skerry.base.regex import is_valid, search
from skerry.cel.rules import rule_errors

_SCHEMAS = ("items", "additionalProperties", "allOf", "anyOf", "oneOf", "not")
_NAMED_SCHEMAS = ("properties", "patternProperties", "definitions")


def schema_errors(crd: Object, old: Object | None = None) -> Iterator[FieldError]:
    """Everything that is wrong with the schemas of a structural CRD.

    Args:
        old: the CRD before the change; schemas that are stored already are not judged again.
    """
    versions = (crd.get("spec") or {}).get("versions") or ()
    stored = {v.get("name"): v.get("schema") for v in ((old or {}).get("spec") or {}).get("versions") or ()}
    for at, version in enumerate(versions):
        raw = (version.get("schema") or {}).get("openAPIV3Schema")
        if not isinstance(raw, dict) or stored.get(version.get("name")) == version.get("schema"):
            continue
        place = "spec.validation" if len(versions) == 1 else f"spec.versions[{at}].schema"
        path = f"{place}.openAPIV3Schema"
        yield from pattern_errors(raw, path)
        schema = compile_structural(raw)
        yield from _default_errors(schema, path)
        yield from rule_errors(schema, path)


def pattern_errors(raw: dict[str, Any], path: str) -> Iterator[FieldError]:
    """Patterns that the engine does not know: no value could ever match them."""
    waiting: list[tuple[str, Any]] = [(path, raw)]
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, list):
            waiting += [(f"{path}[{index}]", child) for index, child in enumerate(node)]
        if not isinstance(node, dict):
            continue
        pattern = node.get("pattern")
        if isinstance(pattern, str) and not is_valid(pattern):
            detail = "must be a regular expression of RE2: no lookaround, no backreferences, not too large"
            yield invalid(f"{path}.pattern", pattern, detail)
        waiting += [(f"{path}.{name}", node[name]) for name in _SCHEMAS if name in node]
        for name in _NAMED_SCHEMAS:
            children = node.get(name)
            if isinstance(children, dict):
                waiting += [(f"{path}.{name}[{child}]", children[child]) for child in children]


def _default_errors(schema: Schema, path: str) -> Iterator[FieldError]:
    """A default must be a valid value without unknown fields."""
    if schema.has_default:
        value = deep_copy(schema.keywords["default"])
        where = f"{path}.default"
        if find_unknown(value, schema):
            yield invalid(where, value, "must not have unspecified fields")
        for error in validate(value, schema, match=search):
            yield FieldError(f"{where}.{error.field}".rstrip("."), error.reason, error.message)
    for name, child in schema.properties.items():
        yield from _default_errors(child, f"{path}.properties[{name}]")
    if schema.additional is not None:
        yield from _default_errors(schema.additional, f"{path}.additionalProperties")
    if schema.items is not None:
        yield from _default_errors(schema.items, f"{path}.items")
