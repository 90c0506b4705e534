"""Changes in the cluster → deliveries to the nodes concerned. Implements the hub's ``Resync``.

Caches: pods, nodes, ConfigMaps, Secrets. An object goes to a node when it is the node's own, a pod bound to it, or a
config that one of those pods names; when the last of these pods is gone, the config is taken away again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from skerry.api.gvk import CONFIGMAPS, NODES, PODS, SECRETS, Object
from skerry.cloud.hub.ports import Delivery, NodeName, Outbox
from skerry.cloud.sync.placement import ConfigKey, configs_of, is_status_only, node_of, stripped
from skerry.kube.informer import InformerSet, by_node
from skerry.wire.kubeedge import constants as c

ORDER_NODE = 0
ORDER_CONFIG = 20
ORDER_POD_GONE = 40
ORDER_POD = 50
ORDER_CONFIG_GONE = 80


class Downstream:
    """Watches the cluster for the nodes.

    Args:
        informers: shared caches; must be run by the caller.
        outbox: where deliveries go. Set before ``start``.
    """

    def __init__(self, informers: InformerSet) -> None:
        self._pods = informers.of(PODS, indexes={"node": by_node})
        self._nodes = informers.of(NODES)
        self._configs = {c.TYPE_CONFIGMAP: informers.of(CONFIGMAPS), c.TYPE_SECRET: informers.of(SECRETS)}
        self._outbox: Outbox | None = None
        self._users: dict[ConfigKey, dict[str, set[str]]] = {}
        self._named: dict[tuple[str, str], set[ConfigKey]] = {}

    def start(self, outbox: Outbox) -> None:
        """Begin to deliver; changes so far are in the caches and reach each node by its resync."""
        self._outbox = outbox
        self._pods.on_event(self._on_pod)
        self._nodes.on_event(self._on_node)
        for type_, informer in self._configs.items():
            informer.on_event(partial(self._on_config, type_))

    async def wait_synced(self) -> None:
        """Wait until every cache has its first list."""
        for informer in (self._pods, self._nodes, *self._configs.values()):
            await informer.wait_synced()

    def pods_of(self, node: str) -> list[Object]:
        """The pods bound to a node."""
        return self._pods.by_index("node", node)

    def config(self, key: ConfigKey) -> Object | None:
        """A ConfigMap or Secret from the cache."""
        return self._configs[key.type].get(key.name, key.namespace)

    def is_known(self, node: NodeName) -> bool:
        """Whether the cluster has a Node of this name, as far as the cache knows; its deletion ends the session."""
        return self._nodes.get(node) is not None

    def needs(self, node: NodeName, path: str) -> bool:
        """Whether the node holds an object (by wire resource) for itself: its Node, its pods and their configs."""
        if path == f"{c.NO_NAMESPACE}/{c.TYPE_NODE}/{node}":
            return True
        namespace, type_, name = path.split("/")
        pods = self.pods_of(node)
        if type_ == c.TYPE_POD:
            return any((p["metadata"].get("namespace"), p["metadata"]["name"]) == (namespace, name) for p in pods)
        return ConfigKey(type_, namespace, name) in {key for pod in pods for key in configs_of(pod)}

    def disown(self, node: NodeName, pod: Object) -> None:
        """The node speaks of a pod that the cluster does not know: take it away, unless one of that name is its own."""
        meta = pod["metadata"]
        if not self.needs(node, f"{meta['namespace']}/{c.TYPE_POD}/{meta['name']}"):
            self._put(node, _delivery(c.TYPE_POD, c.OP_DELETE, pod, ORDER_POD_GONE))

    async def desired(self, node: NodeName) -> Sequence[Delivery]:
        """Everything that the node should hold. After the caches are filled it does not wait, so it is one moment."""
        await self.wait_synced()
        deliveries = []
        if (own := self._nodes.get(node)) is not None:
            deliveries.append(_delivery(c.TYPE_NODE, c.OP_UPDATE, own, ORDER_NODE))
        pods = self.pods_of(node)
        for key in {key: None for pod in pods for key in configs_of(pod)}:
            if (config := self.config(key)) is not None:
                deliveries.append(_delivery(key.type, c.OP_UPDATE, config, ORDER_CONFIG))
        deliveries.extend(_delivery(c.TYPE_POD, _pod_operation(pod), pod, ORDER_POD) for pod in pods)
        return deliveries

    def _on_pod(self, kind: str, old: Object | None, new: Object | None) -> None:
        before, after = node_of(old or {}), node_of(new or {})
        if old is not None and before and (new is None or before != after):
            self._put(before, _delivery(c.TYPE_POD, c.OP_DELETE, old, ORDER_POD_GONE))
            self._use(before, old, ())
        if new is None or not after:
            return
        if old is not None and before == after and is_status_only(old, new):
            self._advance(after, _delivery(c.TYPE_POD, c.OP_UPDATE, new, ORDER_POD), old)
            return
        self._use(after, new, configs_of(new))
        is_first = old is None or before != after
        operation = _pod_operation(new) if is_first else c.OP_UPDATE
        self._put(after, _delivery(c.TYPE_POD, operation, new, ORDER_POD))

    def _use(self, node: str, pod: Object, keys: Iterable[ConfigKey]) -> None:
        """The pod on this node names these configs now: bring new ones, take unused ones away."""
        uid, wanted = pod["metadata"]["uid"], set(keys)
        named = self._named.pop((node, uid), set())
        if wanted:
            self._named[(node, uid)] = wanted
        for key in named - wanted:
            self._release(node, uid, key)
        for key in wanted - named:
            users = self._users.setdefault(key, {}).setdefault(node, set())
            if not users and (config := self.config(key)) is not None:
                self._put(node, _delivery(key.type, c.OP_INSERT, config, ORDER_CONFIG))
            users.add(uid)

    def _release(self, node: str, uid: str, key: ConfigKey) -> None:
        nodes = self._users[key]
        nodes[node].discard(uid)
        if nodes[node]:
            return
        del nodes[node]
        if not nodes:
            del self._users[key]
        if (config := self.config(key)) is not None:
            self._put(node, _delivery(key.type, c.OP_DELETE, config, ORDER_CONFIG_GONE))

    def _on_node(self, kind: str, old: Object | None, new: Object | None) -> None:
        if new is None:
            if old is not None and self._outbox is not None:
                name = NodeName(old["metadata"]["name"])
                self._outbox.disconnect(name, f"node {name} was deleted from the cluster")
            return
        delivery = _delivery(c.TYPE_NODE, c.OP_UPDATE, new, ORDER_NODE)
        if old is not None and is_status_only(old, new):
            self._advance(new["metadata"]["name"], delivery, old)
        else:
            self._put(new["metadata"]["name"], delivery)

    def _on_config(self, type_: str, kind: str, old: Object | None, new: Object | None) -> None:
        obj = new or old
        if obj is None:
            return
        key = ConfigKey(type_, obj["metadata"].get("namespace") or "", obj["metadata"]["name"])
        operation = {"ADDED": c.OP_INSERT, "DELETED": c.OP_DELETE}.get(kind, c.OP_UPDATE)
        order = ORDER_CONFIG_GONE if kind == "DELETED" else ORDER_CONFIG
        for node in list(self._users.get(key, ())):
            delivery = _delivery(type_, operation, obj, order)
            if old is not None and new is not None and is_status_only(old, new):
                self._advance(node, delivery, old)
            else:
                self._put(node, delivery)

    def _put(self, node: str, delivery: Delivery) -> None:
        if self._outbox is not None:
            self._outbox.put(NodeName(node), delivery)

    def _advance(self, node: str, delivery: Delivery, old: Object) -> None:
        if self._outbox is not None:
            version = old["metadata"].get("resourceVersion", "")
            self._outbox.advance(NodeName(node), delivery, from_version=version)


def _pod_operation(pod: Object) -> str:
    return c.OP_UPDATE if pod["metadata"].get("deletionTimestamp") else c.OP_INSERT


def _delivery(type_: str, operation: str, obj: Object, order: int) -> Delivery:
    meta = obj["metadata"]
    return Delivery(
        key="/".join([meta.get("namespace") or c.NO_NAMESPACE, type_, meta["name"]]),
        operation=operation,
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        content=stripped(obj),
        order=order,
    )
