"""Before a connection exists: what a client must say before Python's TLS sees a byte."""

from __future__ import annotations

import asyncio
import contextlib
import socket

_TLS_HANDSHAKE = 0x16
_RECORD_HEAD_BYTES = 5
_GREETING_BYTES = 1024
"""Of a longer ClientHello the rest may come while TLS runs."""
_PLAIN_ON_TLS = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"Client sent an HTTP request to an HTTPS server; use https://\n"
)


def is_refused(peer: socket.socket) -> bool:
    """Whether a client of a TLS port has already said something that is no TLS; if so it was told.

    For floods: who is refused here costs no task. The socket must not block.
    """
    try:
        first = peer.recv(1, socket.MSG_PEEK)
    except OSError:
        return False  # it has said nothing yet, or has left: that is for later
    if not first or first[0] == _TLS_HANDSHAKE:
        return False
    _tell(peer)
    return True


async def is_welcome(peer: socket.socket, *, is_tls: bool) -> bool:
    """Wait for the client's greeting, without taking it. Plain HTTP on a TLS port is told so.

    A client that stalls inside its greeting costs a socket: TLS and its buffers come when the greeting is there.
    """
    if not is_tls:
        return True
    await _readable(peer, 1)
    first = peer.recv(1, socket.MSG_PEEK)
    if first and first[0] != _TLS_HANDSHAKE:
        _tell(peer)
        return False
    await _readable(peer, _RECORD_HEAD_BYTES)
    head = peer.recv(_RECORD_HEAD_BYTES, socket.MSG_PEEK)
    if len(head) < _RECORD_HEAD_BYTES:
        return False
    wanted = min(_RECORD_HEAD_BYTES + int.from_bytes(head[3:]), _GREETING_BYTES)
    await _readable(peer, wanted)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    return len(peer.recv(wanted, socket.MSG_PEEK)) == wanted


def _tell(peer: socket.socket) -> None:
    with contextlib.suppress(OSError):
        peer.recv(4096)  # unread bytes would turn our close into a reset and the answer would be lost
        peer.send(_PLAIN_ON_TLS)


async def _readable(peer: socket.socket, count: int) -> None:
    """Wait until so many bytes are there, or the client has left."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    number = peer.fileno()
    loop.add_reader(number, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(number)
