"""The twin keeper: every change of a twin goes through here, one at a time.

Readings gather in memory for ``gather_s``, the newest per property wins, then rows and the report to the cloud are
committed in one transaction; only then are documents published and callers answered. The report of a device holds
every property that the cloud has not confirmed, so nothing is lost while the node is offline, and the outbox holds one
entry per device however long that lasts.
Bound: one waiting reading per property of known devices. Counting: ``accepted`` = ``superseded`` + ``unchanged`` +
``stored`` + ``dropped`` + ``waiting``.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from skerry.base import json
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.aio.supervise import Supervisor
from skerry.base.errors import StoreError
from skerry.base.obs.log import get_log
from skerry.base.values import Struct, replace
from skerry.edge.devices import reduce
from skerry.edge.devices.catalog import DEVICE, Catalog, Change
from skerry.edge.devices.ports import Publisher, ReportOutbox, Store
from skerry.edge.devices.reduce import Device, Outcome, Reading, Twin, TwinRefused
from skerry.edge.store import twins as rows
from skerry.wire.errors import ProtocolError
from skerry.wire.kubeedge import twin as docs
from skerry.wire.kubeedge.envelope import Envelope
from skerry.wire.kubeedge.twin import Member, MsgTwin, Value, Version

log = get_log(__name__)


class DeviceUnknown(TwinRefused):
    """No such device on this node."""

    def __init__(self, device_id: str) -> None:
        super().__init__(docs.DEVICE_UNKNOWN, f"device {device_id} is not known on this node")


class Counts(Struct):
    """What became of readings since the start; see the head of this module."""

    accepted: int = 0
    superseded: int = 0
    unchanged: int = 0
    stored: int = 0
    dropped: int = 0


class TwinKeeper:
    """Owner of the device rows.

    Args:
        store: the agent's database; holds ``edge.store.twins.TABLES``.
        outbox: where reports to the cloud are left.
        node: this node's name.
        publish: hands documents to local applications.
        gather_s: how long readings gather before they are committed together; twice as long while they come all the
            time, which stays well below the second that mappers wait for an answer.
        refresh_ms: an unchanged value is reported again when its reading is this much newer.
    """

    def __init__(
        self,
        *,
        store: Store,
        outbox: ReportOutbox,
        node: str,
        publish: Publisher,
        clock: Clock | None = None,
        gather_s: float = 0.2,
        refresh_ms: int = 60_000,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._node = node
        self._publish = publish
        self._clock = clock or SystemClock()
        self._gather_s = gather_s
        self._refresh_ms = refresh_ms
        self._new_id = new_id
        self._supervisor = Supervisor("twins")
        self._devices: dict[str, Device] = {}
        self._pending: dict[str, dict[str, Reading]] = {}
        self._pending_done: asyncio.Future[None] | None = None
        self._has_pending = asyncio.Event()
        self._catalog: Catalog | None = None
        self._dirty: dict[str, None] = {}
        self._has_dirty = asyncio.Event()
        self._lock = asyncio.Lock()
        self.counts = Counts()

    def start(self) -> None:
        """Load the rows and begin to work."""
        for device_id, description, state, last_online in self._store.read(rows.SELECT_DEVICES):
            self._devices[str(device_id)] = Device(str(device_id), str(description), str(state), str(last_online))
        found: dict[str, dict[str, Twin]] = {}
        for device_id, name, document in self._store.read(rows.SELECT_TWINS):
            found.setdefault(str(device_id), {})[str(name)] = _twin_from(json.loads(document))  # type: ignore[arg-type]
        for device_id, twins in found.items():
            if device_id in self._devices:
                self._devices[device_id] = replace(self._devices[device_id], twins=twins)
        self._supervisor.keep("flush", self._flush_pending)
        self._supervisor.keep("objects", self._follow_objects)

    async def aclose(self) -> None:
        """Commit what waits and stop."""
        if self._pending:
            await self._flush()
        await self._supervisor.aclose()

    def follow(self, catalog: Catalog) -> None:
        """Keep rows and expected values as the Devices of ``catalog`` say, from now on."""
        self._catalog = catalog
        catalog.on_change(self._object_changed)
        for device_id in catalog.devices:
            self._mark(device_id)

    @property
    def devices(self) -> Mapping[str, Device]:
        """Every device of this node as committed."""
        return self._devices

    @property
    def waiting(self) -> int:
        """Readings that are accepted and not yet committed."""
        return sum(len(readings) for readings in self._pending.values())

    async def report(self, device_id: str, readings: Mapping[str, Reading]) -> None:
        """A mapper reports; when this returns, the readings are on the disk or superseded by newer ones.

        Raises:
            DeviceUnknown: no such device.
            StoreError: the database refused.
        """
        await self._expect(device_id)
        if not readings:
            return
        waiting = self._pending.setdefault(device_id, {})
        for name, reading in readings.items():
            self.counts.accepted += 1
            if name in waiting:
                self.counts.superseded += 1
                reading = _newest(waiting[name], reading)
            waiting[name] = reading
        if self._pending_done is None:
            self._pending_done = asyncio.get_running_loop().create_future()
        self._has_pending.set()
        await asyncio.shield(self._pending_done)

    async def state(self, device_id: str, state: str) -> None:
        """A mapper reports the device's state.

        Raises:
            DeviceUnknown: no such device.
            TwinRefused: not a state.
            StoreError: the database refused.
        """
        await self._expect(device_id)
        await self._change(
            device_id,
            lambda device: reduce.state(
                device, state, event_id=self._new_id(), now_ms=self._now_ms(), now_text=self._now_text()
            ),
        )

    async def membership(self, change: docs.MembershipChange) -> None:
        """The cloud names devices that joined or left this node; a Device object in the store outweighs it."""
        async with self._lock:
            for member in change.added:
                if member.device_id not in self._devices:
                    await self._commit(Outcome(Device(member.device_id, member.description)), is_new=True)
            for member in change.removed:
                if self._catalog is None or self._catalog.device(member.device_id) is None:
                    await self._remove(member.device_id)
        body = docs.membership_updated(change.event_id, self._now_ms(), change)
        self._publish(docs.node_topic(self._node, "membership/updated"), body)

    async def membership_detail(self, members: tuple[Member, ...]) -> None:
        """The cloud names every device of this node; those that it does not name go."""
        named = {member.device_id for member in members}
        surplus = tuple(Member(d.device_id, d.name) for d in self._devices.values() if d.device_id not in named)
        await self.membership(docs.MembershipChange(self._new_id(), self._now_ms(), members, surplus))

    async def on_envelope(self, envelope: Envelope) -> None:
        """The cloud sent ``membership`` or ``membership/detail``; an unreadable one is logged and left."""
        try:
            if envelope.resource == docs.MEMBERSHIP:
                await self.membership(docs.parse_membership(envelope.content))
            elif envelope.resource == docs.MEMBERSHIP_DETAIL:
                await self.membership_detail(docs.parse_membership_detail(envelope.content))
        except ProtocolError as broken:
            log.warning("twin.membership_unreadable", error=str(broken))

    async def on_message(self, topic: str, payload: bytes) -> None:
        """A local client published on a device or node topic; every question is answered, errors included."""
        where = docs.parse_topic(topic)
        if isinstance(where, docs.NodeTopic):
            if where.node == self._node and where.leaf == "membership/get":
                self._answer_membership(payload)
            return
        if where is None or where.leaf not in ("twin/update", "twin/get", "state/update"):
            return
        try:
            await self._answer(where, payload)
        except TwinRefused as refused:
            self._answer_error(where, payload, refused.code, str(refused))
        except ProtocolError as broken:
            self._answer_error(where, payload, docs.BAD_REQUEST, str(broken))
        except StoreError as failed:
            log.error("twin.not_stored", device=where.device_id, error=str(failed), hint=failed.hint)
            self._answer_error(where, payload, docs.INTERNAL_ERROR, "the node could not store the change")

    async def _answer(self, where: docs.DeviceTopic, payload: bytes) -> None:
        if where.leaf == "twin/update":
            message = docs.parse_twin_message(payload)
            await self._change(where.device_id, lambda d: reduce.update(d, message, now_ms=self._now_ms()))
        elif where.leaf == "state/update":
            said = docs.parse_state_update(payload)
            await self._change(
                where.device_id,
                lambda d: reduce.state(
                    d, said.state, event_id=said.event_id, now_ms=self._now_ms(), now_text=self._now_text()
                ),
            )
        else:
            event_id, _ = docs.parse_base(payload)
            device = self._devices.get(where.device_id)
            if device is None:
                raise DeviceUnknown(where.device_id)
            answer = reduce.get(device, event_id=event_id, now_ms=self._now_ms())
            self._publish(answer.topic, answer.payload)

    def _answer_error(self, where: docs.DeviceTopic, payload: bytes, code: int, reason: str) -> None:
        try:
            event_id, _ = docs.parse_base(payload)
        except ProtocolError:
            event_id = ""
        body = docs.error_result(event_id, self._now_ms(), code, reason)
        self._publish(docs.device_topic(where.device_id, f"{where.leaf}/result"), body)

    def _answer_membership(self, payload: bytes) -> None:
        topic = docs.node_topic(self._node, "membership/get/result")
        try:
            event_id, _ = docs.parse_base(payload)
        except ProtocolError as broken:
            self._publish(topic, docs.error_result("", self._now_ms(), docs.BAD_REQUEST, str(broken)))
            return
        members = [Member(d.device_id, d.name, d.description, d.state, d.last_online) for d in self._devices.values()]
        self._publish(topic, docs.membership_get_result(event_id, self._now_ms(), members))

    async def _flush_pending(self) -> None:
        flushed_s = -self._gather_s
        while True:
            await self._has_pending.wait()
            is_busy = self._clock.monotonic_s() - flushed_s < self._gather_s
            await self._clock.sleep(self._gather_s * (2 if is_busy else 1))
            await self._flush()
            flushed_s = self._clock.monotonic_s()

    async def _flush(self) -> None:
        async with self._lock:
            batch, done = self._pending, self._pending_done
            self._pending, self._pending_done = {}, None
            self._has_pending.clear()
            try:
                await self._commit_readings(batch)
            except StoreError as failed:
                self.counts.dropped += sum(map(len, batch.values()))
                if done is not None and not done.done():
                    done.set_exception(failed)
                    done.exception()  # mark as retrieved: callers may be gone
                return
            if done is not None and not done.done():
                done.set_result(None)

    async def _commit_readings(self, batch: Mapping[str, Mapping[str, Reading]]) -> None:
        outcomes: list[Outcome] = []
        for device_id, readings in batch.items():
            device = self._devices.get(device_id)
            if device is None:
                self.counts.dropped += len(readings)
                continue
            try:
                outcome = reduce.read(
                    device, readings, event_id=self._new_id(), now_ms=self._now_ms(), refresh_ms=self._refresh_ms
                )
            except TwinRefused as refused:
                log.warning("twin.refused", device=device_id, reason=str(refused))
                self.counts.dropped += len(readings)
                continue
            self.counts.unchanged += len(readings) - len(outcome.changed)
            if outcome.changed:
                outcomes.append(outcome)
        if outcomes:
            await self._commit(*outcomes)
            self.counts.stored += sum(len(outcome.changed) for outcome in outcomes)

    async def _expect(self, device_id: str) -> None:
        if device_id in self._devices:
            return
        if self._catalog is None or self._catalog.device(device_id) is None:
            raise DeviceUnknown(device_id)
        await self._follow_one(device_id)

    async def _change(self, device_id: str, decide: Callable[[Device], Outcome]) -> None:
        async with self._lock:
            device = self._devices.get(device_id)
            if device is None:
                raise DeviceUnknown(device_id)
            await self._commit(decide(device))

    async def _commit(self, *outcomes: Outcome, is_new: bool = False) -> None:
        before = self._devices
        to_store = [(o, before.get(o.device.device_id)) for o in outcomes]

        def write(connection: sqlite3.Connection) -> None:
            for outcome, old in to_store:
                self._write(connection, outcome, is_row_new=is_new or old is None)

        if any(o.changed or o.state_changed or is_new or old is None for o, old in to_store):
            await self._store.write(write)
        for outcome in outcomes:
            self._devices[outcome.device.device_id] = outcome.device
            for document in outcome.publish:
                self._publish(document.topic, document.payload)
        if any(outcome.report or outcome.state_changed for outcome in outcomes):
            self._outbox.wake()

    def _write(self, connection: sqlite3.Connection, outcome: Outcome, *, is_row_new: bool) -> None:
        device = outcome.device
        if is_row_new or outcome.state_changed:
            rows.put_device(
                connection,
                device.device_id,
                description=device.description,
                state=device.state,
                last_online=device.last_online,
            )
        kept = {name: _twin_to(device.twins[name]) for name in outcome.changed if name in device.twins}
        rows.put_twins(connection, device.device_id, kept)
        rows.delete_twins(connection, device.device_id, [name for name in outcome.changed if name not in device.twins])
        if outcome.report:
            self._leave_report(connection, device.device_id, outcome.report)
        if outcome.state_changed:
            content = docs.state_update(self._new_id(), self._now_ms(), device.name, device.state, device.last_online)
            self._leave(connection, docs.state_resource(device.device_id), content)

    def _leave_report(self, connection: sqlite3.Connection, device_id: str, report: Mapping[str, MsgTwin]) -> None:
        view = self._catalog.view(device_id) if self._catalog is not None else None
        if view is not None:  # the cloud keeps no properties that the Device does not have
            report = {name: twin for name, twin in report.items() if view.point(name) is not None}
        if not report:
            return
        resource = docs.twin_resource(device_id)
        earlier = self._outbox.waiting(connection, resource)
        twins: dict[str, MsgTwin] = {}
        if earlier is not None:
            unconfirmed = docs.parse_twin_message(earlier.content).twin
            twins = {name: twin for name, twin in unconfirmed.items() if twin is not None}
        content = docs.edge_updated(self._new_id(), self._now_ms(), twins | dict(report))
        self._leave(connection, resource, content)

    def _leave(self, connection: sqlite3.Connection, resource: str, content: Any) -> None:
        envelope = Envelope(
            self._new_id(), "twin", "resource", "update", resource, content, timestamp_ms=self._now_ms()
        )
        self._outbox.put(connection, resource, envelope)

    def _object_changed(self, change: Change) -> None:
        if self._catalog is None:
            return
        device_ids = [change.id] if change.type == DEVICE else self._catalog.users_of(change.id)
        for device_id in device_ids:
            self._mark(device_id)

    def _mark(self, device_id: str) -> None:
        self._dirty[device_id] = None
        self._has_dirty.set()

    async def _follow_objects(self) -> None:
        while True:
            await self._has_dirty.wait()
            self._has_dirty.clear()
            while self._dirty:
                device_id = next(iter(self._dirty))
                del self._dirty[device_id]
                try:
                    await self._follow_one(device_id)
                except StoreError:
                    self._mark(device_id)
                    raise

    async def _follow_one(self, device_id: str) -> None:
        assert self._catalog is not None
        async with self._lock:
            obj = self._catalog.device(device_id)
            if obj is None:
                await self._remove(device_id)
                return
            view = self._catalog.view(device_id)
            device = self._devices.get(device_id) or Device(device_id, view.description if view else "")
            wanted = {p.name: p.desired for p in view.points} if view else {}
            types = {p.name: p.type for p in view.points} if view else {}
            outcome = reduce.desire(device, wanted, types, event_id=self._new_id(), now_ms=self._now_ms())
            await self._commit(outcome)

    async def _remove(self, device_id: str) -> None:
        self.counts.dropped += len(self._pending.pop(device_id, {}))
        if self._devices.pop(device_id, None) is not None:
            await self._store.write(lambda connection: rows.delete_device(connection, device_id))

    def _now_ms(self) -> int:
        return int(self._clock.now_s() * 1000)

    def _now_text(self) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock.now_s()))


def _newest(waiting: Reading, newer: Reading) -> Reading:
    return Reading(newer.actual or waiting.actual, newer.observed or waiting.observed, newer.type or waiting.type)


def _twin_to(twin: Twin) -> dict[str, Any]:
    document: dict[str, Any] = {
        "type": twin.type,
        "optional": twin.optional,
        "expected_version": [twin.expected_version.cloud, twin.expected_version.edge],
        "actual_version": [twin.actual_version.cloud, twin.actual_version.edge],
        "reported_ms": twin.reported_ms,
    }
    for name in ("expected", "observed", "actual"):
        value: Value | None = getattr(twin, name)
        if value is not None:
            document[name] = [value.value, value.timestamp_ms]
    return document


def _twin_from(document: dict[str, Any]) -> Twin:
    values = {name: Value(*document[name]) if name in document else None for name in ("expected", "observed", "actual")}
    return Twin(
        **values,
        type=document["type"],
        optional=document["optional"],
        expected_version=Version(*document["expected_version"]),
        actual_version=Version(*document["actual_version"]),
        reported_ms=document["reported_ms"],
    )
