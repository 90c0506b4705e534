"""The client that joins, against servers that do not stop talking or do not talk as they should."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from skerry.base import certificates, x509
from skerry.base.net.https_client import MAX_BODY_BYTES, Answer, get
from skerry.base.net.ws_client import ConnectFailed

HEAD = b"HTTP/1.1 200 OK\r\n"
PIECE = b"x" * 65_536


@asynccontextmanager
async def served(folder: Path, first: bytes, again: bytes = b"") -> AsyncIterator[int]:
    """A server that answers with ``first``, then ``again`` until nobody listens; its port."""
    ca = x509.new_ca("KubeEdge")
    credential = x509.issue_server(ca, ["127.0.0.1"], common_name="cloudhub")
    certificates.save(credential, folder / "hub.crt", folder / "hub.key")
    (folder / "ca.crt").write_bytes(ca.cert_pem)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "hub.crt", folder / "hub.key")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(first)
            while again:
                writer.write(again)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def asked(folder: Path, port: int) -> Answer:
    tls = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    return await get("127.0.0.1", port, "/ca.crt", tls=tls, timeout_s=30)


async def test_a_whole_answer(tmp_path: Path) -> None:
    async with served(tmp_path, HEAD + b"Content-Length: 2\r\n\r\nok") as port:
        answer = await asked(tmp_path, port)
    assert (answer.status, answer.text) == (200, "ok")


async def test_an_answer_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    async with served(tmp_path, HEAD + b"\r\n", PIECE) as port:
        with pytest.raises(ConnectFailed, match=f"a body over {MAX_BODY_BYTES} bytes"):
            await asked(tmp_path, port)


@pytest.mark.parametrize(("first", "again"), [(HEAD, b"X: " + PIECE + b"\r\n"), (b"", PIECE), (b"\0" * 9, b"\n")])
async def test_heads_that_are_none_or_do_not_end_break_the_exchange(tmp_path: Path, first: bytes, again: bytes) -> None:
    async with served(tmp_path, first, again) as port:
        with pytest.raises(ConnectFailed, match="broke the exchange"):
            await asked(tmp_path, port)
