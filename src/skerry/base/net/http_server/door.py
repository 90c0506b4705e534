"""Before a connection exists: listening sockets, and what a client must say before Python's TLS sees a byte."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from skerry.base.errors import ConfigError

_TLS_HANDSHAKE = 0x16
_RECORD_HEAD_BYTES = 5
_GREETING_BYTES = 1024
"""Of a longer ClientHello the rest may come while TLS runs."""
_PLAIN_ON_TLS = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"Client sent an HTTP request to an HTTPS server; use https://\n"
)


async def is_welcome(peer: socket.socket, *, is_tls: bool) -> bool:
    """Wait for the client's greeting, without taking it. Plain HTTP on a TLS port is told so.

    A client that stalls inside its greeting costs a socket: TLS and its buffers come when the greeting is there.
    """
    if not is_tls:
        return True
    await _readable(peer, 1)
    first = peer.recv(1, socket.MSG_PEEK)
    if first and first[0] != _TLS_HANDSHAKE:
        with contextlib.suppress(OSError):
            peer.recv(4096)  # unread bytes would turn our close into a reset and the answer would be lost
            peer.send(_PLAIN_ON_TLS)
        return False
    await _readable(peer, _RECORD_HEAD_BYTES)
    head = peer.recv(_RECORD_HEAD_BYTES, socket.MSG_PEEK)
    if len(head) < _RECORD_HEAD_BYTES:
        return False
    wanted = min(_RECORD_HEAD_BYTES + int.from_bytes(head[3:]), _GREETING_BYTES)
    await _readable(peer, wanted)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    return len(peer.recv(wanted, socket.MSG_PEEK)) == wanted


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


def bind(host: str, port: int, backlog: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family[0], socket.SOCK_STREAM)
    except OSError as exc:
        raise ConfigError(f"cannot listen on {host}:{port}: {exc}", hint="choose an address of this machine") from exc
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(family[4])
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError as exc:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {exc.strerror}",
            hint=f"another program uses port {port} (see `ss -ltnp`), or choose another port",
        ) from exc
    return listener
