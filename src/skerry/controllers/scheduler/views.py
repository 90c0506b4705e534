"""What the scheduler knows of nodes and what a pod asks of one: amounts, ports, images. Pure.

Source of behaviour: kubernetes pkg/scheduler/framework/types.go (v1.36).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from skerry.api.gvk import Object
from skerry.api.meta import controller_of
from skerry.api.podrequests import HostPort, amount, host_ports, requests_of
from skerry.base.values import Struct
from skerry.controllers.objects import phase_of

_SCORED_DEFAULTS = {"cpu": 100, "memory": 200 * 1024 * 1024}
"""What a container without requests counts as when nodes are compared."""


def scored_of(spec: Mapping[str, Any]) -> dict[str, int]:
    """CPU and memory of a pod as nodes are compared by: containers without requests count as a little."""
    asked = requests_of(spec)
    count = max(1, len(spec.get("containers") or ()))
    return {key: asked.get(key) or default * count for key, default in _SCORED_DEFAULTS.items()}


class NodeView(Struct, frozen=True):
    """What the scheduler knows of a node; ``picky`` are those of its pods that have an affinity of any kind."""

    node: Object
    pods: tuple[Object, ...]
    allocatable: Mapping[str, int]
    used: Mapping[str, int]
    scored: Mapping[str, int]
    ports: frozenset[HostPort]
    per_controller: Mapping[str, int]
    images: Mapping[str, int]
    picky: tuple[Object, ...]

    def label(self, key: str) -> str | None:
        """One label of the node."""
        value: str | None = (self.node["metadata"].get("labels") or {}).get(key)
        return value

    @property
    def name(self) -> str:
        """The node's name."""
        return str(self.node["metadata"]["name"])

    def count_of(self, controller_uid: str) -> int:
        """How many of one controller's pods are here."""
        return self.per_controller.get(controller_uid, 0)


class Needs(Struct, frozen=True):
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
        spec, requests_of(spec), scored_of(spec), frozenset(host_ports(spec)), tuple(spec.get("tolerations") or ())
    )


def view(node: Object, pods: Iterable[Object]) -> NodeView:
    """Sum up a node and the pods that are bound to it; finished pods take nothing."""
    running = tuple(pod for pod in pods if phase_of(pod) not in ("Succeeded", "Failed"))
    used: Counter[str] = Counter()
    scored: Counter[str] = Counter()
    ports: set[HostPort] = set()
    for pod in running:
        used.update(requests_of(pod["spec"]))
        scored.update(scored_of(pod["spec"]))
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
        picky=tuple(pod for pod in running if pod["spec"].get("affinity")),
        images={
            name: int(image.get("sizeBytes") or 0)
            for image in status.get("images") or ()
            for name in image.get("names") or ()
        },
    )


def priority_of(pod: Object) -> int:
    """The pod's priority; 0 when it has none."""
    return int(pod["spec"].get("priority") or 0)


def with_pods(view_before: NodeView, pods: Iterable[Object]) -> NodeView:
    """The same node with other pods."""
    return view(view_before.node, pods)
