"""The whole tunnel on loopback: connector, edge door, WebSocket over TLS, agent's end, kubelet interface, log file."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from skerry.api.status import BadRequest, NotFound, Unavailable
from skerry.base import certificates, x509
from skerry.base.aio.clock import SystemClock
from skerry.base.aio.supervise import Supervisor
from skerry.base.net.edge_tls import ClientIdentity, PeerNotTrusted, client_context
from skerry.base.net.http_edge import EdgeHttpServer
from skerry.base.net.http_server import HttpServer, PeerCertificate, server_tls
from skerry.base.net.ws_client import Target, UpgradeRefused, WebSocketClient, connect
from skerry.cloud.tunnel.connector import TunnelConnector
from skerry.cloud.tunnel.edge_server import TunnelServer
from skerry.cloud.tunnel.sessions import Tunnels
from skerry.edge.kubelet.server import KubeletServer
from skerry.edge.tunnel.client import TunnelClient
from skerry.kube.ports import KubeletRequest
from skerry.runtime.logs import read_log
from skerry.wire.kubeedge.tunnel import CONNECT_PATH, HEADER_NODE, HEADER_WINDOW, MAX_DATA_BYTES

CLOCK = SystemClock()


@dataclass(frozen=True)
class LogPlace:
    path: Path
    is_running: bool


class OnePod:
    """A node with one pod, whose only container writes ``log``."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.running = True

    def pods(self) -> Sequence[Any]:
        return [{"metadata": {"name": "web", "namespace": "default"}}]

    async def container_log(self, namespace: str, pod: str, container: str, *, previous: bool) -> LogPlace:
        if (namespace, pod) != ("default", "web"):
            raise NotFound(f'pods "{pod}" not found')
        if container != "app":
            raise BadRequest(f"container {container} is not valid for pod web")
        return LogPlace(self._log, self.running)

    async def is_running(self, namespace: str, pod: str, container: str) -> bool:
        return self.running


class Socket:
    """The WebSocket client as a ``TunnelSocket``."""

    def __init__(self, websocket: WebSocketClient) -> None:
        self._websocket = websocket
        self.window_bytes = int(websocket.headers.get("skerry-stream-window", "0"))
        self.receive = websocket.receive
        self.send_text = websocket.send_text
        self.abort = websocket.abort

    @property
    def heard_s(self) -> float:
        return self._websocket.heard_s

    async def ping(self) -> None:
        await self._websocket.ping(b"ping you")


@dataclass
class Bench:
    folder: Path
    port: int
    tunnels: Tunnels
    connector: TunnelConnector
    pod: OnePod
    log: Path
    is_refused: set[str]
    revoke: Callable[[str], None]

    def tls(self, name: str) -> Any:
        identity = ClientIdentity(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        return client_context(self.folder / "ca.crt", identity)

    def write(self, *lines: str) -> None:
        with self.log.open("a") as file:
            file.writelines(f"2026-01-01T00:00:00.000000000Z stdout F {line}\n" for line in lines)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    ca = x509.new_ca()
    certificates.save(ca, tmp_path / "ca.crt", tmp_path / "ca.key")
    certificates.save(x509.issue_server(ca, ["127.0.0.1"]), tmp_path / "server.crt", tmp_path / "server.key")
    for node in ("edge-1", "edge-2"):
        credential = x509.issue_client(ca, f"system:node:{node}", organizations=("system:nodes",))
        certificates.save(credential, tmp_path / f"{node}.crt", tmp_path / f"{node}.key")
    refused: set[str] = set()

    watched: list[Callable[[str], None]] = []

    async def judge(node: str, certificate: PeerCertificate) -> str:
        return f"the certificate of node {node} is revoked" if node in refused else ""

    @asynccontextmanager
    async def watch(node: str, fingerprint: str, on_revoked: Callable[[str], None]) -> AsyncIterator[None]:
        watched.append(on_revoked)
        if node in refused:
            on_revoked(f"node {node} has been revoked")
        yield
        watched.remove(on_revoked)

    def revoke(node: str) -> None:
        refused.add(node)
        for on_revoked in watched:
            on_revoked(f"node {node} has been revoked")

    async with AsyncExitStack() as stack:
        tunnels = Tunnels(clock=CLOCK)
        server = HttpServer(TunnelServer(tunnels, judge=judge, watch=watch).handle, name="tunnel")
        stack.push_async_callback(server.aclose)
        tls = server_tls(
            cert_file=tmp_path / "server.crt", key_file=tmp_path / "server.key", client_ca_file=tmp_path / "ca.crt",
            require_client=True,
        )  # fmt: skip
        port = await server.listen("127.0.0.1", 0, tls=tls)
        log = tmp_path / "0.log"
        log.touch()
        yield Bench(tmp_path, port, tunnels, TunnelConnector(tunnels), OnePod(log), log, refused, revoke)


@asynccontextmanager
async def agent(bench: Bench, node: str = "edge-1", *, window: bool = True) -> AsyncIterator[None]:
    """An agent whose tunnel stands."""
    socket = bench.folder / f"{node}.sock"
    kubelet = KubeletServer(bench.pod, read_log=read_log, token="t", clock=CLOCK)
    door = EdgeHttpServer(kubelet.handle, name="kubelet")
    await door.listen_unix(socket)
    headers = {HEADER_NODE: node} | ({HEADER_WINDOW: "65536"} if window else {})
    target = Target("127.0.0.1", bench.port, CONNECT_PATH, headers)

    @asynccontextmanager
    async def dial() -> AsyncIterator[Socket]:
        async with connect(target, tls=bench.tls(node), limit_bytes=MAX_DATA_BYTES + 64) as websocket:
            yield Socket(websocket)

    client = TunnelClient(dial, kubelet_socket=socket, clock=CLOCK)
    async with Supervisor("agent") as supervisor:
        supervisor.keep("tunnel", client.run)
        async with asyncio.timeout(5):
            while node not in bench.tunnels.nodes():
                await asyncio.sleep(0.01)
        yield
    await door.aclose()


async def read(bench: Bench, query: str = "", container: str = "app", pod: str = "web") -> tuple[int, bytes]:
    request = KubeletRequest("GET", f"/containerLogs/default/{pod}/{container}", query)
    async with bench.connector.request("edge-1", request) as answer:
        return answer.status, b"".join([piece async for piece in answer.body()])


@pytest.mark.parametrize("window", [True, False])
async def test_log_lines_arrive(bench: Bench, window: bool) -> None:
    bench.write("one", "two", "three")
    async with agent(bench, window=window):
        assert await read(bench) == (200, b"one\ntwo\nthree\n")
        assert await read(bench, "tailLines=1&timestamps=true") == (200, b"2026-01-01T00:00:00.000000000Z three\n")


async def test_status_of_the_node_arrives(bench: Bench) -> None:
    async with agent(bench):
        assert await read(bench, container="no") == (400, b"container no is not valid for pod web\n")
        assert (await read(bench, pod="no"))[0] == 404
        status, text = await read(bench, "tailLines=x")
        assert status == 400
        assert b"tailLines" in text


async def test_a_log_larger_than_any_window_arrives_whole(bench: Bench) -> None:
    lines = [f"{number:06d} " + "x" * 200 for number in range(10_000)]
    bench.write(*lines)
    async with agent(bench):
        assert await read(bench) == (200, ("\n".join(lines) + "\n").encode())


async def test_follow_ends_with_the_container(bench: Bench) -> None:
    bench.write("one")
    async with agent(bench):
        request = KubeletRequest("GET", "/containerLogs/default/web/app", "follow=true")
        async with bench.connector.request("edge-1", request) as answer:
            pieces = answer.body()
            assert await anext(pieces) == b"one\n"
            bench.write("two")
            assert await anext(pieces) == b"two\n"
            bench.pod.running = False
            assert [piece async for piece in pieces] == []


async def test_a_stuck_reader_does_not_stop_the_others(bench: Bench) -> None:
    bench.write(*["x" * 1000 for _ in range(2_000)])
    async with agent(bench):
        request = KubeletRequest("GET", "/containerLogs/default/web/app")
        async with bench.connector.request("edge-1", request) as stuck:
            assert stuck.status == 200
            status, text = await read(bench, "tailLines=1")
            assert (status, len(text)) == (200, 1001)


async def test_a_node_without_a_tunnel_is_named(bench: Bench) -> None:
    with pytest.raises(Unavailable, match='node "edge-1" has had no tunnel'):
        await read(bench)
    async with agent(bench):
        assert (await read(bench))[0] == 200
    async with asyncio.timeout(5):
        while bench.tunnels.nodes():
            await asyncio.sleep(0.01)
    with pytest.raises(Unavailable, match="for 0 s"):
        await read(bench)


async def test_identity_is_the_certificates(bench: Bench) -> None:
    target = Target("127.0.0.1", bench.port, CONNECT_PATH, {HEADER_NODE: "edge-1"})
    with pytest.raises(UpgradeRefused, match='belongs to node "edge-2"'):
        async with connect(target, tls=bench.tls("edge-2"), limit_bytes=1000):
            pass
    bench.is_refused.add("edge-1")
    with pytest.raises(UpgradeRefused, match="is revoked"):
        async with connect(target, tls=bench.tls("edge-1"), limit_bytes=1000):
            pass


async def test_another_cloud_is_not_trusted(bench: Bench) -> None:
    stranger = x509.new_ca()
    certificates.save(stranger, bench.folder / "stranger.crt", bench.folder / "stranger.key")
    tls = client_context(
        bench.folder / "stranger.crt", ClientIdentity(bench.folder / "edge-1.crt", bench.folder / "edge-1.key")
    )
    with pytest.raises(PeerNotTrusted, match="is not the cloud that this node joined"):
        async with connect(Target("127.0.0.1", bench.port, CONNECT_PATH), tls=tls, limit_bytes=1000):
            pass


async def test_the_agent_reaches_only_its_own_kubelet(bench: Bench) -> None:
    from skerry.wire.kubeedge.tunnel import FrameType, StreamRequest

    async with agent(bench):
        stream = bench.tunnels.find("edge-1").open(
            FrameType.EXEC_CONNECT, StreamRequest("/", host="169.254.169.254:80")
        )
        assert b"403" in await stream.read()
        await stream.close()


async def test_a_revocation_ends_the_tunnel_that_is_open(bench: Bench) -> None:
    target = Target("127.0.0.1", bench.port, CONNECT_PATH, {HEADER_NODE: "edge-1"})
    async with connect(target, tls=bench.tls("edge-1"), limit_bytes=1024) as websocket:
        bench.revoke("edge-1")
        async with asyncio.timeout(3):
            while await websocket.receive() is not None:
                pass
    with pytest.raises(UpgradeRefused):
        async with connect(target, tls=bench.tls("edge-1"), limit_bytes=1024):
            pass
