"""A hostile client in a process of its own, so that the memory of the server under test can be measured.

``python -m skerry.testing.attacker plain HOST PORT COUNT``            plain HTTP to a TLS port
``python -m skerry.testing.attacker stalled HOST PORT COUNT``          handshakes that stop after five bytes
``python -m skerry.testing.attacker burn SECONDS``                     no attack: the work of a frame, sent nowhere
``python -m skerry.testing.attacker frames URL NODE CERT KEY CA COUNT MEGABYTES``  too large messages
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
import sys
import time

from skerry.testing.hollow import connect


async def plain(host: str, port: int, count: int) -> int:
    """How many got the clear answer."""
    told = 0
    gate = asyncio.Semaphore(200)

    async def one() -> None:
        nonlocal told
        async with gate:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    answer = await reader.read(300)
                    told += b"400 Bad Request" in answer
                finally:
                    writer.close()

    await asyncio.gather(*(one() for _ in range(count)))
    return told


async def stalled(host: str, port: int, count: int) -> int:
    """How many the server closed by itself."""
    closed = 0

    async def one() -> None:
        nonlocal closed
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"\x16\x03\x01\x02\x00")
            with contextlib.suppress(ConnectionError):
                await reader.read()
            closed += 1
            writer.close()

    await asyncio.gather(*(one() for _ in range(count)))
    return closed


async def frames(url: str, node: str, cert: str, key: str, ca: str, count: int, megabytes: int) -> int:
    """How many sessions ended after the message."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.load_verify_locations(ca)
    tls.load_cert_chain(cert, key)
    ended = 0
    for _ in range(count):
        async with connect(url, node, tls) as hollow:
            with contextlib.suppress(ConnectionError):
                await hollow.send_raw(b"x" * (megabytes * 1_000_000))
            await hollow.until(lambda n: n.ended.is_set(), timeout_s=30)
            ended += 1
    return ended


def burn(seconds: float, megabytes: int = 100) -> int:
    """How many messages were built and encrypted: what an attacker on the same machine costs its neighbours."""
    done, until_s = 0, time.monotonic() + seconds
    while time.monotonic() < until_s:
        data = b"x" * (megabytes * 1_000_000)
        for start in range(0, len(data), 2**18):
            hashlib.sha256(data[start : start + 2**18]).digest()
        done += 1
    return done


async def main(arguments: list[str]) -> int:
    """Run one attack; its count goes to stdout."""
    kind, *rest = arguments
    if kind == "plain":
        count = await plain(rest[0], int(rest[1]), int(rest[2]))
    elif kind == "burn":
        count = burn(float(rest[0]))
    elif kind == "stalled":
        count = await stalled(rest[0], int(rest[1]), int(rest[2]))
    else:
        count = await frames(rest[0], rest[1], rest[2], rest[3], rest[4], int(rest[5]), int(rest[6]))
    sys.stdout.write(f"{count}\n")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
