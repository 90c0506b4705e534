"""The cloud's HTTP server over real sockets and TLS."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from skerry.base.net.http_server import (
    BadUpgrade,
    BodyTooLarge,
    ClientGone,
    HttpLimits,
    HttpRequest,
    HttpResponse,
    HttpServer,
    WebSocket,
    server_tls,
)


@dataclass
class Pki:
    directory: Path
    server: ssl.SSLContext
    client: ssl.SSLContext
    anonymous: ssl.SSLContext


def _name(common: str, organization: str | None = None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organization:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


def _issue(directory: Path, name: str, subject: x509.Name, issuer_key: object, issuer: x509.Name) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
    cert = builder.sign(issuer_key, hashes.SHA256())  # type: ignore[arg-type]
    (directory / f"{name}.crt").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    (directory / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    directory = tmp_path_factory.mktemp("pki")
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    ca = (
        x509.CertificateBuilder()
        .subject_name(_name("ca"))
        .issuer_name(_name("ca"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "ca.crt").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    _issue(directory, "server", _name("localhost"), key, _name("ca"))
    _issue(directory, "client", _name("system:node:edge-1", "system:nodes"), key, _name("ca"))
    client = ssl.create_default_context(cafile=str(directory / "ca.crt"))
    client.load_cert_chain(directory / "client.crt", directory / "client.key")
    return Pki(
        directory,
        server_tls(
            cert_file=directory / "server.crt",
            key_file=directory / "server.key",
            client_ca_file=directory / "ca.crt",
        ),
        client,
        ssl.create_default_context(cafile=str(directory / "ca.crt")),
    )


class Site:
    """One server and what its handler was told."""

    def __init__(self) -> None:
        self.servers: list[HttpServer] = []
        self.handler: Callable[[HttpRequest], object] = self.plain
        self.left = asyncio.Event()

    async def plain(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, f"{request.method} {request.path} {request.query}".encode(), "text/plain")

    async def start(self, *, tls: ssl.SSLContext | None = None, **limits: float) -> int:
        server = HttpServer(lambda request: self.handler(request), name="test", limits=HttpLimits(**limits))  # type: ignore[arg-type,return-value]
        self.servers.append(server)
        return await server.listen("127.0.0.1", 0, tls=tls)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    yield site
    for server in site.servers:
        await server.aclose(grace_s=0.1)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_plain_answer_keeps_encoded_paths(site: Site, http: aiohttp.ClientSession) -> None:
    port = await site.start()
    async with http.get(f"http://127.0.0.1:{port}/a%20b/c?x=%2F&y=1") as answer:
        assert answer.status == 200
        assert await answer.text() == "GET /a b/c x=/&y=1"


async def test_client_certificate_names_the_peer(site: Site, http: aiohttp.ClientSession, pki: Pki) -> None:
    async def who(request: HttpRequest) -> HttpResponse:
        peer = request.peer
        text = f"{peer.common_name} {peer.organizations} {len(peer.fingerprint)}" if peer else "nobody"
        return HttpResponse(200, text.encode(), "text/plain")

    site.handler = who
    port = await site.start(tls=pki.server)
    async with http.get(f"https://localhost:{port}/", ssl=pki.client) as answer:
        assert await answer.text() == "system:node:edge-1 ('system:nodes',) 64"
    async with http.get(f"https://localhost:{port}/", ssl=pki.anonymous) as answer:
        assert await answer.text() == "nobody"


async def test_plain_http_on_a_tls_port_is_told_so(site: Site, http: aiohttp.ClientSession, pki: Pki) -> None:
    port = await site.start(tls=pki.server)
    async with http.get(f"http://127.0.0.1:{port}/") as answer:
        assert answer.status == 400
        assert "use https" in await answer.text()


async def test_stream_reaches_the_client_piece_by_piece(site: Site, http: aiohttp.ClientSession) -> None:
    go_on = asyncio.Event()

    async def stream(request: HttpRequest) -> None:
        async with request.stream() as out:
            await go_on.wait()
            await out.write(b"one\n")
            await request.gone.wait()
            site.left.set()

    site.handler = stream
    port = await site.start()
    async with http.get(f"http://127.0.0.1:{port}/") as answer:
        assert answer.headers["Transfer-Encoding"] == "chunked"
        go_on.set()
        assert await answer.content.readline() == b"one\n"
        answer.close()
    await asyncio.wait_for(site.left.wait(), 5)


async def test_a_stream_that_fails_is_seen_as_broken(site: Site, http: aiohttp.ClientSession) -> None:
    async def broken(request: HttpRequest) -> None:
        async with request.stream() as out:
            await out.write(b"half")
            raise RuntimeError("planned")

    site.handler = broken
    port = await site.start()
    with pytest.raises(aiohttp.ClientError):
        async with http.get(f"http://127.0.0.1:{port}/") as answer:
            await answer.read()


async def test_closing_the_server_ends_streams_cleanly(site: Site, http: aiohttp.ClientSession) -> None:
    async def stream(request: HttpRequest) -> None:
        async with request.stream() as out:
            await out.write(b"x")
            await request.gone.wait()

    site.handler = stream
    port = await site.start()
    async with http.get(f"http://127.0.0.1:{port}/") as answer:
        assert await answer.content.readexactly(1) == b"x"
        await site.servers[0].aclose(grace_s=5)
        assert await answer.content.read() == b""


async def test_body_over_the_limit_is_refused(site: Site, http: aiohttp.ClientSession) -> None:
    async def read(request: HttpRequest) -> HttpResponse:
        try:
            return HttpResponse(200, str(len(await request.body())).encode(), "text/plain")
        except BodyTooLarge:
            return HttpResponse(413)

    site.handler = read
    port = await site.start(max_body_bytes=1000)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 300

    async with http.post(f"http://127.0.0.1:{port}/", data=b"x" * 1000) as answer:
        assert await answer.text() == "1000"
    async with http.post(f"http://127.0.0.1:{port}/", data=pieces()) as answer:
        assert answer.status == 413


async def test_slow_heads_and_idle_openings_are_cut(site: Site, pki: Pki) -> None:
    port = await site.start(head_s=0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost:")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    port = await site.start(tls=pki.server, handshake_s=0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_the_longest_stalled_handshake_gives_way(site: Site, http: aiohttp.ClientSession, pki: Pki) -> None:
    port = await site.start(tls=pki.server, opening=4, handshake_s=60)
    stalled = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
    async with http.get(f"https://localhost:{port}/", ssl=pki.client) as answer:
        assert answer.status == 200
    assert await asyncio.wait_for(stalled[0][0].read(), 5) == b""
    assert site.servers[0].open_count <= 6
    for _, writer in stalled:
        writer.close()


async def test_connections_per_address_are_bounded(site: Site) -> None:
    port = await site.start(per_address=2)
    pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    assert await asyncio.wait_for(pairs[2][0].read(), 5) == b""
    for _, writer in pairs:
        writer.close()


async def test_websocket_carries_any_bytes_as_text(site: Site, http: aiohttp.ClientSession) -> None:
    raw = b'{"a":"\xff\xfe"}'
    seen: list[tuple[str, bytes]] = []
    alive: list[bool] = []

    async def talk(request: HttpRequest) -> HttpResponse | None:
        try:
            async with request.websocket(max_message_bytes=1000, protocols=("p2", "p1")) as ws:
                assert ws.protocol == "p1"
                ponged = asyncio.ensure_future(ws.ping(timeout_s=5))
                while (message := await ws.receive()) is not None:
                    seen.append((message.kind, message.data))
                    await ws.send_text(message.data, timeout_s=5)
                alive.append(await ponged)
        except BadUpgrade as exc:
            return HttpResponse(400, str(exc).encode())
        site.left.set()
        return None

    site.handler = talk
    port = await site.start()
    async with http.ws_connect(f"http://127.0.0.1:{port}/", protocols=("p1",), decode_text=False) as ws:
        await ws.send_frame(raw, aiohttp.WSMsgType.TEXT)
        answer = await ws.receive(timeout=5)
        assert (answer.type, answer.data) == (aiohttp.WSMsgType.TEXT, raw)
    await asyncio.wait_for(site.left.wait(), 5)
    assert seen == [("text", raw)]
    assert alive == [True]
    async with http.get(f"http://127.0.0.1:{port}/") as refused:
        assert refused.status == 400


async def test_websocket_message_over_the_limit_closes_with_1009(site: Site, http: aiohttp.ClientSession) -> None:
    codes: list[int | None] = []

    async def talk(request: HttpRequest) -> None:
        async with request.websocket(max_message_bytes=100) as ws:
            assert await ws.receive() is None
            codes.append(ws.close_code)
            site.left.set()

    site.handler = talk
    port = await site.start()
    async with http.ws_connect(f"http://127.0.0.1:{port}/") as ws:
        await ws.send_str("x" * 200)
        answer = await ws.receive(timeout=5)
        assert (answer.type, answer.data) == (aiohttp.WSMsgType.CLOSE, 1009)
    await asyncio.wait_for(site.left.wait(), 5)
    assert codes == [1009]


async def test_a_websocket_goes_on_when_its_request_is_over(site: Site, http: aiohttp.ClientSession) -> None:
    ends: list[str] = []

    async def serve(ws: WebSocket) -> None:
        try:
            while (message := await ws.receive()) is not None:
                await ws.send_binary(message.data, timeout_s=5)
            ends.append(f"closed with {ws.close_code}")
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise
        finally:
            await ws.close(1001, "bye")
            site.left.set()

    async def accept(request: HttpRequest) -> None:
        ws = await request.accept(max_message_bytes=100)
        request.go_on(ws, "serve", serve(ws))

    site.handler = accept
    port = await site.start(per_address=1)
    server = site.servers[0]
    async with http.ws_connect(f"http://127.0.0.1:{port}/") as ws:
        for text in (b"one", b"two"):
            await ws.send_str(text.decode())
            assert (await ws.receive(timeout=5)).data == text
        assert server.open_count == 1 and not server.connections  # nothing of the request is left, but it counts
        with pytest.raises(aiohttp.ClientError):
            await http.ws_connect(f"http://127.0.0.1:{port}/")
    await asyncio.wait_for(site.left.wait(), 5)
    assert ends == ["closed with 1000"]
    async with http.ws_connect(f"http://127.0.0.1:{port}/") as ws:
        closing = asyncio.ensure_future(server.aclose())
        answer = await ws.receive(timeout=5)
        assert (answer.type, answer.data, answer.extra) == (aiohttp.WSMsgType.CLOSE, 1001, "bye")
        await closing
    assert ends == ["closed with 1000", "cancelled"]
    assert server.open_count == 0


async def test_one_is_let_go_that_stops_receiving(site: Site, http: aiohttp.ClientSession) -> None:
    async def talk(request: HttpRequest) -> None:
        async with request.websocket(max_message_bytes=100) as ws:
            asyncio.get_running_loop().call_later(0.05, ws.stop_receiving)
            assert await ws.receive() is None and not ws.is_closed
            site.left.set()

    site.handler = talk
    port = await site.start()
    async with http.ws_connect(f"http://127.0.0.1:{port}/") as ws:
        assert (await ws.receive(timeout=5)).data == 1000
    await asyncio.wait_for(site.left.wait(), 5)


def _frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame; its mask changes nothing."""
    return bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload


_PING, _PONG, _BINARY = 9, 10, 2
_UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


async def test_pings_are_answered_while_nobody_receives_also_those_behind_the_handshake(site: Site) -> None:
    heard: list[str] = []
    go_on = asyncio.Event()

    async def slow(request: HttpRequest) -> None:
        async with request.websocket(max_message_bytes=100) as ws:
            ws.on_ping(lambda: heard.append("ping"))
            await go_on.wait()
            message = await ws.receive()
            assert message is not None
            await ws.send_binary(message.data)

    site.handler = slow
    port = await site.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_UPGRADE + _frame(_PING, b"at once") + _frame(_BINARY, b"data"))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    assert await reader.readexactly(9) == bytes((0x80 | _PONG, 7)) + b"at once"
    for part in (_frame(_PING, b"")[:3], _frame(_PING, b"")[3:] + _frame(_PING, b"2")):
        writer.write(part)
    assert await reader.readexactly(5) == bytes((0x80 | _PONG, 0, 0x80 | _PONG, 1)) + b"2"
    assert heard[-2:] == ["ping", "ping"]
    go_on.set()
    assert await reader.readexactly(6) == bytes((0x80 | _BINARY, 4)) + b"data"
    writer.close()


async def test_pings_of_a_client_that_reads_nothing_wait_and_none_is_lost(site: Site) -> None:
    async def receive(request: HttpRequest) -> None:
        async with request.websocket(max_message_bytes=100) as ws:
            while await ws.receive() is not None:
                pass

    site.handler = receive
    port = await site.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    count = 80_000  # more than all buffers between the two hold
    writer.write(_UPGRADE + b"".join(_frame(_PING, b"%0125d" % number) for number in range(count)))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    pongs = [await reader.readexactly(127) for _ in range(count)]
    assert {pong[:2] for pong in pongs} == {bytes((0x80 | _PONG, 125))}
    assert sorted(int(pong[2:]) for pong in pongs) == list(range(count))
    writer.close()


async def test_hijack_gives_raw_bytes(site: Site) -> None:
    async def raw(request: HttpRequest) -> None:
        async with request.hijack() as stream:
            await stream.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
            while data := await stream.read():
                await stream.write(data.upper())

    site.handler = raw
    port = await site.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    writer.write(b"abc")
    assert await reader.readexactly(3) == b"ABC"
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_writing_to_a_client_that_left_raises(site: Site) -> None:
    errors: list[Exception] = []

    async def stream(request: HttpRequest) -> None:
        async with request.stream() as out:
            await request.gone.wait()
            try:
                await out.write(b"x")
            except ClientGone as exc:
                errors.append(exc)
            site.left.set()

    site.handler = stream
    port = await site.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await asyncio.wait_for(site.left.wait(), 5)
    assert len(errors) == 1


async def test_a_greeting_in_pieces_is_waited_for(site: Site, pki: Pki) -> None:
    port = await site.start(tls=pki.server)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = pki.anonymous.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    greeting = outgoing.read()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in (greeting[:1], greeting[1:4], greeting[4:60]):
        writer.write(piece)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await reader.read(1)
    writer.write(greeting[60:])
    async with asyncio.timeout(5):
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65536))
        client.write(b"GET /whole HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        writer.write(outgoing.read())
        answer = b""
        while b"GET /whole" not in answer:
            incoming.write(await reader.read(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                answer += client.read(65536)
    writer.close()


async def test_a_client_that_leaves_inside_its_greeting_is_forgotten(site: Site, pki: Pki) -> None:
    port = await site.start(tls=pki.server)
    for piece in (b"\x16", b"\x16\x03\x01\x02\x00", b"\x16\x03\x01\x02\x00" + b"x" * 300):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(piece)
        writer.write_eof()
        async with asyncio.timeout(5):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        writer.close()
