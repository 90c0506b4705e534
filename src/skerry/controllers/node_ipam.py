"""A range of pod addresses for every node, out of one range of the cluster.

Source of behaviour: kubernetes pkg/controller/nodeipam/ipam/range_allocator.go (v1.36).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from skerry.api.gvk import NODES, Object
from skerry.api.meta import is_deleting
from skerry.base.errors import ConfigError
from skerry.controllers.loop import Loop
from skerry.kube.events import EventRecorder
from skerry.kube.informer import InformerSet, Key, key_of
from skerry.kube.ports import KubeApi

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
AGAIN_S = 60.0


def parse_range(text: str, prefix: int) -> Network:
    """The cluster's range.

    Raises:
        ConfigError: not a network, or too small for a node of this prefix length.
    """
    try:
        network = ipaddress.ip_network(text)
    except ValueError as exc:
        raise ConfigError(f"podRange: {exc}", hint="write a network such as 10.244.0.0/16") from exc
    if not network.prefixlen <= prefix <= network.max_prefixlen:
        raise ConfigError(
            f"podRange: {text} has no ranges of /{prefix}", hint="nodePrefix must be longer than that of podRange"
        )
    return network


def ranges_of(node: Object) -> list[Network]:
    """What a node has; what cannot be read is left out."""
    spec = node.get("spec") or {}
    found = []
    for text in spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else []):
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError:
            continue
    return found


def free_range(network: Network, prefix: int, taken: Iterable[Network]) -> str | None:
    """The first range of the prefix length that overlaps none of ``taken``; None when all are given out."""
    blocked: set[int] = set()
    size = network.max_prefixlen - prefix
    first = int(network.network_address) >> size
    for other in taken:
        if other.version == network.version:
            low, high = int(other.network_address) >> size, int(other.broadcast_address) >> size
            blocked.update(range(max(low, first), min(high, first + (1 << (prefix - network.prefixlen)) - 1) + 1))
    for number in range(first, first + (1 << (prefix - network.prefixlen))):
        if number not in blocked:
            address = ipaddress.ip_address(number << size)
            return f"{address}/{prefix}"
    return None


class NodeIpam:
    """Gives each node that has none a range.

    Args:
        api: the cluster.
        informers: shared caches.
        events: where to say that the range is used up.
        network: the cluster's range.
        prefix: length of the prefix of a node's range.
    """

    def __init__(
        self, api: KubeApi, *, informers: InformerSet, events: EventRecorder, network: Network, prefix: int
    ) -> None:
        self._api = api
        self._events = events
        self._network = network
        self._prefix = prefix
        self._nodes = informers.of(NODES)
        self._given: dict[str, str] = {}
        self._loop: Loop[Key] = Loop("node-ipam", self._sync, informers=(self._nodes,), workers=1)
        self._nodes.on_event(self._changed)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    def _changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        if new is None:
            assert old is not None
            self._given.pop(old["metadata"]["uid"], None)
        elif not ranges_of(new):
            self._loop.add(key_of(new))

    async def _sync(self, key: Key) -> float | None:
        node = self._nodes.get(key[1])
        if node is None or is_deleting(node) or ranges_of(node):
            return None
        uid = node["metadata"]["uid"]
        text = self._given.get(uid) or free_range(self._network, self._prefix, self._taken())
        if text is None:
            self._events.warning(node, "CIDRNotAvailable", f"{self._network} has no free range of /{self._prefix}")
            return AGAIN_S
        self._given[uid] = text
        patch: dict[str, Any] = {"metadata": {"uid": uid}, "spec": {"podCIDR": text, "podCIDRs": [text]}}
        await self._api.patch(NODES, key[1], patch)
        return None

    def _taken(self) -> list[Network]:
        shown = [network for node in self._nodes.items() for network in ranges_of(node)]
        return shown + [ipaddress.ip_network(text) for text in self._given.values()]
