"""The client's side of one MQTT 3.1.1 connection, without sockets and clocks.

Feed bytes and time, take events and bytes. One object lives as long as one connection; what was not acknowledged
when it ended is given back by ``unacked()`` for the next one. Sessions are clean, so the broker remembers nothing.

Source: OASIS MQTT Version 3.1.1 (2014), sections 3 and 4.
"""

from __future__ import annotations

from skerry.base.values import Struct
from skerry.wire.errors import OutOfOrder
from skerry.wire.mqtt import codec
from skerry.wire.mqtt.codec import Packet, Publish

REFUSALS = {
    1: "protocol version not accepted",
    2: "client id not accepted",
    3: "broker not available",
    4: "wrong user name or password",
    5: "not authorised",
}


class Connected(Struct, frozen=True):
    """The broker welcomed us."""


class Rejected(Struct, frozen=True):
    """The broker refused the connection."""

    code: int
    reason: str


class Subscribed(Struct, frozen=True):
    """Answer to a subscription; ``refused`` are the filters that the broker would not grant."""

    refused: tuple[str, ...]


class Message(Struct, frozen=True):
    """A message arrived; it is acknowledged by ``MqttClient.accept``."""

    topic: str
    payload: bytes
    qos: int
    packet_id: int
    retain: bool = False
    duplicate: bool = False


class Delivered(Struct, frozen=True):
    """The broker has our message of quality 1."""

    packet_id: int


class Silent(Struct, frozen=True):
    """The broker did not answer a ping in time; close the connection."""


class Skipped(Struct, frozen=True):
    """A message over our limit went by unread; it was acknowledged so that the broker does not wait for us."""

    topic: str
    length: int


Event = Connected | Rejected | Subscribed | Message | Delivered | Silent | Skipped


class MqttClient:
    """Protocol peer of a broker.

    Args:
        connect: how we introduce ourselves; sent first.
        window: messages of quality 1 that may wait for their receipt at once; ``can_publish`` says when there is room.
    """

    def __init__(self, connect: codec.Connect, *, window: int = 32) -> None:
        self._decoder = codec.Decoder()
        self._window = window
        self._keep_alive_s = connect.keep_alive_s
        self._out = bytearray(codec.encode(connect))
        self._events: list[Event] = []
        self._waiting: dict[int, Publish] = {}
        self._subscriptions: dict[int, tuple[str, ...]] = {}
        self._next_id = 0
        self._sent_s = 0.0
        self._pinged_s: float | None = None
        self._is_open = False
        self._dirty = True

    @property
    def can_publish(self) -> bool:
        """Whether the window has room for one more message of quality 1."""
        return self._is_open and len(self._waiting) < self._window

    def receive_data(self, data: bytes) -> None:
        """Bytes from the broker.

        Raises:
            ProtocolError: they cannot be read, or make no sense from a broker.
        """
        for packet in self._decoder.feed(data):
            self._receive(packet)

    def send_publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> int:
        """Queue a message; returns its packet id (0 for quality 0).

        Raises:
            OutOfOrder: not connected, or the window is full.
        """
        if not self._is_open or (qos and not self.can_publish):
            raise OutOfOrder("MQTT message before the broker's welcome or beyond the window")
        packet_id = self._packet_id() if qos else 0
        packet = Publish(topic, payload, qos, retain, False, packet_id)
        if qos:
            self._waiting[packet_id] = packet
        self._send(packet)
        return packet_id

    def send_subscribe(self, filters: tuple[str, ...], *, qos: int = 1) -> None:
        """Queue one subscription for several filters."""
        packet_id = self._packet_id()
        self._subscriptions[packet_id] = filters
        self._send(codec.Subscribe(packet_id, tuple((name, qos) for name in filters)))

    def send_disconnect(self) -> None:
        """Leave in good order."""
        self._send(codec.Disconnect())
        self._is_open = False

    def accept(self, message: Message) -> None:
        """Acknowledge a message, once it is safe with us."""
        if message.qos == 1:
            self._send(codec.PubAck(message.packet_id))
        elif message.qos == 2:
            self._send(codec.PubRec(message.packet_id))

    def tick(self, now_s: float) -> None:
        """Time passes: pings after half of the keep-alive, ``Silent`` when a ping stays unanswered for as long."""
        if self._dirty:
            self._sent_s, self._dirty = now_s, False
        if not self._is_open or not self._keep_alive_s:
            return
        half_s = self._keep_alive_s / 2
        if self._pinged_s is not None:
            if now_s - self._pinged_s >= half_s:
                self._is_open = False
                self._events.append(Silent())
        elif now_s - self._sent_s >= half_s:
            self._out += codec.encode(codec.PingReq())
            self._pinged_s = self._sent_s = now_s

    def next_deadline_s(self) -> float | None:
        """When ``tick`` must be called at the latest; None when nothing is due."""
        if not self._is_open or not self._keep_alive_s:
            return None
        return (self._sent_s if self._pinged_s is None else self._pinged_s) + self._keep_alive_s / 2

    def events(self) -> list[Event]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    def data_to_send(self) -> bytes:
        """Bytes for the broker since the last call."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def unacked(self) -> list[Publish]:
        """Messages of quality 1 without a receipt, oldest first."""
        return list(self._waiting.values())

    def _send(self, packet: Packet) -> None:
        self._out += codec.encode(packet)
        self._dirty = True

    def _packet_id(self) -> int:
        while True:
            self._next_id = self._next_id % 65535 + 1
            if self._next_id not in self._waiting and self._next_id not in self._subscriptions:
                return self._next_id

    def _receive(self, packet: Packet | codec.Oversized) -> None:
        match packet:
            case codec.ConnAck():
                self._welcome(packet)
            case _ if not self._is_open:
                raise OutOfOrder(f"MQTT {type(packet).__name__} before the broker's welcome")
            case Publish():
                self._events.append(
                    Message(packet.topic, packet.payload, packet.qos, packet.packet_id, packet.retain, packet.duplicate)
                )
            case codec.Oversized():
                if packet.qos:
                    receipt = codec.PubAck if packet.qos == 1 else codec.PubRec
                    self._send(receipt(packet.packet_id))
                self._events.append(Skipped(packet.topic, packet.length))
            case codec.PubAck():
                if self._waiting.pop(packet.packet_id, None) is not None:
                    self._events.append(Delivered(packet.packet_id))
            case codec.PubRel():
                self._send(codec.PubComp(packet.packet_id))
            case codec.SubAck():
                self._subscribed(packet)
            case codec.PingResp():
                self._pinged_s = None
            case codec.UnsubAck():
                pass
            case _:
                raise OutOfOrder(f"MQTT {type(packet).__name__} from a broker")

    def _welcome(self, packet: codec.ConnAck) -> None:
        if self._is_open:
            raise OutOfOrder("second MQTT welcome")
        if packet.code:
            self._events.append(Rejected(packet.code, REFUSALS.get(packet.code, f"code {packet.code}")))
            return
        self._is_open = True
        self._events.append(Connected())

    def _subscribed(self, packet: codec.SubAck) -> None:
        filters = self._subscriptions.pop(packet.packet_id, ())
        if len(filters) != len(packet.codes):
            raise OutOfOrder("MQTT answer to a subscription that was not made")
        refused = tuple(
            name for name, code in zip(filters, packet.codes, strict=True) if code == codec.SUBSCRIBE_FAILED
        )
        self._events.append(Subscribed(refused))
