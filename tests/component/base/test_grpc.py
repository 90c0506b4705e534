"""gRPC over a real unix socket, with the DMI tables."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from h2.utilities import SizeLimitDict

from skerry.base.errors import DeviceError
from skerry.base.grpc import LIMIT_BYTES, REMEMBERED_CALLS, Caller, GrpcClient, GrpcError, GrpcServer, Status
from skerry.wire.pb.codec import DMI

SERVICE = "/v1beta1.DeviceManagerService/"
REGISTER, STATES, STATUS = SERVICE + "MapperRegister", SERVICE + "ReportDeviceStates", SERVICE + "ReportDeviceStatus"


class Desk:
    """Handlers whose behaviour a test chooses by the device's name."""

    def __init__(self) -> None:
        self.callers: list[Caller] = []
        self.started = asyncio.Event()
        self.was_cancelled = asyncio.Event()

    async def register(self, request: dict[str, Any], caller: Caller) -> Mapping[str, Any]:
        self.callers.append(caller)
        return {"modelList": [{"name": request["mapper"]["name"]}]}

    async def states(self, request: dict[str, Any], caller: Caller) -> Mapping[str, Any]:
        match request.get("deviceName"):
            case "refused":
                raise GrpcError(Status.NOT_FOUND, "keine Gerät: ü%")
            case "broken":
                raise DeviceError("no answer", hint="check the cable")
            case "bug":
                raise ZeroDivisionError
            case "slow":
                self.started.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self.was_cancelled.set()
                    raise
        return {}


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[tuple[Desk, GrpcClient, Path]]:
    desk, path = Desk(), tmp_path / "dmi.sock"
    server = GrpcServer(DMI, {REGISTER: desk.register, STATES: desk.states})
    await server.start(path, mode=0o660)
    client = GrpcClient(path, DMI)
    yield desk, client, path
    await client.aclose()
    await server.aclose()
    assert not path.exists()


async def test_call_and_peer_credentials(desk: tuple[Desk, GrpcClient, Path]) -> None:
    seen, client, path = desk
    answer = await client.call(REGISTER, {"mapper": {"name": "m"}}, timeout_s=5)
    assert answer == {"modelList": [{"name": "m"}]}
    assert seen.callers == [Caller(uid=os.getuid(), gid=os.getgid(), pid=os.getpid())]
    assert path.stat().st_mode & 0o777 == 0o660


@pytest.mark.parametrize(
    ("device", "status", "text"),
    [
        ("refused", Status.NOT_FOUND, "keine Gerät: ü%"),
        ("broken", Status.UNKNOWN, "no answer; check the cable"),
        ("bug", Status.INTERNAL, "internal error, see the log"),
    ],
)
async def test_errors_keep_code_and_text(
    desk: tuple[Desk, GrpcClient, Path], device: str, status: Status, text: str
) -> None:
    with pytest.raises(GrpcError) as caught:
        await desk[1].call(STATES, {"deviceName": device}, timeout_s=5)
    assert (caught.value.status, caught.value.message) == (status, text)


async def test_method_without_handler_is_unimplemented(desk: tuple[Desk, GrpcClient, Path]) -> None:
    with pytest.raises(GrpcError) as caught:
        await desk[1].call(STATUS, {}, timeout_s=5)
    assert caught.value.status is Status.UNIMPLEMENTED


async def test_deadline_ends_the_call_on_both_sides(desk: tuple[Desk, GrpcClient, Path]) -> None:
    with pytest.raises(GrpcError) as caught:
        await desk[1].call(STATES, {"deviceName": "slow"}, timeout_s=0.2)
    assert caught.value.status is Status.DEADLINE_EXCEEDED
    async with asyncio.timeout(5):
        await desk[0].was_cancelled.wait()


async def test_a_message_over_the_limit_is_refused(desk: tuple[Desk, GrpcClient, Path]) -> None:
    with pytest.raises(GrpcError) as caught:
        await desk[1].call(REGISTER, {"mapper": {"address": bytes(LIMIT_BYTES)}}, timeout_s=10)
    assert caught.value.status is Status.RESOURCE_EXHAUSTED
    assert await desk[1].call(STATES, {}, timeout_s=5) == {}


async def test_large_messages_below_the_limit_pass(desk: tuple[Desk, GrpcClient, Path]) -> None:
    name = "x" * 5_000_000
    assert await desk[1].call(REGISTER, {"mapper": {"name": name}}, timeout_s=15) == {"modelList": [{"name": name}]}


async def test_client_connects_again_after_the_server_returned(tmp_path: Path) -> None:
    desk, path = Desk(), tmp_path / "s"
    client = GrpcClient(path, DMI)
    with pytest.raises(GrpcError) as caught:
        await client.call(STATES, {}, timeout_s=5)
    assert caught.value.status is Status.UNAVAILABLE
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    for _ in range(2):
        server = GrpcServer(DMI, {STATES: desk.states})
        await server.start(path)
        assert await client.call(STATES, {}, timeout_s=5) == {}
        await server.aclose()
    await client.aclose()


async def test_closing_the_server_ends_open_calls(tmp_path: Path) -> None:
    desk, path = Desk(), tmp_path / "s"
    server = GrpcServer(DMI, {STATES: desk.states})
    await server.start(path)
    client = GrpcClient(path, DMI)
    call = asyncio.ensure_future(client.call(STATES, {"deviceName": "slow"}, timeout_s=10))
    await desk.started.wait()
    await server.aclose()
    with pytest.raises(GrpcError):
        await call
    await client.aclose()


async def test_a_served_socket_is_not_taken_and_a_stale_one_is(desk: tuple[Desk, GrpcClient, Path]) -> None:
    second = GrpcServer(DMI, {})
    with pytest.raises(OSError, match="served by another process"):
        await second.start(desk[2])
    stale = desk[2].parent / "stale.sock"
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(stale))
    await second.start(stale)
    await second.aclose()


async def test_a_path_too_long_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="at most 107 bytes"):
        await GrpcServer(DMI, {}).start(tmp_path / ("x" * 120))


def test_no_protobuf_runtime_is_loaded() -> None:
    code = (
        "import sys, skerry.base.grpc, skerry.wire.pb.codec; "
        "print([m for m in sys.modules if m.startswith('google') or m in ('grpc', 'http.client', 'email')])"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.strip() == "[]"


@pytest.mark.parametrize("steps", range(8))
async def test_a_connection_that_has_just_come_is_closed_too(tmp_path: Path, steps: int) -> None:
    server = GrpcServer(DMI, {})
    path = tmp_path / "s"
    await server.start(path)
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.setblocking(False)
        await loop.sock_connect(peer, str(path))
        for _ in range(steps):
            await asyncio.sleep(0)
        await server.aclose()
        async with asyncio.timeout(5):
            try:
                while await loop.sock_recv(peer, 4096):  # what the server wrote before it closed
                    pass
            except ConnectionResetError:
                pass


async def test_a_connection_forgets_most_calls_that_have_ended(desk: tuple[Desk, GrpcClient, Path]) -> None:
    _, client, _ = desk
    for _ in range(REMEMBERED_CALLS + 20):
        await client.call(REGISTER, {"mapper": {"name": "m"}}, timeout_s=30)
    kept = [len(found) for found in gc.get_objects() if isinstance(found, SizeLimitDict)]
    assert kept.count(REMEMBERED_CALLS) == 2 and max(kept) == REMEMBERED_CALLS, "one at either end"
