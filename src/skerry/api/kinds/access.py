"""RBAC kinds: defaults and validation.

Source: kubernetes pkg/apis/rbac/{v1/defaults,validation/validation}.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from skerry.api.field import FieldError, invalid, not_supported, required
from skerry.api.gvk import Object
from skerry.api.kinds.filling import fill, part, rows
from skerry.api.names import dns_subdomain
from skerry.api.patch import json_equal
from skerry.api.selectors import label_selector
from skerry.api.status import BadRequest

GROUP = "rbac.authorization.k8s.io"


def default_binding(obj: Object) -> None:
    """Fill the API groups of a RoleBinding or ClusterRoleBinding."""
    fill(part(obj, "roleRef"), "apiGroup", GROUP)
    for subject in rows(obj, "subjects"):
        if subject.get("kind") in ("User", "Group"):
            fill(subject, "apiGroup", GROUP)


def role_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with the rules of a Role."""
    yield from _rule_errors(obj, is_namespaced=True)


def clusterrole_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a ClusterRole."""
    for index, selector in enumerate(rows(obj.get("aggregationRule") or {}, "clusterRoleSelectors")):
        try:
            label_selector(selector)
        except BadRequest as exc:
            yield invalid(f"aggregationRule.clusterRoleSelectors[{index}]", selector, exc.message)
    yield from _rule_errors(obj, is_namespaced=False)


def rolebinding_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a RoleBinding."""
    yield from _binding_errors(obj, ("ClusterRole", "Role"))


def clusterrolebinding_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a ClusterRoleBinding."""
    yield from _binding_errors(obj, ("ClusterRole",))


def binding_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """What is granted never changes; only to whom."""
    if not json_equal(obj.get("roleRef"), old.get("roleRef")):
        yield invalid("roleRef", obj.get("roleRef"), "cannot change roleRef")


def aggregated_rules(role: Object, cluster_roles: Iterable[Object]) -> list[dict[str, Any]] | None:
    """The rules of a ClusterRole that is made of others, in the order of their names; None for other roles.

    Source: kubernetes pkg/controller/clusterroleaggregation/clusterroleaggregation_controller.go (v1.36).
    """
    selectors = (role.get("aggregationRule") or {}).get("clusterRoleSelectors")
    if not selectors:
        return None
    matchers = [label_selector(selector) for selector in selectors]
    rules: list[dict[str, Any]] = []
    for other in sorted(cluster_roles, key=lambda each: str(each["metadata"]["name"])):
        meta = other["metadata"]
        if meta["name"] == role["metadata"]["name"]:
            continue
        if any(matcher.matches(meta.get("labels")) for matcher in matchers):
            rules += [rule for rule in other.get("rules") or () if rule not in rules]
    return rules


def _rule_errors(obj: Object, *, is_namespaced: bool) -> Iterator[FieldError]:
    for index, rule in enumerate(rows(obj, "rules")):
        where = f"rules[{index}]"
        if not rule.get("verbs"):
            yield required(f"{where}.verbs", "verbs must contain at least one value")
        if rule.get("nonResourceURLs"):
            if is_namespaced:
                yield invalid(f"{where}.nonResourceURLs", rule["nonResourceURLs"], "namespaced rules cannot apply to non-resource URLs")  # noqa: E501  # fmt: skip
            if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
                yield invalid(f"{where}.nonResourceURLs", rule["nonResourceURLs"], "rules cannot apply to both regular resources and non-resource URLs")  # noqa: E501  # fmt: skip
            continue
        if not rule.get("apiGroups"):
            yield required(f"{where}.apiGroups", "resource rules must supply at least one api group")
        if not rule.get("resources"):
            yield required(f"{where}.resources", "resource rules must supply at least one resource")


def _binding_errors(obj: Object, kinds: tuple[str, ...]) -> Iterator[FieldError]:
    ref = obj.get("roleRef") or {}
    if ref.get("apiGroup") != GROUP:
        yield not_supported("roleRef.apiGroup", ref.get("apiGroup") or "", (GROUP,))
    if ref.get("kind") not in kinds:
        yield not_supported("roleRef.kind", ref.get("kind") or "", kinds)
    if not ref.get("name"):
        yield required("roleRef.name")
    for index, subject in enumerate(rows(obj, "subjects")):
        where, kind = f"subjects[{index}]", subject.get("kind") or ""
        if not subject.get("name"):
            yield required(f"{where}.name")
        elif kind == "ServiceAccount":
            yield from (invalid(f"{where}.name", subject["name"], text) for text in dns_subdomain(subject["name"]))
        if kind not in ("Group", "ServiceAccount", "User"):
            yield not_supported(f"{where}.kind", kind, ("Group", "ServiceAccount", "User"))
        if kind == "ServiceAccount" and not subject.get("namespace") and "Role" not in kinds:
            yield required(f"{where}.namespace")
