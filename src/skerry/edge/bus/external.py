"""Client of an MQTT broker beside the agent: topics in, documents out.

The bus knows topics, not twins: ``routes`` says who handles a message, and it is acknowledged after that handler
returned, so a message that we did not store is not confirmed. Out: a queue of ``queue_limit`` documents; when it is
full the oldest goes and is counted, because documents are news and the newest counts. Unconfirmed documents are sent
again after a reconnect.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from skerry.base.aio.backoff import Backoff
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.aio.supervise import Supervisor
from skerry.base.errors import DeviceError
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.wire.errors import ProtocolError
from skerry.wire.mqtt import codec, session
from skerry.wire.mqtt.session import Message, MqttClient
from skerry.wire.mqtt.topics import matches

log = get_log(__name__)

READ_BYTES = 65536


class BrokerLost(DeviceError):
    """No broker, or it went away or refused us."""


class Route(Struct, frozen=True):
    """Messages that match ``pattern`` go to ``handler``; the first matching route has them."""

    pattern: str
    handler: Callable[[str, bytes], Awaitable[None]]


class Counts(Struct):
    """Since the start. ``dropped`` documents never left because the queue was full."""

    received: int = 0
    published: int = 0
    dropped: int = 0


class ExternalBus:
    """Keeps one connection to a broker.

    Args:
        host, port: where the broker listens.
        client_id: unique at the broker.
        routes: what to subscribe and who handles it; filled by the composition root.
        user_name, password: credentials, where the broker wants them.
        tls: context for MQTT over TLS.
        queue_limit: documents that may wait while the broker is away or slow.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 1883,
        client_id: str,
        routes: Sequence[Route],
        user_name: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        keep_alive_s: int = 60,
        queue_limit: int = 1000,
        connect_timeout_s: float = 10.0,
        clock: Clock | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._connect = codec.Connect(
            client_id, keep_alive_s, True, user_name, None if password is None else password.encode()
        )
        self._routes = tuple(routes)
        self._tls = tls
        self._queue_limit = queue_limit
        self._connect_timeout_s = connect_timeout_s
        self._clock = clock or SystemClock()
        self._supervisor = Supervisor("bus", clock=self._clock)
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._work = asyncio.Event()
        self._handled = asyncio.Event()
        self._why_down = "not started"
        self.counts = Counts()
        self._log = log.bind(broker=f"{host}:{port}")

    def start(self) -> None:
        """Begin to connect, again and again."""
        self._supervisor.keep("link", self.run)

    async def aclose(self) -> None:
        """Leave the broker."""
        await self._supervisor.aclose()

    @property
    def why_down(self) -> str:
        """Why there is no connection; empty while there is one."""
        return self._why_down

    @property
    def waiting(self) -> int:
        """Documents that have not left yet."""
        return len(self._waiting)

    def publish(self, topic: str, payload: bytes) -> None:
        """Hand over a document; never blocks."""
        if len(self._waiting) >= self._queue_limit:
            self._waiting.popleft()
            self.counts.dropped += 1
        self._waiting.append((topic, payload))
        self._work.set()

    async def run(self) -> None:
        """Connect, serve, connect again; never ends. For those who keep a supervisor; others use ``start``."""
        backoff = Backoff(first_s=0.5, cap_s=30.0)
        while True:
            client = MqttClient(self._connect)
            try:
                await self._serve(client, backoff)
            except (OSError, TimeoutError, ProtocolError, BrokerLost) as exc:
                why = str(exc) or type(exc).__name__
                if not self._why_down or backoff.failures == 0:
                    self._log.warning("bus.down", error=why)
                self._why_down = why
            self._waiting.extendleft((p.topic, p.payload) for p in reversed(client.unacked()))
            while len(self._waiting) > self._queue_limit:
                self._waiting.popleft()
                self.counts.dropped += 1
            await self._clock.sleep(backoff.next_s())

    async def _serve(self, client: MqttClient, backoff: Backoff) -> None:
        async with asyncio.timeout(self._connect_timeout_s):
            reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._welcome(client, reader, writer)
            backoff.reset()
            self._why_down = ""
            self._log.info("bus.up")
            await self._pump(client, reader, writer)
        finally:
            with contextlib.suppress(ProtocolError):
                client.send_disconnect()
            if not writer.is_closing():
                writer.write(client.data_to_send())
            writer.close()

    async def _welcome(self, client: MqttClient, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(client.data_to_send())
        await self._read_into(client, reader)
        while not (events := client.events()):
            await self._read_into(client, reader)
        await self._handle(client, events)
        client.send_subscribe(tuple(route.pattern for route in self._routes))
        client.tick(self._clock.monotonic_s())

    async def _pump(self, client: MqttClient, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with Supervisor("bus-reader") as readers:
            reading = readers.detach("read", self._read_loop(client, reader))
            while True:
                self._work.clear()
                await self._handle(client, client.events())
                self._handled.set()
                while self._waiting and client.can_publish:
                    topic, payload = self._waiting.popleft()
                    client.send_publish(topic, payload)
                    self.counts.published += 1
                client.tick(self._clock.monotonic_s())
                await self._handle(client, client.events())
                if data := client.data_to_send():
                    writer.write(data)
                    await writer.drain()
                if reading.done():
                    raise BrokerLost("the broker closed the connection")
                await self._wait(client)

    async def _wait(self, client: MqttClient) -> None:
        deadline_s = client.next_deadline_s()
        delay_s = None if deadline_s is None else max(0.0, deadline_s - self._clock.monotonic_s())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._work.wait()

    async def _read_loop(self, client: MqttClient, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                self._handled.clear()
                await self._read_into(client, reader)
                self._work.set()
                await self._handled.wait()  # the broker waits while we are busy
        except (OSError, BrokerLost, ProtocolError) as exc:
            self._log.warning("bus.read_failed", error=str(exc) or type(exc).__name__)
        finally:
            self._work.set()

    async def _read_into(self, client: MqttClient, reader: asyncio.StreamReader) -> None:
        data = await reader.read(READ_BYTES)
        if not data:
            raise BrokerLost("the broker closed the connection")
        client.receive_data(data)

    async def _handle(self, client: MqttClient, events: Sequence[session.Event]) -> None:
        for event in events:
            match event:
                case session.Rejected():
                    raise BrokerLost(
                        f"the broker refused us: {event.reason}", hint="check user name and password of the bus"
                    )
                case session.Silent():
                    raise BrokerLost("the broker does not answer pings")
                case session.Subscribed() if event.refused:
                    self._log.error(
                        "bus.subscription_refused",
                        topics=" ".join(event.refused),
                        hint="allow these topics for the agent in the broker's access rules",
                    )
                case session.Skipped():
                    self._log.warning("bus.message_too_large", topic=event.topic[:200], bytes=event.length)
                case Message():
                    self.counts.received += 1
                    await self._dispatch(event)
                    client.accept(event)
                case _:
                    pass

    async def _dispatch(self, message: Message) -> None:
        for route in self._routes:
            if matches(route.pattern, message.topic):
                await route.handler(message.topic, message.payload)
                return
