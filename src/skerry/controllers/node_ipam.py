"""A range of pod addresses for every node, out of one range of the cluster.

When all are given out, nodes wait, in order, until another node goes; each is told so once.

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


class RangePool:
    """Which ranges of one network are held, by whom. Finding a free one costs the same with any number of holders.

    Args:
        network: the cluster's range.
        prefix: length of the prefix of what is given out.
    """

    def __init__(self, network: Network, prefix: int) -> None:
        self._network = network
        self._prefix = prefix
        self._bits = network.max_prefixlen - prefix
        self._first = int(network.network_address) >> self._bits
        self._end = self._first + (1 << (prefix - network.prefixlen))
        self._lowest = self._first
        self._used: dict[int, int] = {}
        self._held: dict[str, list[range]] = {}

    def hold(self, uid: str, networks: Iterable[Network]) -> None:
        """This node has these ranges now, wherever they come from, and no others."""
        self.release(uid)
        self._held[uid] = spans = [self._numbers(n) for n in networks if n.version == self._network.version]
        for number in (number for span in spans for number in span):
            self._used[number] = self._used.get(number, 0) + 1

    def release(self, uid: str) -> None:
        """This node has none any more."""
        for number in (number for span in self._held.pop(uid, ()) for number in span):
            self._used[number] -= 1
            if not self._used[number]:
                del self._used[number]
                self._lowest = min(self._lowest, number)

    def find(self) -> str | None:
        """The first range that overlaps no held one; None when all are given out."""
        while self._lowest in self._used:
            self._lowest += 1
        if self._lowest >= self._end:
            return None
        return f"{ipaddress.ip_address(self._lowest << self._bits)}/{self._prefix}"

    def _numbers(self, network: Network) -> range:
        low, high = int(network.network_address) >> self._bits, int(network.broadcast_address) >> self._bits
        return range(max(low, self._first), min(high + 1, self._end))


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
        self._full = f"{network} has no free range of /{prefix}"
        self._pool = RangePool(network, prefix)
        self._nodes = informers.of(NODES)
        self._given: dict[str, str] = {}
        self._waiting: dict[Key, None] = {}
        self._loop: Loop[Key] = Loop("node-ipam", self._sync, informers=(self._nodes,), workers=1)
        self._nodes.on_event(self._changed)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    def _changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        if new is None:
            assert old is not None
            self._gone(old)
        elif found := ranges_of(new):
            self._waiting.pop(key_of(new), None)
            if old is None or ranges_of(old) != found:
                self._pool.hold(new["metadata"]["uid"], found)
        elif key_of(new) not in self._waiting:
            self._loop.add(key_of(new))

    def _gone(self, node: Object) -> None:
        """The first of the nodes that wait gets its range."""
        uid = node["metadata"]["uid"]
        self._given.pop(uid, None)
        self._waiting.pop(key_of(node), None)
        self._pool.release(uid)
        if self._waiting:
            key = next(iter(self._waiting))
            del self._waiting[key]
            self._loop.add(key)

    async def _sync(self, key: Key) -> float | None:
        node = self._nodes.get(key[1])
        if node is None or is_deleting(node) or ranges_of(node):
            return None
        uid = node["metadata"]["uid"]
        text = self._given.get(uid) or self._pool.find()
        if text is None:
            self._waiting[key] = None
            self._events.warning(node, "CIDRNotAvailable", self._full)
            return None
        self._given[uid] = text
        self._pool.hold(uid, [ipaddress.ip_network(text)])
        patch: dict[str, Any] = {"metadata": {"uid": uid}, "spec": {"podCIDR": text, "podCIDRs": [text]}}
        await self._api.patch(NODES, key[1], patch)
        return None
