"""The kubelet's HTTP interface of this node, for the tunnel (a 0600 unix socket) and for local tools (TCP and a token).

Routes: ``/healthz``, ``/metrics``, ``/stats/summary``, ``/pods``, ``/containerLogs/{namespace}/{pod}/{container}``;
with an upgrade ``/exec/{namespace}/{pod}/{container}``, ``/attach/…`` and ``/portForward/{namespace}/{pod}``.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from skerry.api.status import ApiError, BadRequest
from skerry.base import json
from skerry.base.aio.clock import Clock
from skerry.base.net.http_edge import EdgeRequest, EdgeResponse
from skerry.base.obs.metrics import CONTENT_TYPE, Registry
from skerry.edge.kubelet.logs import is_true, log_query, number
from skerry.edge.kubelet.ports import LogReader, NodePods
from skerry.edge.kubelet.streams import Streams
from skerry.runtime.ports import EngineError

_JSON = "application/json"


class KubeletServer:
    """Answers requests of the kubelet interface.

    Args:
        pods: the node's pods.
        read_log: reads a log file.
        token: what TCP clients must present as bearer; the unix socket is guarded by its mode.
        metrics: what ``/metrics`` serves.
        summary: what ``/stats/summary`` serves.
        streams: opens what is upgraded; without it there are no such routes.
    """

    def __init__(
        self,
        pods: NodePods,
        *,
        read_log: LogReader,
        token: str,
        clock: Clock,
        metrics: Registry | None = None,
        summary: Callable[[], Awaitable[dict[str, Any]]] | None = None,
        streams: Streams | None = None,
    ) -> None:
        self._streams = streams
        self._metrics = metrics or Registry()
        self._summary = summary
        self._pods = pods
        self._read_log = read_log
        self._token = token
        self._clock = clock

    async def handle(self, request: EdgeRequest) -> EdgeResponse:
        """One request."""
        parts = [unquote(part) for part in request.path.split("/") if part]
        if not self._may(request, parts):
            return EdgeResponse(
                401, b"Unauthorized: a bearer token is needed, see kubelet.token in the data directory\n"
            )
        route = self._route(request, parts)
        if route is None:
            return EdgeResponse(404, f"404: {request.method} {request.path} is not served by this node\n".encode())
        try:
            return await route()
        except ApiError as exc:
            return EdgeResponse(exc.code, (exc.message + "\n").encode())

    def _may(self, request: EdgeRequest, parts: list[str]) -> bool:
        if request.peer_uid is not None or parts == ["healthz"]:
            return True
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        return bool(self._token) and hmac.compare_digest(given.encode(), self._token.encode())

    def _route(self, request: EdgeRequest, parts: list[str]) -> Callable[[], Awaitable[EdgeResponse]] | None:
        match request.method, parts:
            case "GET", ["healthz"]:
                return self._health
            case "GET", ["metrics"]:
                return self._measure
            case "GET", ["stats", "summary"] if self._summary is not None:
                return self._stats
            case "GET", ["pods"]:
                return self._list
            case "GET", ["containerLogs", namespace, pod, container]:
                return lambda: self._logs(namespace, pod, container, request.query)
            case "GET" | "POST", ["exec" | "attach" as kind, namespace, pod, container] if self._streams is not None:
                return lambda: self._stream(request, kind, namespace, pod, container)
            case "GET" | "POST", ["portForward", namespace, pod] if self._streams is not None:
                return lambda: self._stream(request, "portForward", namespace, pod, "")
        return None

    async def _stream(self, request: EdgeRequest, kind: str, namespace: str, pod: str, container: str) -> EdgeResponse:
        assert self._streams is not None
        return EdgeResponse(takeover=await self._streams.open(request, kind, namespace, pod, container))

    async def _health(self) -> EdgeResponse:
        return EdgeResponse(body=b"ok")

    async def _measure(self) -> EdgeResponse:
        return EdgeResponse(body=self._metrics.text().encode(), content_type=CONTENT_TYPE)

    async def _stats(self) -> EdgeResponse:
        assert self._summary is not None
        try:
            return EdgeResponse(body=json.dumps(await self._summary()), content_type=_JSON)
        except (EngineError, OSError) as exc:
            return EdgeResponse(503, f"usage cannot be read: {exc}\n".encode())

    async def _list(self) -> EdgeResponse:
        document = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": list(self._pods.pods())}
        return EdgeResponse(body=json.dumps(document), content_type=_JSON)

    async def _logs(self, namespace: str, pod: str, container: str, query: str) -> EdgeResponse:
        options = log_query(query)
        previous = is_true(options, "previous")
        log = await self._pods.container_log(namespace, pod, container, previous=previous)

        async def is_running() -> bool:
            return not previous and await self._pods.is_running(namespace, pod, container)

        stream = self._read_log(
            log.path,
            follow=is_true(options, "follow") and log.is_running,
            is_running=is_running,
            tail_lines=number(options, "tailLines"),
            since_s=self._since_s(options),
            timestamps=is_true(options, "timestamps"),
            limit_bytes=number(options, "limitBytes"),
        )
        return EdgeResponse(stream=stream)

    def _since_s(self, options: dict[str, str]) -> float | None:
        seconds = number(options, "sinceSeconds")
        if seconds is not None:
            return self._clock.now_s() - seconds
        text = options.get("sinceTime")
        if not text:
            return None
        try:
            return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
        except ValueError as exc:
            raise BadRequest(f"sinceTime must be RFC 3339, got {text!r}") from exc
