"""Events about pods, left in the durable outbox; equal ones are counted, not repeated."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections import OrderedDict
from dataclasses import dataclass

from skerry.api.gvk import Object
from skerry.api.meta import rfc3339
from skerry.base.aio.clock import Clock
from skerry.edge.pods.ports import Outbox
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import route
from skerry.wire.kubeedge.envelope import Envelope

_MEMORY_COUNT = 512
_MEMORY_S = 600.0
_REPEAT_S = 10.0
_MESSAGE_CHARS = 1024
_ID = re.compile(r"\b[0-9a-f]{64}\b")


@dataclass(slots=True)
class _Known:
    first_s: float
    told_s: float
    count: int = 1
    wait_s: float = _REPEAT_S


class PodEvents:
    """Tells the cloud what happens to pods.

    Bound: ``_MEMORY_COUNT`` different events are remembered for counting; the oldest are forgotten, which costs only
    the count. A repetition is told after ten seconds at the earliest, the next after twice as long, and so on: a probe
    that fails for days costs a metered link little.
    """

    def __init__(self, outbox: Outbox, *, node: str, clock: Clock) -> None:
        self._outbox = outbox
        self._node = node
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def tell(self, pod: Object, reason: str, message: str, *, container: str = "", warning: bool = False) -> None:
        """One event about ``pod``, or about one of its containers."""
        metadata = pod.get("metadata") or {}
        message = message[:_MESSAGE_CHARS]
        # Engines name sandboxes and commands by new ids each time: that makes no new event.
        identity = "\n".join((str(metadata.get("uid")), container, reason, _ID.sub("", message)))
        digest = hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()
        now_s = self._clock.now_s()
        known = self._known.get(digest)
        if known is None or now_s - known.first_s > _MEMORY_S:
            known = self._known[digest] = _Known(now_s, now_s)
            while len(self._known) > _MEMORY_COUNT:
                self._known.popitem(last=False)
        else:
            known.count += 1
            if 0 <= now_s - known.told_s < known.wait_s:
                return
            known.told_s, known.wait_s = now_s, known.wait_s * 2
        name = f"{str(metadata.get('name'))[:200]}.{digest}{int(known.first_s) & 0xFFFF:04x}"
        event = self._event(pod, name, reason, message, container, known, warning=warning)
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
        self, pod: Object, name: str, reason: str, message: str, container: str, known: _Known, *, warning: bool
    ) -> Object:
        metadata = pod.get("metadata") or {}
        namespace = str(metadata.get("namespace") or "default")
        about = {
            "kind": "Pod",
            "apiVersion": "v1",
            "namespace": namespace,
            "name": metadata.get("name"),
            "uid": metadata.get("uid"),
        }
        if container:
            about["fieldPath"] = f"spec.{_list_of(pod, container)}{{{container}}}"
        return {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": about,
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


def _list_of(pod: Object, container: str) -> str:
    for kind in ("initContainers", "ephemeralContainers"):
        if any(each.get("name") == container for each in (pod.get("spec") or {}).get(kind) or []):
            return kind
    return "containers"
