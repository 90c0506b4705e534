"""Answers without a natural end: chunked bodies, and connections taken over as raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from aiohttp import web

from skerry.base.net.http_server.connection import Connection
from skerry.base.net.http_server.limits import ClientGone
from skerry.base.net.http_server.tls import TUNED_TLS_BYTES

SLICE_BYTES = 32 * 1024
PATIENT_SEND_BYTES = 128 * 1024


class ResponseStream:
    """The body of a chunked answer. What waits for a slow client is bounded: one slice, and the transport's buffer."""

    def __init__(self, response: web.StreamResponse, connection: Connection) -> None:
        self._response = response
        self._connection = connection
        self.gone = connection.gone
        self._has_begun = False

    def be_patient(self) -> None:
        """Keep little for a client that may read slowly for a long time; there can be thousands of these."""
        transport = self._connection.transport
        if transport is None:
            return
        transport.set_write_buffer_limits(high=SLICE_BYTES // 2)
        connection = transport.get_extra_info("socket")
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PATIENT_SEND_BYTES)

    async def write(self, data: bytes, *, timeout_s: float | None = 30.0, slice_bytes: int = SLICE_BYTES) -> None:
        """Send now, slice by slice; waits while the client is slow.

        Raises:
            ClientGone: it left, or took nothing of a slice for ``timeout_s``.
        """
        if len(data) <= slice_bytes:
            await self._write(data, timeout_s)
            return
        view = memoryview(data)
        for start in range(0, len(data), slice_bytes):
            await self._write(bytes(view[start : start + slice_bytes]), timeout_s)

    def write_now(self, data: bytes) -> bool:
        """Send without waiting; False, and nothing sent, when the client is slow or gone or the data is large.

        Only while no ``write`` is under way. The framing of a chunk is made here: aiohttp's own costs a coroutine.
        """
        writer = self._response._payload_writer
        transport = self._connection.transport
        if writer is None or transport is None or self._connection._paused or self.gone.is_set():
            return False
        if not 0 < len(data) <= SLICE_BYTES or not self._has_begun or transport.is_closing():
            return False
        transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    async def _write(self, data: bytes, timeout_s: float | None) -> None:
        if self.gone.is_set():
            raise ClientGone("the client has left")
        writer = self._response._payload_writer
        if writer is None or not data:
            return
        try:
            await writer.write(data, drain=False)  # type: ignore[call-arg]
            self._has_begun = True
            if self._connection._paused:  # no timer as long as the client keeps up
                async with asyncio.timeout(timeout_s):
                    await self._connection._drain_helper()
        except ConnectionError as exc:
            raise ClientGone(str(exc)) from exc
        except TimeoutError as exc:
            self.abort()
            raise ClientGone(f"the client took no bytes for {timeout_s:g} s") from exc

    def abort(self) -> None:
        """Cut the connection without an orderly end, so that the client sees the answer as broken."""
        self._connection.abort()


class RawStream:
    """A hijacked connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        """The next bytes; empty at the end."""
        try:
            return await self._reader.read(TUNED_TLS_BYTES)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        """Send; waits while the client is slow.

        Raises:
            ClientGone: it left.
        """
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError as exc:
            raise ClientGone(str(exc)) from exc

    async def write_eof(self) -> None:
        """Send no more (over TLS: close)."""
        if self._writer.can_write_eof():
            self._writer.write_eof()
        else:
            self._writer.close()

    async def close(self) -> None:
        """End both directions."""
        self._writer.close()
