"""Node selectors and node affinity: whether a pod may be on a node. Pure; scheduler and node decide by the same rules.

Source of behaviour: k8s.io/component-helpers/scheduling/corev1/nodeaffinity (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from skerry.api.gvk import Object


def matches_expression(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """One requirement of a label or node selector: In, NotIn, Exists, DoesNotExist, Gt, Lt."""
    key, operator, values = expression["key"], expression["operator"], expression.get("values") or ()
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return key not in labels or labels[key] not in values
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    return _compares(operator, labels.get(key), values)


def matches_term(term: Mapping[str, Any], node: Object) -> bool:
    """Whether a node selector term fits; an empty one fits nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    labels, named = _labels_of(node), {"metadata.name": node["metadata"]["name"]}
    return all(matches_expression(e, labels) for e in expressions) and all(matches_expression(f, named) for f in fields)


def unmet_selector(spec: Mapping[str, Any], node: Object) -> str:
    """The first ``key=value`` of a pod spec's ``nodeSelector`` that the node does not have; empty when it has all."""
    labels = _labels_of(node)
    unmet = (f"{key}={value}" for key, value in (spec.get("nodeSelector") or {}).items() if labels.get(key) != value)
    return next(unmet, "")


def fits_affinity(spec: Mapping[str, Any], node: Object) -> bool:
    """Whether ``nodeSelector`` and the required node affinity of a pod spec allow the node."""
    if unmet_selector(spec, node):
        return False
    required = _node_affinity(spec).get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or any(matches_term(term, node) for term in required.get("nodeSelectorTerms") or ())


def affinity_score(spec: Mapping[str, Any], node: Object) -> int:
    """Sum of the weights of the preferred terms that fit."""
    preferred = _node_affinity(spec).get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return sum(int(item["weight"]) for item in preferred if matches_term(item["preference"], node))


def _compares(operator: str, found: str | None, values: Iterable[str]) -> bool:
    wanted = list(values)
    try:
        number, bound = int(found or ""), int(wanted[0])
    except (ValueError, IndexError):
        return False
    return (operator == "Gt" and number > bound) or (operator == "Lt" and number < bound)


def _labels_of(node: Object) -> Mapping[str, str]:
    return node["metadata"].get("labels") or {}


def _node_affinity(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return (spec.get("affinity") or {}).get("nodeAffinity") or {}
