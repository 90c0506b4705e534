"""Whether this node takes a pod that was bound to it. Pure; the kubelet's reasons and words.

The scheduler has decided before, but it may have been another one, or none (static pods, a name typed by hand), and the
node may have changed since. Source: kubernetes pkg/kubelet/lifecycle/predicate.go (v1.36).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from skerry.api.affinity import fits_affinity, unmet_selector
from skerry.api.gvk import Object
from skerry.api.podrequests import HostPort, host_ports, ports_clash, requests_of
from skerry.api.qos import qos_class
from skerry.api.tolerations import tolerates
from skerry.base.values import Struct
from skerry.edge.resources.pressure import MEMORY

_MEMORY_TAINT = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}
_NAMES = {"cpu": "cpu", "memory": "memory", "ephemeral-storage": "ephemeral-storage", "pods": "pods"}


class Refusal(Struct, frozen=True):
    """Why a pod is not taken: ``reason`` and ``message`` of its status."""

    reason: str
    message: str


def admit(pod: Object, others: Iterable[Object], *, amounts: Mapping[str, int], node: Object | None) -> Refusal | None:
    """Decide about one pod; None when it may run.

    Args:
        others: the pods that are here already; ended ones do not count.
        amounts: allocatable.
        node: as the cloud has it; None where that is not known, so that its labels say nothing.
    """
    spec: dict[str, Any] = pod.get("spec") or {}
    if refused := _other_system(spec):
        return refused
    if node is not None and (refused := _elsewhere(spec, node)):
        return refused
    uid = (pod.get("metadata") or {}).get("uid")
    running = [other for other in others if not has_ended(other) and (other.get("metadata") or {}).get("uid") != uid]
    if refused := _ports(spec, running):
        return refused
    used: Counter[str] = Counter({"pods": len(running)})
    for other in running:
        used.update(_asks(other)[1])
    for resource, asked in {**_asks(pod)[1], "pods": 1}.items():
        if "/" in resource and resource not in amounts:
            continue  # counted by the cluster, as its scheduler has done; this node knows nothing of it
        capacity = amounts.get(resource, 0)
        if used[resource] + asked > capacity:
            return Refusal(
                f"OutOf{_NAMES.get(resource, resource)}",
                f"Node didn't have enough resource: {resource}, requested: {asked}, used: {used[resource]}, "
                f"capacity: {capacity}",
            )
    return None


def refused_under_pressure(pod: Object, held: Collection[str]) -> Refusal | None:
    """Decide about one pod, that is not critical, on a node that runs short.

    A node that is short of nothing but memory takes what asks for some, and what tolerates the taint of it.
    Source: kubernetes pkg/kubelet/eviction/eviction_manager.go:Admit (v1.36).

    Args:
        held: pressures of the node.
    """
    if not held:
        return None
    if set(held) == {MEMORY}:
        tolerations = (pod.get("spec") or {}).get("tolerations") or ()
        if qos_class(pod) != "BestEffort" or any(tolerates(each, _MEMORY_TAINT) for each in tolerations):
            return None
    return Refusal("Evicted", f"Pod was rejected: The node had condition: [{' '.join(sorted(held))}]. ")


def has_ended(pod: Object) -> bool:
    """Whether nothing of a pod runs any more."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _asks(pod: Object) -> tuple[set[HostPort], dict[str, int]]:
    """Host ports and amounts of a pod; none of one that is malformed, which its own start tells."""
    spec = pod.get("spec") or {}
    try:
        return host_ports(spec), requests_of(spec)
    except (KeyError, TypeError, ValueError, AttributeError):
        return set(), {}


def _other_system(spec: Mapping[str, Any]) -> Refusal | None:
    os = spec.get("os")
    name = os.get("name", "linux") if isinstance(os, Mapping) else "linux"
    if name == "linux":
        return None
    text = "Failed to admit pod as the OS field doesn't match node OS"
    return Refusal("PodOSNotSupported", f"{text}: spec.os.name is {str(name)[:60]}, this node's is linux")


def _ports(spec: Mapping[str, Any], running: Iterable[Object]) -> Refusal | None:
    wanted = _asks({"spec": spec})[0]
    for other in running:
        theirs = _asks(other)[0]
        for port in sorted(wanted):
            if ports_clash([port], theirs):
                metadata = other.get("metadata") or {}
                holder = f"{metadata.get('namespace')}/{metadata.get('name')}"
                text = (
                    f"Predicate NodePorts failed: host port {port[2]}/{port[1]} is taken on this node by pod {holder}"
                )
                return Refusal("NodePorts", text)
    return None


def _elsewhere(spec: Mapping[str, Any], node: Object) -> Refusal | None:
    """Whether selector or required affinity mean other nodes than this one."""
    try:
        if unmet := unmet_selector(spec, node):
            why = f"this node is not {unmet}"
        elif not fits_affinity(spec, node):
            why = "this node meets none of the terms of the pod's required node affinity"
        else:
            return None
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        why = f"selector or affinity is malformed: {type(exc).__name__} {exc}"
    return Refusal("NodeAffinity", f"Predicate NodeAffinity failed: {why}")
