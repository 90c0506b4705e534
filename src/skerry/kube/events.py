"""Event recorder: core/v1 Events with counts, best effort, bounded.

Recording never blocks and never fails the caller. Bound: ``limit`` different events wait; a further one is dropped and
counted. Equal events within ten minutes are one Event object with a count.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any

from skerry.api.gvk import EVENTS, Object
from skerry.api.status import ApiError, NotFound
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.aio.keyed import KeyedQueue
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.kube.ports import KubeApi

log = get_log(__name__)

MEMORY_COUNT = 1024
MEMORY_S = 600.0
MESSAGE_BYTES = 1024


class _Key(Struct, frozen=True):
    namespace: str
    kind: str
    name: str
    uid: str
    type: str
    reason: str
    message: str

    def event_name(self) -> str:
        digest = hashlib.blake2b(repr(self).encode(), digest_size=8).hexdigest()
        return f"{self.name[:200]}.{digest}"


class _Known(Struct):
    first_s: float
    count: int = 0


class EventRecorder:
    """Writes Events for one component.

    Args:
        api: the cluster.
        component: ``source.component``, such as ``deployment-controller``.
        host: ``source.host``, where it matters.
        limit: how many different events may wait.
        clock: for timestamps.
    """

    def __init__(
        self, api: KubeApi, component: str, *, host: str = "", limit: int = 1000, clock: Clock | None = None
    ) -> None:
        self._api = api
        self._component = component
        self._host = host
        self._limit = limit
        self._clock = clock or SystemClock()
        self._known: OrderedDict[_Key, _Known] = OrderedDict()
        self._queue: KeyedQueue[_Key, Object] | None = None
        self._is_closed = False
        self.dropped_count = 0

    def normal(self, about: Object, reason: str, message: str) -> None:
        """Something went as it should."""
        self._record(about, "Normal", reason, message)

    def warning(self, about: Object, reason: str, message: str) -> None:
        """Something that a person may want to look at."""
        self._record(about, "Warning", reason, message)

    async def flush(self) -> None:
        """Wait until everything recorded was written or given up."""
        if self._queue is not None:
            await self._queue.join()

    async def aclose(self) -> None:
        """Drop what waits, and whatever is recorded from now on."""
        self._is_closed = True
        queue, self._queue = self._queue, None
        if queue is not None:
            await queue.aclose()

    def _record(self, about: Object, kind: str, reason: str, message: str) -> None:
        if self._is_closed:
            return
        meta = about["metadata"]
        key = _Key(
            meta.get("namespace") or "default",
            about.get("kind", ""),
            meta["name"],
            meta.get("uid", ""),
            kind,
            reason,
            message[:MESSAGE_BYTES],
        )
        if self._queue is None:
            self._queue = KeyedQueue("events", self._write, workers=2, on_error=self._failed)
        if len(self._queue) >= self._limit:
            self.dropped_count += 1
            return
        self._queue.put(key, self._event(about, key))

    def _event(self, about: Object, key: _Key) -> Object:
        known = self._remember(key)
        now = self._time(self._clock.now_s())
        source: dict[str, Any] = {"component": self._component}
        if self._host:
            source["host"] = self._host
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": key.event_name(), "namespace": key.namespace},
            "involvedObject": _reference(about),
            "type": key.type,
            "reason": key.reason,
            "message": key.message,
            "source": source,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
            "firstTimestamp": self._time(known.first_s),
            "lastTimestamp": now,
            "count": known.count,
            "eventTime": None,
        }

    def _remember(self, key: _Key) -> _Known:
        now_s = self._clock.now_s()
        known = self._known.pop(key, None)
        if known is None or now_s - known.first_s > MEMORY_S:
            known = _Known(now_s)
        known.count += 1
        self._known[key] = known
        while len(self._known) > MEMORY_COUNT:
            self._known.popitem(last=False)
        return known

    async def _write(self, key: _Key, event: Object) -> None:
        meta = event["metadata"]
        if event["count"] > 1:
            patch = {"count": event["count"], "lastTimestamp": event["lastTimestamp"]}
            try:
                await self._api.patch(EVENTS, meta["name"], patch, namespace=meta["namespace"])
                return
            except NotFound:
                pass
        await self._create(event)

    async def _create(self, event: Object) -> None:
        meta = event["metadata"]
        try:
            await self._api.create(EVENTS, event, namespace=meta["namespace"])
        except ApiError as exc:
            if exc.code != 409:
                raise
            patch = {key: event[key] for key in ("count", "firstTimestamp", "lastTimestamp")}
            await self._api.patch(EVENTS, meta["name"], patch, namespace=meta["namespace"])

    def _failed(self, key: _Key, exc: Exception) -> bool:
        self.dropped_count += 1
        log.debug("event.dropped", reason=key.reason, name=key.name, error=str(exc))
        return False

    @staticmethod
    def _time(at_s: float) -> str:
        return datetime.fromtimestamp(int(at_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _reference(about: Object) -> dict[str, Any]:
    meta = about["metadata"]
    reference = {
        "kind": about.get("kind"),
        "apiVersion": about.get("apiVersion"),
        "name": meta["name"],
        "namespace": meta.get("namespace"),
        "uid": meta.get("uid"),
        "resourceVersion": meta.get("resourceVersion"),
    }
    return {key: value for key, value in reference.items() if value}
