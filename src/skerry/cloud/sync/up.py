"""What nodes report and ask → ``KubeApi``; the answers in upstream's forms.

Each handler acts for the node that the certificate proved (``request.node``): a node writes its own Node, Lease and
the pods bound to it, and reads the ConfigMaps, Secrets and service-account tokens that these pods name. Everything
else is 403, whatever the message says.

Source: kubeedge cloud/pkg/edgecontroller/controller/upstream.go (v1.23).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from skerry.api.gvk import (
    EVENTS,
    LEASES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    SERVICEACCOUNTS,
    Object,
    Resource,
)
from skerry.api.status import (
    AlreadyExists,
    ApiError,
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    already_exists,
    not_found,
)
from skerry.base import json
from skerry.base.obs.log import get_log
from skerry.cloud.hub.ports import Outbox, Request, RouteEntry
from skerry.cloud.sync.down import Downstream
from skerry.cloud.sync.placement import ConfigKey, claims_of, configs_of, node_of, service_accounts_of, stripped
from skerry.kube.ports import KubeApi
from skerry.wire.kubeedge import answer
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge.envelope import Envelope
from skerry.wire.kubeedge.route import Route, parse
from skerry.wire.kubeedge.session import Stamp, answer_to

log = get_log(__name__)

LEASE_NAMESPACE = "kube-node-lease"
MAX_TOKEN_S = 24 * 3600
_NODE_RESTRICTED = "node-restriction.kubernetes.io"
_REPORTED_BY = ("source", "reportingComponent", "reportingInstance")
_ROLE = "node-role.kubernetes.io/"
_OWN_ROLES = frozenset({_ROLE + "edge", _ROLE + "agent"})
_MIRROR = "kubernetes.io/config.mirror"
_MIRROR_VOLUMES = frozenset({"hostPath", "emptyDir", "downwardAPI"})
"""What needs no other object; as NodeRestriction: plugin/pkg/admission/noderestriction/admission.go (v1.36)."""


class Upstream:
    """Handlers of the edge controller's messages.

    Args:
        api: the cluster.
        placement: which pods a node has, and the caches of configs.
        outbox: told to send everything again when a node has lost its store. Set by ``start``.
        stamp: makes ids and times of answers.
        cluster_ca: PEM of the API server's CA, for ``k8s/ca.crt``.
    """

    def __init__(
        self, api: KubeApi, *, placement: Downstream, stamp: Stamp, cluster_ca: Callable[[], str] = lambda: ""
    ) -> None:
        self._api = api
        self._placement = placement
        self._outbox: Outbox | None = None
        self._stamp = stamp
        self._cluster_ca = cluster_ca

    def start(self, outbox: Outbox) -> None:
        """Name the outbox."""
        self._outbox = outbox

    def routes(self) -> Sequence[RouteEntry]:
        """Rows for the hub's table."""
        return (
            RouteEntry(c.TYPE_NODE, c.OP_INSERT, self.node_insert, "written"),
            RouteEntry(c.TYPE_NODE, c.OP_QUERY, self.node_query, "queried"),
            RouteEntry(c.TYPE_NODE, c.OP_UPDATE, self.node_update, "text"),
            RouteEntry(c.TYPE_NODE_PATCH, c.OP_PATCH, self.node_patch, "written"),
            RouteEntry(c.TYPE_POD_PATCH, c.OP_PATCH, self.pod_patch, "written"),
            RouteEntry(c.TYPE_POD, c.OP_DELETE, self.pod_delete, "queried"),
            RouteEntry(c.TYPE_POD, c.OP_INSERT, self.pod_insert, "written"),
            RouteEntry(c.TYPE_LEASE, c.OP_QUERY, self.lease_query, "written"),
            RouteEntry(c.TYPE_LEASE, c.OP_INSERT, self.lease_write, "written"),
            RouteEntry(c.TYPE_LEASE, c.OP_UPDATE, self.lease_write, "written"),
            RouteEntry(c.TYPE_EVENT, c.OP_INSERT, self.event_write, "silent"),
            RouteEntry(c.TYPE_EVENT, c.OP_UPDATE, self.event_write, "silent"),
            RouteEntry(c.TYPE_EVENT, c.OP_PATCH, self.event_patch, "silent"),
            RouteEntry(c.TYPE_CONFIGMAP, c.OP_QUERY, self.config_query, "queried"),
            RouteEntry(c.TYPE_SECRET, c.OP_QUERY, self.config_query, "queried"),
            RouteEntry(c.TYPE_PVC, c.OP_QUERY, self.claim_query, "queried"),
            RouteEntry(c.TYPE_PV, c.OP_QUERY, self.volume_query, "queried"),
            RouteEntry(c.TYPE_TOKEN, c.OP_QUERY, self.token_query, "queried"),
            RouteEntry(c.RESOURCE_CLUSTER_CA, c.OP_QUERY, self.cluster_ca_query, "text"),
        )

    async def node_insert(self, request: Request) -> Envelope:
        """Registration. An existing node means that the agent has just opened its store: it gets everything again."""
        node = _body(request)
        self._check_own(request, parse(request.envelope.resource), node)
        node["metadata"]["name"] = request.node
        node["metadata"].pop("generateName", None)
        labels = _own_labels(node["metadata"].get("labels") or {})
        kept = {key: value for key, value in labels.items() if not _is_cluster_label(key)}
        shell = node | {"metadata": node["metadata"] | {"labels": kept}, "status": node.get("status") or {}}
        try:
            if self._placement.is_known(request.node):  # a whole fleet that comes back asks the cluster nothing
                raise already_exists(NODES.group_resource, request.node)
            made = await self._api.create(NODES, _clean(NODES, shell))
        except AlreadyExists as exc:
            if self._outbox is not None:
                self._outbox.resync(request.node, force=True)
            content = answer.failed_write(exc.to_status(), node)
            return answer_to(request.envelope, self._stamp, content)
        status = {"status": node.get("status") or {}}
        if _restored_labels(labels, kept):
            patch = {"metadata": {"labels": _restored_labels(labels, kept)}}
            made = await self._api.patch(NODES, request.node, patch)
        if status["status"]:
            made = await self._api.patch(NODES, request.node, status, subresource="status")
        log.info("node.registered", node=request.node)
        return self._written(request, made)

    async def node_query(self, request: Request) -> Envelope:
        """The node's own Node."""
        self._check_own(request, parse(request.envelope.resource))
        return self._object(request, await self._api.get(NODES, request.node))

    async def node_update(self, request: Request) -> Envelope:
        """Labels and annotations only, as upstream does."""
        node = _body(request)
        self._check_own(request, parse(request.envelope.resource), node)
        meta = node["metadata"]
        labels = _own_labels(meta.get("labels") or {})
        allowed = {key: value for key, value in labels.items() if not _is_cluster_label(key)}
        patch = {"metadata": {"labels": allowed, "annotations": meta.get("annotations") or {}}}
        await self._api.patch(NODES, request.node, patch)
        return answer_to(request.envelope, self._stamp, c.CONTENT_OK)

    async def node_patch(self, request: Request) -> Envelope:
        """Status of the node's own Node, strategic merge."""
        self._check_own(request, parse(request.envelope.resource))
        patch = _status_patch(request)
        if not patch.get("status"):
            return self._written(request, await self._api.get(NODES, request.node))
        status = {"status": patch["status"]}
        node = await self._api.patch(NODES, request.node, status, patch_type="strategic", subresource="status")
        return self._written(request, node)

    async def pod_patch(self, request: Request) -> Envelope:
        """Status of a pod that is bound to this node, strategic merge; ``metadata.uid`` is a precondition.

        A node that reports a pod which nobody knows is told to remove it: it may have got it from a cloud that ended
        before that was written anywhere.
        """
        route = parse(request.envelope.resource)
        patch = _status_patch(request)
        uid = (patch.get("metadata") or {}).get("uid")
        try:
            pod = await self._own_pod(request, route)
        except NotFound:
            if isinstance(uid, str) and uid:
                meta = {"name": route.name, "namespace": route.namespace, "uid": uid}
                self._placement.disown(request.node, {"apiVersion": "v1", "kind": "Pod", "metadata": meta})
            raise
        if uid and uid != pod["metadata"].get("uid"):
            raise not_found(PODS.group_resource, route.name)
        if "status" not in patch:
            return self._written(request, pod)
        patched = await self._api.patch(
            PODS,
            route.name,
            {"status": patch["status"]} | ({"metadata": {"uid": uid}} if uid else {}),
            patch_type="strategic",
            namespace=route.namespace,
            subresource="status",
        )
        return self._written(request, patched)

    async def pod_delete(self, request: Request) -> Envelope:
        """The pod has ended on the node. Fine also when it is gone, or another one of that name has come."""
        route = parse(request.envelope.resource)
        options = request.envelope.content if isinstance(request.envelope.content, dict) else {}
        uid = (options.get("preconditions") or {}).get("uid")
        if isinstance(request.envelope.content, str) and request.envelope.content:
            uid = request.envelope.content
        try:
            await self._own_pod(request, route)
            await self._api.delete(PODS, route.name, namespace=route.namespace, grace_period_s=0, uid=uid)
        except (NotFound, Conflict):
            pass
        return answer_to(request.envelope, self._stamp, c.CONTENT_OK)

    async def pod_insert(self, request: Request) -> Envelope:
        """Mirror of a static pod."""
        route, pod = parse(request.envelope.resource), _body(request)
        annotations = pod["metadata"].get("annotations") or {}
        if node_of(pod) != request.node or _MIRROR not in annotations:
            raise Forbidden(
                f'pods "{route.name}" is forbidden: node {request.node} may only create mirror pods of its own'
            )
        if configs_of(pod) or pod["spec"].get("serviceAccountName") or pod["spec"].get("serviceAccount"):
            raise Forbidden(f'pods "{route.name}" is forbidden: a mirror pod may not name secrets or service accounts')
        if foreign := [kind for kind in _volume_sources(pod) if kind not in _MIRROR_VOLUMES]:
            raise Forbidden(f'pods "{route.name}" is forbidden: a mirror pod may not have volumes of {foreign[0][:40]}')
        if any(
            (owner.get("kind"), owner.get("name")) != ("Node", request.node)
            for owner in pod["metadata"].get("ownerReferences") or ()
        ):
            raise Forbidden(f'pods "{route.name}" is forbidden: only node {request.node} may own its mirror pod')
        pod["spec"]["automountServiceAccountToken"] = False
        pod["metadata"] |= {"name": route.name, "namespace": route.namespace}
        made = await self._api.create(PODS, _clean(PODS, pod), namespace=route.namespace)
        return self._written(request, made)

    async def lease_query(self, request: Request) -> Envelope:
        """The node's own Lease; NotFound inside the envelope when there is none."""
        route = parse(request.envelope.resource)
        self._check_lease(request, route)
        return self._written(request, await self._api.get(LEASES, request.node, namespace=LEASE_NAMESPACE))

    async def lease_write(self, request: Request) -> Envelope:
        """Create or renew the node's own Lease."""
        route, lease = parse(request.envelope.resource), _body(request)
        self._check_lease(request, route)
        lease["metadata"] |= {"name": request.node, "namespace": LEASE_NAMESPACE}
        lease = _clean(LEASES, lease)
        if request.envelope.operation == c.OP_INSERT:
            return self._written(request, await self._api.create(LEASES, lease, namespace=LEASE_NAMESPACE))
        return self._written(request, await self._api.update(LEASES, lease))

    async def event_write(self, request: Request) -> None:
        """An Event; an existing one of that name is replaced. Not answered."""
        route, event = parse(request.envelope.resource), _body(request)
        self._check_event(request, event)
        event["metadata"] |= {"name": route.name, "namespace": route.namespace}
        event = _clean(EVENTS, event)
        try:
            await self._api.create(EVENTS, event, namespace=route.namespace)
        except AlreadyExists:
            await self._check_known_event(request, route)
            await self._merge_event(route, event)

    async def event_patch(self, request: Request) -> None:
        """``{"event": Event, "patchData": "<JSON merge text>"}``; a missing one is created. Not answered."""
        route, body = parse(request.envelope.resource), _body(request)
        event = body["event"]
        self._check_event(request, event)
        patch = _event_patch(request, body)
        try:
            await self._check_known_event(request, route)
            await self._api.patch(EVENTS, route.name, patch, namespace=route.namespace)
        except NotFound:
            event["metadata"] |= {"name": route.name, "namespace": route.namespace}
            await self._api.create(EVENTS, _clean(EVENTS, event), namespace=route.namespace)

    async def config_query(self, request: Request) -> Envelope:
        """A ConfigMap or Secret that one of the node's pods names.

        Go agents take ``{"ErrStatus"}`` for the object itself; they get operation ``error`` when a pod requires it,
        and an empty object when every reference is optional.
        """
        route = parse(request.envelope.resource)
        key = ConfigKey(route.type, route.namespace, route.name)
        is_required: bool | None = None
        for pod in self._placement.pods_of(request.node):
            named = configs_of(pod)
            if key in named:
                is_required = bool(is_required) or named[key]
        kind = "ConfigMap" if route.type == c.TYPE_CONFIGMAP else "Secret"
        if is_required is None:
            raise Forbidden(
                f'{route.type}s "{route.name}" is forbidden: no pod on node {request.node} names it',
                details={"name": route.name, "kind": f"{route.type}s"},
            )
        found = self._placement.config(key)
        if found is not None:
            return self._object(request, stripped(found))
        if request.is_skerry:
            raise not_found(f"{route.type}s", route.name)
        if is_required:
            text = f'error: {route.type}s "{route.name}" not found'
            return answer_to(request.envelope, self._stamp, text, operation=c.OP_ERROR)
        empty = {"apiVersion": "v1", "kind": kind, "metadata": {"name": route.name, "namespace": route.namespace}}
        return answer_to(request.envelope, self._stamp, empty)

    async def claim_query(self, request: Request) -> Envelope:
        """A PersistentVolumeClaim that one of the node's pods mounts."""
        route = parse(request.envelope.resource)
        self._check_claim(request, "persistentvolumeclaims", route.name, (route.namespace, str(route.name)))
        claim = await self._api.get(PERSISTENTVOLUMECLAIMS, str(route.name), namespace=route.namespace)
        return self._object(request, stripped(claim))

    async def volume_query(self, request: Request) -> Envelope:
        """A PersistentVolume that is bound to a claim which one of the node's pods mounts."""
        route = parse(request.envelope.resource)
        volume = await self._api.get(PERSISTENTVOLUMES, str(route.name))
        bound = (volume.get("spec") or {}).get("claimRef") or {}
        claim = (str(bound.get("namespace") or ""), str(bound.get("name") or ""))
        self._check_claim(request, "persistentvolumes", route.name, claim)
        return self._object(request, stripped(volume))

    def _check_claim(self, request: Request, resource: str, name: str | None, claim: tuple[str, str]) -> None:
        if not any(claim in claims_of(pod) for pod in self._placement.pods_of(request.node)):
            raise Forbidden(
                f'{resource} "{name}" is forbidden: no pod on node {request.node} mounts it',
                details={"name": name, "kind": resource},
            )

    async def token_query(self, request: Request) -> Envelope:
        """A token of a service account that one of the node's pods runs as, bound to that pod."""
        route, asked = parse(request.envelope.resource), _body(request)
        spec = asked.get("spec") or {}
        bound = spec.get("boundObjectRef") or {}
        pods = [
            pod
            for pod in self._placement.pods_of(request.node)
            if _MIRROR not in (pod["metadata"].get("annotations") or {})
            and (route.namespace, route.name) in service_accounts_of([pod])
            and bound.get("kind") == "Pod"
            and bound.get("name") == pod["metadata"]["name"]
            and bound.get("uid") in (None, "", pod["metadata"].get("uid"))
        ]
        if not pods:
            raise Forbidden(
                f'serviceaccounts "{route.name}" is forbidden: a token for it must be bound to a pod on node '
                f"{request.node} that runs as it",
                details={"name": route.name, "kind": "serviceaccounts"},
            )
        spec = {key: value for key, value in spec.items() if value is not None}
        spec["expirationSeconds"] = min(int(spec.get("expirationSeconds") or 3600), MAX_TOKEN_S)
        order = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {"name": route.name, "namespace": route.namespace},
            "spec": spec,
        }
        made = await self._api.create(
            SERVICEACCOUNTS, order, namespace=route.namespace, name=route.name, subresource="token"
        )
        made = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"} | made
        return answer_to(request.envelope, self._stamp, made)

    async def cluster_ca_query(self, request: Request) -> Envelope:
        """PEM of the API server's CA."""
        return answer_to(request.envelope, self._stamp, self._cluster_ca(), source=c.SOURCE_CLOUD_HUB)

    async def _own_pod(self, request: Request, route: Route) -> Object:
        pod = await self._api.get(PODS, route.name, namespace=route.namespace)
        if node_of(pod) != request.node:
            raise Forbidden(
                f'pods "{route.name}" is forbidden: it is not bound to node {request.node}',
                details={"name": route.name, "kind": "pods"},
            )
        return pod

    async def _merge_event(self, route: Route, event: Object) -> None:
        patch = {key: value for key, value in event.items() if key not in ("metadata", "kind", "apiVersion")}
        try:
            await self._api.patch(EVENTS, route.name, patch, namespace=route.namespace)
        except ApiError as exc:
            log.warning("sync.event_lost", event_name=route.name, error=exc.message)

    def _check_own(self, request: Request, route: Route, body: Object | None = None) -> None:
        named = ((body or {}).get("metadata") or {}).get("name", request.node)
        if route.name != request.node or named != request.node:
            raise Forbidden(
                f'nodes "{route.name}" is forbidden: node {request.node} may only write itself',
                details={"name": route.name, "kind": "nodes"},
            )

    def _check_lease(self, request: Request, route: Route) -> None:
        if (route.namespace, route.name) != (LEASE_NAMESPACE, request.node):
            raise Forbidden(
                f'leases.coordination.k8s.io "{route.name}" is forbidden: node {request.node} may only use its own',
                details={"name": route.name, "kind": "leases", "group": LEASES.group},
            )

    def _check_event(self, request: Request, event: Object) -> None:
        reporter = _reporter(event)
        if not reporter:  # so that the node can be told from others when it reports this again
            event["source"] = (event.get("source") or {}) | {"host": request.node}
        elif reporter != request.node:
            raise Forbidden(f"node {request.node} may not report events of {reporter}")

    async def _check_known_event(self, request: Request, route: Route) -> None:
        """A node may only write over what names it as its reporter: controllers often name no host."""
        known = await self._api.get(EVENTS, route.name, namespace=route.namespace)
        if _reporter(known) != request.node:
            raise Forbidden(f'events "{route.name}" is forbidden: node {request.node} did not report it')

    def _object(self, request: Request, obj: Object) -> Envelope:
        version = obj["metadata"].get("resourceVersion", "")
        return answer_to(request.envelope, self._stamp, obj, resource_version=version)

    def _written(self, request: Request, obj: Object) -> Envelope:
        version = obj["metadata"].get("resourceVersion", "")
        return answer_to(request.envelope, self._stamp, answer.success(stripped(obj)), resource_version=version)


def _body(request: Request) -> dict[str, Any]:
    content = answer.unwrapped(request.envelope.content)
    if not isinstance(content, dict):
        raise BadRequest(f"content of {request.envelope.resource!r} is not an object")
    if "metadata" in content and not isinstance(content["metadata"], dict):
        raise BadRequest(f"metadata in the content of {request.envelope.resource!r} is not an object")
    content.setdefault("metadata", {})
    return content


def _event_patch(request: Request, body: Object) -> Object:
    """What a node may change of an Event: not its name, nor who reported it."""
    patch = json.loads(body["patchData"])
    if not isinstance(patch, dict):
        raise BadRequest(f"patchData of {request.envelope.resource!r} is no JSON object")
    return {key: value for key, value in patch.items() if key not in ("metadata", *_REPORTED_BY)}


def _reporter(event: Object) -> str:
    """The host that reported an event; empty if it names none."""
    return str((event.get("source") or {}).get("host") or event.get("reportingInstance") or "")


def _status_patch(request: Request) -> dict[str, Any]:
    patch = answer.unwrapped(request.envelope.content)
    if not isinstance(patch, dict):
        raise BadRequest(f"content of {request.envelope.resource!r} is not a JSON patch object")
    return patch


def _clean(resource: Resource, obj: Object) -> Object:
    """Go writes ``creationTimestamp: null``, and no kind."""
    meta = {key: value for key, value in obj["metadata"].items() if value is not None}
    return obj | {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta}


def _is_cluster_label(key: str) -> bool:
    domain = key.partition("/")[0] if "/" in key else ""
    return domain == "kubernetes.io" or domain.endswith(".kubernetes.io")


def _own_labels(labels: dict[str, str]) -> dict[str, str]:
    """Without the roles that are not an edge node's to claim: pods and people trust them."""
    return {key: value for key, value in labels.items() if not key.startswith(_ROLE) or key in _OWN_ROLES}


def _volume_sources(pod: Object) -> list[str]:
    volumes = (pod.get("spec") or {}).get("volumes") or ()
    return [kind for volume in volumes for kind in volume if kind != "name"]


def _restored_labels(labels: dict[str, str], kept: dict[str, str]) -> dict[str, str]:
    """Cluster labels that upstream puts back after the creation; those that isolate nodes are not a node's to set."""
    return {
        key: value
        for key, value in labels.items()
        if key not in kept and not key.partition("/")[0].endswith(_NODE_RESTRICTED)
    }
