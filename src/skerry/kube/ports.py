"""Ports to a cluster: ``KubeApi`` (objects) and ``NodeConnector`` (streams to a node's kubelet interface).

Adapters: ``apiserver.local`` (in this process) and ``kube.http`` (HTTPS). Both pass one contract suite,
``skerry.testing.contracts.kube_api``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

from skerry.api.gvk import Object, Resource
from skerry.base.values import Struct, field

PatchType = Literal["json", "merge", "strategic", "apply"]
EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]


class ObjectList(Struct, frozen=True):
    """One page of a list.

    Args:
        items: each with ``kind`` and ``apiVersion`` filled in.
        resource_version: the revision that the list shows; start a watch from it.
        continue_token: non-empty when there is another page.
    """

    items: list[Object]
    resource_version: str
    continue_token: str = ""


class WatchEvent(Struct, frozen=True):
    """One change. A BOOKMARK's object carries only ``metadata.resourceVersion``."""

    type: EventType
    object: Object


class KubeApi(Protocol):
    """Objects of one cluster, as one identity. Objects handed out may be shared: never change them in place.

    Every method raises ``api.status.ApiError`` subclasses; ``Unavailable`` when the server cannot be reached.
    """

    async def get(
        self, resource: Resource, name: str, *, namespace: str | None = None, subresource: str | None = None
    ) -> Object:
        """One object."""

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
        """Objects of one namespace, or of all with ``namespace=None``."""

    def watch(
        self,
        resource: Resource,
        *,
        resource_version: str,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        timeout_s: float | None = None,
    ) -> AsyncIterator[WatchEvent]:
        """Changes after ``resource_version``, with bookmarks. Ends after ``timeout_s``.

        Raises:
            Gone: the revision is too old; list again.
        """

    async def create(
        self,
        resource: Resource,
        obj: Object,
        *,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
    ) -> Object:
        """Create; with ``name`` and ``subresource`` POST to a subresource (binding, token, eviction)."""

    async def update(self, resource: Resource, obj: Object, *, subresource: str | None = None) -> Object:
        """Replace; the object's resourceVersion, when set, must be the current one."""

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
        """Patch with a decoded patch document (a list for ``json``, else a dict)."""

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
        """Delete; returns the object or the Status that the server answered."""


class KubeletRequest(Struct, frozen=True):
    """A request to a node's kubelet interface.

    Args:
        method: GET or POST.
        path: such as ``/containerLogs/default/web/app``; decoded.
        query: raw query string, without the question mark.
        headers: as they came, several values of one as a tuple; hop-by-hop ones removed, unless the request upgrades.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)


class KubeletResponse(Protocol):
    """An answer whose body is a stream."""

    status: int
    headers: Mapping[str, str]

    def body(self) -> AsyncIterator[bytes]:
        """Pieces of the body until it ends. Raises ``Unavailable`` when the stream breaks."""


class ByteStream(Protocol):
    """A two-way byte stream (after an HTTP upgrade)."""

    async def read(self) -> bytes:
        """The next bytes; empty at the end."""

    async def write(self, data: bytes) -> None:
        """Send; waits while the other side is slow."""

    async def write_eof(self) -> None:
        """Send no more."""

    async def close(self) -> None:
        """End both directions."""


class NodeConnector(Protocol):
    """Reaches the kubelet interface of a node by the node's name."""

    def request(self, node: str, request: KubeletRequest) -> AbstractAsyncContextManager[KubeletResponse]:
        """One request with a streamed answer. Raises ``Unavailable`` when the node has no tunnel."""

    def upgrade(self, node: str, request: KubeletRequest) -> AbstractAsyncContextManager[ByteStream]:
        """Raw bytes from and to the kubelet interface, beginning with its HTTP answer head."""
