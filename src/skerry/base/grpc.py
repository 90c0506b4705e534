"""The only door to grpclib: gRPC over unix sockets (and plain TCP to containers), with a codec that the caller brings.

Client for CRI and health checks, client and server for DMI and device plugins. Neither grpcio nor the protobuf runtime
is loaded. Every call has a deadline; no message is longer than 16 MiB; a broken connection is opened again by the next
call.
Not here: what messages mean (``wire.pb``), who may call what (the handlers).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

from grpclib.client import Channel
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from grpclib.protocol import H2Protocol
from grpclib.server import Server
from h2.utilities import SizeLimitDict

from skerry.base.errors import SkerryError
from skerry.base.obs.log import get_log
from skerry.base.values import Struct

__all__ = ["Caller", "Codec", "GrpcClient", "GrpcError", "GrpcServer", "Status"]

log = get_log(__name__)

LIMIT_BYTES: Final = 16 * 1024 * 1024
REMEMBERED_CALLS: Final = 256
"""Ended calls of a connection whose late frames are told from wrong ones. h2 itself keeps 65,536, which are 10 MB."""
_LONGEST_SOCKET_PATH: Final = 107
_UNIX_PATH_HINT: Final = f"a unix socket's path has at most {_LONGEST_SOCKET_PATH} bytes; choose a shorter directory"


class GrpcError(SkerryError):
    """A call failed.

    ``status`` is the gRPC code; ``UNAVAILABLE`` covers everything that keeps us from the peer (``__cause__`` is then
    often an ``OSError``), ``DEADLINE_EXCEEDED`` our own deadline too. ``message`` is the peer's text.
    """

    def __init__(self, status: Status, message: str, *, hint: str = "") -> None:
        super().__init__(f"{message} ({status.name})", hint=hint)
        self.status = status
        self.message = message


class Codec(Protocol):
    """Messages of one interface; ``wire.pb.codec.Interface`` is one."""

    @property
    def methods(self) -> Mapping[str, tuple[str, str, str]]:
        """(request message, response message, "" | "server") by ``/package.Service/Method``."""

    def encode(self, message: str, value: Mapping[str, Any]) -> bytes:
        """Dict → bytes. Raises ``ValueError``."""

    def decode(self, message: str, data: bytes) -> dict[str, Any]:
        """Bytes → dict. Raises a ``SkerryError``."""


class Caller(Struct, frozen=True):
    """Who is at the other end of a unix socket, as the kernel says; -1 and 0 where it does not."""

    uid: int = -1
    gid: int = -1
    pid: int = 0


Call = Callable[[dict[str, Any], Caller], Awaitable[Mapping[str, Any]]]
"""Answers one unary call; raises ``GrpcError`` or another ``SkerryError`` (sent as UNKNOWN with its text)."""


class GrpcClient:
    """Calls methods of one interface; connects at the first call.

    Args:
        path: of a unix socket, or host and port of a server without TLS.
        codec: messages and methods.
        headers: sent with every call.
    """

    def __init__(self, path: Path | tuple[str, int], codec: Codec, *, headers: Mapping[str, str] | None = None) -> None:
        self._path = path
        self._codec = codec
        self._headers = dict(headers or {})
        self._channel: _Channel | None = None

    async def call(
        self, method: str, request: Mapping[str, Any], *, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """One unary call.

        Args:
            method: ``/package.Service/Method``.
            timeout_s: deadline, also told to the peer.
            headers: sent with this call, beside the client's.

        Raises:
            GrpcError: see its ``status``.
        """
        async with contextlib.aclosing(self._messages(method, request, timeout_s, headers)) as messages:
            async for message in messages:
                return message
        raise GrpcError(Status.INTERNAL, f"{method} ended without an answer")

    async def stream(
        self, method: str, request: Mapping[str, Any], *, timeout_s: float | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """A call with a streamed answer; ends when the peer ends it. Close the iterator to cancel the call."""
        async with contextlib.aclosing(self._messages(method, request, timeout_s)) as messages:
            async for message in messages:
                yield message

    async def aclose(self) -> None:
        """Close the connection; a later call opens a new one."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    async def _messages(
        self,
        method: str,
        request: Mapping[str, Any],
        timeout_s: float | None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[dict[str, Any], None]:
        request_name, response_name, streaming = self._codec.methods[method]
        kind = Cardinality.UNARY_STREAM if streaming else Cardinality.UNARY_UNARY
        try:
            call = self._connected().request(
                method,
                kind,
                _named(request_name),
                _named(response_name),
                timeout=timeout_s,
                metadata={**self._headers, **(headers or {})},
            )
            async with call as stream:
                await stream.send_message(dict(request), end=True)
                _cap(stream)
                while (message := await stream.recv_message()) is not None:
                    yield message
                    if not streaming:
                        break
        except (GRPCError, OSError, TimeoutError, StreamTerminatedError, ProtocolError) as exc:
            self._raise(method, exc)

    def _connected(self) -> _Channel:
        if self._channel is None:
            codec = _TableCodec(self._codec)
            if isinstance(self._path, Path):
                self._channel = _Channel(path=str(self._path), codec=codec)
            else:
                self._channel = _Channel(*self._path, codec=codec)
        return self._channel

    def _place(self) -> str:
        return str(self._path) if isinstance(self._path, Path) else f"{self._path[0]}:{self._path[1]}"

    def _raise(self, method: str, exc: Exception) -> NoReturn:
        if isinstance(exc, GRPCError):
            raise GrpcError(exc.status, exc.message or exc.status.name) from exc
        if isinstance(exc, TimeoutError):
            raise GrpcError(Status.DEADLINE_EXCEEDED, f"{method} on {self._place()} did not answer in time") from exc
        text = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc) or type(exc).__name__
        raise GrpcError(Status.UNAVAILABLE, f"cannot reach {self._place()}: {text}") from exc


class GrpcServer:
    """Serves unary calls on a unix socket.

    Args:
        codec: messages and methods.
        calls: handlers by ``/package.Service/Method``; other methods answer UNIMPLEMENTED.
    """

    def __init__(self, codec: Codec, calls: Mapping[str, Call]) -> None:
        self._codec = codec
        self._calls = calls
        self._server: _Server | None = None
        self._path: Path | None = None

    async def start(self, path: Path, *, mode: int = 0o600, gid: int = -1) -> None:
        """Listen on ``path``; a socket file that nobody serves is replaced.

        Args:
            path: of the socket; its directory exists.
            mode: permissions of the socket file.
            gid: group of the socket file, -1 leaves it.

        Raises:
            OSError: the path is in use or too long, or cannot be made.
        """
        if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
            raise OSError(f"{path} is too long: {_UNIX_PATH_HINT}")
        await _refuse_if_served(path)
        listener = _bound(path, mode, gid)
        server = _Server([_Mapping(self._handlers())], codec=_TableCodec(self._codec))
        await server.start(sock=listener, path=None)
        self._server, self._path = server, path

    async def aclose(self) -> None:
        """End calls and connections, and remove the socket file."""
        if self._server is None or self._path is None:
            return
        server, path = self._server, self._path
        self._server = None
        await server.stop_listening()
        server.close()
        server.drop_connections()
        await server.wait_closed()
        path.unlink(missing_ok=True)

    def _handlers(self) -> dict[str, Handler]:
        table = {}
        for method, (request, response, _) in self._codec.methods.items():
            answer = _answering(method, self._calls.get(method, _unimplemented))
            table[method] = Handler(answer, Cardinality.UNARY_UNARY, _named(request), _named(response))
        return table


class _Mapping:
    """A grpclib service made of a table."""

    def __init__(self, table: dict[str, Handler]) -> None:
        self._table = table

    def __mapping__(self) -> dict[str, Handler]:
        return self._table


class _Channel(Channel):
    """grpclib's channel, whose connections remember few of the calls that have ended."""

    def _protocol_factory(self) -> H2Protocol:
        protocol = super()._protocol_factory()
        made = protocol.connection_made

        def connection_made(transport: asyncio.BaseTransport) -> None:
            made(transport)
            _forget_early(protocol)

        # On the instance, before a transport takes it: the transport keeps the method that it finds now.
        protocol.connection_made = connection_made  # type: ignore[method-assign]
        return protocol


class _Server(Server):
    """grpclib's server, which also knows its connections so that it can end them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._protocols: list[H2Protocol] = []
        self._has_dropped = False

    async def stop_listening(self) -> None:
        """Take no more connections; those that are being taken are ready to be closed on return.

        asyncio leaks a connection whose server closes between its accept and its transport (two steps of the loop).
        """
        for listener in getattr(self._server, "sockets", ()):
            asyncio.get_running_loop().remove_reader(listener.fileno())
        for _ in range(3):
            await asyncio.sleep(0)

    def drop_connections(self) -> None:
        """Close every connection at once, also those that were taken but have not begun."""
        self._has_dropped = True
        for protocol in self._protocols:
            if hasattr(protocol, "connection"):
                protocol.connection.close()

    def _protocol_factory(self) -> H2Protocol:
        self._protocols = [p for p in self._protocols if not getattr(p.handler, "connection_lost", False)]
        protocol = super()._protocol_factory()
        made = protocol.connection_made

        def connection_made(transport: asyncio.BaseTransport) -> None:
            made(transport)
            _forget_early(protocol)
            if self._has_dropped:
                transport.close()

        # On the instance, before a transport takes it: the transport keeps the method that it finds now.
        protocol.connection_made = connection_made  # type: ignore[method-assign]
        self._protocols.append(protocol)
        return protocol


def _forget_early(protocol: H2Protocol) -> None:
    """A connection lives as long as the agent, and makes calls every second."""
    protocol.connection._connection._closed_streams = SizeLimitDict(size_limit=REMEMBERED_CALLS)


class _TableCodec(CodecBase):
    """grpclib's codec port over ours; a message "type" is its name."""

    __content_subtype__ = "proto"

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def encode(self, message: Any, message_type: Any) -> bytes:
        return self._codec.encode(message_type, message)

    def decode(self, data: bytes, message_type: Any) -> Any:
        try:
            return self._codec.decode(message_type, data)
        except SkerryError as exc:
            raise GRPCError(Status.INTERNAL, f"{message_type} cannot be read: {exc}") from exc


def _named(message: str) -> Any:
    """grpclib asks for a class and hands it to the codec only."""
    return message


def _cap(stream: Any) -> None:
    """Refuse a message whose announced length is over the limit; grpclib itself has none."""
    inner = stream._stream
    recv_data = inner.recv_data

    async def capped(size: int) -> bytes:
        if size > LIMIT_BYTES:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, f"message of {size} bytes is over the limit of {LIMIT_BYTES}")
        data: bytes = await recv_data(size)
        return data

    inner.recv_data = capped


def _answering(method: str, call: Call) -> Callable[[Any], Awaitable[None]]:
    """A grpclib handler that runs ``call``."""

    async def answer(stream: Any) -> None:
        _cap(stream)
        request = await stream.recv_message()
        if request is None:
            raise GRPCError(Status.INVALID_ARGUMENT, "no request")
        try:
            response = await call(request, _caller(stream))
        except GrpcError as exc:
            raise GRPCError(exc.status, exc.message) from exc
        except SkerryError as exc:
            raise GRPCError(Status.UNKNOWN, exc.explained()) from exc
        except Exception as exc:
            log.exception("grpc.call_failed", exc, method=method)
            raise GRPCError(Status.INTERNAL, "internal error, see the log") from exc
        await stream.send_message(response)

    return answer


async def _unimplemented(request: dict[str, Any], caller: Caller) -> Mapping[str, Any]:
    raise GrpcError(Status.UNIMPLEMENTED, "this method is not served here")


def _caller(stream: Any) -> Caller:
    sock = stream.peer._transport.get_extra_info("socket")
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except (AttributeError, OSError):
        return Caller()
    pid, uid, gid = struct.unpack("3i", raw)
    return Caller(uid=uid, gid=gid, pid=pid)


async def _refuse_if_served(path: Path) -> None:
    try:
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_unix_connection(str(path))
    except (OSError, TimeoutError):
        return
    writer.close()
    raise OSError(f"{path} is served by another process")


def _bound(path: Path, mode: int, gid: int) -> socket.socket:
    """A listening socket that never was more open than ``mode``."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(umask)
    if gid != -1:
        os.chown(path, -1, gid)
    path.chmod(mode)
    listener.setblocking(False)
    return listener
