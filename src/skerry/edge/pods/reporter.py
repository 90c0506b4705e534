"""Tells the cloud of one pod: statuses and the wish to be deleted, through the durable outbox."""

from __future__ import annotations

import uuid
from typing import Any

from skerry.api.gvk import Object
from skerry.base import json
from skerry.base.aio.clock import Clock
from skerry.base.obs.log import get_log
from skerry.edge.pods.events import PodEvents
from skerry.edge.pods.ports import Outbox
from skerry.edge.pods.static import is_static
from skerry.edge.pods.status import with_removals
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import route
from skerry.wire.kubeedge.envelope import Envelope

log = get_log(__name__)


class Reporter:
    """Leaves what is new of a pod's status; remembers what it told.

    Args:
        uid, namespace, name: of the pod.
    """

    def __init__(self, uid: str, namespace: str, name: str, *, outbox: Outbox, events: PodEvents, clock: Clock) -> None:
        self._uid = uid
        self._namespace, self._name = namespace, name
        self._outbox = outbox
        self._events = events
        self._clock = clock
        self.told: dict[str, Any] = {}

    def with_status(self, pod: Object) -> Object:
        """The pod with the newest status; conditions that others keep stay in it."""
        if not self.told:
            return pod
        old = pod.get("status") or {}
        ours = {condition["type"] for condition in self.told["conditions"]}
        others = [condition for condition in old.get("conditions") or [] if condition.get("type") not in ours]
        return pod | {"status": old | self.told | {"conditions": [*others, *self.told["conditions"]]}}

    async def tell(self, pod: Object, status: dict[str, Any]) -> None:
        """Leave a status, if it is another than the one before."""
        if status == self.told:
            return
        await self._tell_backoff(pod, status)
        patch = with_removals(status, pod.get("status") or {}, self.told)
        # The mirror of a static pod has a uid of its own.
        identity = {} if is_static(pod) else {"uid": self._uid}
        text = json.dumps({"metadata": identity, "status": patch}).decode()
        await self._leave(route.build(self._namespace, c.TYPE_POD_PATCH, self._name), c.OP_PATCH, text)
        if status["phase"] != self.told.get("phase"):
            log.info("pod.phase", ns=self._namespace, name=self._name, uid=self._uid, phase=status["phase"])
        self.told = status

    async def request_delete(self) -> None:
        """Ask for the deletion of the object: nothing of the pod is left here."""
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self._uid}}
        await self._leave(route.build(self._namespace, c.TYPE_POD, self._name), c.OP_DELETE, body)
        log.info("pod.ended", ns=self._namespace, name=self._name, uid=self._uid)

    async def _tell_backoff(self, pod: Object, status: dict[str, Any]) -> None:
        for container in [*status.get("initContainerStatuses", []), *status["containerStatuses"]]:
            waiting = container["state"].get("waiting") or {}
            if waiting.get("reason") == "ImagePullBackOff":
                text = f'Back-off pulling image "{container["image"]}"'
                await self._events.tell(pod, "BackOff", text, container=container["name"])
            if waiting.get("reason") == "CrashLoopBackOff":
                home = f"{self._name}_{self._namespace}({self._uid})"
                text = f"Back-off restarting failed container {container['name']} in pod {home}"
                await self._events.tell(pod, "BackOff", text, container=container["name"], warning=True)

    async def _leave(self, key: str, operation: str, content: Any) -> None:
        envelope = Envelope(
            msg_id=str(uuid.uuid4()),
            source=c.SOURCE_EDGED,
            group=c.GROUP_META,
            operation=operation,
            resource=key,
            content=content,
            timestamp_ms=int(self._clock.now_s() * 1000),
        )
        await self._outbox.leave(key, envelope)
