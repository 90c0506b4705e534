"""``KubeApi`` over HTTPS. Cloud processes and the command line only; engines get it as a port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any

from skerry.api.gvk import Object, Resource
from skerry.api.status import Unavailable
from skerry.base.errors import ConfigError
from skerry.base.net.http_client import HttpBroken, HttpClient, HttpRequest, HttpStream
from skerry.base.values import replace
from skerry.kube import requests
from skerry.kube.kubeconfig import Credentials, TokenSource, tls_of
from skerry.kube.ports import ObjectList, PatchType, WatchEvent
from skerry.kube.requests import Request, Response, ResponseStream, Transport

USER_AGENT = "skerry"
WATCH_SILENCE_S = 150.0
"""Servers send a bookmark about once a minute: a watch that is silent for longer is dead."""


class HttpTransport:
    """Requests to one API server.

    Args:
        credentials: where, and as whom.
        user_agent: shown in the server's logs.
    """

    def __init__(self, credentials: Credentials, *, user_agent: str = USER_AGENT) -> None:
        self.credentials = credentials
        self._token = TokenSource(credentials)
        self._user_agent = user_agent
        self._client = HttpClient(credentials.server, tls=tls_of(credentials), server_name=credentials.server_name)

    async def send(self, request: Request) -> Response:
        """One request, one answer."""
        with_error = f"{request.method} {self.credentials.server}{request.path}"
        try:
            answer = await self._client.send(self._http(request))
        except HttpBroken as exc:
            raise Unavailable(f"{with_error}: {exc}") from exc
        return Response(answer.status, answer.body, answer.headers, answer.warnings)

    @asynccontextmanager
    async def stream(self, request: Request, *, read_s: float | None = None) -> AsyncIterator[ResponseStream]:
        """One request whose answer is read piece by piece."""
        try:
            async with self._client.stream(self._http(request), read_s=read_s) as stream:
                yield _Stream(stream)
        except HttpBroken as exc:
            raise Unavailable(f"{request.method} {self.credentials.server}{request.path}: {exc}") from exc

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    def _http(self, request: Request) -> HttpRequest:
        headers = {"Accept": request.accept, "User-Agent": self._user_agent}
        if request.body:
            headers["Content-Type"] = request.content_type
        try:
            token = self._token.current()
        except ConfigError as exc:  # the file may come back: callers know how to wait for a server, not for this
            raise Unavailable(str(exc), hint=exc.hint) from exc
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if request.impersonate:
            headers["Impersonate-User"], headers["Impersonate-Group"] = request.impersonate
        return HttpRequest(request.method, request.path, request.query_string, headers, request.body)


class Impersonating:
    """A ``Transport`` that does everything in another's name; the identity behind it needs the verb ``impersonate``.

    Args:
        transport: carries the requests.
        user, group: in whose name.
    """

    def __init__(self, transport: Transport, *, user: str, group: str) -> None:
        self._transport = transport
        self._identity = (user, group)

    async def send(self, request: Request) -> Response:
        """One request, one answer."""
        return await self._transport.send(replace(request, impersonate=self._identity))

    def stream(self, request: Request, *, read_s: float | None = None) -> AbstractAsyncContextManager[ResponseStream]:
        """One request whose answer is read piece by piece."""
        return self._transport.stream(replace(request, impersonate=self._identity), read_s=read_s)


class _Stream:
    """A stream with the bounds of this module."""

    def __init__(self, stream: HttpStream) -> None:
        self._stream = stream
        self.status = stream.status

    async def read(self) -> bytes:
        return await self._stream.read()

    def chunks(self) -> AsyncIterator[bytes]:
        return self._stream.chunks()

    def lines(self) -> AsyncIterator[bytes]:
        return self._stream.lines()


class HttpKubeApi:
    """``KubeApi`` over a transport.

    Args:
        transport: usually ``HttpTransport``.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(
        self, resource: Resource, name: str, *, namespace: str | None = None, subresource: str | None = None
    ) -> Object:
        """One object."""
        return await self._send(requests.get(resource, name, namespace, subresource))

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
    ) -> ObjectList:
        """Objects of one namespace, or of all."""
        request = requests.list_(
            resource,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            limit=limit,
            continue_token=continue_token,
        )
        return requests.list_of(resource, await self._transport.send(request))

    async def watch(
        self,
        resource: Resource,
        *,
        resource_version: str,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        timeout_s: float | None = None,
    ) -> AsyncIterator[WatchEvent]:
        """Changes after ``resource_version``, with bookmarks."""
        request = requests.watch(
            resource,
            resource_version=resource_version,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            timeout_s=timeout_s,
        )
        async with self._transport.stream(request, read_s=WATCH_SILENCE_S) as stream:
            if stream.status != 200:
                raise requests.error_of(Response(stream.status, await stream.read()))
            async with aclosing(stream.lines()) as lines:  # type: ignore[type-var]
                async for line in lines:
                    if line.strip():
                        yield requests.event_of(line)

    async def create(
        self,
        resource: Resource,
        obj: Object,
        *,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
    ) -> Object:
        """Create, or POST to a subresource."""
        return await self._send(requests.create(resource, obj, namespace=namespace, name=name, subresource=subresource))

    async def update(self, resource: Resource, obj: Object, *, subresource: str | None = None) -> Object:
        """Replace."""
        return await self._send(requests.update(resource, obj, subresource=subresource))

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Any,
        *,
        patch_type: PatchType = "merge",
        namespace: str | None = None,
        subresource: str | None = None,
        field_manager: str = "",
    ) -> Object:
        """Patch."""
        request = requests.patch(
            resource,
            name,
            patch,
            patch_type=patch_type,
            namespace=namespace,
            subresource=subresource,
            field_manager=field_manager,
        )
        return await self._send(request)

    async def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str | None = None,
        grace_period_s: int | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: str | None = None,
    ) -> Object:
        """Delete."""
        request = requests.delete(
            resource,
            name,
            namespace=namespace,
            grace_period_s=grace_period_s,
            uid=uid,
            resource_version=resource_version,
            propagation=propagation,
        )
        return await self._send(request)

    async def _send(self, request: Request) -> Object:
        return requests.object_of(await self._transport.send(request))
