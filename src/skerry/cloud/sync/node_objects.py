"""Objects for a node besides Node, Lease and pods: attachments of volumes to it, its certificate requests, and the
RuntimeClasses, which every node of a cluster may read.

Certificate requests are made and read as the node, so that the cluster's own rules for nodes apply to them.

Source: kubeedge cloud/pkg/edgecontroller/controller/upstream.go (v1.23).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from skerry.api.gvk import CSRS, RUNTIMECLASSES, VOLUMEATTACHMENTS, Object, Resource
from skerry.api.status import BadRequest, Forbidden
from skerry.cloud.hub.ports import NodeName, Request, RouteEntry
from skerry.cloud.sync.placement import stripped
from skerry.kube.ports import KubeApi
from skerry.wire.kubeedge import answer
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge.envelope import Envelope
from skerry.wire.kubeedge.route import parse
from skerry.wire.kubeedge.session import Stamp, answer_to

AsNode = Callable[[NodeName], KubeApi]
"""The cluster as a node sees it: under ``system:node:<name>``, with what the cluster allows that identity."""


class NodeObjects:
    """Handlers of these messages.

    Args:
        api: the cluster.
        as_node: the cluster as a node sees it.
        stamp: makes ids and times of answers.
    """

    def __init__(self, api: KubeApi, *, as_node: AsNode, stamp: Stamp) -> None:
        self._api = api
        self._as_node = as_node
        self._stamp = stamp

    def routes(self) -> Sequence[RouteEntry]:
        """Rows for the hub's table."""
        return (
            RouteEntry(c.TYPE_VOLUME_ATTACHMENT, c.OP_QUERY, self.attachment_query, "queried"),
            RouteEntry(c.TYPE_RUNTIMECLASS, c.OP_QUERY, self.runtime_class_query, "queried"),
            RouteEntry(c.TYPE_CSR, c.OP_INSERT, self.csr_insert, "written"),
            RouteEntry(c.TYPE_CSR, c.OP_QUERY, self.csr_query, "queried"),
        )

    async def attachment_query(self, request: Request) -> Envelope:
        """A VolumeAttachment to this node."""
        route = parse(request.envelope.resource)
        attachment = await self._api.get(VOLUMEATTACHMENTS, route.name)
        if (attachment.get("spec") or {}).get("nodeName") != request.node:
            raise _forbidden(VOLUMEATTACHMENTS, route.name, f"it is not an attachment to node {request.node}")
        return self._object(request, attachment)

    async def runtime_class_query(self, request: Request) -> Envelope:
        """A RuntimeClass: how the node's engine is to run pods of that class."""
        return self._object(request, await self._api.get(RUNTIMECLASSES, parse(request.envelope.resource).name))

    async def csr_insert(self, request: Request) -> Envelope:
        """A CertificateSigningRequest in the node's name."""
        route, csr = parse(request.envelope.resource), answer.unwrapped(request.envelope.content)
        if not isinstance(csr, dict) or not isinstance(csr.get("spec"), dict):
            raise BadRequest(f"content of {request.envelope.resource!r} is no CertificateSigningRequest")
        meta = {"name": route.name} | {
            key: value
            for key, value in (csr.get("metadata") or {}).items()
            if key in ("labels", "annotations") and value
        }
        wanted = {"apiVersion": CSRS.api_version, "kind": CSRS.kind, "metadata": meta, "spec": csr["spec"]}
        made = await self._as_node(request.node).create(CSRS, wanted)
        version = made["metadata"].get("resourceVersion", "")
        return answer_to(request.envelope, self._stamp, answer.success(stripped(made)), resource_version=version)

    async def csr_query(self, request: Request) -> Envelope:
        """A CertificateSigningRequest that this node made."""
        route = parse(request.envelope.resource)
        csr = await self._as_node(request.node).get(CSRS, route.name)
        if (csr.get("spec") or {}).get("username") not in (None, "", c.CERT_NAME_PREFIX + request.node):
            raise _forbidden(CSRS, route.name, f"node {request.node} did not make it")
        return self._object(request, csr)

    def _object(self, request: Request, obj: Object) -> Envelope:
        version = obj["metadata"].get("resourceVersion", "")
        return answer_to(request.envelope, self._stamp, stripped(obj), resource_version=version)


def _forbidden(resource: Resource, name: str, why: str) -> Forbidden:
    details = {"name": name, "kind": resource.plural} | ({"group": resource.group} if resource.group else {})
    return Forbidden(f'{resource.group_resource} "{name}" is forbidden: {why}', details=details)
