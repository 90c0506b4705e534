"""Calling a webhook: where it is, whom to trust, and one POST with a deadline.

A webhook behind a Service is reached by its ready endpoints directly: the server runs outside of the cluster's network
rules, so it does not depend on a proxy for the Service's address.

Source: kubernetes apiserver/pkg/util/webhook/{client,serviceresolver}.go (v1.36).
"""

from __future__ import annotations

import asyncio
import base64
import random
import ssl
from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from skerry.api.gvk import Object
from skerry.api.status import BadRequest
from skerry.apiserver.dialled import check_address
from skerry.apiserver.store.entry import Entry
from skerry.apiserver.store.log import Key
from skerry.apiserver.store.watch import Collection
from skerry.base import json
from skerry.base.errors import SkerryError
from skerry.base.net.hosts import in_url
from skerry.base.net.http_client import HttpBroken, HttpClient, HttpRequest

MOST_CLIENTS = 64
"""Webhooks whose connections are kept; the one that was not used for longest is closed first."""

ANSWER_LIMIT_BYTES = 3 * 1024 * 1024
_SLICES = "endpointslices.discovery.k8s.io"


class WebhookFailed(SkerryError):
    """A webhook that gave no usable answer."""


class WebhookClient:
    """Connections to webhooks.

    Args:
        find: looks up one object.
        collection: the objects of a storage resource.
    """

    def __init__(self, *, find: Callable[[Key], Entry | None], collection: Callable[[str], Collection]) -> None:
        self._find = find
        self._collection = collection
        self._clients: OrderedDict[tuple[str, str, str], HttpClient] = OrderedDict()

    async def post(self, config: Object, body: Object, *, timeout_s: float) -> Any:
        """POST a review; returns the decoded answer.

        Args:
            config: a ``clientConfig``: ``url``, or ``service`` with namespace, name, port and path; ``caBundle``.

        Raises:
            WebhookFailed: it cannot be reached, or its answer is no JSON with status 200.
        """
        url = _shown_url(config, timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                base, path, query, name = self._address(config)
                client = await self._client(base, str(config.get("caBundle") or ""), name)
                headers = {"Content-Type": "application/json", "Accept": "application/json"}
                if name:
                    headers["Host"] = name
                query = f"{query}&timeout={timeout_s:g}s" if query else f"timeout={timeout_s:g}s"
                request = HttpRequest("POST", path, query, headers=headers, body=json.dumps(body))
                answer = await client.send(request, limit_bytes=ANSWER_LIMIT_BYTES)
        except TimeoutError as exc:
            raise WebhookFailed(f'Post "{url}": context deadline exceeded') from exc
        except HttpBroken as exc:
            raise WebhookFailed(f'Post "{url}": {exc}') from exc
        if answer.status != 200:
            raise WebhookFailed(f"the server answered {answer.status}: {answer.body[:256].decode(errors='replace')}")
        try:
            return json.loads(answer.body)
        except json.JsonError as exc:
            raise WebhookFailed(f"the answer is no JSON: {exc}") from exc

    async def aclose(self) -> None:
        """Close every connection."""
        while self._clients:
            _, client = self._clients.popitem()
            await client.aclose()

    async def _client(self, base: str, bundle: str, name: str) -> HttpClient:
        key = (base, bundle, name)
        client = self._clients.pop(key, None)
        if client is None:
            client = HttpClient(base, tls=_trust(bundle), server_name=name)
        self._clients[key] = client
        while len(self._clients) > MOST_CLIENTS:
            _, oldest = self._clients.popitem(last=False)
            await oldest.aclose()
        return client

    def _address(self, config: Object) -> tuple[str, str, str, str]:
        """Base URL, path, query, and the name in the certificate where it is not the host's."""
        service = config.get("service")
        if service is None:
            parts = urlsplit(str(config.get("url") or ""))
            if parts.scheme != "https" or not parts.netloc:
                raise WebhookFailed(f"url {config.get('url')!r} is no https URL")
            return f"https://{parts.netloc}", parts.path or "/", parts.query, ""
        namespace, name = str(service.get("namespace", "")), str(service.get("name", ""))
        port = int(service.get("port") or 443)
        host, number = self._resolve(namespace, name, port)
        return f"https://{in_url(host)}:{number}", str(service.get("path") or "/"), "", f"{name}.{namespace}.svc"

    def _resolve(self, namespace: str, name: str, port: int) -> tuple[str, int]:
        entry = self._find(Key("services", namespace, name))
        if entry is None:
            raise WebhookFailed(f'service "{name}" not found in namespace "{namespace}"')
        spec = entry.content().get("spec") or {}
        found = next((p for p in spec.get("ports") or () if p.get("port") == port), None)
        if found is None:
            raise WebhookFailed(f'service "{name}" in namespace "{namespace}" has no port {port}')
        if spec.get("type") == "ExternalName":
            return str(spec.get("externalName", "")), port
        ready = self._ready(namespace, name, str(found.get("name") or ""))
        if ready:
            return random.choice(ready)
        raise WebhookFailed(f'no endpoints available for service "{name}"')

    def _ready(self, namespace: str, name: str, port_name: str) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        for entry in self._collection(_SLICES).entries(namespace):
            if entry.labels().get("kubernetes.io/service-name") != name:
                continue
            content = entry.content()
            port = next((p for p in content.get("ports") or () if (p.get("name") or "") == port_name), None)
            if port is None or not port.get("port"):
                continue
            for endpoint in content.get("endpoints") or ():
                if (endpoint.get("conditions") or {}).get("ready") is not False:
                    addresses = [str(address) for address in endpoint.get("addresses") or ()]
                    found += [
                        (each, int(port["port"])) for each in addresses if self._may_dial(namespace, endpoint, each)
                    ]
        return found

    def _may_dial(self, namespace: str, endpoint: Object, address: str) -> bool:
        """Anybody who may write EndpointSlices could send the server to itself; a pod on this machine may be there."""
        try:
            check_address(address)
        except BadRequest:
            target = endpoint.get("targetRef") or {}
            pod = self._find(Key("pods", namespace, str(target.get("name") or "")))
            return pod is not None and (pod.content().get("status") or {}).get("podIP") == address
        return True


def _trust(bundle: str) -> ssl.SSLContext:
    if not bundle:
        return ssl.create_default_context()
    try:
        pem = base64.b64decode(bundle).decode()
        return ssl.create_default_context(cadata=pem)
    except (ValueError, ssl.SSLError) as exc:
        raise WebhookFailed(f"caBundle cannot be read: {exc}") from exc


def _shown_url(config: Object, timeout_s: float) -> str:
    service = config.get("service")
    if service is None:
        return str(config.get("url") or "")
    port, path = service.get("port") or 443, service.get("path") or "/"
    return f"https://{service.get('name')}.{service.get('namespace')}.svc:{port}{path}?timeout={timeout_s:g}s"
