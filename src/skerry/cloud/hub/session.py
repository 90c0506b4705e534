"""One connected node: the I/O shell of ``CloudPeer``.

One task reads, one writes as long as there is something to write, requests run beside them: one at a time per resource
path, in their order. An idle session is a waiting reader and a timer. Bound: 512 requests of a node wait or run; beyond
that each is answered at once with "too many requests".
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable

from skerry.api.status import TooManyRequests
from skerry.base.aio.clock import Clock
from skerry.base.aio.supervise import Supervisor
from skerry.base.net.http_server import ClientGone, WebSocket
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.cloud.hub.outbox import NodeOutbox, acked_of, holdings_of
from skerry.cloud.hub.ports import Acked as Entry
from skerry.cloud.hub.ports import Cursor, Delivery, NodeLink, NodeName, Request, Resync
from skerry.cloud.hub.routes import RouteTable
from skerry.wire.errors import ProtocolError, TooLarge
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import peers
from skerry.wire.kubeedge.envelope import Envelope
from skerry.wire.kubeedge.session import Acked, Answered, CloudPeer, Expired, Received, Refused, Stamp

log = get_log(__name__)

MAX_REQUESTS = 512
PARALLEL_REQUESTS = 16
WRITE_TIMEOUT_S = 15.0
COST_BYTES = 16 * 1024
"""So many bytes of a message count as one message more against the limit."""
HOLDINGS_WAITS = 3
"""So often the first resync waits for what a node says it holds, asking in between; then the cursor must do."""
CLOSE_GOING_AWAY = 1001
CLOSE_BROKEN = 1002
CLOSE_REFUSED = 1008
CLOSE_TOO_LARGE = 1009
CLOSE_FAILED = 1011


class SessionParts(Struct, frozen=True):
    """What every session of a hub shares."""

    routes: RouteTable
    cursor: Cursor
    resync: Resync
    clock: Clock
    stamp: Stamp
    max_message_bytes: int
    silence_limit_s: float
    calm_limit_s: float
    retransmit_first_s: float
    messages_per_s: float
    holdings_within_s: float


class Caller(Struct, frozen=True):
    """Who came, from where, with which certificate. ``tells_holdings``: it will say what it holds."""

    node: NodeName
    address: str
    fingerprint: str
    is_skerry: bool
    tells_holdings: bool = False
    features: frozenset[str] = frozenset()


class NodeSession:
    """Runs one connection until it ends.

    Args:
        caller: identity, from the certificate.
        websocket: accepted.
        parts: shared by the hub.
    """

    def __init__(self, caller: Caller, websocket: WebSocket, parts: SessionParts) -> None:
        self.caller = caller
        self.outbox = NodeOutbox()
        self._websocket = websocket
        self._parts = parts
        self._log = log.bind(node=caller.node, address=caller.address)
        now_s = parts.clock.monotonic_s()
        self._peer = CloudPeer(
            now_s,
            parts.stamp,
            limit_bytes=parts.max_message_bytes,
            silence_limit_s=parts.silence_limit_s if peers.LEASE not in caller.features else parts.calm_limit_s,
            retransmit_first_s=parts.retransmit_first_s,
            features=caller.features,
        )
        websocket.on_ping(self._pinged)
        self._is_running = False
        self._is_writing = False
        self._has_more = False
        self._timer: asyncio.TimerHandle | None = None
        self._end: tuple[int, str] | None = None
        self._supervisor = Supervisor(f"hub-{caller.node}", clock=parts.clock, on_failure=self._failed)
        self._lanes = _RequestLanes(self._handle, self._supervisor)
        self._connected_s = parts.clock.now_s()
        self._heard_s = self._connected_s
        self._received_bytes = 0
        self._sent_bytes = 0
        self._is_synced = False
        self._has_changed = False
        self._told: Envelope | None = None
        self._has_told = asyncio.Event() if caller.tells_holdings else None
        self._is_told = False
        self._has_learnt = False
        self._rate = _Rate(parts.messages_per_s, now_s)
        self._was_slowed = False

    async def run(self) -> str:
        """Serve until the connection ends; returns why."""
        async with self._supervisor:
            self._is_running = True
            try:
                self._wake()
                self._supervisor.run("resync", self._first_sync())
                await self._read()
            finally:
                self._end = self._end or (CLOSE_GOING_AWAY, "the hub stops")
                self._is_running = False
                if self._timer is not None:
                    self._timer.cancel()
        return self._end[1] if self._end else "the hub stops"

    async def close(self) -> None:
        """Close the WebSocket, with the reason."""
        with contextlib.suppress(ClientGone, ConnectionError):
            await self._websocket.close(*(self._end or (CLOSE_GOING_AWAY, "the hub stops")))

    def end(self, reason: str, *, code: int = CLOSE_GOING_AWAY) -> None:
        """Ask the session to end."""
        if self._end is None:
            self._end = (code, reason)
            self._websocket.stop_receiving()

    def put(self, delivery: Delivery) -> None:
        """Queue a delivery."""
        self._has_changed = True
        # What is for watches belongs to no snapshot, so it need not wait for the first one.
        if self._is_synced or delivery.source == c.SOURCE_DYNAMIC_CONTROLLER:
            self.outbox.put(delivery)
            self._queued()

    def advance(self, delivery: Delivery, *, from_version: str) -> None:
        """See ``Outbox.advance``."""
        self._has_changed = True
        if self._is_synced:
            self.outbox.advance(delivery, from_version=from_version)
            self._queued()

    def _queued(self) -> None:
        for entry in self.outbox.moved():
            if self.caller.tells_holdings:  # it names the version that it really holds, whatever has been written
                self._parts.cursor.noted(self.caller.node, entry)
            else:
                self._parts.cursor.acked(self.caller.node, entry, can_wait=True)
        self._wake()

    def send(self, envelope: Envelope) -> None:
        """Write and forget."""
        self._peer.send(envelope)
        self._wake()

    def resync(self, *, force: bool) -> None:
        """Queue what differs; see ``Outbox.resync``. What a node has told of itself is better than a guess."""
        self._supervisor.run("resync", self._sync(force=force and not self._is_told))

    def learn(self, entry: Entry) -> None:
        """Another replica has brought this to the node before it came here. A node that can say so knows better."""
        if self.caller.tells_holdings or self._end is not None or not self._is_synced:
            return  # the first resync starts from all that is known by then
        if self.outbox.learn(entry) and not self._has_learnt:
            self._has_learnt = True
            self._supervisor.run("resync", self._learnt())

    async def _learnt(self) -> None:
        self._has_learnt = False
        await self._sync(force=False)

    async def is_alive(self, *, timeout_s: float) -> bool:
        """Whether the other side answers a WebSocket ping in time."""
        return self._end is None and await self._websocket.ping(timeout_s=timeout_s)

    def link(self) -> NodeLink:
        """The state of this link."""
        return NodeLink(
            node=self.caller.node,
            connected_since_s=self._connected_s,
            last_seen_s=self._heard_s,
            address=self.caller.address,
            fingerprint=self.caller.fingerprint,
            waiting=len(self.outbox),
            oldest_unacked_age_s=self._oldest_age_s(),
            is_skerry=self.caller.is_skerry,
            received_bytes=self._received_bytes,
            sent_bytes=self._sent_bytes,
            features=self.caller.features,
        )

    @property
    def last_seen_s(self) -> float:
        """When the node was last heard, wall-clock seconds."""
        return self._heard_s

    def _pinged(self) -> None:
        self._heard_s = self._parts.clock.now_s()
        self._peer.heard(self._parts.clock.monotonic_s())

    def _oldest_age_s(self) -> float:
        sent_s = self.outbox.oldest_sent_s()
        return max(0.0, self._parts.clock.monotonic_s() - sent_s) if sent_s else 0.0

    def _failed(self, exc: Exception) -> None:
        """A failed writer, or a first resync that failed, ends the session."""
        self.end(f"internal error: {type(exc).__name__}", code=CLOSE_FAILED)

    async def _first_sync(self) -> None:
        acked = await self._parts.cursor.load(self.caller.node)
        if self.caller.tells_holdings:
            acked = await self._holdings(acked)
        self.outbox.load(acked.values())
        await self._sync(force=False)

    async def _holdings(self, acked: dict[str, Entry]) -> dict[str, Entry]:
        """What the node says it holds; without its word, though asked for it again, what is known."""
        assert self._has_told is not None
        within_s = self._parts.holdings_within_s
        for turn in range(HOLDINGS_WAITS):
            if turn:
                self._ask_holdings()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._has_told.wait()
            if self._told is not None:
                break
            self._log.warning("hub.holdings_not_told", within_s=within_s)
        told, self._told, self._has_told = self._told, None, None
        if told is None:
            return acked
        return holdings_of(told.content if isinstance(told.content, dict) else {}, acked)

    def _ask_holdings(self) -> None:
        self.send(Envelope("", c.SOURCE_EDGE_CONTROLLER, c.GROUP_RESOURCE, c.OP_QUERY, c.RESOURCE_HOLDINGS, None))

    async def _sync(self, *, force: bool) -> None:
        self._has_changed = True
        while self._has_changed:  # a change while the snapshot was made: it may or may not be in it
            self._has_changed = False
            desired = await self._parts.resync.desired(self.caller.node)
        # From here to the end nothing waits: no change can slip between the snapshot and the queue.
        if force:
            self.outbox.forget_all()
        self.outbox.reconcile(desired)
        self._is_synced = True
        self._queued()

    async def _read(self) -> None:
        while self._end is None and (message := await self._websocket.receive()) is not None:
            await self._wait_for_rate(len(message.data))
            self._peer.heard(self._parts.clock.monotonic_s())
            try:
                self._peer.receive_message(message.data)
            except ProtocolError as exc:
                code = CLOSE_TOO_LARGE if isinstance(exc, TooLarge) else CLOSE_BROKEN
                self.end(f"broken message: {exc}", code=code)
                return
            self._received_bytes += len(message.data)
            self._heard_s = self._parts.clock.now_s()
            if self._take_events() or self._peer.has_output:
                self._wake()
            del message  # nothing of it stays while the next one is awaited
        failure = self._websocket.failure
        if self._websocket.close_code == CLOSE_TOO_LARGE:
            self.end(f"message over the limit of {self._parts.max_message_bytes} bytes", code=CLOSE_TOO_LARGE)
        self.end(failure or f"the node left (code {self._websocket.close_code})")

    async def _wait_for_rate(self, size_bytes: int) -> None:
        """A node that sends too much is read more slowly; its own connection then holds it up, and nobody else."""
        wait_s = self._rate.take(self._parts.clock.monotonic_s(), 1 + size_bytes / COST_BYTES)
        if wait_s <= 0:
            return
        if not self._was_slowed:
            self._was_slowed = True
            self._log.warning(
                "hub.node_slowed", limit_per_s=self._parts.messages_per_s, message_bytes=size_bytes,
                hint="the node sends more than it may; look at what it reports",
            )  # fmt: skip
        await asyncio.sleep(wait_s)

    def _wake(self) -> None:
        """Something may be there to write."""
        self._has_more = True
        if self._is_running and not self._is_writing:
            self._is_writing = True
            self._supervisor.run("write", self._write())

    async def _write(self) -> None:
        """Write what there is, and end; look again when the next thing is due."""
        try:
            while self._has_more:
                self._has_more = False
                now_s = self._parts.clock.monotonic_s()
                self._peer.tick(now_s)
                self._take_events()
                self._fill(now_s)
                if not await self._send_frames():
                    return
        finally:
            self._is_writing = False
        self._look_at(self._deadline_s())

    async def _send_frames(self) -> bool:
        """False when the node does not take them."""
        for frame in self._peer.messages_to_send():
            self._has_more = True
            try:
                if peers.is_packed(frame):
                    await self._websocket.send_binary(frame, timeout_s=WRITE_TIMEOUT_S)
                else:
                    await self._websocket.send_text(frame, timeout_s=WRITE_TIMEOUT_S)
            except ClientGone as exc:
                self.end(f"the node does not read: {exc}")
                return False
            self._sent_bytes += len(frame)
            del frame
        return True

    def _deadline_s(self) -> float:
        look_s = self.outbox.next_look_s(self._parts.clock.monotonic_s())
        deadline_s = self._peer.next_deadline_s()
        return deadline_s if look_s is None else min(deadline_s, look_s)

    def _look_at(self, deadline_s: float) -> None:
        """Look then, or earlier: a timer that comes too early is cheaper than one that is moved with each message."""
        loop = asyncio.get_running_loop()
        wait_s = max(0.01, deadline_s - self._parts.clock.monotonic_s())
        if self._timer is not None:
            if self._timer.when() <= loop.time() + wait_s:
                return
            self._timer.cancel()
        self._timer = loop.call_later(wait_s, self._look) if self._is_running else None

    def _look(self) -> None:
        self._timer = None
        deadline_s = self._peer.next_deadline_s()
        if len(self.outbox) or deadline_s <= self._parts.clock.monotonic_s():
            self._wake()
        else:
            self._look_at(deadline_s)  # it was heard meanwhile

    def _fill(self, now_s: float) -> None:
        for msg_id in self.outbox.overtaken(now_s):
            self._peer.forget(msg_id)
        while (delivery := self.outbox.take(now_s)) is not None:
            msg_id = self._peer.send_delivery(_envelope_of(delivery))
            self.outbox.sent(msg_id, delivery)
            self._note_sent(delivery)

    def _take_events(self) -> bool:
        """Whether something has happened."""
        events = self._peer.events()
        for event in events:
            match event:
                case Received(envelope):
                    self._accept(envelope)
                case Acked(msg_id):
                    if (delivery := self.outbox.acked(msg_id)) is not None:
                        self._note(delivery)
                case Refused(msg_id, why):
                    self._log.warning("hub.delivery_refused", msg=msg_id, why=why[:200])
                case Expired(silent_s):
                    self.end(f"nothing heard from the node for {silent_s:.0f} s", code=CLOSE_REFUSED)
                case Answered():
                    pass
        return bool(events)

    def _note_sent(self, delivery: Delivery) -> None:
        """A node that cannot say what it holds may get this without our ever hearing of it."""
        held = None if self.caller.tells_holdings else self.outbox.held(delivery.uid)
        if held is not None and not held.resource_version and delivery.operation != c.OP_DELETE:
            self._parts.cursor.acked(self.caller.node, held)

    def _note(self, delivery: Delivery) -> None:
        if delivery.operation == c.OP_DELETE:
            self._parts.cursor.removed(self.caller.node, delivery.uid)
        else:
            self._parts.cursor.acked(self.caller.node, self.outbox.held(delivery.uid) or acked_of(delivery))

    def _accept(self, envelope: Envelope) -> None:
        if envelope.resource == c.RESOURCE_HOLDINGS:
            self._is_told = True
            if self._has_told is not None:
                self._told = envelope
                self._has_told.set()
            return
        request = Request(self.caller.node, envelope, self.caller.is_skerry)
        if len(self._lanes) >= MAX_REQUESTS:
            error = TooManyRequests("the cloud has too many unanswered messages of this node", hint="send them slower")
            self._reply(self._parts.routes.busy(request, error))
            return
        self._lanes.put(request)

    async def _handle(self, request: Request) -> None:
        self._reply(await self._parts.routes.handle(request))

    def _reply(self, answer: Envelope | None) -> None:
        if answer is not None:
            self.send(answer)


class _Rate:
    """A token bucket: so many small messages a second, ten seconds' worth at once; a large one counts for many."""

    def __init__(self, per_s: float, now_s: float) -> None:
        self._per_s = per_s
        self._left = self._burst = per_s * 10
        self._at_s = now_s

    def take(self, now_s: float, cost: float) -> float:
        """Take so many; how long to wait before going on, in seconds."""
        self._left = min(self._burst, self._left + (now_s - self._at_s) * self._per_s) - cost
        self._at_s = now_s
        return -self._left / self._per_s if self._left < 0 else 0.0


class _RequestLanes:
    """Requests of one node: in order per resource path, several paths at once."""

    def __init__(self, handle: Callable[[Request], Awaitable[None]], supervisor: Supervisor) -> None:
        self._handle = handle
        self._supervisor = supervisor
        self._lanes: dict[str, deque[Request]] = {}
        self._ready: dict[str, None] = {}  # in order; a deque would cost each idle node 800 bytes
        self._busy = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, request: Request) -> None:
        key = request.envelope.resource
        self._count += 1
        if key in self._lanes:
            self._lanes[key].append(request)
            return
        self._lanes[key] = deque([request])
        self._ready[key] = None
        self._pump()

    def _pump(self) -> None:
        while self._ready and self._busy < PARALLEL_REQUESTS:
            self._busy += 1
            key = next(iter(self._ready))
            del self._ready[key]
            self._supervisor.detach("request", self._one(key))

    async def _one(self, key: str) -> None:
        lane = self._lanes[key]
        try:
            await self._handle(lane[0])
        finally:
            lane.popleft()
            self._busy -= 1
            self._count -= 1
            if lane:
                self._ready[key] = None
            else:
                del self._lanes[key]
            if not asyncio.current_task().cancelling():  # type: ignore[union-attr]
                self._pump()


def _envelope_of(delivery: Delivery) -> Envelope:
    return Envelope(
        msg_id="",
        source=delivery.source,
        group=c.GROUP_RESOURCE,
        operation=delivery.operation,
        resource=delivery.key,
        content=delivery.content,
        resource_version=delivery.resource_version,
    )
