"""Which node a pod goes to, or why to none. Pure.

Source of behaviour: kubernetes pkg/scheduler/framework/plugins (v1.36); texts of reasons are those of kubectl describe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skerry.api.gvk import Object
from skerry.api.meta import controller_of
from skerry.api.quantity import milli_cpu, whole_units
from skerry.controllers.objects import labels_of, matches, phase_of
from skerry.controllers.tolerance import (
    HARD_EFFECTS,
    UNSCHEDULABLE,
    affinity_score,
    fits_affinity,
    taints_of,
    untolerated,
)

HostPort = tuple[str, str, int]
"""``(address, protocol, port)``; 0.0.0.0 stands for every address."""
_ANY_ADDRESS = "0.0.0.0"
_SCORED_DEFAULTS = {"cpu": 100, "memory": 200 * 1024 * 1024}
"""What a container without requests counts as when nodes are compared."""


def amount(resource: str, text: str | int | float) -> int:
    """A quantity as a whole number, rounded up: millicores for ``cpu``, else bytes or pieces; 0 for nonsense."""
    try:
        return milli_cpu(text) if resource == "cpu" else whole_units(text)
    except ValueError:
        return 0


def requests_of(spec: Mapping[str, Any]) -> dict[str, int]:
    """What a pod asks for: containers together, or one init container where that is more; sidecars and overhead count.

    Source: k8s.io/component-helpers/resource/helpers.go:PodRequests (v1.36).
    """
    total: Counter[str] = Counter()
    for container in spec.get("containers") or ():
        total.update(_requests(container))
    sidecars: Counter[str] = Counter()
    peak: Counter[str] = Counter()
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            sidecars.update(_requests(container))
            peak |= sidecars
        else:
            peak |= sidecars + Counter(_requests(container))
    total.update(sidecars)
    total |= peak
    total.update({key: amount(key, value) for key, value in (spec.get("overhead") or {}).items()})
    return {key: value for key, value in total.items() if value}


def _requests(container: Mapping[str, Any]) -> dict[str, int]:
    asked = (container.get("resources") or {}).get("requests") or {}
    return {key: amount(key, value) for key, value in asked.items()}


def _scored(spec: Mapping[str, Any]) -> dict[str, int]:
    asked = requests_of(spec)
    count = max(1, len(spec.get("containers") or ()))
    return {key: asked.get(key) or default * count for key, default in _SCORED_DEFAULTS.items()}


def host_ports(spec: Mapping[str, Any]) -> set[HostPort]:
    """The ports of the node that a pod takes."""
    found = set()
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                found.add((port.get("hostIP") or _ANY_ADDRESS, port.get("protocol") or "TCP", port["hostPort"]))
    return found


def ports_clash(a: Iterable[HostPort], b: Iterable[HostPort]) -> bool:
    """Whether two sets of host ports overlap."""
    taken = list(b)
    for address, protocol, port in a:
        for other, other_protocol, other_port in taken:
            same = (protocol, port) == (other_protocol, other_port)
            if same and (address == other or _ANY_ADDRESS in (address, other)):
                return True
    return False


@dataclass(frozen=True, slots=True)
class NodeView:
    """What the scheduler knows of a node."""

    node: Object
    pods: tuple[Object, ...]
    allocatable: Mapping[str, int]
    used: Mapping[str, int]
    scored: Mapping[str, int]
    ports: frozenset[HostPort]
    per_controller: Mapping[str, int]

    @property
    def name(self) -> str:
        """The node's name."""
        return str(self.node["metadata"]["name"])

    def count_of(self, controller_uid: str) -> int:
        """How many of one controller's pods are here."""
        return self.per_controller.get(controller_uid, 0)


@dataclass(frozen=True, slots=True)
class Needs:
    """What a pod asks of a node, read once per choice."""

    spec: Mapping[str, Any]
    requests: Mapping[str, int]
    scored: Mapping[str, int]
    ports: frozenset[HostPort]
    tolerations: Sequence[Mapping[str, Any]]


def needs_of(pod: Object) -> Needs:
    """Read a pod's spec."""
    spec = pod["spec"]
    return Needs(
        spec, requests_of(spec), _scored(spec), frozenset(host_ports(spec)), tuple(spec.get("tolerations") or ())
    )


def view(node: Object, pods: Iterable[Object]) -> NodeView:
    """Sum up a node and the pods that are bound to it; finished pods take nothing."""
    running = tuple(pod for pod in pods if phase_of(pod) not in ("Succeeded", "Failed"))
    used: Counter[str] = Counter()
    scored: Counter[str] = Counter()
    ports: set[HostPort] = set()
    for pod in running:
        used.update(requests_of(pod["spec"]))
        scored.update(_scored(pod["spec"]))
        ports |= host_ports(pod["spec"])
    status = node.get("status") or {}
    allocatable = status.get("allocatable") or status.get("capacity") or {}
    return NodeView(
        node=node,
        pods=running,
        allocatable={key: amount(key, value) for key, value in allocatable.items()},
        used=used,
        scored=scored,
        ports=frozenset(ports),
        per_controller=Counter((controller_of(pod) or {}).get("uid", "") for pod in running),
    )


@dataclass(frozen=True, slots=True)
class Choice:
    """A node, or why there is none."""

    node: str = ""
    message: str = ""


def choose(pod: Object, views: Sequence[NodeView]) -> Choice:
    """Pick the node with the highest score among those that fit.

    Args:
        pod: not bound yet.
        views: every node.
    """
    needs, guards = needs_of(pod), _guards(views)
    against = [(node, obstacles(pod, needs, node, views, guards)) for node in views]
    fitting = [node for node, reasons in against if not reasons]
    if fitting:
        scale = _scale(pod, fitting)
        return Choice(node=max(fitting, key=lambda node: (_score(needs, node, scale), node.name)).name)
    if not views:
        return Choice(message="no nodes available to schedule pods")
    counts = Counter(reason for _, reasons in against for reason in reasons)
    parts = sorted(f"{count} {reason}" for reason, count in counts.items())
    return Choice(message=f"0/{len(views)} nodes are available: {', '.join(parts)}.")


Guard = tuple[NodeView, Object, Mapping[str, Any]]
"""A pod that keeps others away: where it is, the pod, one of its anti-affinity terms."""


def _guards(views: Sequence[NodeView]) -> list[Guard]:
    """Looked up once per choice: most clusters have none."""
    return [
        (node, pod, term)
        for node in views
        for pod in node.pods
        if "affinity" in pod["spec"]
        for term in _required((pod["spec"].get("affinity") or {}).get("podAntiAffinity"))
    ]


def obstacles(
    pod: Object, needs: Needs, node: NodeView, views: Sequence[NodeView], guards: Sequence[Guard]
) -> list[str]:
    """Why the pod cannot be on the node; the first kind of reason only, except for resources."""
    spec = needs.spec
    if spec.get("nodeName") and spec["nodeName"] != node.name:
        return ["node(s) didn't match the requested node name"]
    if reason := _taint_obstacle(needs, node.node):
        return [reason]
    if not fits_affinity(spec, node.node):
        return ["node(s) didn't match Pod's node affinity/selector"]
    if needs.ports and ports_clash(needs.ports, node.ports):
        return ["node(s) didn't have free ports for the requested pod ports"]
    if missing := _missing(needs, node):
        return missing
    return _neighbour_obstacle(pod, node, views, guards)


def _taint_obstacle(needs: Needs, node: Object) -> str:
    taint = untolerated(taints_of(node), needs.tolerations, HARD_EFFECTS)
    if taint is None:
        return ""
    if taint["key"] == UNSCHEDULABLE:
        return "node(s) were unschedulable"
    return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value') or ''}}}"


def _missing(needs: Needs, node: NodeView) -> list[str]:
    reasons = []
    if "pods" in node.allocatable and len(node.pods) + 1 > node.allocatable["pods"]:
        reasons.append("Too many pods")
    for resource, asked in needs.requests.items():
        if asked > node.allocatable.get(resource, 0) - node.used.get(resource, 0):
            reasons.append(f"Insufficient {resource}")
    return reasons


def _neighbour_obstacle(pod: Object, node: NodeView, views: Sequence[NodeView], guards: Sequence[Guard]) -> list[str]:
    affinity = pod["spec"].get("affinity") or {}
    for term in _required(affinity.get("podAntiAffinity")):
        if _neighbours(pod, term, node, views):
            return ["node(s) didn't match pod anti-affinity rules"]
    for term in _required(affinity.get("podAffinity")):
        is_first = _selects(term, pod, pod) and not any(_selects(term, pod, p) for v in views for p in v.pods)
        if not is_first and not _neighbours(pod, term, node, views):
            return ["node(s) didn't match pod affinity rules"]
    for place, guard, term in guards:
        if _same_domain(term["topologyKey"], node, place) and _selects(term, guard, pod):
            return ["node(s) didn't satisfy existing pods anti-affinity rules"]
    return []


def _required(affinity: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
    return (affinity or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or ()


def _same_domain(topology_key: str, a: NodeView, b: NodeView) -> bool:
    value = labels_of(a.node).get(topology_key)
    return value is not None and labels_of(b.node).get(topology_key) == value


def _neighbours(pod: Object, term: Mapping[str, Any], node: NodeView, views: Sequence[NodeView]) -> bool:
    near = [other for other in views if _same_domain(term["topologyKey"], node, other)]
    return any(_selects(term, pod, other) for found in near for other in found.pods)


def _selects(term: Mapping[str, Any], owner: Object, pod: Object) -> bool:
    namespaces = term.get("namespaces") or [owner["metadata"]["namespace"]]
    everywhere = term.get("namespaceSelector") == {}
    return (everywhere or pod["metadata"]["namespace"] in namespaces) and matches(
        term.get("labelSelector"), labels_of(pod)
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    """The best of each score among the nodes that fit, so that scores can be compared."""

    preferred: int
    controller_uid: str
    siblings: int


def _scale(pod: Object, fitting: Sequence[NodeView]) -> _Scale:
    uid = (controller_of(pod) or {}).get("uid", "")
    return _Scale(
        preferred=max(affinity_score(pod["spec"], node.node) for node in fitting),
        controller_uid=uid,
        siblings=max(node.count_of(uid) for node in fitting) if uid else 0,
    )


def _score(needs: Needs, node: NodeView, scale: _Scale) -> float:
    score = _least_allocated(needs, node)
    if scale.preferred > 0:
        score += 200 * affinity_score(needs.spec, node.node) / scale.preferred
    if untolerated(taints_of(node.node), needs.tolerations, ("PreferNoSchedule",)) is None:
        score += 300
    spread = 1 - node.count_of(scale.controller_uid) / scale.siblings if scale.siblings else 1.0
    return score + 200 * spread


def _least_allocated(needs: Needs, node: NodeView) -> float:
    shares = []
    for resource, asked in needs.scored.items():
        total = node.allocatable.get(resource, 0)
        shares.append(max(0.0, 1 - (node.scored.get(resource, 0) + asked) / total) if total else 0.0)
    return 100 * sum(shares) / len(shares)
