"""Pod affinity and anti-affinity: counted once per pod and topology, asked once per node. Pure.

Source of behaviour: kubernetes pkg/scheduler/framework/plugins/interpodaffinity (v1.36).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from skerry.api.gvk import Object
from skerry.base.values import Struct
from skerry.controllers.objects import labels_of, matches
from skerry.controllers.scheduler.views import NodeView

Labels = Mapping[str, Mapping[str, str]]
"""Namespace → its labels."""
Term = Mapping[str, Any]
Domain = tuple[str, str]
"""Topology key and value."""

AFFINITY = "node(s) didn't match pod affinity rules"
ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
EXISTING_ANTI_AFFINITY = "node(s) didn't satisfy existing pods anti-affinity rules"
_HARD_WEIGHT = 1
"""What a required affinity of a running pod counts for when nodes are compared."""


def required_terms(pod: Object, kind: str) -> Sequence[Term]:
    """The required terms of ``podAffinity`` or ``podAntiAffinity``."""
    affinity = (pod["spec"].get("affinity") or {}).get(kind) or {}
    return affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ()


def preferred_terms(pod: Object, kind: str) -> Sequence[tuple[int, Term]]:
    """The preferred terms with their weights."""
    affinity = (pod["spec"].get("affinity") or {}).get(kind) or {}
    found = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return [(int(item["weight"]), item["podAffinityTerm"]) for item in found]


def selects(term: Term, owner: Object, pod: Object, namespaces: Labels) -> bool:
    """Whether a term of ``owner`` means ``pod``."""
    place = pod["metadata"]["namespace"]
    named, selector = term.get("namespaces"), term.get("namespaceSelector")
    is_there = place in (named or ()) or (
        matches(selector, namespaces.get(place, {})) if selector is not None else False
    )
    if not named and selector is None:
        is_there = place == owner["metadata"]["namespace"]
    return is_there and matches(term.get("labelSelector"), labels_of(pod))


class Neighbourhood(Struct, frozen=True):
    """What the pods that run mean for one that is to be placed.

    Args:
        shunned: domains that running pods keep it away from.
        near: the terms of its affinity, and in which domains pods fulfil them all.
        far: the terms of its anti-affinity, each with the domains that hold a pod it means.
        is_first: nobody fulfils its affinity yet, but it does so itself.
    """

    shunned: frozenset[Domain]
    near: tuple[Term, ...]
    near_domains: frozenset[Domain]
    far: tuple[tuple[Term, frozenset[Domain]], ...]
    is_first: bool

    def obstacle(self, node: NodeView) -> str:
        """Why the pod cannot be on the node; empty when it can."""
        if self.near and not self._is_near(node):
            return AFFINITY
        for term, domains in self.far:
            if _domain(node, term) in domains:
                return ANTI_AFFINITY
        if any(node.label(key) == value for key, value in self.shunned):
            return EXISTING_ANTI_AFFINITY
        return ""

    def _is_near(self, node: NodeView) -> bool:
        domains = [_domain(node, term) for term in self.near]
        if any(domain is None for domain in domains):
            return False
        return self.is_first or all(domain in self.near_domains for domain in domains)


def _domain(node: NodeView, term: Term) -> Domain | None:
    value = node.label(term["topologyKey"])
    return None if value is None else (term["topologyKey"], value)


def neighbourhood(pod: Object, views: Sequence[NodeView], namespaces: Labels) -> Neighbourhood:
    """Look at every running pod once."""
    near, far = tuple(required_terms(pod, "podAffinity")), tuple(required_terms(pod, "podAntiAffinity"))
    shunned: set[Domain] = set()
    near_domains: set[Domain] = set()
    far_domains: list[set[Domain]] = [set() for _ in far]
    for node in views:
        for other in node.picky:
            for term in required_terms(other, "podAntiAffinity"):
                domain = _domain(node, term)
                if domain is not None and selects(term, other, pod, namespaces):
                    shunned.add(domain)
        for other in node.pods if near or far else ():
            if near and all(selects(term, pod, other, namespaces) for term in near):
                near_domains.update(domain for term in near if (domain := _domain(node, term)) is not None)
            for term, domains in zip(far, far_domains, strict=True):
                domain = _domain(node, term)
                if domain is not None and selects(term, pod, other, namespaces):
                    domains.add(domain)
    return Neighbourhood(
        frozenset(shunned),
        near,
        frozenset(near_domains),
        tuple((term, frozenset(domains)) for term, domains in zip(far, far_domains, strict=True)),
        is_first=not near_domains and all(selects(term, pod, pod, namespaces) for term in near),
    )


def preferences(pod: Object, views: Sequence[NodeView], namespaces: Labels) -> Mapping[Domain, int]:
    """How much each domain is liked: by the pod's own preferences and by those of running pods for it."""
    liked: Counter[Domain] = Counter()
    own = [(weight, term) for weight, term in preferred_terms(pod, "podAffinity")]
    own += [(-weight, term) for weight, term in preferred_terms(pod, "podAntiAffinity")]
    for node in views:
        for other in node.pods if own else ():
            for weight, term in own:
                _like(liked, node, weight, term, pod, other, namespaces)
        for other in node.picky:
            theirs = [(weight, term) for weight, term in preferred_terms(other, "podAffinity")]
            theirs += [(-weight, term) for weight, term in preferred_terms(other, "podAntiAffinity")]
            theirs += [(_HARD_WEIGHT, term) for term in required_terms(other, "podAffinity")]
            for weight, term in theirs:
                _like(liked, node, weight, term, other, pod, namespaces)
    return liked


def _like(
    liked: Counter[Domain], node: NodeView, weight: int, term: Term, owner: Object, other: Object, namespaces: Labels
) -> None:
    domain = _domain(node, term)
    if domain is not None and selects(term, owner, other, namespaces):
        liked[domain] += weight
