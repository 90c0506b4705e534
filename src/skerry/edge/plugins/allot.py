"""Which devices a container gets. Pure; ``desk`` asks the plugins and writes it down.

As with every extended resource a container asks for whole pieces, and its request is its limit. Devices of init
containers that have ended are used again by the containers after them.
Source: kubernetes pkg/kubelet/cm/devicemanager/manager.go (v1.36).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from skerry.api.gvk import Object
from skerry.api.podrequests import amount, requests_of
from skerry.base.values import Struct


class Ask(Struct, frozen=True):
    """What one container asks of one resource.

    Args:
        lends: the container ends before the ones after it start, which may use the same devices.
    """

    container: str
    resource: str
    count: int
    lends: bool = False


class Pick(Struct, frozen=True):
    """Devices for one container.

    Args:
        wanted: how many in all.
        sure: those that it gets in any case.
        offered: those to choose from, with ``sure``.
    """

    wanted: int
    sure: tuple[str, ...]
    offered: tuple[str, ...]

    def take(self, preferred: Collection[str] = ()) -> tuple[str, ...]:
        """The devices: the sure ones, then the plugin's choice as far as it was offered, then the first of the rest."""
        chosen = list(self.sure)
        for device in (*(d for d in preferred if d in self.offered), *self.offered):
            if len(chosen) >= self.wanted:
                break
            if device not in chosen:
                chosen.append(device)
        return tuple(chosen)


def asks_of(pod: Object, resources: Collection[str]) -> Iterator[Ask]:
    """What a pod asks of the resources that plugins offer, in the order in which its containers start."""
    spec = pod.get("spec") or {}
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind) or ():
            lends = kind == "initContainers" and container.get("restartPolicy") != "Always"
            for resource, count in _limits(container).items():
                if resource in resources and count > 0:
                    yield Ask(str(container.get("name")), resource, count, lends)


def total_of(pod: Object, resources: Collection[str]) -> Counter[str]:
    """How many devices of each resource a pod needs at the same time."""
    asked = requests_of(pod.get("spec") or {})
    return Counter({name: asked[name] for name in resources if asked.get(name)})


def pick(ask: Ask, free: Sequence[str], lent: Collection[str]) -> Pick | None:
    """Devices for an ask; None when there are too few.

    Args:
        free: healthy devices that nobody has, in order.
        lent: those that an init container of the same pod had.
    """
    sure = tuple(sorted(lent))[: ask.count]
    if len(sure) + len(free) < ask.count:
        return None
    return Pick(ask.count, sure, tuple(dict.fromkeys((*sure, *free))))


def _limits(container: Mapping[str, Any]) -> dict[str, int]:
    resources = container.get("resources") or {}
    found = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
    return {name: amount(name, value) for name, value in found.items() if "/" in name}
