"""Devices and DeviceModels go down to the node that a Device names.

Level-triggered: a Device goes down once its model is there, whichever came first. On the way: membership news, the
model, the Device. A node change is a removal there and an insertion here. Here too: the answer to
``membership/detail``, which Go clouds never give and Go agents need.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from skerry.api import devices as meaning
from skerry.api.gvk import DEVICEMODELS, DEVICES, Object, Resource
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.obs.log import get_log
from skerry.cloud.hub.ports import Delivery, NodeName, Outbox, Request, RouteEntry
from skerry.kube.informer import Informer
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import twin as docs
from skerry.wire.kubeedge.envelope import Envelope
from skerry.wire.kubeedge.twin import Member

log = get_log(__name__)

ORDER_MODEL, ORDER_DEVICE, ORDER_MODEL_GONE = 40, 41, 42
BY_NODE = "node"


def by_node(device: Object) -> Sequence[str]:
    """Index of Devices by the node that they are bound to."""
    node = _node_of(device)
    return (node,) if node else ()


class DeviceDown:
    """Follows Devices and DeviceModels and leaves deliveries.

    Args:
        devices, models: informers; ``start`` adds the index that it needs.
        outbox: of the hub.
    """

    def __init__(
        self,
        *,
        devices: Informer,
        models: Informer,
        outbox: Outbox,
        clock: Clock | None = None,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._devices = devices
        self._models = models
        self._outbox = outbox
        self._clock = clock or SystemClock()
        self._new_id = new_id

    def start(self) -> None:
        """Begin to follow."""
        self._devices.add_index(BY_NODE, by_node)
        self._models.on_event(self._model_changed)
        self._devices.on_event(self._device_changed)

    def routes(self) -> list[RouteEntry]:
        """Rows for the hub's table."""
        return [RouteEntry(docs.MEMBERSHIP_DETAIL, c.OP_GET, self.membership_detail)]

    async def desired(self, node: NodeName) -> Sequence[Delivery]:
        """Everything of ours that a node should hold: models first, then Devices whose model is there."""
        await self._devices.wait_synced()
        await self._models.wait_synced()
        devices = [d for d in self._devices.by_index(BY_NODE, node) if self._model_of(d) is not None]
        models = {meaning.device_id(m): m for d in devices if (m := self._model_of(d)) is not None}
        return [_delivery(DEVICEMODELS, c.OP_INSERT, model, ORDER_MODEL) for model in models.values()] + [
            _delivery(DEVICES, c.OP_INSERT, device, ORDER_DEVICE) for device in devices
        ]

    async def membership_detail(self, request: Request) -> Envelope | None:
        """Answer the question that an agent asks on each connect; the list itself goes as a message of its own."""
        await self._devices.wait_synced()
        members = [_member(device) for device in self._devices.by_index(BY_NODE, request.node)]
        content = docs.membership_detail(self._new_id(), self._now_ms(), members)
        self._outbox.send(request.node, self._twin_message(docs.MEMBERSHIP_DETAIL, c.OP_UPDATE, content))
        return Envelope(
            self._new_id(),
            c.SOURCE_DEVICE_CONTROLLER,
            c.GROUP_TWIN,
            c.OP_RESPONSE,
            docs.MEMBERSHIP_DETAIL,
            c.CONTENT_OK,
            parent_id=request.envelope.msg_id,
            timestamp_ms=self._now_ms(),
        )

    def _device_changed(self, event: str, old: Object | None, new: Object | None) -> None:
        was, now = _node_of(old), _node_of(new)
        if old is not None and was and was != now:
            self._leave(NodeName(was), old)
        if new is None or not now:
            return
        if was != now:
            self._join(NodeName(now), new)
        elif old is None or not meaning.same_spec(old, new):
            self._put(NodeName(now), c.OP_UPDATE, new)
        elif self._model_of(new) is not None:
            self._outbox.advance(
                NodeName(now), _delivery(DEVICES, c.OP_UPDATE, new, ORDER_DEVICE), from_version=_version(old)
            )

    def _model_changed(self, event: str, old: Object | None, new: Object | None) -> None:
        if new is None:
            return
        model = meaning.device_id(new)
        users = [d for d in self._devices.items() if _node_of(d) and meaning.model_id(d) == model]
        if old is None:
            for device in users:
                self._put(NodeName(_node_of(device)), c.OP_INSERT, device)
            return
        delivery = _delivery(DEVICEMODELS, c.OP_UPDATE, new, ORDER_MODEL)
        for node in dict.fromkeys(NodeName(_node_of(device)) for device in users):
            if meaning.same_spec(old, new):
                self._outbox.advance(node, delivery, from_version=_version(old))
            else:
                self._outbox.put(node, delivery)

    def _join(self, node: NodeName, device: Object) -> None:
        self._say_membership(node, added=[_member(device)])
        self._put(node, c.OP_INSERT, device)

    def _leave(self, node: NodeName, device: Object) -> None:
        self._say_membership(node, removed=[_member(device)])
        self._outbox.put(node, _delivery(DEVICES, c.OP_DELETE, device, ORDER_DEVICE))
        model, gone = self._model_of(device), meaning.device_id(device)
        if model is None:
            return
        others = [
            other
            for other in self._devices.by_index(BY_NODE, node)
            if meaning.model_id(other) == meaning.model_id(device) and meaning.device_id(other) != gone
        ]
        if not others:
            self._outbox.put(node, _delivery(DEVICEMODELS, c.OP_DELETE, model, ORDER_MODEL_GONE))

    def _put(self, node: NodeName, operation: str, device: Object) -> None:
        model = self._model_of(device)
        if model is None:
            if self._models.has_synced:
                log.info("device.waits_for_model", device=meaning.device_id(device), model=meaning.model_id(device))
            return
        self._outbox.put(node, _delivery(DEVICEMODELS, operation, model, ORDER_MODEL))
        self._outbox.put(node, _delivery(DEVICES, operation, device, ORDER_DEVICE))

    def _model_of(self, device: Object) -> Object | None:
        namespace, _, name = meaning.model_id(device).partition("/")
        return self._models.get(name, namespace) if name else None

    def _say_membership(self, node: NodeName, *, added: Sequence[Member] = (), removed: Sequence[Member] = ()) -> None:
        content = docs.membership(self._new_id(), self._now_ms(), added=added, removed=removed)
        self._outbox.send(node, self._twin_message(docs.MEMBERSHIP, c.OP_UPDATE, content))

    def _twin_message(self, resource: str, operation: str, content: Any) -> Envelope:
        return Envelope(
            self._new_id(),
            c.SOURCE_DEVICE_CONTROLLER,
            c.GROUP_TWIN,
            operation,
            resource,
            content,
            timestamp_ms=self._now_ms(),
        )

    def _now_ms(self) -> int:
        return int(self._clock.now_s() * 1000)


def _node_of(device: Object | None) -> str:
    return ((device or {}).get("spec") or {}).get("nodeName") or ""


def _version(obj: Object) -> str:
    return str(obj["metadata"].get("resourceVersion") or "")


def _member(device: Object) -> Member:
    return Member(meaning.device_id(device), device["metadata"]["name"], meaning.description(device))


def _delivery(resource: Resource, operation: str, obj: Object, order: int) -> Delivery:
    metadata = obj["metadata"]
    content = {"apiVersion": resource.api_version, "kind": resource.kind} | obj
    return Delivery(
        key=f"{metadata.get('namespace') or 'default'}/{resource.kind.lower()}/{metadata['name']}",
        operation=operation,
        uid=metadata.get("uid", ""),
        resource_version=metadata.get("resourceVersion", ""),
        content=content,
        source=c.SOURCE_DEVICE_CONTROLLER,
        order=order,
    )
