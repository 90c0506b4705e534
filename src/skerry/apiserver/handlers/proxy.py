"""``proxy`` of pods, services and nodes: one plain HTTP request and its streamed answer.

Pods and services are dialled from this machine, so they answer where its network reaches; nodes are reached through
their tunnel. Nothing is upgraded here.

Source: kubernetes pkg/registry/core/{pod,service,node}/rest, apimachinery pkg/util/proxy (v1.36).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from typing import Any

from skerry.api import gvk
from skerry.api.status import BadRequest, Unavailable, not_found
from skerry.apiserver.calls import Call
from skerry.apiserver.core import ApiCore
from skerry.apiserver.dialled import check_address
from skerry.apiserver.store.log import Key
from skerry.base.net import http_client
from skerry.base.net.hosts import in_url
from skerry.base.net.http_client import HttpBroken, HttpClient
from skerry.base.net.http_server import ClientGone, HttpRequest, HttpResponse
from skerry.base.values import Struct
from skerry.kube.ports import KubeletRequest, NodeConnector

_KEPT_BACK = frozenset(
    {"authorization", "connection", "content-length", "host", "keep-alive", "proxy-authorization", "te", "trailer",
     "transfer-encoding", "upgrade", "accept-encoding"}
)  # fmt: skip
_ANSWER_KEPT_BACK = frozenset({"connection", "content-length", "content-type", "keep-alive", "transfer-encoding", "upgrade"})  # noqa: E501  # fmt: skip


class Target(Struct, frozen=True):
    """What ``[scheme:]name[:port]`` means. ``port`` is a number, a name, or empty."""

    name: str
    scheme: str = "http"
    port: str = ""


def parse_target(text: str) -> Target:
    """Read the name in the path of a proxy request.

    Raises:
        BadRequest: more than three parts, or a scheme that is neither http nor https.
    """
    parts = text.split(":")
    if len(parts) == 1:
        return Target(text)
    if len(parts) == 2:
        return Target(parts[0], port=parts[1])
    if len(parts) == 3 and parts[0] in ("", "http", "https"):
        return Target(parts[1], parts[0] or "http", parts[2])
    raise BadRequest(f'invalid proxy request "{text}": it must be name, name:port or scheme:name:port')


class Proxy:
    """Passes requests on.

    Args:
        core: finds pods, services and their endpoints.
        nodes: reaches kubelet interfaces; None when this server has no nodes.
        dials_itself: whether a pod's address may be one of this machine's loopback.
    """

    def __init__(self, core: ApiCore, *, nodes: NodeConnector | None, dials_itself: bool = False) -> None:
        self._core = core
        self._nodes = nodes
        self._dials_itself = dials_itself

    async def serve(self, request: HttpRequest, call: Call) -> HttpResponse | None:
        """Answer one request.

        Raises:
            BadRequest: the name in the path cannot be read.
            NotFound: no such object.
            Unavailable: nothing answers there.
        """
        target = parse_target(call.name)
        storage = call.kind.storage
        if storage == "nodes":
            return await self._node(request, call, target)
        host, port = self._pod(call, target) if storage == "pods" else self._service(call, target)
        return await self._dial(request, call, target.scheme, host, port)

    def _pod(self, call: Call, target: Target) -> tuple[str, int]:
        entry = self._core.store.get(Key("pods", call.namespace, target.name))
        if entry is None:
            raise not_found("pods", target.name)
        pod = entry.content()
        address = str((pod.get("status") or {}).get("podIP") or "")
        if not address:
            raise BadRequest(f"address not allowed: pod {target.name} has no address yet")
        ports = [port for container in pod["spec"]["containers"] for port in container.get("ports") or ()]
        if target.port and not target.port.isdigit():
            named = [port for port in ports if port.get("name") == target.port]
            if not named:
                raise BadRequest(f'pod {target.name} has no port named "{target.port}"')
            return address, int(named[0]["containerPort"])
        if target.port:
            return address, int(target.port)
        return address, int(ports[0]["containerPort"]) if ports else 80

    def _service(self, call: Call, target: Target) -> tuple[str, int]:
        entry = self._core.store.get(Key("services", call.namespace, target.name))
        if entry is None:
            raise not_found("services", target.name)
        ports = (entry.content().get("spec") or {}).get("ports") or ()
        wanted = [
            port for port in ports
            if not target.port or port.get("name") == target.port or str(port.get("port")) == target.port
        ]  # fmt: skip
        if not wanted and not target.port.isdigit():
            raise Unavailable(f'no service port "{target.port}" found for service "{target.name}"')
        name = wanted[0].get("name") or "" if wanted else None
        for address, port in self._endpoints(call.namespace, target.name, name):
            return address, port if port else int(target.port or 80)
        raise Unavailable(f'no endpoints available for service "{target.name}"')

    def _endpoints(self, namespace: str, service: str, port_name: str | None) -> Iterator[tuple[str, int]]:
        for entry in self._core.store.collection(gvk.ENDPOINTSLICES.group_resource).entries():
            if entry.key.ns != namespace or entry.labels().get("kubernetes.io/service-name") != service:
                continue
            found = entry.content()
            ports = [port for port in found.get("ports") or () if (port.get("name") or "") == port_name]
            if not ports and port_name is not None:
                continue
            for endpoint in found.get("endpoints") or ():
                if (endpoint.get("conditions") or {}).get("ready") is not False and endpoint.get("addresses"):
                    yield str(endpoint["addresses"][0]), int(ports[0]["port"]) if ports else 0

    async def _dial(self, request: HttpRequest, call: Call, scheme: str, host: str, port: int) -> HttpResponse | None:
        if not self._dials_itself:
            check_address(host)
        # Who a pod is, its address in the cluster's own state says; its certificate has no name that we could know.
        tls = ssl._create_unverified_context() if scheme == "https" else None
        client = HttpClient(f"{scheme}://{in_url(host)}:{port}", tls=tls)
        asked = http_client.HttpRequest(
            request.method, call.info.tail or "/", request.query, _passed(request.headers), await request.body()
        )
        try:
            async with client.stream(asked) as answer:
                await _copy(request, answer.status, answer.headers, answer.chunks())
        except HttpBroken as exc:
            if request.streamed is not None:
                raise
            raise Unavailable(f"error trying to reach service: {exc}") from exc
        finally:
            await client.aclose()
        return None

    async def _node(self, request: HttpRequest, call: Call, target: Target) -> HttpResponse | None:
        if self._core.store.get(Key("nodes", "", target.name)) is None:
            raise not_found("nodes", target.name)
        if self._nodes is None:
            raise Unavailable(f'node "{target.name}" cannot be reached: this server has no connection to nodes')
        asked = KubeletRequest(request.method, call.info.tail or "/", request.query, _passed(request.headers))
        async with self._nodes.request(target.name, asked) as answer:
            await _copy(request, answer.status, answer.headers, answer.body())
        return None


def _passed(headers: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name, value in headers.items():
        low = name.lower()
        if low not in _KEPT_BACK and not low.startswith("impersonate-"):
            found[name] = value
    return found


async def _copy(request: HttpRequest, status: int, headers: Mapping[str, str], pieces: Any) -> None:
    kept = [(name, value) for name, value in headers.items() if name.lower() not in _ANSWER_KEPT_BACK]
    content_type = next((value for name, value in headers.items() if name.lower() == "content-type"), "text/plain")
    try:
        async with request.stream(status, content_type=content_type, headers=kept) as out:
            async for piece in pieces:
                await out.write(piece)
    except ClientGone:
        return
