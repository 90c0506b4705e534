"""Which hooks and policies a request concerns: rules, selectors, and versions that show the same objects.

Source: kubernetes apiserver/pkg/admission/plugin/webhook/{generic,predicates} (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from skerry.api.gvk import Object
from skerry.api.selectors import label_selector
from skerry.apiserver.admission.request import AdmissionRequest, Find
from skerry.apiserver.registry import Kind, Registry
from skerry.apiserver.store.log import Key

EXEMPT = frozenset(
    f"{name}.admissionregistration.k8s.io"
    for name in (
        "validatingwebhookconfigurations",
        "mutatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
    )
)
"""What nothing may intercept, so that a broken hook can be removed."""


class Matcher:
    """Answers which rows a rule list takes of a request.

    Args:
        find: looks up one object.
        registry: knows the versions of a resource.
    """

    def __init__(self, *, find: Find, registry: Registry) -> None:
        self._find = find
        self._registry = registry

    def row(self, request: AdmissionRequest, rules: Iterable[Mapping[str, Any]], *, is_exact: bool) -> Kind | None:
        """The row in which a hook wants the request: its own, or another version of the same objects."""
        rules = list(rules)
        if any(fits_rule(request, rule, request.kind) for rule in rules):
            return request.kind
        if is_exact:
            return None
        others = (row for row in self._registry if row.storage == request.kind.storage and row != request.kind)
        return next((row for row in others if any(fits_rule(request, rule, row) for rule in rules)), None)

    def selects(self, request: AdmissionRequest, hook: Mapping[str, Any]) -> bool:
        """Whether the selectors of a hook take the request."""
        return self._namespace(request, hook.get("namespaceSelector")) and _object(request, hook.get("objectSelector"))

    def namespace_of(self, request: AdmissionRequest) -> Object | None:
        """The Namespace of the request's object, None for cluster objects."""
        if not request.namespace:
            return None
        entry = self._find(Key("namespaces", "", request.namespace))
        return entry.object(kind="Namespace", api_version="v1") if entry is not None else None

    def _namespace(self, request: AdmissionRequest, selector: Mapping[str, Any] | None) -> bool:
        if not selector:
            return True
        if request.kind.storage == "namespaces":
            labels = (request.obj["metadata"].get("labels")) or {}
        elif request.namespace:
            entry = self._find(Key("namespaces", "", request.namespace))
            labels = entry.labels() if entry is not None else {}
        else:
            return True
        return label_selector(dict(selector)).matches(labels)


def fits_rule(request: AdmissionRequest, rule: Mapping[str, Any], row: Kind) -> bool:
    """Whether one rule takes a request seen as that row."""
    resource = row.resource
    operations = rule.get("operations") or ()
    if "*" not in operations and request.operation.upper() not in operations:
        return False
    if not _has(rule.get("apiGroups"), resource.group) or not _has(rule.get("apiVersions"), resource.version):
        return False
    scope = rule.get("scope") or "*"
    is_namespaced = resource.namespaced and request.kind.storage != "namespaces"
    if scope != "*" and (scope == "Namespaced") is not is_namespaced:
        return False
    names = rule.get("resourceNames")
    if names and request.name not in names:
        return False
    return _has_resource(rule.get("resources") or (), resource.plural, request.subresource)


def _has(allowed: Any, value: str) -> bool:
    return "*" in (allowed or ()) or value in (allowed or ())


def _has_resource(allowed: Iterable[str], plural: str, subresource: str) -> bool:
    for pattern in allowed:
        name, slash, sub = pattern.partition("/")
        if name not in ("*", plural):
            continue
        if (not slash and not subresource) or (slash and (sub == "*" or (sub == subresource and subresource))):
            return True
    return False


def _object(request: AdmissionRequest, selector: Mapping[str, Any] | None) -> bool:
    if not selector:
        return True
    matches: Callable[[Mapping[str, str]], bool] = label_selector(dict(selector)).matches
    states = [request.obj] + ([request.old] if request.old is not None else [])
    return any(matches(state.get("metadata", {}).get("labels") or {}) for state in states)
