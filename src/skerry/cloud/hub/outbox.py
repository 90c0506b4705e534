"""What one node must still get: a keyed queue, decided without I/O.

Lanes: one per wire resource. In a lane at most one delivery is under way; behind it waits at most the newest state per
uid, so insert and delete, and a deleted object and its successor of the same name, follow each other strictly.
Over lanes a window of 32 (a Go edge keeps 100 frames and then drops the oldest). Lower ``order`` goes first: a higher
one waits until lower ones are acknowledged. What is not acknowledged within 5 s holds up nobody: it counts neither for
the order nor for the window, 96 in all, and a newer state of the same object goes in its place.

What the node holds is known by uid: a version, and a digest of what a node acts on. A newer version with the same
digest is not sent; only the cursor moves. What was sent and not acknowledged counts as held, in an unknown version: its
acknowledgement may be lost, so its removal must be sent.

Bound: one entry per object that the node needs, plus deletions; overflow cannot happen beyond the node's own objects.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

from skerry.api.gvk import Object
from skerry.base import json
from skerry.base.values import Struct, field, replace
from skerry.cloud.hub.ports import Acked, Delivery
from skerry.wire.errors import Malformed
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge.route import parse

WINDOW = 32
MAX_UNDER_WAY = 96
PATIENCE_S = 5.0
_CLOUD_STATUS = frozenset({"Pod", "Node"})
_VERSIONS = frozenset({"resourceVersion", "generation", "managedFields"})


class _Lane(Struct):
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
        self._moved: list[Acked] = []

    def __len__(self) -> int:
        """Deliveries that wait or are under way."""
        return sum(len(lane.waiting) + (lane.under_way is not None) for lane in self._lanes.values())

    def oldest_sent_s(self) -> float:
        """When the oldest delivery under way was first sent; 0 when there is none."""
        return min((self._lanes[key].sent_s for key in self._under_way.values()), default=0.0)

    def load(self, acked: Iterable[Acked]) -> None:
        """Start from what the node is known to hold."""
        self._holds = {entry.uid: entry for entry in acked}

    def learn(self, entry: Acked) -> bool:
        """Somebody else has brought this to the node. True when nothing was known of it."""
        if entry.uid in self._holds:
            return False
        self._holds[entry.uid] = entry
        return True

    def forget_all(self) -> None:
        """The node may have lost its store: nothing is certain to be there, what is under way stays so."""
        self._holds = {uid: _uncertain(entry) for uid, entry in self._holds.items()}

    def put(self, delivery: Delivery) -> bool:
        """Bring this to the node, unless it holds, gets or waits for the same or a newer version. True when queued."""
        if delivery.operation != c.OP_DELETE and not self._is_news(delivery):
            return False
        lane = self._lanes.setdefault(delivery.key, _Lane(sequence=next(self._sequence)))
        before = next((w for w in lane.waiting if w.uid == delivery.uid), None)
        others = [w for w in lane.waiting if w.uid != delivery.uid]
        removals = [w for w in others if w.operation == c.OP_DELETE]
        if delivery.operation != c.OP_DELETE:
            # Of objects that came and went while others waited only their removal matters.
            lane.waiting = [*removals, delivery if before is None else _merged(before, delivery)]
        elif _is_removal_of(before or lane.under_way, delivery.uid):
            return False
        elif before is None or before.operation != c.OP_INSERT or self._may_hold(delivery):
            lane.waiting = [*removals, delivery, *(w for w in others if w.operation != c.OP_DELETE)]
        else:
            lane.waiting = others
        self._settle(delivery.key, lane)
        return True

    def advance(self, delivery: Delivery, *, from_version: str) -> None:
        """Only the cursor moves, if the node holds ``from_version`` and nothing is on its way; else as ``put``."""
        held = self._holds.get(delivery.uid)
        if delivery.key in self._lanes or held is None or held.resource_version != from_version:
            self.put(delivery)
        else:
            self._move(held, delivery.resource_version)

    def moved(self) -> list[Acked]:
        """Cursor entries that moved without a delivery since the last call."""
        moved, self._moved = self._moved, []
        return moved

    def reconcile(self, desired: Iterable[Delivery]) -> None:
        """Queue what differs between what the node holds and what it should."""
        desired = list(desired)
        wanted = {delivery.uid for delivery in desired}
        for entry in [e for uid, e in self._holds.items() if uid not in wanted]:
            self.put(deletion_of(entry))
        for delivery in desired:
            self.put(delivery)

    def overtaken(self, now_s: float) -> list[str]:
        """Ids of deliveries that are under way for too long and have a newer state of the same object behind them.

        They are forgotten here: the newer state goes next. Forget them below, too.
        """
        found = []
        for msg_id, key in list(self._under_way.items()):
            lane = self._lanes[key]
            old, new = lane.under_way, lane.waiting[0] if lane.waiting else None
            if old is None or new is None or old.uid != new.uid or now_s - lane.sent_s < PATIENCE_S:
                continue
            del self._under_way[msg_id]
            lane.under_way, lane.waiting[0] = None, _merged(old, new)
            self._settle(key, lane)
            found.append(msg_id)
        return found

    def take(self, now_s: float) -> Delivery | None:
        """The next delivery to send, now under way until ``sent`` names it; None when there is none or no room."""
        if len(self._under_way) >= MAX_UNDER_WAY or self._fresh_count(now_s) >= self._window:
            return None
        lane = self._next_ready()
        if lane is None or lane.waiting[0].order > self._floor(now_s):
            return None
        heapq.heappop(self._ready)
        lane.filed = None
        delivery = lane.under_way = lane.waiting.pop(0)
        lane.sent_s = now_s
        if delivery.operation != c.OP_DELETE and _is_recorded(delivery) and delivery.uid not in self._holds:
            self._holds[delivery.uid] = _uncertain(acked_of(delivery))
        return delivery

    def sent(self, msg_id: str, delivery: Delivery) -> None:
        """The delivery that ``take`` gave travels under this message id."""
        self._under_way[msg_id] = delivery.key

    def acked(self, msg_id: str) -> Delivery | None:
        """The node has stored it; returns it with its digest. None for an unknown id, and where no cursor is kept."""
        key = self._under_way.pop(msg_id, None)
        lane = self._lanes.get(key) if key is not None else None
        if lane is None or lane.under_way is None or key is None:
            return None
        delivery, lane.under_way = lane.under_way, None
        self._settle(key, lane)
        if not _is_recorded(delivery):
            return None
        if delivery.operation == c.OP_DELETE:
            self._holds.pop(delivery.uid, None)
            return delivery
        delivery = replace(delivery, digest=digest_of(delivery.content))
        self._holds[delivery.uid] = acked_of(delivery)
        return delivery

    def held(self, uid: str) -> Acked | None:
        """What the node holds of an object; without a version when that is not certain."""
        return self._holds.get(uid)

    def next_look_s(self, now_s: float) -> float | None:
        """When what waits behind a delivery under way may go at the latest; None when nothing waits for that."""
        lanes = [self._lanes[key] for key in self._under_way.values()]
        waits = any(lane.waiting for lane in lanes) or (
            len(self._under_way) < MAX_UNDER_WAY and self._next_ready() is not None
        )
        if not waits:
            return None
        dues = [lane.sent_s + PATIENCE_S for lane in lanes]
        return min((due for due in dues if due > now_s), default=None)

    def _fresh_count(self, now_s: float) -> int:
        """Deliveries under way that still count for the window."""
        return sum(now_s - self._lanes[key].sent_s < PATIENCE_S for key in self._under_way.values())

    def _move(self, held: Acked, version: str) -> None:
        entry = replace(held, resource_version=version, content_version=held.content_version or held.resource_version)
        self._holds[held.uid] = entry
        self._moved.append(entry)

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
        orders = [lane.under_way.order for lane in lanes if lane.under_way and now_s - lane.sent_s < PATIENCE_S]
        return min(orders, default=float("inf"))

    def _may_hold(self, delivery: Delivery) -> bool:
        return delivery.uid in self._holds or not _is_recorded(delivery)

    def _is_news(self, delivery: Delivery) -> bool:
        lane = self._lanes.get(delivery.key)
        ahead = [] if lane is None else [d for d in (lane.under_way, *lane.waiting) if d and d.uid == delivery.uid]
        if ahead:
            last = ahead[-1]
            return last.operation == c.OP_DELETE or is_newer(delivery.resource_version, last.resource_version)
        held = self._holds.get(delivery.uid) if _is_recorded(delivery) else None
        if held is None:
            return True
        if not is_newer(delivery.resource_version, held.resource_version):
            return False
        if held.digest and held.digest == digest_of(delivery.content):
            self._move(held, delivery.resource_version)
            return False
        return True


def is_newer(version: str, than: str) -> bool:
    """Compare resource versions; one that is no decimal number always counts as newer."""
    try:
        return int(version) > int(than)
    except ValueError:
        return version != than


def digest_of(content: Object) -> bytes:
    """Of what a node acts on: all but versions, bookkeeping, and the status of what the node itself reports."""
    meta = {key: value for key, value in (content.get("metadata") or {}).items() if key not in _VERSIONS}
    left_out = ("metadata", "status") if content.get("kind") in _CLOUD_STATUS else ("metadata",)
    rest = {key: value for key, value in content.items() if key not in left_out}
    return blake2b(json.dumps([meta, rest], sort_keys=True), digest_size=16).digest()


def holdings_of(told: Mapping[str, Any], known: Mapping[str, Acked]) -> dict[str, Acked]:
    """Cursor entries of what a node says it holds, by uid.

    Args:
        told: ``{"<namespace or null>/<type>/<name>": ["<uid>", "<version or empty>"]}``.
        known: what was known of the node; taken over where the node holds that very content.

    Raises:
        Malformed: a path or an entry has another form.
    """
    found = {}
    for path, entry in told.items():
        at = parse(path)
        if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, str) for part in entry)):
            raise Malformed(f"holding {path[:120]!r} is not [uid, version]")
        uid, version = entry
        old = known.get(uid)
        if old is not None and version and version == (old.content_version or old.resource_version):
            found[uid] = old
            continue
        kind, api_version = (old.kind, old.api_version) if old is not None else (at.type, "")
        found[uid] = Acked(uid, kind, api_version, at.namespace, at.name, version)
    return found


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
        digest=delivery.digest,
    )


def deletion_of(entry: Acked) -> Delivery:
    """The news that an object which the node holds is gone: a skeletal object, as upstream sends it."""
    meta = {"name": entry.name, "uid": entry.uid} | ({"namespace": entry.namespace} if entry.namespace else {})
    kind = entry.kind.lower()
    is_device = entry.api_version.startswith("devices.") or kind in (c.TYPE_DEVICE, "devicemodel")
    return Delivery(
        key="/".join([entry.namespace or c.NO_NAMESPACE, kind, entry.name]),
        operation=c.OP_DELETE,
        uid=entry.uid,
        resource_version="",
        content={"metadata": meta, "kind": entry.kind, "apiVersion": entry.api_version},
        source=c.SOURCE_DEVICE_CONTROLLER if is_device else c.SOURCE_EDGE_CONTROLLER,
        order=40 if kind == c.TYPE_POD else 80,
    )


def _is_removal_of(delivery: Delivery | None, uid: str) -> bool:
    return delivery is not None and delivery.operation == c.OP_DELETE and delivery.uid == uid


def _uncertain(entry: Acked) -> Acked:
    """The node may hold the object or not, in any version."""
    return replace(entry, resource_version="", content_version="", digest=b"")


def _is_recorded(delivery: Delivery) -> bool:
    return delivery.source != c.SOURCE_DYNAMIC_CONTROLLER


def _merged(old: Delivery, new: Delivery) -> Delivery:
    """A waiting insert stays one with newer content; everything else is replaced."""
    if old.operation == c.OP_INSERT and new.operation == c.OP_UPDATE:
        return replace(new, operation=c.OP_INSERT)
    return new
