"""Who answers which message: (resource type, operation) → handler. Every request gets an answer.

Filled by ``app`` with the duties' ``RouteEntry`` rows. Identity is the session's; resource paths never name the node.
"""

from __future__ import annotations

from collections.abc import Iterable

from skerry.api.status import ApiError, BadRequest
from skerry.base.errors import SkerryError
from skerry.base.obs.log import get_log
from skerry.cloud.hub.ports import ErrorForm, Request, RouteEntry
from skerry.wire.errors import ProtocolError
from skerry.wire.kubeedge import answer
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge.envelope import Envelope
from skerry.wire.kubeedge.route import resource_type
from skerry.wire.kubeedge.session import Stamp, answer_to

log = get_log(__name__)

ANY_OPERATION = "*"
_SILENT_TYPES = frozenset({c.TYPE_EVENT, c.TYPE_JOBS})


class RouteTable:
    """The hub's table.

    Args:
        stamp: makes ids and times of answers.
        entries: the rows.

    Raises:
        ValueError: two rows for the same type and operation.
    """

    def __init__(self, stamp: Stamp, entries: Iterable[RouteEntry] = ()) -> None:
        self._stamp = stamp
        self._entries: dict[tuple[str, str], RouteEntry] = {}
        for entry in entries:
            self.add(entry)

    def add(self, entry: RouteEntry) -> None:
        """Add a row."""
        key = (entry.type, entry.operation)
        if key in self._entries:
            raise ValueError(f"two routes for {key}")
        self._entries[key] = entry

    async def handle(self, request: Request) -> Envelope | None:
        """The answer to a message; None when it needs none. Raises nothing but bugs of handlers."""
        entry = self._find(request.envelope)
        if entry is None:
            return self._unknown(request)
        try:
            return await entry.handler(request)
        except ApiError as exc:
            return self.error(request, exc, entry.errors)
        except (ProtocolError, KeyError, TypeError, ValueError, AttributeError) as exc:
            # Contents come from outside: whatever does not fit is the sender's mistake, and it is told so.
            log.warning(
                "hub.bad_request",
                node=request.node,
                resource=request.envelope.resource[:120],
                operation=request.envelope.operation[:40],
                error=f"{type(exc).__name__}: {exc}"[:200],
            )
            bad = BadRequest(f"the message cannot be understood: {type(exc).__name__}: {exc}")
            return self.error(request, bad, entry.errors)

    def busy(self, request: Request, error: ApiError) -> Envelope | None:
        """The answer to a message that cannot be handled now."""
        entry = self._find(request.envelope)
        return self.error(request, error, entry.errors if entry else "text")

    def error(self, request: Request, error: ApiError, form: ErrorForm) -> Envelope | None:
        """An error in the form that the edge expects for this message.

        A Go edge takes ``{"ErrStatus"}`` for the ConfigMap, Secret or volume itself, and stores it; it understands
        words.
        """
        if form == "silent":
            log.warning(
                "hub.request_failed",
                node=request.node,
                resource=request.envelope.resource[:120],
                operation=request.envelope.operation[:40],
                error=error.message,
            )
            return None
        if form == "written":
            return answer_to(request.envelope, self._stamp, answer.failed_write(error.to_status()))
        kind = resource_type(request.envelope.resource)
        if form == "queried" and (request.is_skerry or kind not in c.ACKED_ANSWER_TYPES):
            return answer_to(request.envelope, self._stamp, answer.failed_query(error.to_status()))
        return answer_to(request.envelope, self._stamp, explained(error), operation=c.OP_ERROR)

    def _find(self, envelope: Envelope) -> RouteEntry | None:
        kind = resource_type(envelope.resource)
        return self._entries.get((kind, envelope.operation)) or self._entries.get((kind, ANY_OPERATION))

    def _unknown(self, request: Request) -> Envelope | None:
        kind = resource_type(request.envelope.resource)
        log.warning(
            "hub.unknown_message",
            node=request.node,
            resource=request.envelope.resource[:120],
            operation=request.envelope.operation[:40],
        )
        if kind in _SILENT_TYPES or not request.envelope.msg_id:
            return None
        error = BadRequest(f"this cloud does not know {request.envelope.operation!r} of {request.envelope.resource!r}")
        return self.error(request, error, "text")


def explained(error: SkerryError) -> str:
    """Error text that is never taken for JSON."""
    return f"error: {error.explained()}"
