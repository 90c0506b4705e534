"""Twin and state reports of nodes become DeviceStatus objects.

A report is answered when its effect is stored (or when it can have none), so a node keeps what we could not write.
Reports of one device gather while a patch is under way: one patch carries all of them. Bound: one waiting change per
device that reports, ``UNKNOWN_LIMIT`` reports of devices that do not exist yet (the oldest is forgotten).
"""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from skerry.api.gvk import DEVICES, DEVICESTATUSES, Object
from skerry.api.status import AlreadyExists, ApiError, Conflict, NotFound
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.aio.keyed import KeyedQueue
from skerry.base.errors import Retryable
from skerry.base.obs.log import get_log
from skerry.base.values import Struct, field
from skerry.cloud.devices import reduce
from skerry.cloud.hub.ports import NodeName, Request, RouteEntry
from skerry.kube.informer import Informer
from skerry.kube.ports import KubeApi
from skerry.wire.errors import ProtocolError
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import twin as docs
from skerry.wire.kubeedge.envelope import Envelope
from skerry.wire.kubeedge.twin import MsgTwin

log = get_log(__name__)

UNKNOWN_LIMIT = 1000
FIELD_MANAGER = "skerry-devices"


class Counts(Struct):
    """What became of reports since the start. ``values`` are the values in them, ``stale`` those that were ignored."""

    received: int = 0
    values: int = 0
    stale: int = 0
    patches: int = 0
    refused: int = 0


class _Change(Struct):
    """What waits to be written to one DeviceStatus, and who waits for it."""

    twins: dict[str, MsgTwin] = field(default_factory=dict)
    state: docs.StateMessage | None = None
    waiting: list[asyncio.Future[None]] = field(default_factory=list)


class DeviceUp:
    """Handler of ``device/…/twin/edge_updated`` and ``device/…/state/update``.

    Args:
        api: the cluster.
        devices: informer of Devices; only the node that a Device is bound to may report about it.
        answer_within_s: a report that cannot be written for so long stays unanswered, the node sends it again.
    """

    def __init__(
        self,
        *,
        api: KubeApi,
        devices: Informer,
        clock: Clock | None = None,
        workers: int = 8,
        answer_within_s: float = 30.0,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._api = api
        self._devices = devices
        self._clock = clock or SystemClock()
        self._answer_within_s = answer_within_s
        self._new_id = new_id
        self._statuses: dict[str, Object] = {}
        self._unknown: OrderedDict[str, tuple[NodeName, _Change]] = OrderedDict()
        self._queue: KeyedQueue[str, _Change] = KeyedQueue(
            "device-status", self._apply, workers=workers, merge=_merged, on_error=self._failed, retry_first_s=0.1
        )
        self.counts = Counts()

    def start(self) -> None:
        """Begin to follow the Devices."""
        self._devices.on_event(self._device_changed)

    def routes(self) -> list[RouteEntry]:
        """Rows for the hub's table."""
        return [
            RouteEntry("device/twin/edge_updated", c.OP_UPDATE, self.handle),
            RouteEntry("device/state/update", c.OP_UPDATE, self.handle),
        ]

    async def aclose(self) -> None:
        """Stop; reports that were not answered are sent again by their nodes."""
        await self._queue.aclose()

    async def handle(self, request: Request) -> Envelope | None:
        """Answer one report; None when it could not be written in time."""
        envelope = request.envelope
        self.counts.received += 1
        try:
            device_id, change = _read(envelope)
        except ProtocolError as broken:
            self.counts.refused += 1
            log.warning("device.report_unreadable", node=request.node, error=str(broken))
            return self._ok(envelope)
        await self._devices.wait_synced()
        try:
            device = await self._find(device_id)
        except ApiError as exc:
            log.warning("device.lookup_failed", device=device_id, error=str(exc))
            return None
        if device is None:
            self._remember(device_id, request.node, change)
            return self._ok(envelope)
        if (device.get("spec") or {}).get("nodeName") != request.node:
            self.counts.refused += 1
            log.warning("device.report_refused", node=request.node, device=device_id, reason="bound to another node")
            return self._ok(envelope)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        change.waiting.append(done)
        self.counts.values += len(change.twins)
        self._queue.put(device_id, change)
        try:
            async with asyncio.timeout(self._answer_within_s):
                await done
        except TimeoutError:
            log.warning("device.report_late", node=request.node, device=device_id)
            return None
        return self._ok(envelope)

    async def _find(self, device_id: str) -> Object | None:
        namespace, _, name = device_id.partition("/")
        found = self._devices.get(name, namespace)
        if found is not None:
            return found
        try:
            return await self._api.get(DEVICES, name, namespace=namespace)
        except NotFound:
            return None

    async def _apply(self, device_id: str, change: _Change) -> None:
        device = await self._find(device_id)
        if device is not None:
            await self._write(device_id, device, change)
        for done in change.waiting:
            if not done.done():
                done.set_result(None)

    async def _write(self, device_id: str, device: Object, change: _Change) -> None:
        status = await self._status(device_id, device)
        body, stale = self._patch_body(device, status, change)
        self.counts.stale += stale
        if not body:
            return
        metadata = status["metadata"]
        patch = {"metadata": {"resourceVersion": metadata.get("resourceVersion")}, "status": body}
        self.counts.patches += 1
        try:
            self._statuses[device_id] = await self._api.patch(
                DEVICESTATUSES,
                metadata["name"],
                patch,
                namespace=metadata.get("namespace"),
                field_manager=FIELD_MANAGER,
            )
        except (Conflict, NotFound):
            self._statuses.pop(device_id, None)
            raise

    def _patch_body(self, device: Object, status: Object, change: _Change) -> tuple[dict[str, Any], int]:
        current = status.get("status") or {}
        body: dict[str, Any] = {}
        stale = 0
        if change.twins:
            twins, stale = reduce.merge_twins(device, current.get("twins") or [], change.twins)
            if twins != (current.get("twins") or []):
                body["twins"] = twins
        if change.state is not None and change.state.state in docs.STATES:
            if change.state.state != current.get("state"):
                body["state"] = change.state.state
            if change.state.last_online and change.state.last_online != current.get("lastOnlineTime"):
                body["lastOnlineTime"] = change.state.last_online
        return body, stale

    async def _status(self, device_id: str, device: Object) -> Object:
        found = self._statuses.get(device_id)
        if found is not None and reduce.belongs_to(found, device):
            return found
        namespace, _, name = device_id.partition("/")
        try:
            found = await self._api.get(DEVICESTATUSES, name, namespace=namespace)
        except NotFound:
            found = await self._create(device, namespace, name)
        if not reduce.belongs_to(found, device):
            await self._api.delete(DEVICESTATUSES, name, namespace=namespace, uid=found["metadata"].get("uid"))
            found = await self._create(device, namespace, name)
        self._statuses[device_id] = found
        return found

    async def _create(self, device: Object, namespace: str, name: str) -> Object:
        try:
            return await self._api.create(DEVICESTATUSES, reduce.new_status(device), namespace=namespace)
        except AlreadyExists:
            return await self._api.get(DEVICESTATUSES, name, namespace=namespace)

    def _failed(self, device_id: str, exc: Exception) -> bool:
        if isinstance(exc, Conflict | NotFound | Retryable):
            return True
        if isinstance(exc, ApiError):
            log.error(
                "device.status_refused", device=device_id, error=str(exc), hint="check the cloud's rights and the CRDs"
            )
            return True
        raise exc

    def _device_changed(self, event: str, old: Object | None, new: Object | None) -> None:
        obj = new or old
        if obj is None:
            return
        metadata = obj["metadata"]
        device_id = f"{metadata.get('namespace') or 'default'}/{metadata['name']}"
        if event == "DELETED":
            self._statuses.pop(device_id, None)
        elif event == "ADDED" and device_id in self._unknown:
            node, change = self._unknown.pop(device_id)
            if (obj.get("spec") or {}).get("nodeName") == node:
                self._queue.put(device_id, change)

    def _remember(self, device_id: str, node: NodeName, change: _Change) -> None:
        waiting = self._unknown.pop(device_id, None)
        if waiting is not None and waiting[0] == node:
            change = _merged(waiting[1], change)
        self._unknown[device_id] = node, change
        log.info("device.report_of_unknown", node=node, device=device_id)
        while len(self._unknown) > UNKNOWN_LIMIT:
            self._unknown.popitem(last=False)

    def _ok(self, request: Envelope) -> Envelope:
        return Envelope(
            self._new_id(),
            c.SOURCE_DEVICE_CONTROLLER,
            c.GROUP_TWIN,
            c.OP_RESPONSE,
            docs.TWIN_ANSWER,
            c.CONTENT_OK,
            parent_id=request.msg_id,
            timestamp_ms=int(self._clock.now_s() * 1000),
        )


def _read(envelope: Envelope) -> tuple[str, _Change]:
    where = docs.parse_resource(envelope.resource)
    if where is not None and where.leaf == "twin/edge_updated":
        message = docs.parse_twin_message(envelope.content)
        return where.device_id, _Change({name: twin for name, twin in message.twin.items() if twin is not None})
    if where is not None and where.leaf == "state/update":
        return where.device_id, _Change(state=docs.parse_state_update(envelope.content))
    raise ProtocolError(f"route {envelope.resource[:120]!r} is no report of a device")


def _merged(waiting: _Change, newer: _Change) -> _Change:
    twins = dict(waiting.twins)
    for name, twin in newer.twins.items():
        twins[name] = reduce.newest(twins.get(name), twin)
    return _Change(twins, newer.state or waiting.state, waiting.waiting + newer.waiting)
