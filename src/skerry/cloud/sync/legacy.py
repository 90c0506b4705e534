"""Whole statuses, as agents of before KubeEdge 1.12 report them: ``nodestatus`` and ``podstatus``. Answered as upstream
does: ``OK``, and for a pod that is not there any more the word to delete it.

Source: kubeedge cloud/pkg/edgecontroller/controller/upstream.go:updateNodeStatus, updatePodStatus (v1.23).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from skerry.api.gvk import NODES, PODS, Object
from skerry.api.status import BadRequest, Forbidden, NotFound
from skerry.cloud.hub.ports import NodeName, Request, RouteEntry
from skerry.cloud.sync.placement import node_of
from skerry.kube.ports import KubeApi
from skerry.wire.kubeedge import answer
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge.envelope import Envelope
from skerry.wire.kubeedge.route import build, parse
from skerry.wire.kubeedge.session import Stamp, answer_to

MAX_PODS = 1000


class LegacyStatuses:
    """Handlers of these messages.

    Args:
        api: the cluster.
        stamp: makes ids and times of answers.
    """

    def __init__(self, api: KubeApi, *, stamp: Stamp) -> None:
        self._api = api
        self._stamp = stamp
        self._send: Callable[[NodeName, Envelope], object] = lambda node, envelope: None

    def start(self, send: Callable[[NodeName, Envelope], object]) -> None:
        """Name the way to the nodes."""
        self._send = send

    def routes(self) -> Sequence[RouteEntry]:
        """Rows for the hub's table."""
        return (
            RouteEntry(c.TYPE_NODE_STATUS, c.OP_INSERT, self.node_status, "text"),
            RouteEntry(c.TYPE_NODE_STATUS, c.OP_UPDATE, self.node_status, "text"),
            RouteEntry(c.TYPE_POD_STATUS, c.OP_UPDATE, self.pod_status, "text"),
        )

    async def node_status(self, request: Request) -> Envelope:
        """``{"UID", "Status": NodeStatus}``, or a Node; the answer's resource is the node's."""
        route, content = parse(request.envelope.resource), answer.unwrapped(request.envelope.content)
        if not isinstance(content, dict):
            raise BadRequest(f"content of {request.envelope.resource!r} is not an object")
        if route.name != request.node:
            raise Forbidden(f'nodes "{route.name}" is forbidden: node {request.node} may only write itself')
        status = content.get("Status") or content.get("status") or {}
        if request.envelope.operation == c.OP_INSERT and "metadata" in content:
            await self._create(request.node, content)
        await self._api.patch(NODES, request.node, {"status": status}, patch_type="strategic", subresource="status")
        resource = build("", c.TYPE_NODE, request.node)
        return answer_to(request.envelope, self._stamp, c.CONTENT_OK, resource=resource)

    async def _create(self, node: NodeName, content: Object) -> None:
        try:
            await self._api.get(NODES, node)
        except NotFound:
            labels = {c.LABEL_EDGE: ""}
            await self._api.create(NODES, {"metadata": {"name": node, "labels": labels}})

    async def pod_status(self, request: Request) -> Envelope:
        """``{"UID", "Name", "Status": PodStatus}`` or a list of them; the namespace is the resource's."""
        route, content = parse(request.envelope.resource), answer.unwrapped(request.envelope.content)
        reports = content if isinstance(content, list) else [content]
        if len(reports) > MAX_PODS or not all(isinstance(report, dict) for report in reports):
            raise BadRequest(f"content of {request.envelope.resource!r} is not a list of up to {MAX_PODS} statuses")
        for report in reports:
            await self._one(request.node, route.namespace, report)
        return answer_to(request.envelope, self._stamp, c.CONTENT_OK)

    async def _one(self, node: NodeName, namespace: str, report: dict[str, Any]) -> None:
        name, uid, status = str(report.get("Name") or ""), report.get("UID"), report.get("Status") or {}
        try:
            pod = await self._api.get(PODS, name, namespace=namespace)
            if node_of(pod) != node:
                raise Forbidden(f'pods "{name}" is forbidden: it is not bound to node {node}')
            if uid and uid != pod["metadata"].get("uid"):
                raise NotFound(f'pods "{name}" of uid {uid} not found')
            patch = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status}
            await self._api.patch(PODS, name, patch, patch_type="strategic", namespace=namespace, subresource="status")
        except NotFound:
            self._send(node, _gone(namespace, name, str(uid or "")))


def _gone(namespace: str, name: str, uid: str) -> Envelope:
    meta = {"name": name, "namespace": namespace} | ({"uid": uid} if uid else {})
    return Envelope(
        msg_id="",
        source=c.SOURCE_EDGE_CONTROLLER,
        group=c.GROUP_RESOURCE,
        operation=c.OP_DELETE,
        resource=build(namespace, c.TYPE_POD, name),
        content={"apiVersion": "v1", "kind": "Pod", "metadata": meta},
    )
