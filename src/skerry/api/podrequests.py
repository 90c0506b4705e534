"""What a pod asks of a node: amounts and host ports. Pure; scheduler and node decide by the same numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from skerry.api.quantity import milli_cpu, whole_units

HostPort = tuple[str, str, int]
"""``(address, protocol, port)``; 0.0.0.0 stands for every address."""
_ANY_ADDRESS = "0.0.0.0"


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
    return together(spec, "requests")


def limits_of(spec: Mapping[str, Any]) -> dict[str, int]:
    """What a pod may use at most, by resource; only resources that each of its containers has a limit of.

    Source: kubernetes pkg/kubelet/cm/helpers_linux.go:ResourceConfigForPod (v1.36).
    """
    found = together(spec, "limits")
    every = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    return {key: value for key, value in found.items() if all(_amounts(each, "limits").get(key) for each in every)}


def together(spec: Mapping[str, Any], kind: str) -> dict[str, int]:
    """The ``requests`` or ``limits`` of a pod's containers, by resource, with its overhead on top."""
    total: Counter[str] = Counter()
    for container in spec.get("containers") or ():
        total.update(_amounts(container, kind))
    sidecars: Counter[str] = Counter()
    peak: Counter[str] = Counter()
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            sidecars.update(_amounts(container, kind))
            peak |= sidecars
        else:
            peak |= sidecars + Counter(_amounts(container, kind))
    total.update(sidecars)
    total |= peak
    total.update({key: amount(key, value) for key, value in (spec.get("overhead") or {}).items()})
    return {key: value for key, value in total.items() if value}


def _amounts(container: Mapping[str, Any], kind: str) -> dict[str, int]:
    asked = (container.get("resources") or {}).get(kind) or {}
    return {key: amount(key, value) for key, value in asked.items()}


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
