"""What one node must still get: a keyed queue, decided without I/O.

Lanes: one per wire resource. In a lane at most one delivery is under way; behind it waits at most the newest state per
uid, so insert and delete, and a deleted object and its successor of the same name, follow each other strictly.
Over lanes a window of 32 (a Go edge keeps 100 frames and then drops the oldest). Lower ``order`` goes first: a higher
one waits until lower ones are acknowledged, but for 5 s at most, so that one object that is refused holds up nobody.

Bound: one entry per object that the node needs, plus deletions; overflow cannot happen beyond the node's own objects.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from skerry.cloud.hub.ports import Acked, Delivery
from skerry.wire.kubeedge import constants as c

WINDOW = 32
ORDER_PATIENCE_S = 5.0


@dataclass(slots=True)
class _Lane:
    waiting: list[Delivery] = field(default_factory=list)
    under_way: Delivery | None = None
    sent_s: float = 0.0
    sequence: int = 0
    filed: int | None = None


class NodeOutbox:
    """Deliveries of one session.

    Args:
        window: deliveries under way at once.
    """

    def __init__(self, *, window: int = WINDOW) -> None:
        self._window = window
        self._lanes: dict[str, _Lane] = {}
        self._under_way: dict[str, str] = {}
        self._holds: dict[str, Acked] = {}
        self._sequence = itertools.count()
        self._ready: list[tuple[int, int, str]] = []

    def __len__(self) -> int:
        """Deliveries that wait or are under way."""
        return sum(len(lane.waiting) + (lane.under_way is not None) for lane in self._lanes.values())

    def oldest_sent_s(self) -> float:
        """When the oldest delivery under way was first sent; 0 when there is none."""
        return min((self._lanes[key].sent_s for key in self._under_way.values()), default=0.0)

    def load(self, acked: Iterable[Acked]) -> None:
        """Start from what the node is known to hold."""
        self._holds = {entry.uid: entry for entry in acked}

    def forget_all(self) -> None:
        """The node has lost its store: nothing is known to be there, what is under way stays so."""
        self._holds.clear()

    def put(self, delivery: Delivery) -> bool:
        """Bring this to the node, unless it holds, gets or waits for the same or a newer version. True when queued."""
        if delivery.operation != c.OP_DELETE and not self._is_news(delivery):
            return False
        lane = self._lanes.setdefault(delivery.key, _Lane(sequence=next(self._sequence)))
        last = lane.waiting[-1] if lane.waiting else None
        if last is not None and last.uid == delivery.uid:
            lane.waiting.pop()
            if delivery.operation != c.OP_DELETE or last.operation != c.OP_INSERT or delivery.uid in self._holds:
                lane.waiting.append(_merged(last, delivery))
        else:
            # Of objects that came and went while others waited only their removal matters.
            lane.waiting = [w for w in lane.waiting if w.operation == c.OP_DELETE]
            lane.waiting.append(delivery)
        self._settle(delivery.key, lane)
        return True

    def advance(self, delivery: Delivery, *, from_version: str) -> Acked | None:
        """Only the cursor moves, if the node holds ``from_version`` and nothing is on its way; else as ``put``.

        Returns the new cursor entry, or None when the delivery was queued or is old.
        """
        held = self._holds.get(delivery.uid)
        if delivery.key in self._lanes or held is None or held.resource_version != from_version:
            self.put(delivery)
            return None
        entry = replace(held, resource_version=delivery.resource_version)
        self._holds[delivery.uid] = entry
        return entry

    def reconcile(self, desired: Iterable[Delivery]) -> None:
        """Queue what differs between what the node holds and what it should."""
        wanted = set()
        for delivery in desired:
            wanted.add(delivery.uid)
            self.put(delivery)
        for entry in [e for uid, e in self._holds.items() if uid not in wanted]:
            self.put(deletion_of(entry))

    def take(self, now_s: float) -> Delivery | None:
        """The next delivery to send, now under way until ``sent`` names it; None when there is none or no room."""
        if len(self._under_way) >= self._window:
            return None
        lane = self._next_ready()
        if lane is None or lane.waiting[0].order > self._floor(now_s):
            return None
        heapq.heappop(self._ready)
        lane.filed = None
        lane.under_way, lane.sent_s = lane.waiting.pop(0), now_s
        return lane.under_way

    def sent(self, msg_id: str, delivery: Delivery) -> None:
        """The delivery that ``take`` gave travels under this message id."""
        self._under_way[msg_id] = delivery.key

    def acked(self, msg_id: str) -> Delivery | None:
        """The node has stored it; returns it, or None for an unknown id."""
        key = self._under_way.pop(msg_id, None)
        lane = self._lanes.get(key) if key is not None else None
        if lane is None or lane.under_way is None or key is None:
            return None
        delivery, lane.under_way = lane.under_way, None
        self._settle(key, lane)
        if delivery.operation == c.OP_DELETE:
            self._holds.pop(delivery.uid, None)
        else:
            self._holds[delivery.uid] = acked_of(delivery)
        return delivery

    def next_look_s(self, now_s: float) -> float | None:
        """When a delivery that waits for a lower order may go at the latest; None when none waits for that."""
        if len(self._under_way) >= self._window or not self._under_way or self._next_ready() is None:
            return None
        dues = [self._lanes[key].sent_s + ORDER_PATIENCE_S for key in self._under_way.values()]
        return min((due for due in dues if due > now_s), default=None)

    def _settle(self, key: str, lane: _Lane) -> None:
        """File a lane whose head may have changed: under the ready ones, or away with it when it is empty."""
        if lane.under_way is not None:
            return
        if not lane.waiting:
            del self._lanes[key]
        elif lane.filed != lane.waiting[0].order:
            lane.filed = lane.waiting[0].order
            heapq.heappush(self._ready, (lane.filed, lane.sequence, key))

    def _next_ready(self) -> _Lane | None:
        """The lane to serve next. Entries of the heap may be out of date; those are dropped here."""
        while self._ready:
            order, sequence, key = self._ready[0]
            lane = self._lanes.get(key)
            if lane and lane.sequence == sequence and lane.under_way is None and lane.waiting[0].order == order:
                return lane
            heapq.heappop(self._ready)
        return None

    def _floor(self, now_s: float) -> float:
        """The highest order that may go now."""
        lanes = [self._lanes[key] for key in self._under_way.values()]
        orders = [lane.under_way.order for lane in lanes if lane.under_way and now_s - lane.sent_s < ORDER_PATIENCE_S]
        return min(orders, default=float("inf"))

    def _is_news(self, delivery: Delivery) -> bool:
        lane = self._lanes.get(delivery.key)
        ahead = [] if lane is None else [d for d in (lane.under_way, *lane.waiting) if d and d.uid == delivery.uid]
        if ahead:
            last = ahead[-1]
            return last.operation == c.OP_DELETE or is_newer(delivery.resource_version, last.resource_version)
        held = self._holds.get(delivery.uid)
        return held is None or is_newer(delivery.resource_version, held.resource_version)


def is_newer(version: str, than: str) -> bool:
    """Compare resource versions; one that is no decimal number always counts as newer."""
    try:
        return int(version) > int(than)
    except ValueError:
        return version != than


def acked_of(delivery: Delivery) -> Acked:
    """The cursor entry of a delivered object."""
    meta = delivery.content.get("metadata") or {}
    return Acked(
        uid=delivery.uid,
        kind=delivery.content.get("kind", ""),
        api_version=delivery.content.get("apiVersion", ""),
        namespace=meta.get("namespace") or "",
        name=meta.get("name") or delivery.key.rpartition("/")[2],
        resource_version=delivery.resource_version,
    )


def deletion_of(entry: Acked) -> Delivery:
    """The news that an object which the node holds is gone: a skeletal object, as upstream sends it."""
    meta = {"name": entry.name, "uid": entry.uid} | ({"namespace": entry.namespace} if entry.namespace else {})
    is_device = entry.api_version.startswith("devices.")
    return Delivery(
        key="/".join([entry.namespace or c.NO_NAMESPACE, entry.kind.lower(), entry.name]),
        operation=c.OP_DELETE,
        uid=entry.uid,
        resource_version="",
        content={"metadata": meta, "kind": entry.kind, "apiVersion": entry.api_version},
        source=c.SOURCE_DEVICE_CONTROLLER if is_device else c.SOURCE_EDGE_CONTROLLER,
        order=40 if entry.kind == "Pod" else 80,
    )


def _merged(old: Delivery, new: Delivery) -> Delivery:
    """A waiting insert stays one with newer content; everything else is replaced."""
    if old.operation == c.OP_INSERT and new.operation == c.OP_UPDATE:
        return replace(new, operation=c.OP_INSERT)
    return new
