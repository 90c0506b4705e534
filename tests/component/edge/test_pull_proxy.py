"""Pulls of a real containerd through the agent's proxy: capped, and told when they went another way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.component.edge.desk import Desk, pod
from tests.parts import Containerd, PartMissing, busybox_program
from tests.registry import DockerRegistry

from skerry.base.aio.clock import SystemClock
from skerry.base.aio.supervise import Supervisor
from skerry.base.net.listening import free_port
from skerry.edge.images.pullproxy import PullProxy
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.engine import CriRuntime
from skerry.runtime.cri.images import CriImages
from skerry.testing.contracts.pod_runtime import end_pods

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("containerd")]


@pytest.fixture
async def proxy() -> AsyncIterator[tuple[PullProxy, int]]:
    port = free_port()
    listens: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    found = PullProxy(
        "127.0.0.1", port, bytes_per_s=1 << 20, clock=SystemClock(), listening=listens.set_result
    )  # fmt: skip
    async with Supervisor("test") as supervisor:
        supervisor.keep("proxy", found.run)
        assert await listens == port
        yield found, port


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    try:
        found = DockerRegistry(tmp_path / "registry")
    except PartMissing as exc:
        pytest.skip(str(exc))
    found.start()
    yield found
    found.close()


async def test_an_engine_pulls_through_it_at_the_rate(
    proxy: tuple[PullProxy, int], registry: DockerRegistry, tmp_path: Path
) -> None:
    through, port = proxy
    try:
        engine = Containerd(proxy=f"http://127.0.0.1:{port}")
    except PartMissing as exc:
        pytest.skip(str(exc))
    size = registry.push("demo/web:1", busybox=busybox_program(), random_bytes=1 << 20)
    # No loopback address by name: Go never asks a proxy for one.
    host = f"0.0.0.0:{registry.port}"
    hosts = engine.directory / "certs.d" / host / "hosts.toml"
    hosts.parent.mkdir(parents=True)
    hosts.write_text(f'server = "http://{host}"\n[host."http://{host}"]\n  capabilities = ["pull", "resolve"]\n')
    await asyncio.to_thread(engine.start)
    client = CriClient(engine.socket)
    runtime = CriRuntime(client, node_uid="pulls", list_interval_s=0.2)
    desk = Desk(
        tmp_path / "edge", runtime, CriImages(client), carried=lambda: through.carried_bytes
    )  # fmt: skip
    try:
        await desk.roster.start()
        began_s = time.monotonic()
        await run(desk, "capped", f"{host}/demo/web:1")
        assert size < through.carried_bytes < size + (1 << 20)
        assert time.monotonic() - began_s > 0.9 * size / (1 << 20)
        assert "PullNotCapped" not in desk.events()
        before = through.carried_bytes
        await run(desk, "loose", f"127.0.0.1:{registry.port}/demo/web:1")
        assert "PullNotCapped" in desk.events() and through.carried_bytes == before
        await desk.roster.aclose()
        await end_pods(runtime)
    finally:
        await desk.close()
        await asyncio.to_thread(engine.close)


async def run(desk: Desk, name: str, image: str) -> None:
    container = {"image": image, "imagePullPolicy": "IfNotPresent"}
    found = pod("exec sleep 300", name=name, uid=f"u-{name}", container=container, terminationGracePeriodSeconds=0)
    await desk.objects.put(f"default/pod/{name}", found)
    await desk.until(lambda: "running" in desk.state(name))


async def test_a_tunnel_carries_both_ways_until_one_side_ends(proxy: tuple[PullProxy, int]) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data.upper())
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        target = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy[1])
        writer.write(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\nhello " % target)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
        writer.write(b"again")
        assert await reader.readexactly(11) == b"HELLO AGAIN"
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n", b"502"),
        (b"CONNECT no-such-host.invalid:443 HTTP/1.1\r\n\r\n", b"502"),
    ],
)
async def test_what_cannot_be_carried_is_said(proxy: tuple[PullProxy, int], request_: bytes, status: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy[1])
    writer.write(request_)
    answer = await reader.read(4096)
    assert answer.split()[1] == status and len(answer.partition(b"\r\n\r\n")[2]) > 10
    writer.close()


async def test_an_endless_head_is_not_read(proxy: tuple[PullProxy, int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy[1])
    writer.write(b"GET http://x/ HTTP/1.1\r\nA: " + b"b" * (256 * 1024))
    try:
        assert await reader.read(4096) == b""
    except ConnectionError:
        pass
    writer.close()
