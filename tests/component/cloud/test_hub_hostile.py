"""Strangers and broken machines at the hub's door: each gets a clear refusal, and healthy nodes do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import uvloop

from skerry.api.gvk import PODS
from skerry.base import certificates, x509
from skerry.base.net.http_server import HttpLimits
from skerry.cloud.hub.listener import HubLimits
from skerry.testing.fakekube import FakeKubeApi
from skerry.testing.hollow import Refusal, connect, fetch
from skerry.testing.hubkit import CloudKit, cloud
from skerry.wire.kubeedge import peers
from skerry.wire.kubeedge.envelope import Envelope

LIMITS = HttpLimits(max_connections=2000, opening=200, handshake_s=3.0, head_s=1.0)


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[CloudKit]:
    limits = HubLimits(max_nodes=3, max_message_bytes=2 * 1024 * 1024)
    async with cloud(FakeKubeApi(), tmp_path, hub_limits=limits, http_limits=LIMITS) as kit:
        yield kit


def _port(kit: CloudKit) -> int:
    return int(kit.hub_url.rpartition(":")[2])


async def _is_healthy(kit: CloudKit, node: str = "healthy") -> None:
    async with connect(kit.hub_url, node, kit.tls(kit.node_credential(node))) as hollow:
        assert not (await hollow.request("query", "default/configmap/x")).is_ok


async def test_refusals_before_the_upgrade(kit: CloudKit) -> None:
    node = kit.node_credential("edge-1")
    admin = x509.issue_client(kit.authority.ca, "admin", organizations=("system:masters",))
    legacy = x509.issue_client(kit.authority.ca, "kubeedge.io", organizations=("KubeEdge",))
    unnamed = x509.issue_client(kit.authority.ca, "system:node:edge-1")
    for credential, headers, status in [
        (node, {"node_id": "edge-2"}, 403),
        (node, {"node_id": ""}, 403),
        (node, {"ConnectionUse": ""}, 400),
        (node, {"ConnectionUse": "str"}, 400),
        (admin, {}, 403),
        (legacy, {}, 403),
        (unnamed, {}, 403),
    ]:
        with pytest.raises(Refusal) as caught:
            async with connect(kit.hub_url, "edge-1", kit.tls(credential), headers=headers):
                pass
        assert caught.value.status == status, headers
    with pytest.raises(Refusal) as caught:
        await fetch(kit.hub_url.replace("wss", "https"), kit.tls(node))
    assert caught.value.status == 426
    assert not kit.hub.connected()


async def test_certificates_of_strangers_end_in_the_handshake(kit: CloudKit) -> None:
    stranger = x509.issue_client(x509.new_ca(), "system:node:edge-1", organizations=("system:nodes",))
    late = x509.issue_client(
        kit.authority.ca, "system:node:edge-1", organizations=("system:nodes",), days=1, now_s=1_600_000_000
    )
    for credential in (stranger, None):
        with pytest.raises((OSError, aiohttp.ClientError)):
            await fetch(kit.hub_url.replace("wss", "https"), kit.tls(credential))
    with pytest.raises(Refusal) as caught:
        async with connect(kit.hub_url, "edge-1", kit.tls(late)):
            pass
    assert caught.value.status == 403
    await _is_healthy(kit)


async def test_more_nodes_than_the_hub_serves(kit: CloudKit) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for number in range(3):
            name = f"edge-{number}"
            await stack.enter_async_context(connect(kit.hub_url, name, kit.tls(kit.node_credential(name))))
        with pytest.raises(Refusal) as caught:
            async with connect(kit.hub_url, "edge-9", kit.tls(kit.node_credential("edge-9"))):
                pass
        assert caught.value.status == 503
        assert len(kit.hub.connected()) == 3


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"{", 1002),
        (b"[]", 1002),
        (b'{"header":{"msg_id":7},"route":{}}', 1002),
        (b"\xff\xfe\x00", 1002),
        (b'{"header":{"msg_id":"1"},"route":{},"content":' + b"[" * 200_000, 1002),
        (b"x" * (3 * 1024 * 1024), 1009),
    ],
    ids=["half", "list", "type", "bytes", "deep", "large"],
)
async def test_broken_frames_end_the_session_with_a_reason(
    kit: CloudKit, frame: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with connect(kit.hub_url, "edge-1", kit.tls(kit.node_credential("edge-1"))) as node:
        with contextlib.suppress(ConnectionError):
            await node.send_raw(frame)
        await node.until(lambda n: n.ended.is_set())
        # The unread rest of a large message may turn our close frame into a reset on its way.
        assert node.close_code in ((code, 1006) if code == 1009 else (code,))
    reasons = [r.__dict__["fields"]["reason"] for r in caplog.records if r.getMessage() == "hub.disconnected"]
    assert len(reasons) == 1 and ("broken message" in reasons[0] or "over the limit" in reasons[0])
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]
    await _is_healthy(kit)


async def test_unknown_messages_are_answered_and_harm_nobody(kit: CloudKit) -> None:
    async with connect(kit.hub_url, "edge-1", kit.tls(kit.node_credential("edge-1"))) as node:
        for number in range(50):
            await node.send(Envelope(f"m{number}", "edged", "meta", "query", f"a/unknown{number}/c"))
        for resource_path in ("x", "a/b/c/d/e", "../../etc/passwd", "node/edge-2/default/pod/x", "a\x00/b/c"):
            assert not (await node.request("query", resource_path)).is_ok
        flood = [node.request("query", f"default/configmap/c{number}") for number in range(400)]
        outcomes = await asyncio.gather(*flood)
        assert {o.status["code"] for o in outcomes if o.status} <= {403, 429}
        assert len(kit.hub.connected()) == 1


async def test_answers_and_acks_for_things_never_sent_are_ignored(kit: CloudKit) -> None:
    api = kit.api
    await api.create(
        PODS, {"metadata": {"name": "web", "namespace": "default"}, "spec": {"nodeName": "edge-1", "containers": []}}
    )
    async with connect(kit.hub_url, "edge-1", kit.tls(kit.node_credential("edge-1"))) as node:
        for parent in ("", "nothing", "x" * 10_000):
            for operation in ("response", "error"):
                await node.send(Envelope("a", "x", "resource", operation, "default/pod/web", "OK", parent))
        await node.until(lambda n: "default/pod/web" in n.objects)


async def test_a_silent_node_is_ended(tmp_path: Path) -> None:
    limits = HubLimits(silence_limit_s=0.3)
    async with cloud(FakeKubeApi(), tmp_path, hub_limits=limits) as kit:
        async with connect(kit.hub_url, "edge-1", kit.tls(kit.node_credential("edge-1"))) as node:
            await node.until(lambda n: n.ended.is_set())
            assert node.close_code == 1008


async def test_a_node_that_pings_for_its_lease_may_be_silent_for_longer(tmp_path: Path) -> None:
    limits = HubLimits(silence_limit_s=0.3, calm_limit_s=60.0)
    async with cloud(FakeKubeApi(), tmp_path, hub_limits=limits) as kit:
        plain = connect(kit.hub_url, "edge-1", kit.tls(kit.node_credential("edge-1")))
        calm = connect(kit.hub_url, "edge-2", kit.tls(kit.node_credential("edge-2")), features=frozenset({peers.LEASE}))
        async with calm as lasting, plain as ending:
            await ending.until(lambda n: n.ended.is_set())
            assert not (await lasting.request("query", "default/configmap/x")).is_ok
            assert not lasting.ended.is_set()


async def _plain_http(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        return await reader.read(300)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_plain_http_is_told_so(kit: CloudKit) -> None:
    answers = await asyncio.gather(*(_plain_http(_port(kit)) for _ in range(50)))
    assert all(b"400 Bad Request" in answer and b"https" in answer for answer in answers)
    await _is_healthy(kit)


async def _stalled(port: int, count: int) -> list[socket.socket]:
    loop = asyncio.get_running_loop()
    sockets = []
    for _ in range(count):
        peer = socket.socket()
        peer.setblocking(False)
        await loop.sock_connect(peer, ("127.0.0.1", port))
        await loop.sock_sendall(peer, b"\x16\x03\x01\x02\x00")
        sockets.append(peer)
    return sockets


async def test_stalled_handshakes_leave_room_for_healthy_nodes(kit: CloudKit) -> None:
    sockets = await _stalled(_port(kit), 250)
    try:
        await _is_healthy(kit)
        async with asyncio.timeout(8):
            loop = asyncio.get_running_loop()
            for peer in sockets:
                with contextlib.suppress(ConnectionError):
                    while await loop.sock_recv(peer, 100):
                        pass
    finally:
        for peer in sockets:
            peer.close()


async def test_slow_headers_are_cut_off(kit: CloudKit) -> None:
    credential = kit.node_credential("edge-1")
    reader, writer = await asyncio.open_connection("127.0.0.1", _port(kit), ssl=kit.tls(credential))
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
    async with asyncio.timeout(8):
        with contextlib.suppress(ConnectionError):
            while await reader.read(100):
                pass
    writer.close()
    await _is_healthy(kit)


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


async def _attack(*arguments: str) -> int:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "skerry.testing.attacker", *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await child.communicate()
    assert child.returncode == 0
    return int(out)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_long_forms_leave_memory_as_it_was(tmp_path: Path) -> None:
    """10,000 plain connections, 1,000 stalled handshakes, ten messages of 100 MB, on the event loop of the cloud."""
    uvloop.run(_long_forms(tmp_path))


async def _long_forms(tmp_path: Path) -> None:
    async with cloud(FakeKubeApi(), tmp_path, http_limits=LIMITS) as kit:
        port = str(_port(kit))
        credential = kit.node_credential("edge-1")
        certificates.save(credential, tmp_path / "c.crt", tmp_path / "c.key")
        files = [str(tmp_path / name) for name in ("c.crt", "c.key", "tls/ca.crt")]
        await _is_healthy(kit)
        assert await _attack("plain", "127.0.0.1", port, "500") == 500
        gc.collect()
        before_mb = _rss_mb()
        assert await _attack("plain", "127.0.0.1", port, "10000") == 10_000
        assert await _attack("stalled", "127.0.0.1", port, "1000") == 1000
        assert await _attack("frames", kit.hub_url, "edge-1", *files, "10", "100") == 10
        await _is_healthy(kit)
        async with asyncio.timeout(10):  # who sent too much has some time to read why
            while kit.servers[1].open_count > 1:
                await asyncio.sleep(0.05)
        gc.collect()
        assert _rss_mb() < before_mb + 20
