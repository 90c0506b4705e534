"""What the scheduler knows of nodes and what a pod asks of one: amounts, ports, images. Pure.

Source of behaviour: kubernetes pkg/scheduler/framework/types.go (v1.36).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skerry.api.gvk import Object
from skerry.api.meta import controller_of
from skerry.api.quantity import milli_cpu, whole_units
from skerry.controllers.objects import phase_of

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


def scored_of(spec: Mapping[str, Any]) -> dict[str, int]:
    """CPU and memory of a pod as nodes are compared by: containers without requests count as a little."""
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
