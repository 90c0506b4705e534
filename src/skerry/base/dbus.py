"""The only door to jeepney: calls and signals on a D-Bus bus over its unix socket, with file descriptors in answers.

Loaded only by who needs it (140 KB). Not here: what the calls mean.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from jeepney import DBusAddress, HeaderFields, MatchRule, MessageType, message_bus, new_method_call
from jeepney.auth import BEGIN, AuthenticationError, Authenticator
from jeepney.fds import FileDescriptor
from jeepney.low_level import Message, Parser

from skerry.base.errors import Retryable, SkerryError

SYSTEM_BUS = Path("/run/dbus/system_bus_socket")
_CALL_S = 10.0
_PIECE_BYTES, _MAX_FDS = 65536, 16
_SIGNALS = 64


class BusError(SkerryError, Retryable):
    """The bus cannot be reached, or answered with an error."""


class DBus:
    """One connection. Made by ``connect``; a lost one stays lost.

    Queue of signals: bounded; more than fit mean a listener that does not listen, and the connection is closed.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._parser = Parser()
        self._serial = 0
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self._signals: asyncio.Queue[Message | None] = asyncio.Queue(maxsize=_SIGNALS)
        self._is_closed = False

    @classmethod
    async def connect(cls, path: Path = SYSTEM_BUS) -> DBus:
        """Connect and say hello.

        Raises:
            BusError: there is no bus, or it does not let us in.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CALL_S):
                await loop.sock_connect(connection, str(path))
                talk = Authenticator(enable_fds=True)
                for line in talk:
                    await loop.sock_sendall(connection, line)
                    talk.feed(await loop.sock_recv(connection, 1024))
                await loop.sock_sendall(connection, BEGIN)
        except (OSError, TimeoutError, AuthenticationError) as exc:
            connection.close()
            raise BusError(f"cannot use the bus at {path}: {exc}") from exc
        bus = cls(connection)
        loop.add_reader(connection.fileno(), bus._readable)
        await bus._send(message_bus.Hello())
        return bus

    async def call(
        self, place: tuple[str, str, str], member: str, signature: str = "", body: tuple[Any, ...] = ()
    ) -> tuple[Any, ...]:
        """Call a method.

        Args:
            place: bus name, object path, interface.

        Returns:
            The body of the answer; file descriptors as ``jeepney.fds.FileDescriptor``.

        Raises:
            BusError: the connection is lost, or the answer is an error.
        """
        name, path, interface = place
        address = DBusAddress(path, bus_name=name, interface=interface)
        return await self._send(new_method_call(address, member, signature or None, body))

    async def listen(self, place: tuple[str, str, str], member: str) -> None:
        """Have a signal sent to ``signals`` from now on. Raises ``BusError``."""
        name, path, interface = place
        rule = MatchRule(type="signal", sender=name, path=path, interface=interface, member=member)
        await self._send(message_bus.AddMatch(rule))

    async def signals(self) -> AsyncIterator[tuple[str, tuple[Any, ...]]]:
        """Member and body of each signal; ends when the connection is lost."""
        while (message := await self._signals.get()) is not None:
            yield str(message.header.fields.get(HeaderFields.member, "")), message.body

    def close(self) -> None:
        """Disconnect; calls that wait fail, and ``signals`` ends."""
        if self._is_closed:
            return
        self._is_closed = True
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(BusError("the connection to the bus is lost"))
        while self._signals.full():
            self._signals.get_nowait()
        self._signals.put_nowait(None)

    async def _send(self, message: Message) -> tuple[Any, ...]:
        if self._is_closed:
            raise BusError("the connection to the bus is lost")
        self._serial += 1
        serial = self._serial
        answer = self._answers[serial] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_CALL_S):
                await asyncio.get_running_loop().sock_sendall(self._socket, message.serialise(serial=serial))
                found = await answer
        except (OSError, TimeoutError) as exc:
            raise BusError(f"the bus does not answer: {exc}") from exc
        finally:
            self._answers.pop(serial, None)
        if found.header.message_type is MessageType.error:
            raise BusError(f"{found.header.fields.get(HeaderFields.error_name)}: {found.body}")
        return tuple(found.body)

    def _readable(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, min(self._parser.bytes_desired(), _PIECE_BYTES), _MAX_FDS)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self.close()
            return
        self._parser.add_data(data, [FileDescriptor(fd) for fd in fds])
        message = self._parser.get_next_message()
        if message is not None:
            self._take(message)

    def _take(self, message: Message) -> None:
        answer = self._answers.get(message.header.fields.get(HeaderFields.reply_serial, 0))
        if answer is not None and not answer.done():
            answer.set_result(message)
        elif message.header.message_type is MessageType.signal:
            if self._signals.full():
                self.close()
            else:
                self._signals.put_nowait(message)
