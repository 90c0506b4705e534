"""Events for the cloud, left in the durable outbox; equal ones are counted, not repeated.

Not here: about what, and when (``pods.events``, ``node.events``).
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from typing import Protocol

from skerry.api.gvk import Object
from skerry.api.meta import rfc3339
from skerry.base.aio.clock import Clock
from skerry.base.values import Struct
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import route
from skerry.wire.kubeedge.envelope import Envelope

_MEMORY_COUNT = 512
_REPEAT_S = 10.0
_MESSAGE_CHARS = 1024
_ID = re.compile(r"\b[0-9a-f]{64}\b")
_NAMESPACE = "default"


class Outbox(Protocol):
    """The durable queue to the cloud: ``edge.store.outbox.EdgeOutbox``."""

    async def leave(self, key: str, envelope: Envelope, *, is_sequence: bool = False) -> None:
        """Returns after the commit."""


class Tell(Protocol):
    """Makes an Event about the node: ``edge.node.events.NodeEvents.tell``."""

    async def __call__(self, reason: str, message: str, *, warning: bool = False) -> bool:
        """One event; whether it is kept. Raises nothing."""


class _Known(Struct):
    first_s: float
    told_s: float
    count: int = 1
    wait_s: float = _REPEAT_S


class EventRecorder:
    """Tells the cloud what happens here.

    Bound: ``_MEMORY_COUNT`` different events are remembered for counting; the oldest are forgotten, which costs only
    the count. A repetition is told after ten seconds at the earliest, the next after twice as long, and so on: what
    fails for days costs a metered link little.

    Args:
        node: that reports.
        memory_s: for so long after its first time an event is the same one.
    """

    def __init__(self, outbox: Outbox, *, node: str, clock: Clock, memory_s: float = 600.0) -> None:
        self._outbox = outbox
        self._node = node
        self._clock = clock
        self._memory_s = memory_s
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def tell(
        self, about: Mapping[str, object], reason: str, message: str, *, warning: bool = False, identity: str = ""
    ) -> None:
        """One event.

        Args:
            about: its ``involvedObject``, with a name; of namespace ``default`` where it names none.
            identity: what tells it from others with this reason about the same object; its message where it is empty.

        Raises:
            StoreError: it could not be left.
        """
        message = message[:_MESSAGE_CHARS]
        # Engines name sandboxes and commands by new ids each time: that makes no new event.
        parts = (about.get("uid"), about.get("fieldPath", ""), reason, identity or _ID.sub("", message))
        digest = hashlib.blake2b("\n".join(map(str, parts)).encode(), digest_size=8).hexdigest()
        now_s = self._clock.now_s()
        known = self._known.get(digest)
        if known is None or now_s - known.first_s > self._memory_s:
            known = self._known[digest] = _Known(now_s, now_s)
            while len(self._known) > _MEMORY_COUNT:
                self._known.popitem(last=False)
        else:
            known.count += 1
            if 0 <= now_s - known.told_s < known.wait_s:
                return
            known.told_s, known.wait_s = now_s, known.wait_s * 2
        name = f"{str(about['name'])[:200]}.{digest}{int(known.first_s) & 0xFFFF:04x}"
        event = self._event(about, name, reason, message, known, warning=warning)
        key = route.build(event["metadata"]["namespace"], c.TYPE_EVENT, name)
        envelope = Envelope(
            msg_id=str(uuid.uuid4()),
            source=c.SOURCE_EDGED,
            group=c.GROUP_META,
            operation=c.OP_INSERT,
            resource=key,
            content=event,
            timestamp_ms=int(now_s * 1000),
        )
        await self._outbox.leave(key, envelope, is_sequence=True)

    def _event(
        self, about: Mapping[str, object], name: str, reason: str, message: str, known: _Known, *, warning: bool
    ) -> Object:
        return {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {"name": name, "namespace": str(about.get("namespace") or _NAMESPACE)},
            "involvedObject": dict(about),
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "message": message,
            "source": {"component": "kubelet", "host": self._node},
            "reportingComponent": "kubelet",
            "reportingInstance": self._node,
            "firstTimestamp": rfc3339(known.first_s),
            "lastTimestamp": rfc3339(self._clock.now_s()),
            "count": known.count,
        }
