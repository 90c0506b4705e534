"""One question over TLS to a server that behaves badly."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skerry.base import x509
from skerry.base.net import https_client
from skerry.base.net.edge_tls import client_context
from skerry.base.net.ws_client import ConnectFailed


@pytest.fixture
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[int]:
    """Answers with the bytes of the parameter and closes; its port."""
    ca = x509.new_ca("An authority")
    pair = x509.issue_server(ca, ["127.0.0.1"])
    for name, data in (("crt", pair.cert_pem), ("key", pair.key_pem)):
        (tmp_path / name).write_bytes(data)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "crt", tmp_path / "key")

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(request.param)
        await writer.drain()
        writer.close()

    serving = await asyncio.start_server(answered, "127.0.0.1", 0, ssl=tls)
    yield int(serving.sockets[0].getsockname()[1])
    serving.close()
    await serving.wait_closed()


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (b"", "closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "broke the exchange"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "broke the exchange"),
    ],
    indirect=["server"],
)
async def test_a_bad_answer_is_said_in_words(server: int, words: str) -> None:
    with pytest.raises(ConnectFailed, match=words):
        await https_client.get("127.0.0.1", server, "/", tls=client_context(None, None))
