"""Messages of the cloud into the store: commit, then acknowledge, then act.

Deliveries of objects (insert, update, delete) are stored here; the duties see them through the store's change feed.
Other messages go by their resource to a table that ``app/edge.py`` fills. Order of one object is kept by its
resourceVersion: an older version that arrives late is acknowledged and not applied.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from skerry.api.gvk import Object
from skerry.base.errors import SkerryError, StoreError
from skerry.base.obs.log import get_log
from skerry.edge.store.objects import EdgeObjects
from skerry.wire.errors import Malformed, ProtocolError
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import route
from skerry.wire.kubeedge.answer import unwrapped
from skerry.wire.kubeedge.envelope import Envelope

log = get_log(__name__)

Handler = Callable[[Envelope], Awaitable[None]]


class Acknowledger(Protocol):
    """How deliveries are acknowledged or refused."""

    def ack(self, envelope: Envelope) -> None:
        """It is on the disk."""

    def refuse(self, envelope: Envelope, why: str) -> None:
        """It could not be stored; the cloud sends it again."""


class Inbox:
    """Takes every message that answers no request.

    Args:
        objects: where deliveries are stored.
        handlers: by resource type (``route.resource_type``), for messages that are no objects, such as ``membership``.
    """

    def __init__(self, objects: EdgeObjects, *, link: Acknowledger, handlers: Mapping[str, Handler]) -> None:
        self._objects = objects
        self._link = link
        self._handlers = handlers

    async def take(self, envelope: Envelope) -> None:
        """One message, in the order of arrival."""
        handler = self._handlers.get(route.resource_type(envelope.resource))
        if handler is not None:
            await self._hand(handler, envelope)
        elif envelope.group in (c.GROUP_RESOURCE, c.GROUP_FUNC) and envelope.operation in c.DELIVERY_OPERATIONS:
            await self._deliver(envelope)
        else:
            log.debug("inbox.ignored", resource=envelope.resource, operation=envelope.operation, group=envelope.group)

    async def _hand(self, handler: Handler, envelope: Envelope) -> None:
        """A message that its duty cannot take is dropped: none of them must stop those behind it."""
        try:
            await handler(envelope)
        except SkerryError as exc:
            log.warning("inbox.not_taken", resource=envelope.resource[:200], error=str(exc))

    async def _deliver(self, envelope: Envelope) -> None:
        try:
            key, obj = _object_of(envelope)
        except ProtocolError as exc:
            log.warning("inbox.malformed", resource=envelope.resource[:200], error=str(exc))
            self._link.refuse(envelope, str(exc))
            return
        try:
            if envelope.operation == c.OP_DELETE:
                await self._objects.delete(key, uid=str((obj.get("metadata") or {}).get("uid") or ""))
            else:
                await self._objects.put(key, obj)
        except StoreError as exc:
            log.error("inbox.not_stored", hint=exc.hint or "check the disk", resource=key, error=str(exc))
            self._link.refuse(envelope, str(exc))
            return
        self._link.ack(envelope)


def _object_of(envelope: Envelope) -> tuple[str, Object]:
    parsed = route.parse(envelope.resource)
    if not parsed.name:
        raise Malformed(f"resource {envelope.resource!r} names no object")
    content = unwrapped(envelope.content)
    if content is None and envelope.operation == c.OP_DELETE:
        content = {}
    if not isinstance(content, dict):
        raise Malformed(f"{envelope.resource}: content is no object")
    if "ErrStatus" in content:
        raise Malformed(f"{envelope.resource}: content is an error, not an object")
    _check_form(envelope.resource, content)
    return parsed.path, content


def _check_form(resource: str, obj: Object) -> None:
    """What is stored is told to every duty at once, and again at every start: it must at least look like an object.

    Raises:
        Malformed: a part that all objects have is of another type.
    """
    metadata = obj.get("metadata") or {}
    parts: list[tuple[str, object, type]] = [
        (name, obj.get(name), dict) for name in ("metadata", "spec", "status", "data")
    ]
    if isinstance(metadata, dict):
        parts += [(f"metadata.{name}", metadata.get(name), dict) for name in ("labels", "annotations")]
        parts += [(f"metadata.{name}", metadata.get(name), str) for name in ("name", "namespace", "uid")]
    for name, value, form in parts:
        if value is not None and not isinstance(value, form):
            raise Malformed(f"{resource}: {name} is {type(value).__name__}, not {form.__name__}")
