"""Verbs on objects as HTTP requests, and answers as objects or errors. Pure.

Not here: sockets (``http.py``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol
from urllib.parse import urlencode

from skerry.api.gvk import Object, Resource
from skerry.api.status import ApiError, Gone, Unavailable, from_status
from skerry.base import json
from skerry.base.values import Struct, field
from skerry.kube.ports import ObjectList, PatchType, WatchEvent

JSON = "application/json"
PATCH_TYPES: Mapping[str, str] = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


class Request(Struct, frozen=True):
    """One request to an API server.

    Args:
        method: such as GET.
        path: decoded, beginning with a slash.
        query: pairs in order; empty values are left out.
        body: encoded, may be empty.
        content_type: of the body.
        accept: what is wanted back.
        impersonate: user and group in whose name the server shall do it; the sender needs the right to. Or empty.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    content_type: str = JSON
    accept: str = JSON
    impersonate: tuple[str, ...] = ()

    @property
    def query_string(self) -> str:
        """Encoded, without the question mark."""
        return urlencode([(key, value) for key, value in self.query if value])


class Response(Struct, frozen=True):
    """A complete answer; ``warnings`` are the values of its Warning headers, as they came."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def warning_texts(self) -> list[str]:
        """What the server warns of: the text of each ``299 - "text"``."""
        found = []
        for value in self.warnings:
            text = value.partition('"')[2].rpartition('"')[0]
            found.append(text.replace('\\"', '"').replace("\\\\", "\\"))
        return found


class ResponseStream(Protocol):
    """An answer that is still coming."""

    status: int

    async def read(self) -> bytes:
        """The whole body."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Pieces as they come."""

    def lines(self) -> AsyncIterator[bytes]:
        """Lines, bounded, without their end."""


class Transport(Protocol):
    """Carries requests to one API server as one identity. Raises ``Unavailable`` when there is no answer."""

    async def send(self, request: Request) -> Response:
        """One request, one answer."""

    def stream(self, request: Request, *, read_s: float | None = None) -> AbstractAsyncContextManager[ResponseStream]:
        """One request whose answer is read piece by piece; ``read_s`` limits silence, 0 for no limit."""


def get(resource: Resource, name: str, namespace: str | None, subresource: str | None) -> Request:
    """GET one object."""
    return Request("GET", resource.path(namespace, name, subresource))


def list_(
    resource: Resource,
    *,
    namespace: str | None = None,
    label_selector: str = "",
    field_selector: str = "",
    limit: int = 0,
    continue_token: str = "",
) -> Request:
    """GET a collection."""
    query = (
        ("labelSelector", label_selector),
        ("fieldSelector", field_selector),
        ("limit", str(limit) if limit else ""),
        ("continue", continue_token),
    )
    return Request("GET", resource.path(namespace), query)


def watch(
    resource: Resource,
    *,
    resource_version: str,
    namespace: str | None = None,
    label_selector: str = "",
    field_selector: str = "",
    timeout_s: float | None = None,
) -> Request:
    """GET changes of a collection."""
    query = (
        ("watch", "1"),
        ("allowWatchBookmarks", "true"),
        ("resourceVersion", resource_version),
        ("labelSelector", label_selector),
        ("fieldSelector", field_selector),
        ("timeoutSeconds", str(max(1, round(timeout_s))) if timeout_s is not None else ""),
    )
    return Request("GET", resource.path(namespace), query)


def create(
    resource: Resource, obj: Object, *, namespace: str | None, name: str | None, subresource: str | None
) -> Request:
    """POST to a collection or a subresource."""
    namespace = namespace or (obj.get("metadata") or {}).get("namespace")
    return Request("POST", resource.path(namespace, name, subresource), body=json.dumps(obj))


def update(resource: Resource, obj: Object, *, subresource: str | None) -> Request:
    """PUT an object."""
    meta = obj["metadata"]
    return Request("PUT", resource.path(meta.get("namespace"), meta["name"], subresource), body=json.dumps(obj))


def patch(
    resource: Resource,
    name: str,
    document: Any,
    *,
    patch_type: PatchType,
    namespace: str | None,
    subresource: str | None,
    field_manager: str,
) -> Request:
    """PATCH an object."""
    return Request(
        "PATCH",
        resource.path(namespace, name, subresource),
        (("fieldManager", field_manager),),
        json.dumps(document),
        PATCH_TYPES[patch_type],
    )


def delete(
    resource: Resource,
    name: str,
    *,
    namespace: str | None,
    grace_period_s: int | None,
    uid: str | None,
    resource_version: str | None,
    propagation: str | None,
) -> Request:
    """DELETE an object."""
    options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1"}
    if grace_period_s is not None:
        options["gracePeriodSeconds"] = grace_period_s
    conditions = {key: value for key, value in (("uid", uid), ("resourceVersion", resource_version)) if value}
    if conditions:
        options["preconditions"] = conditions
    if propagation:
        options["propagationPolicy"] = propagation
    return Request("DELETE", resource.path(namespace, name), body=json.dumps(options))


def object_of(response: Response) -> Object:
    """The object that the server answered.

    Raises:
        ApiError: the answer is another than success, or no JSON object.
    """
    if not 200 <= response.status < 300:
        raise error_of(response)
    return _decoded(response)


def list_of(resource: Resource, response: Response) -> ObjectList:
    """A page of a list; items get the kind and apiVersion that servers leave out."""
    found = object_of(response)
    meta = found.get("metadata") or {}
    for item in found.get("items") or ():
        item.setdefault("kind", resource.kind)
        item.setdefault("apiVersion", resource.api_version)
    return ObjectList(found.get("items") or [], meta.get("resourceVersion") or "", meta.get("continue") or "")


def event_of(line: bytes) -> WatchEvent:
    """One line of a watch.

    Raises:
        ApiError: an ERROR event, or a line that is not an event.
    """
    try:
        event = json.loads(line)
        kind, obj = event["type"], event["object"]
    except (ValueError, KeyError, TypeError) as exc:
        raise Unavailable(f"the server sent something else than a watch event: {line[:80]!r}") from exc
    if kind == "ERROR":
        error = from_status(obj)
        raise Gone(error.message) if error.code == 410 else error
    return WatchEvent(kind, obj)


def error_of(response: Response) -> ApiError:
    """The error that an answer stands for; text that is no Status becomes the message."""
    try:
        status = json.loads(response.body)
    except ValueError:
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        text = response.body[:500].decode(errors="replace").strip()
        status = {"message": text or f"the server answered {response.status}"}
    error = from_status(status, code=response.status)
    wait = (error.details or {}).get("retryAfterSeconds")
    if isinstance(wait, int | float) and hasattr(error, "after_s"):
        error.after_s = float(wait)
    return error


def _decoded(response: Response) -> Object:
    try:
        found = json.loads(response.body)
    except ValueError as exc:
        raise Unavailable(f"the server's answer is not JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise Unavailable("the server's answer is not a JSON object")
    return found
