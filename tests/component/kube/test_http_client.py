"""The HTTP client against servers that misbehave, on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from skerry.api.gvk import PODS
from skerry.api.status import Gone, Unavailable
from skerry.base.net.http_client import HttpBroken, HttpClient, HttpRequest
from skerry.kube.http import HttpKubeApi, HttpTransport
from skerry.kube.kubeconfig import Credentials

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            await answer(writer)
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def lines_of(url: str, **options: int) -> list[bytes]:
    client = HttpClient(url)
    try:
        async with client.stream(HttpRequest("GET", "/")) as stream:
            return [line async for line in stream.lines(**options)]
    finally:
        await client.aclose()


async def test_lines_are_put_together_across_pieces() -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(b"on") + chunk(b"e\ntwo\n\nthr") + chunk(b"ee") + b"0\r\n\r\n")
        await writer.drain()

    async with serving(answer) as url:
        assert await lines_of(url) == [b"one", b"two", b"", b"three"]


async def test_a_line_without_end_is_given_up() -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(b"x" * 5000))
        await writer.drain()

    async with serving(answer) as url:
        with pytest.raises(HttpBroken, match="longer than 1000 bytes"):
            await lines_of(url, limit_bytes=1000)


async def test_a_body_that_breaks_off_is_an_error() -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
        await writer.drain()

    async with serving(answer) as url:
        client = HttpClient(url)
        with pytest.raises(HttpBroken):
            await client.send(HttpRequest("GET", "/"))
        await client.aclose()


async def test_silence_is_bounded() -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        await writer.drain()
        await asyncio.Event().wait()

    async with serving(answer) as url:
        client = HttpClient(url, read_s=0.05)
        with pytest.raises(HttpBroken):
            await client.send(HttpRequest("GET", "/"))
        await client.aclose()


async def test_nobody_there_is_unavailable() -> None:
    transport = HttpTransport(Credentials("http://127.0.0.1:1"))
    with pytest.raises(Unavailable, match=r"GET http://127.0.0.1:1/api/v1/namespaces/d/pods/p"):
        await HttpKubeApi(transport).get(PODS, "p", namespace="d")
    await transport.aclose()


async def test_a_watch_that_is_too_old_is_gone() -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        status = b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}\n'
        writer.write(CHUNKED + chunk(status) + b"0\r\n\r\n")
        await writer.drain()

    async with serving(answer) as url:
        transport = HttpTransport(Credentials(url))
        with pytest.raises(Gone):
            async for _ in HttpKubeApi(transport).watch(PODS, resource_version="1"):
                pass
        await transport.aclose()
