"""``proxy`` of pods, services and nodes against real HTTP servers on loopback."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from skerry.api import gvk
from skerry.kube.ports import KubeletRequest


@pytest.fixture
async def backend() -> AsyncIterator[int]:
    """A web server that tells what it was asked; its port."""

    async def answer(request: web.Request) -> web.Response:
        text = f"{request.method} {request.path_qs} {(await request.read()).decode()}"
        seen = ",".join(sorted(name.lower() for name in request.headers))
        return web.Response(status=201, text=text, headers={"X-Own": "yes", "X-Seen": seen})

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def _pod(api: Any, port: int, address: str = "127.0.0.1") -> None:
    await api.ask("POST", gvk.SERVICEACCOUNTS.path("default"), {"metadata": {"name": "default"}})
    container = {"name": "c", "image": "i", "ports": [{"name": "web", "containerPort": port}]}
    pod = {"metadata": {"name": "proxy-p"}, "spec": {"containers": [container]}}
    assert (await api.ask("POST", gvk.PODS.path("default"), pod))[0] == 201
    status = {"status": {"phase": "Running", "podIP": address}}
    place = gvk.PODS.path("default", "proxy-p", "status")
    assert (await api.ask("PATCH", place, status, kind="application/merge-patch+json"))[0] == 200


async def test_requests_reach_a_pod(serve: Any, client: Callable[..., Any], backend: int) -> None:
    api = client(await serve(dials_itself=True))
    await _pod(api, backend)
    for name in ("proxy-p", "proxy-p:web", f"proxy-p:{backend}", "http:proxy-p:web"):
        status, text = await api.ask("GET", f"{gvk.PODS.path('default', name)}/proxy/a/b/?x=1")
        assert (status, text) == (201, "GET /a/b/?x=1 "), name
    place = f"{gvk.PODS.path('default', 'proxy-p')}/proxy"
    async with api.open(
        "POST", f"{place}/p", data=b"body", headers={"Authorization": "Bearer x", "X-Mine": "1"}
    ) as answer:
        assert (answer.status, await answer.text()) == (201, "POST /p body")
        assert answer.headers["X-Own"] == "yes"
        seen = answer.headers["X-Seen"].split(",")
    assert "x-mine" in seen and "authorization" not in seen
    assert (await api.ask("GET", f"{gvk.PODS.path('default', 'proxy-p:nope')}/proxy/"))[0] == 400
    assert (await api.ask("GET", f"{gvk.PODS.path('default', 'none')}/proxy/"))[0] == 404
    status, body = await api.ask("GET", f"{gvk.PODS.path('default', 'proxy-p:1')}/proxy/")
    assert (status, body["reason"]) == (503, "ServiceUnavailable")


async def test_requests_reach_a_service(serve: Any, client: Callable[..., Any], backend: int) -> None:
    api = client(await serve(dials_itself=True))
    service = {"metadata": {"name": "s"}, "spec": {"ports": [{"name": "web", "port": 80}]}}
    await api.ask("POST", gvk.SERVICES.path("default"), service)
    place = f"{gvk.SERVICES.path('default', 's:web')}/proxy/x"
    status, body = await api.ask("GET", place)
    assert (status, body["message"]) == (503, 'no endpoints available for service "s"')
    endpoints = {
        "metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.2"], "conditions": {"ready": False}}, {"addresses": ["127.0.0.1"]}],
        "ports": [{"name": "web", "port": backend}],
    }  # fmt: skip
    await api.ask("POST", gvk.ENDPOINTSLICES.path("default"), endpoints)
    for name in ("s:web", "s:80", "s"):
        assert await api.ask("PUT", f"{gvk.SERVICES.path('default', name)}/proxy/x") == (201, "PUT /x ")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
    ],
)
async def test_a_pod_cannot_point_at_this_machine(api: Any, backend: int, address: str) -> None:
    await _pod(api, backend, address)
    status, body = await api.ask("GET", f"{gvk.PODS.path('default', 'proxy-p')}/proxy/")
    assert (status, body["message"]) == (400, f"address not allowed: {address}")


class Nodes:
    """A ``NodeConnector`` that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, KubeletRequest]] = []

    @contextlib.asynccontextmanager
    async def request(self, node: str, request: KubeletRequest) -> AsyncIterator[Any]:
        self.asked.append((node, request))
        yield self

    status = 200
    headers = {"Content-Type": "application/json"}  # noqa: RUF012

    async def body(self) -> AsyncIterator[bytes]:
        yield b'{"pods":'
        yield b"[]}"


async def test_requests_reach_a_node_through_its_tunnel(serve: Any, client: Callable[..., Any]) -> None:
    nodes = Nodes()
    api = client(await serve(nodes=nodes))
    await api.ask("POST", gvk.NODES.path(), {"metadata": {"name": "edge-1"}})
    assert await api.ask("GET", f"{gvk.NODES.path(name='edge-1')}/proxy/stats/summary?only=cpu") == (200, {"pods": []})
    node, request = nodes.asked[0]
    assert (node, request.path, request.query) == ("edge-1", "/stats/summary", "only=cpu")


async def test_proxies_need_a_permission_of_their_own(as_user: Callable[..., Any], api: Any, backend: int) -> None:
    await _pod(api, backend)
    status, body = await as_user("bob").ask("GET", f"{gvk.PODS.path('default', 'proxy-p')}/proxy/")
    assert (status, 'cannot get resource "pods/proxy"' in body["message"]) == (403, True)
