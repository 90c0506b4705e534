"""A TCP proxy on loopback that a test can cut, or turn into a black hole, to see how the two sides take it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from skerry.base.aio.supervise import Supervisor
from skerry.base.values import Struct

_READ_BYTES = 64 * 1024
_TCP_INFO_BYTES, _COUNTS_AT = 256, 120
SEGMENT_BYTES = 52
"""Of a segment's headers: IPv4 20, TCP 20, time stamps 12."""


class Traffic(Struct, frozen=True):
    """What the kernel has counted on the connections that were accepted, in both directions.

    Args:
        payload_bytes: with everything that is above TCP.
        segments: TCP segments, bare acknowledgements too.
    """

    payload_bytes: int = 0
    segments: int = 0

    @property
    def wire_bytes(self) -> int:
        """As a provider of mobile networks counts them."""
        return self.payload_bytes + self.segments * SEGMENT_BYTES

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.payload_bytes + other.payload_bytes, self.segments + other.segments)

    def __sub__(self, other: Traffic) -> Traffic:
        return Traffic(self.payload_bytes - other.payload_bytes, self.segments - other.segments)


class NetProxy:
    """Carries bytes between whoever connects to ``port`` and a target.

    Args:
        host, port: the target.
        supervisor: owner of the connections' tasks.
    """

    def __init__(self, host: str, port: int, *, supervisor: Supervisor) -> None:
        self._target = (host, port)
        self._supervisor = supervisor
        self._writers: set[asyncio.StreamWriter] = set()
        self._takes: set[asyncio.Task[None]] = set()
        self._passes = asyncio.Event()
        self._passes.set()
        self._refuses = False
        self._delay_s = 0.0
        self._bytes_per_s = 0.0
        self._sockets: list[socket.socket] = []
        self.port = 0
        self.accepted = 0

    def cut(self) -> None:
        """Reset every connection; new ones are still taken."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def refuse(self, *, refuses: bool = True) -> None:
        """Cut everything, and reset new connections too, until called with False."""
        self._refuses = refuses
        self.cut()

    def black_hole(self, *, swallows: bool = True) -> None:
        """Carry nothing more, in silence: connections stay open, new ones are accepted and get no answer."""
        if swallows:
            self._passes.clear()
        else:
            self._passes.set()

    def slow(self, *, delay_s: float = 0.0, bytes_per_s: float = 0.0) -> None:
        """Carry each piece so much later, and at most so many bytes a second in each direction; 0 takes it back."""
        self._delay_s, self._bytes_per_s = delay_s, bytes_per_s

    def traffic(self) -> Traffic:
        """Of the connections that are open now."""
        self._sockets = [each for each in self._sockets if each.fileno() >= 0]
        return sum((_counted(each) for each in self._sockets), Traffic())

    async def end(self) -> None:
        """Cut everything, and what is just being opened."""
        self.cut()
        takes = list(self._takes)
        for task in takes:
            task.cancel()
        await asyncio.gather(*takes, return_exceptions=True)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.accepted += 1
        if self._refuses:
            writer.transport.abort()
            return
        self._writers.add(writer)
        self._sockets.append(writer.get_extra_info("socket"))
        task = asyncio.current_task()
        assert task is not None
        self._takes.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except (OSError, asyncio.CancelledError):
            self._writers.discard(writer)
            writer.transport.abort()
            return
        finally:
            self._takes.discard(task)
        self._writers.add(far_writer)
        self._supervisor.detach("up", self._carry(reader, far_writer))
        self._supervisor.detach("down", self._carry(far_reader, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_READ_BYTES):
                await self._passes.wait()
                if wait_s := self._delay_s + (len(data) / self._bytes_per_s if self._bytes_per_s else 0.0):
                    await asyncio.sleep(wait_s)
                writer.write(data)
                await writer.drain()
        except OSError:
            return
        finally:
            self._writers.discard(writer)
            writer.transport.abort()


def _counted(connection: socket.socket) -> Traffic:
    """Linux's ``struct tcp_info``: bytes acknowledged and received, segments sent and received."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    acked, received, sent, got = struct.unpack_from("QQII", info, _COUNTS_AT)
    return Traffic(acked + received, sent + got)


@asynccontextmanager
async def net_proxy(host: str, port: int, *, bind: str = "127.0.0.1") -> AsyncIterator[NetProxy]:
    """A proxy on a free port of the address ``bind``, gone with all its connections when left."""
    async with Supervisor("netproxy") as supervisor:
        proxy = NetProxy(host, port, supervisor=supervisor)
        server = await asyncio.start_server(proxy.take, bind, 0)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()
            await proxy.end()
            await server.wait_closed()
