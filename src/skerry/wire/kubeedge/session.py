"""Both ends of the cloud-edge link, without sockets and clocks: one object per connection.

Feed whole WebSocket messages and time; take events and messages. The shell gives ``stamp``, which makes the id
(UUID text) and time (Unix milliseconds) of each message that a peer writes by itself.

Liveness: the edge writes ``keepalive`` at once and then every 15 s; the cloud ends a session after 30 s of silence.
A Go cloud counts only keepalives; ours counts every message, so that a long transfer is no silence.
Acknowledgement: operation ``response``, content ``OK``, parent = id of the message, source and group copied from it.
Retransmission keeps the id; the edge applies each id once and acknowledges every copy.

Source: kubeedge cloud/pkg/cloudhub/session/node_session.go, edge/pkg/edgehub/process.go,
edge/pkg/metamanager/process.go, pkg/viaduct/pkg/conn/ws.go:filterControlMessage (v1.23).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import inf
from typing import Any

from skerry.base.values import Struct, replace
from skerry.wire.errors import Malformed, OutOfOrder
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import peers
from skerry.wire.kubeedge.envelope import MAX_FRAME_BYTES, Envelope, decode, encode
from skerry.wire.kubeedge.route import resource_type

Stamp = Callable[[], tuple[str, int]]
"""Makes the id and the time (Unix ms) of a new message."""

RETRANSMIT_FIRST_S = 5.0
RETRANSMIT_CAP_S = 30.0
REMEMBERED_IDS = 2048
ACK_DELAY_S = 0.05
ACK_BATCH = 16


class Received(Struct, frozen=True):
    """A message for the layer above: a request or report (in the cloud), a delivery or request (on the edge)."""

    envelope: Envelope


class Acked(Struct, frozen=True):
    """The edge has stored a delivery."""

    msg_id: str


class Refused(Struct, frozen=True):
    """The edge could not take a delivery; it is sent again later."""

    msg_id: str
    why: str


class Answered(Struct, frozen=True):
    """The answer to a request of ours. ``needs_ack``: store it, then acknowledge it."""

    request_id: str
    envelope: Envelope
    needs_ack: bool = False


class Expired(Struct, frozen=True):
    """Nothing came for too long; close the connection."""

    silent_s: float


CloudEvent = Received | Acked | Refused | Answered | Expired
EdgeEvent = Received | Answered


def ack_of(envelope: Envelope, stamp: Stamp) -> Envelope:
    """The acknowledgement of a delivery."""
    return _reply(envelope, stamp, operation=c.OP_RESPONSE, content=c.CONTENT_OK)


def answer_to(
    request: Envelope,
    stamp: Stamp,
    content: Any,
    *,
    source: str = c.SOURCE_EDGE_CONTROLLER,
    group: str = c.GROUP_RESOURCE,
    operation: str = c.OP_RESPONSE,
    resource: str = "",
    resource_version: str = "",
) -> Envelope:
    """The answer of a cloud duty to a request; ``resource`` defaults to the request's."""
    msg_id, timestamp_ms = stamp()
    return Envelope(
        msg_id=msg_id,
        parent_id=request.msg_id,
        timestamp_ms=timestamp_ms,
        resource_version=resource_version,
        source=source,
        group=group,
        operation=operation,
        resource=resource or request.resource,
        content=content,
    )


class _Peer:
    """What both ends do alike: decode within limits, swallow control operations and empty messages, collect."""

    def __init__(self, stamp: Stamp, *, limit_bytes: int, features: frozenset[str]) -> None:
        self._stamp = stamp
        self._limit_bytes = limit_bytes
        self._features = features
        self._out: list[bytes] = []

    @property
    def has_output(self) -> bool:
        """Whether there are frames to write."""
        return bool(self._out)

    def messages_to_send(self) -> list[bytes]:
        """Frames to write, in order; each is handed out once."""
        out, self._out = self._out, []
        return out

    def send(self, envelope: Envelope) -> None:
        """Write a message and forget it. With an empty id, id and time are filled in."""
        self._write(self._stamped(envelope))

    def _write(self, envelope: Envelope) -> bytes:
        frame = encode(envelope)
        if peers.DEFLATE in self._features and peers.may_pack(envelope, frame):
            frame = peers.pack(frame)
        self._out.append(frame)
        return frame

    def _stamped(self, envelope: Envelope) -> Envelope:
        if envelope.msg_id:
            return envelope
        msg_id, timestamp_ms = self._stamp()
        return replace(envelope, msg_id=msg_id, timestamp_ms=timestamp_ms)

    def _read(self, frame: bytes | str) -> Envelope | None:
        if isinstance(frame, bytes) and peers.is_packed(frame):
            if peers.DEFLATE not in self._features:
                raise Malformed("packed message on a link that has not agreed on it")
            frame = peers.unpack(frame, limit_bytes=self._limit_bytes)
        envelope = decode(frame, limit_bytes=self._limit_bytes)
        if not envelope.msg_id and not envelope.operation and not envelope.resource:
            return None
        if envelope.operation in c.CONTROL_OPERATIONS:
            reply = _reply(envelope, self._stamp, operation=c.OP_RESPONSE, content=c.CONTENT_CONTROL_ACK)
            self._write(reply)
            return None
        return envelope


class _Outstanding(Struct):
    frame: bytes
    due_s: float
    wait_s: float
    sends: int = 1


class CloudPeer(_Peer):
    """The cloud's end of one node's connection.

    Args:
        now_s: monotonic time of the connection's start.
        stamp: makes ids and times of new messages.
        limit_bytes: largest message accepted.
        silence_limit_s: how long the edge may say nothing.
        features: agreed on in the handshake (``peers``).
    """

    def __init__(
        self,
        now_s: float,
        stamp: Stamp,
        *,
        limit_bytes: int = MAX_FRAME_BYTES,
        silence_limit_s: float = c.KEEPALIVE_LIMIT_S,
        retransmit_first_s: float = RETRANSMIT_FIRST_S,
        features: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(stamp, limit_bytes=limit_bytes, features=features)
        self._now_s = now_s
        self._heard_s = now_s
        self._silence_limit_s = silence_limit_s
        self._retransmit_first_s = retransmit_first_s
        self._outstanding: dict[str, _Outstanding] = {}
        self._requests: set[str] = set()
        self._events: list[CloudEvent] = []
        self._has_expired = False

    @property
    def outstanding_count(self) -> int:
        """Deliveries without an acknowledgement."""
        return len(self._outstanding)

    def heard(self, now_s: float) -> None:
        """A sign of life that is no message, such as a ping."""
        self._heard_s = self._now_s = now_s

    def receive_message(self, frame: bytes | str) -> None:
        """One message from the edge.

        Raises:
            ProtocolError: it cannot be read; close the connection.
        """
        envelope = self._read(frame)
        self._heard_s = self._now_s
        if envelope is None or envelope.operation == c.OP_KEEPALIVE:
            return
        parent = envelope.parent_id
        if parent in self._requests:
            self._requests.discard(parent)
            self._events.append(Answered(parent, envelope))
        elif envelope.operation == c.OP_RESPONSE:
            is_batch = envelope.resource == c.RESOURCE_ACKS and peers.ACKS in self._features
            for msg_id in _texts(envelope.content) if is_batch else (parent,):
                if self._outstanding.pop(msg_id, None):
                    self._events.append(Acked(msg_id))
        elif envelope.operation == c.OP_ERROR:
            if parent in self._outstanding:
                self._events.append(Refused(parent, _text(envelope.content)))
        else:
            self._events.append(Received(envelope))

    def send_delivery(self, envelope: Envelope) -> str:
        """Write a message that must be acknowledged; it is repeated with the same id until it is. Returns its id.

        Raises:
            OutOfOrder: a delivery with this id is under way.
        """
        envelope = self._stamped(envelope)
        if envelope.msg_id in self._outstanding:
            raise OutOfOrder(f"delivery {envelope.msg_id} is under way already")
        wait_s = self._retransmit_first_s
        self._outstanding[envelope.msg_id] = _Outstanding(self._write(envelope), self._now_s + wait_s, wait_s)
        return envelope.msg_id

    def send_request(self, envelope: Envelope) -> str:
        """Write a request to the edge; returns the id under which ``Answered`` will come."""
        envelope = self._stamped(envelope)
        self._requests.add(envelope.msg_id)
        self._write(envelope)
        return envelope.msg_id

    def forget(self, msg_id: str) -> None:
        """Wait no longer for the acknowledgement or answer of this message."""
        self._outstanding.pop(msg_id, None)
        self._requests.discard(msg_id)

    def tick(self, now_s: float) -> None:
        """Tell the time (monotonic): repeats what is due, expires a silent link."""
        self._now_s = now_s
        for item in self._outstanding.values():
            if now_s >= item.due_s:
                self._out.append(item.frame)
                item.sends += 1
                item.wait_s = min(RETRANSMIT_CAP_S, item.wait_s * 2)
                item.due_s = now_s + item.wait_s
        silent_s = now_s - self._heard_s
        if silent_s >= self._silence_limit_s and not self._has_expired:
            self._has_expired = True
            self._events.append(Expired(silent_s))

    def next_deadline_s(self) -> float:
        """When ``tick`` has something to do next."""
        dues = [item.due_s for item in self._outstanding.values()]
        return min([self._heard_s + self._silence_limit_s, *dues])

    def events(self) -> list[CloudEvent]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events


class EdgePeer(_Peer):
    """The edge's end. The first keepalive is ready to be sent from the start.

    Args:
        now_s: monotonic time of the connection's start.
        stamp: makes ids and times of new messages.
        limit_bytes: largest message accepted.
        keepalive_every_s: pause between keepalives.
        features: agreed on in the handshake (``peers``).
    """

    def __init__(
        self,
        now_s: float,
        stamp: Stamp,
        *,
        limit_bytes: int = MAX_FRAME_BYTES,
        keepalive_every_s: float = c.KEEPALIVE_EVERY_S,
        features: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(stamp, limit_bytes=limit_bytes, features=features)
        self._every_s = keepalive_every_s
        self._now_s = now_s
        self._acks: list[Envelope] = []
        self._acks_due_s = inf
        self._keepalive_due_s = inf if peers.LEASE in features else now_s
        self._requests: set[str] = set()
        self._seen: OrderedDict[str, bool] = OrderedDict()
        self._events: list[EdgeEvent] = []
        self.tick(now_s)

    def receive_message(self, frame: bytes | str) -> None:
        """One message from the cloud.

        Raises:
            ProtocolError: it cannot be read; close the connection.
        """
        envelope = self._read(frame)
        if envelope is None:
            return
        if envelope.parent_id in self._requests:
            self._requests.discard(envelope.parent_id)
            self._seen_once(envelope.msg_id)
            self._events.append(Answered(envelope.parent_id, envelope, needs_ack=_is_acked_answer(envelope)))
        elif envelope.parent_id and envelope.group in c.ANSWER_GROUPS:
            self._late_answer(envelope)
        elif self._is_new(envelope):
            self._events.append(Received(envelope))

    def send_ack(self, envelope: Envelope) -> None:
        """Acknowledge a delivery (or an answer that needs it), after it has been stored."""
        self._seen_once(envelope.msg_id)
        self._seen[envelope.msg_id] = True
        if peers.ACKS not in self._features:
            self._write(ack_of(envelope, self._stamp))
            return
        self._acks.append(envelope)
        self._acks_due_s = min(self._acks_due_s, self._now_s + ACK_DELAY_S)

    def messages_to_send(self) -> list[bytes]:
        """Frames to write, in order. Acknowledgements wait a moment for others, unless something goes out anyway."""
        if self._acks and (self._out or self._now_s >= self._acks_due_s or len(self._acks) >= ACK_BATCH):
            self._write_acks()
        return super().messages_to_send()

    def send_refusal(self, envelope: Envelope, why: str) -> None:
        """Tell that a delivery could not be stored; the cloud sends it again, and it then counts as new."""
        self._seen.pop(envelope.msg_id, None)
        msg_id, timestamp_ms = self._stamp()
        self._write(
            Envelope(
                msg_id=msg_id,
                parent_id=envelope.msg_id,
                timestamp_ms=timestamp_ms,
                source=c.SOURCE_META_MANAGER,
                group=envelope.group,
                operation=c.OP_ERROR,
                resource=envelope.resource,
                content=why,
            )
        )

    def send_request(self, envelope: Envelope) -> str:
        """Write a request; returns the id under which ``Answered`` will come."""
        envelope = self._stamped(envelope)
        self._requests.add(envelope.msg_id)
        self._write(envelope)
        return envelope.msg_id

    def forget(self, msg_id: str) -> None:
        """Wait no longer for the answer to this request; should it come, it is dropped."""
        self._requests.discard(msg_id)

    def tick(self, now_s: float) -> None:
        """Tell the time (monotonic): writes the keepalive when it is due."""
        self._now_s = now_s
        if now_s < self._keepalive_due_s:
            return
        self._keepalive_due_s = now_s + self._every_s
        self.send(
            Envelope(
                msg_id="",
                source=c.SOURCE_WEBSOCKET,
                group=c.GROUP_RESOURCE,
                operation=c.OP_KEEPALIVE,
                resource=c.RESOURCE_KEEPALIVE,
                content=c.CONTENT_PING,
            )
        )

    def next_deadline_s(self) -> float:
        """When ``tick`` has something to do next; infinity when there is nothing."""
        return min(self._keepalive_due_s, self._acks_due_s)

    def events(self) -> list[EdgeEvent]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    def _write_acks(self) -> None:
        acks, self._acks, self._acks_due_s = self._acks, [], inf
        if len(acks) == 1:
            self._write(ack_of(acks[0], self._stamp))
            return
        batch = ack_of(acks[0], self._stamp)
        self._write(replace(batch, resource=c.RESOURCE_ACKS, content=[envelope.msg_id for envelope in acks]))

    def _late_answer(self, envelope: Envelope) -> None:
        """Nobody waits any more. A Go cloud would repeat it for the rest of the session, so it is acknowledged."""
        if _is_acked_answer(envelope):
            self.send_ack(envelope)

    def _is_new(self, envelope: Envelope) -> bool:
        was_acked = self._seen.get(envelope.msg_id)
        if was_acked:
            self._write(ack_of(envelope, self._stamp))
        elif was_acked is None:
            self._seen_once(envelope.msg_id)
            return True
        return False

    def _seen_once(self, msg_id: str) -> None:
        self._seen.setdefault(msg_id, False)
        while len(self._seen) > REMEMBERED_IDS:
            self._seen.popitem(last=False)


def _is_acked_answer(envelope: Envelope) -> bool:
    return envelope.operation == c.OP_RESPONSE and resource_type(envelope.resource) in c.ACKED_ANSWER_TYPES


def _reply(envelope: Envelope, stamp: Stamp, *, operation: str, content: Any) -> Envelope:
    msg_id, timestamp_ms = stamp()
    return Envelope(
        msg_id=msg_id,
        parent_id=envelope.msg_id,
        timestamp_ms=timestamp_ms,
        source=envelope.source,
        group=envelope.group,
        operation=operation,
        resource=envelope.resource,
        content=content,
    )


def _texts(content: Any) -> list[str]:
    return [item for item in content if isinstance(item, str)] if isinstance(content, list) else []


def _text(content: Any) -> str:
    return content if isinstance(content, str) else str(content)
