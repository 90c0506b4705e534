"""Kubernetes requests of applications at the edge, passed on by their node's MetaServer. Each is done as the node.

A watch is a list, sent as inserts, and after that every change, in deliveries of their own that no cursor remembers: at
each beginning of a session the node gets the list anew, and the removal of what went meanwhile. Bounds: 64 watches per
node, each of 10,000 objects at most; more are rejected. The watches of a node that is away rest.

Source: kubeedge cloud/pkg/dynamiccontroller/application/application.go, listener.go (v1.23).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from skerry.api.gvk import Object, Resource
from skerry.api.status import ApiError, BadRequest, Gone, NotFound, TooManyRequests
from skerry.base.aio.supervise import Supervisor
from skerry.base.obs.log import get_log
from skerry.base.values import Struct, field
from skerry.cloud.hub.ports import Delivery, NodeLink, NodeName, Outbox, Request, RouteEntry
from skerry.cloud.sync.node_objects import AsNode
from skerry.kube.ports import KubeApi
from skerry.wire.errors import Malformed
from skerry.wire.kubeedge import answer, application
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge.application import Application
from skerry.wire.kubeedge.envelope import Envelope
from skerry.wire.kubeedge.session import Stamp, answer_to

log = get_log(__name__)

MAX_WATCHES = 64
MAX_OBJECTS = 10_000
WATCH_S = 300.0
_ORDER = 60
_OPERATIONS = {"ADDED": c.OP_INSERT, "MODIFIED": c.OP_UPDATE, "DELETED": c.OP_DELETE}


class _Watch(Struct):
    """One watch of one node. ``sent``: uid by wire resource of what the node was told of."""

    node: NodeName
    resource: Resource
    namespace: str
    label_selector: str
    field_selector: str
    sent: dict[str, str] = field(default_factory=dict)
    version: str = ""
    task: asyncio.Task[None] | None = None


class Applications:
    """Handler of Applications, and owner of the watches.

    Args:
        as_node: the cluster as a node sees it.
        is_needed: whether a node needs an object (node, wire resource) whatever its applications watch.
        stamp: makes ids and times of answers.
    """

    def __init__(self, *, as_node: AsNode, is_needed: Callable[[NodeName, str], bool], stamp: Stamp) -> None:
        self._as_node = as_node
        self._is_needed = is_needed
        self._stamp = stamp
        self._outbox: Outbox | None = None
        self._watches: dict[NodeName, dict[str, _Watch]] = {}
        self._supervisor = Supervisor("applications")

    def start(self, outbox: Outbox) -> None:
        """Name the outbox."""
        self._outbox = outbox

    async def aclose(self) -> None:
        """End every watch."""
        await self._supervisor.aclose()

    def routes(self) -> Sequence[RouteEntry]:
        """Rows for the hub's table."""
        return (
            RouteEntry(c.RESOURCE_APPLICATION, "*", self.handle, "text"),
            RouteEntry(c.RESOURCE_WATCH_SYNC, "*", self.sync, "text"),
        )

    def connected(self, link: NodeLink) -> None:
        """A session has begun: its watches begin anew."""
        for watch in self._watches.get(link.node, {}).values():
            self._run(watch)

    async def handle(self, request: Request) -> Envelope:
        """One Application."""
        asked = application.read(answer.unwrapped(request.envelope.content))
        try:
            body = await self._do(request.node, asked)
            content = application.approved(asked, request.node, body)
        except ApiError as exc:
            content = application.rejected(asked, request.node, exc.to_status())
        return self._answer(request, content, application.RESOURCE_ANSWER)

    async def sync(self, request: Request) -> Envelope:
        """``{id: Application}`` of every live watch of the node; the answer holds those that failed."""
        told = answer.unwrapped(request.envelope.content)
        if not isinstance(told, dict):
            raise BadRequest("the content of watchapp/sync is not an object")
        watches = self._watches.get(request.node, {})
        for id_ in watches.keys() - told.keys():
            self._end(request.node, id_)
        failed = {}
        for id_ in told.keys() - watches.keys():
            asked = application.read(told[id_])
            try:
                await self._watch(request.node, id_, asked)
            except ApiError as exc:
                failed[id_] = application.rejected(asked, request.node, exc.to_status())
        return self._answer(request, failed, c.RESOURCE_WATCH_SYNC)

    async def _do(self, node: NodeName, asked: Application) -> Any:
        if asked.key.path:
            raise NotFound(f"this cloud does not pass {asked.key.path} on")
        key, api = asked.key, self._as_node(node)
        resource, namespace = _resource(asked), key.namespace or None
        match asked.verb:
            case "get":
                return await api.get(resource, key.name, namespace=namespace, subresource=asked.subresource or None)
            case "list":
                return await self._list(api, resource, namespace, asked.option)
            case "watch":
                await self._watch(node, asked.id, asked)
                return None
            case "create":
                return await api.create(
                    resource, _object(asked), namespace=namespace, name=key.name or None if asked.subresource else None,
                    subresource=asked.subresource or None,
                )  # fmt: skip
            case "update" | "updatestatus":
                subresource = "status" if asked.verb == "updatestatus" else asked.subresource or None
                return await api.update(resource, _object(asked), subresource=subresource)
            case "patch":
                name, kind, patch, subresources = application.patch_of(asked)
                return await api.patch(
                    resource, name, patch, patch_type=kind, namespace=namespace,  # type: ignore[arg-type]
                    subresource="/".join(subresources) or None,
                )  # fmt: skip
            case "delete":
                options = asked.option
                await api.delete(
                    resource, key.name, namespace=namespace, grace_period_s=options.get("gracePeriodSeconds"),
                    uid=(options.get("preconditions") or {}).get("uid"), propagation=options.get("propagationPolicy"),
                )  # fmt: skip
                return None
        raise BadRequest(f"verb {asked.verb[:40]!r} of an Application is not known")

    async def _list(self, api: KubeApi, resource: Resource, namespace: str | None, option: dict[str, Any]) -> Object:
        page = await api.list(
            resource, namespace=namespace, label_selector=str(option.get("labelSelector") or ""),
            field_selector=str(option.get("fieldSelector") or ""), limit=int(option.get("limit") or 0),
            continue_token=str(option.get("continue") or ""),
        )  # fmt: skip
        meta = {"resourceVersion": page.resource_version} | (
            {"continue": page.continue_token} if page.continue_token else {}
        )
        kind = f"{page.items[0]['kind']}List" if page.items else "List"
        return {"apiVersion": resource.api_version, "kind": kind, "metadata": meta, "items": page.items}

    async def _watch(self, node: NodeName, id_: str, asked: Application) -> None:
        watches = self._watches.setdefault(node, {})
        if not id_ or asked.key.path:
            raise BadRequest("a watch needs an ID and a resource")
        if id_ in watches:
            return
        if len(watches) >= MAX_WATCHES:
            raise TooManyRequests(f"node {node} has {MAX_WATCHES} watches already", hint="end some of them")
        fields = [str(asked.option.get("fieldSelector") or "")] if asked.option.get("fieldSelector") else []
        if asked.key.name:
            fields.append(f"metadata.name={asked.key.name}")
        watch = _Watch(
            node, _resource(asked), asked.key.namespace, str(asked.option.get("labelSelector") or ""), ",".join(fields)
        )
        await self._begin(watch)
        watches[id_] = watch
        self._run(watch, is_begun=True)

    def _end(self, node: NodeName, id_: str) -> None:
        watch = self._watches[node].pop(id_)
        if watch.task is not None:
            watch.task.cancel()
        if not self._watches[node]:
            del self._watches[node]

    def _run(self, watch: _Watch, *, is_begun: bool = False) -> None:
        if watch.task is not None:
            watch.task.cancel()
        if not is_begun:
            watch.version = ""

        async def body() -> None:
            while self._is_connected(watch.node):
                try:
                    if not watch.version:
                        await self._begin(watch)
                    await self._follow(watch)
                except Gone:
                    watch.version = ""
                except ApiError as exc:
                    log.warning(
                        "applications.watch_failed", node=watch.node, resource=watch.resource.plural, error=exc.message
                    )
                    raise

        watch.task = self._supervisor.keep(f"watch-{watch.node}-{watch.resource.plural}", body)

    async def _begin(self, watch: _Watch) -> None:
        """Everything that matches, and the removal of what the node was told of and is gone."""
        page = await self._as_node(watch.node).list(
            watch.resource, namespace=watch.namespace or None, label_selector=watch.label_selector,
            field_selector=watch.field_selector, limit=MAX_OBJECTS + 1,
        )  # fmt: skip
        if len(page.items) > MAX_OBJECTS or page.continue_token:
            raise TooManyRequests(f"more than {MAX_OBJECTS} {watch.resource.plural} match", hint="use a selector")
        found = {_path(obj): obj for obj in page.items}
        for path, uid in [(path, uid) for path, uid in watch.sent.items() if path not in found]:
            namespace, _, name = path.split("/")
            meta = {"name": name, "uid": uid} | ({} if namespace == c.NO_NAMESPACE else {"namespace": namespace})
            self._put(watch, c.OP_DELETE, path, {"metadata": meta})
        for path, obj in found.items():
            self._put(watch, c.OP_INSERT, path, obj)
        watch.version = page.resource_version

    async def _follow(self, watch: _Watch) -> None:
        events = self._as_node(watch.node).watch(
            watch.resource, resource_version=watch.version, namespace=watch.namespace or None,
            label_selector=watch.label_selector, field_selector=watch.field_selector, timeout_s=WATCH_S,
        )  # fmt: skip
        async for event in events:
            watch.version = event.object["metadata"].get("resourceVersion") or watch.version
            if (operation := _OPERATIONS.get(event.type)) is not None:
                self._put(watch, operation, _path(event.object), event.object)

    def _put(self, watch: _Watch, operation: str, path: str, obj: Object) -> None:
        if self._outbox is None or not self._is_connected(watch.node):
            return
        meta = obj["metadata"]
        if operation == c.OP_DELETE:
            watch.sent.pop(path, None)
            if self._is_needed(watch.node, path):
                return
        else:
            watch.sent[path] = meta.get("uid", "")
        content = obj | {"metadata": {key: value for key, value in meta.items() if key != "managedFields"}}
        self._outbox.put(
            watch.node,
            Delivery(
                key=path, operation=operation, uid=meta.get("uid", ""), content=content, order=_ORDER,
                resource_version=meta.get("resourceVersion", ""), source=c.SOURCE_DYNAMIC_CONTROLLER,
            ),
        )  # fmt: skip

    def _is_connected(self, node: NodeName) -> bool:
        return self._outbox is not None and self._outbox.is_connected(node)

    def _answer(self, request: Request, content: Any, resource: str) -> Envelope:
        return answer_to(
            request.envelope, self._stamp, content, source=c.SOURCE_DYNAMIC_CONTROLLER,
            operation=application.OP_ANSWER, resource=resource,
        )  # fmt: skip


def _resource(asked: Application) -> Resource:
    key = asked.key
    kind = asked.body.get("kind", "") if isinstance(asked.body, dict) else ""
    return Resource(key.group, key.version, key.resource, kind, namespaced=bool(key.namespace))


def _object(asked: Application) -> Object:
    if not isinstance(asked.body, dict) or not isinstance(asked.body.get("metadata"), dict):
        raise Malformed("ReqBody of an Application is not a Kubernetes object")
    return asked.body


def _path(obj: Object) -> str:
    meta = obj["metadata"]
    return f"{meta.get('namespace') or c.NO_NAMESPACE}/{obj.get('kind', '').lower()}/{meta['name']}"
