"""Probes and hooks against real servers on loopback, also hostile ones."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from grpclib.const import Cardinality, Handler
from grpclib.server import Server

from skerry.base.aio.clock import SystemClock
from skerry.edge.pods.handlers import Aim, HandlerError, Handlers, port_number
from skerry.runtime.ports import EngineError, EngineUnavailable, ExecTimeout

Serve = Callable[[bytes], Awaitable[int]]


class NoContainers:
    """Commands answer by their first word."""

    async def exec_sync(self, container_id: str, command: Sequence[str], *, timeout_s: float) -> tuple[int, bytes]:
        match command[0]:
            case "late":
                raise ExecTimeout("timed out after 1s")
            case "nothing":
                raise EngineError("no such file or directory")
            case "away":
                raise EngineUnavailable("the engine is away")
        return (0 if command[0] == "true" else 1), b"said " * 1000


@pytest.fixture
def handlers() -> Handlers:
    return Handlers(NoContainers(), SystemClock())


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[asyncio.Server] = []

    async def start(answer: bytes) -> int:
        async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                seen.append(await reader.readuntil(b"\r\n\r\n"))
            except asyncio.IncompleteReadError:  # the probe gave up
                writer.close()
                return
            writer.write(answer)
            if answer:
                writer.close()
            else:
                await reader.read()
                writer.close()

        server = await asyncio.start_server(answered, "127.0.0.1", 0)
        servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    seen: list[bytes] = []
    start.seen = seen  # type: ignore[attr-defined]
    yield start
    for server in servers:
        server.close()
        await server.wait_closed()


def reply(status: int, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def check(handlers: Handlers, probe: Mapping[str, Any], *, timeout_s: float = 5.0) -> tuple[bool | None, str]:
    aim = Aim("c1", "127.0.0.1", [{"name": "web", "containerPort": 1}])
    outcome = await handlers.check(probe, aim, timeout_s=timeout_s)
    return outcome.is_good, outcome.text


@pytest.mark.parametrize(
    ("status", "is_good"), [(200, True), (204, True), (302, True), (399, True), (400, False), (500, False)]
)
async def test_http_status(handlers: Handlers, serve: Serve, status: int, is_good: bool) -> None:
    port = await serve(reply(status, Location="http://192.0.2.1/elsewhere"))
    found, text = await check(handlers, {"httpGet": {"path": "/x?y=1", "port": port}})
    assert found is is_good and (is_good or text == f"HTTP probe failed with statuscode: {status}")
    request = serve.seen[0]  # type: ignore[attr-defined]
    assert request.startswith(b"GET /x?y=1 HTTP/1.1\r\n") and b"kube-probe/" in request


async def test_http_headers_are_the_users(handlers: Handlers, serve: Serve) -> None:
    port = await serve(reply(200))
    headers = [
        {"name": "Host", "value": "shop.example"},
        {"name": "X-A", "value": "b"},
        {"name": "Accept", "value": ""},
    ]
    assert (await check(handlers, {"httpGet": {"port": port, "httpHeaders": headers}}))[0] is True
    request = serve.seen[0].lower()  # type: ignore[attr-defined]
    assert b"host: shop.example\r\n" in request and b"x-a: b\r\n" in request and b"accept" not in request
    split = [{"name": "X", "value": "a\r\nInjected: yes"}]
    found, text = await check(handlers, {"httpGet": {"port": port, "httpHeaders": split}})
    assert found is False and "cannot be written" in text


@pytest.mark.parametrize(
    "answer", [b"not http at all\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000, b"\x00" * 100_000 + b"\r\n"]
)
async def test_answers_that_are_no_http_are_failures(handlers: Handlers, serve: Serve, answer: bytes) -> None:
    assert (await check(handlers, {"httpGet": {"port": await serve(answer)}}))[0] is False


async def test_a_large_body_is_read_in_part(handlers: Handlers, serve: Serve) -> None:
    port = await serve(reply(200, b"x" * 1_000_000))
    found, text = await check(handlers, {"httpGet": {"port": port}})
    assert found is True and len(text) <= 1024


async def test_silence_is_a_failure_in_time(handlers: Handlers, serve: Serve) -> None:
    found, text = await check(handlers, {"httpGet": {"port": await serve(b"")}}, timeout_s=0.2)
    assert found is False and "no answer" in text


async def test_tcp_connects_or_fails(handlers: Handlers, serve: Serve) -> None:
    port = await serve(b"x")
    assert (await check(handlers, {"tcpSocket": {"port": port}}))[0] is True
    assert (await check(handlers, {"tcpSocket": {"port": 1}}))[0] is False
    assert (await check(handlers, {"tcpSocket": {"port": "nameless"}}))[0] is None


@pytest.mark.parametrize(
    ("word", "is_good"), [("true", True), ("false", False), ("late", False), ("nothing", None), ("away", None)]
)
async def test_commands(handlers: Handlers, word: str, is_good: bool | None) -> None:
    found, text = await check(handlers, {"exec": {"command": [word]}})
    assert found is is_good and len(text) <= 1024


class Health:
    """grpc.health.v1.Health with one answer."""

    def __init__(self, status: int, *, path: str = "/grpc.health.v1.Health/Check") -> None:
        self._status = status
        self._path = path

    async def _check(self, stream: Any) -> None:
        await stream.recv_message()
        await stream.send_message(b"\x08" + bytes([self._status]))

    def __mapping__(self) -> dict[str, Handler]:
        return {self._path: Handler(self._check, Cardinality.UNARY_UNARY, bytes, bytes)}


class RawCodec:
    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


@pytest.mark.parametrize(("status", "is_good"), [(1, True), (2, False), (3, False)])
async def test_grpc_health(handlers: Handlers, status: int, is_good: bool) -> None:
    server = Server([Health(status)], codec=RawCodec())  # type: ignore[arg-type,list-item]
    await server.start("127.0.0.1", 0)
    port = server._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    try:
        found, text = await check(handlers, {"grpc": {"port": port}})
        assert found is is_good and (is_good or "service unhealthy" in text)
    finally:
        server.close()
        await server.wait_closed()


async def test_grpc_without_health_and_without_a_server(handlers: Handlers) -> None:
    server = Server([Health(1, path="/other/Check")], codec=RawCodec())  # type: ignore[arg-type,list-item]
    await server.start("127.0.0.1", 0)
    port = server._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    try:
        found, text = await check(handlers, {"grpc": {"port": port, "service": "x"}})
        assert found is False and text
    finally:
        server.close()
        await server.wait_closed()
    assert (await check(handlers, {"grpc": {"port": port}}))[0] is False


async def test_hooks(handlers: Handlers, serve: Serve) -> None:
    aim = Aim("c1", "127.0.0.1")
    await handlers.hook({"exec": {"command": ["true"]}}, aim)
    await handlers.hook({"httpGet": {"port": await serve(reply(200))}}, aim)
    await handlers.hook({"sleep": {"seconds": 0}}, aim)
    bad_hooks: list[dict[str, Any]] = [
        {"exec": {"command": ["false"]}},
        {"httpGet": {"port": 1}},
        {"tcpSocket": {}},
        {},
    ]
    for bad in [*bad_hooks, {"httpGet": {"port": "x"}}]:
        with pytest.raises(HandlerError):
            await handlers.hook(bad, aim)


@pytest.mark.parametrize("port", [0, 65536, -1, "web", "1e3", None, "٣"])
def test_ports_that_are_none(port: Any) -> None:
    with pytest.raises(ValueError, match="no port"):
        port_number(port, [{"name": "other", "containerPort": 80}])


def test_a_named_port() -> None:
    assert port_number("web", [{"name": "web", "containerPort": 8080}]) == 8080 and port_number("80", []) == 80


def self_signed(directory: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1)
    )
    pem = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    path = directory / "server.pem"
    path.write_bytes(pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


async def test_https_does_not_ask_who_the_container_is(handlers: Handlers, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply(200))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answered, "127.0.0.1", 0, ssl=context)
    try:
        port = server.sockets[0].getsockname()[1]
        assert (await check(handlers, {"httpGet": {"port": port, "scheme": "HTTPS"}}))[0] is True
    finally:
        server.close()
        await server.wait_closed()
