"""EndpointSlices and Endpoints of Services that have a selector.

Source: kubernetes staging/src/k8s.io/endpointslice and pkg/controller/endpoint (v1.36).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skerry.api.gvk import ENDPOINTSLICES, NODES, PODS, SERVICES, Object, Resource
from skerry.api.meta import is_deleting, owner_reference
from skerry.api.status import AlreadyExists, NotFound
from skerry.base import json
from skerry.controllers.loop import Loop
from skerry.controllers.objects import is_ready, labels_of, phase_of
from skerry.kube.informer import Informer, InformerSet, Key, by_namespace
from skerry.kube.ports import KubeApi

ENDPOINTS = Resource("", "v1", "endpoints", "Endpoints")
MANAGED_BY = "endpointslice-controller.k8s.io"
SERVICE_LABEL = "kubernetes.io/service-name"
ENDPOINTS_LABEL = "endpoints.kubernetes.io/managed-by"
MANAGED_LABEL = "endpointslice.kubernetes.io/managed-by"
HEADLESS_LABEL = "service.kubernetes.io/headless"
ZONE_LABEL = "topology.kubernetes.io/zone"
SLICE_COUNT = 100
"""Endpoints in one slice."""
BATCH_S = 0.05
"""Changes of pods within this time are one write."""


def by_service(piece: Object) -> Sequence[str]:
    """Index of EndpointSlices by ``<namespace>/<service>``; ours only."""
    labels = labels_of(piece)
    if labels.get(MANAGED_LABEL) != MANAGED_BY or SERVICE_LABEL not in labels:
        return ()
    return (f"{piece['metadata']['namespace']}/{labels[SERVICE_LABEL]}",)


def selects(service: Object, pod: Object) -> bool:
    """Whether the service's selector takes the pod."""
    selector = service["spec"].get("selector") or {}
    return bool(selector) and selector.items() <= labels_of(pod).items()


def is_endpoint(pod: Object) -> bool:
    """Whether the pod has an address and may still answer."""
    return bool((pod.get("status") or {}).get("podIP")) and phase_of(pod) not in ("Succeeded", "Failed")


def ports_for(service: Object, pod: Object) -> list[dict[str, Any]]:
    """The service's ports as this pod serves them; a named target port is looked up in its containers."""
    found = []
    for port in service["spec"].get("ports") or ():
        number = _target(port, pod)
        if number is None:
            continue
        entry = {"name": port.get("name") or "", "port": number, "protocol": port.get("protocol") or "TCP"}
        if port.get("appProtocol"):
            entry["appProtocol"] = port["appProtocol"]
        found.append(entry)
    return found


def _target(port: Mapping[str, Any], pod: Object) -> int | None:
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target or int(port["port"])
    for container in pod["spec"].get("containers") or ():
        for offered in container.get("ports") or ():
            same_protocol = (offered.get("protocol") or "TCP") == (port.get("protocol") or "TCP")
            if offered.get("name") == target and same_protocol:
                return int(offered["containerPort"])
    return None


def endpoint(service: Object, pod: Object, zone: str) -> dict[str, Any]:
    """One endpoint of a slice."""
    meta, spec = pod["metadata"], pod["spec"]
    serving, terminating = is_ready(pod), is_deleting(pod)
    anyway = bool(service["spec"].get("publishNotReadyAddresses"))
    entry: dict[str, Any] = {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {
            "ready": anyway or (serving and not terminating), "serving": serving, "terminating": terminating,
        },
        "targetRef": {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]},
    }  # fmt: skip
    if spec.get("nodeName"):
        entry["nodeName"] = spec["nodeName"]
    if zone:
        entry["zone"] = zone
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        entry["hostname"] = spec["hostname"]
    return entry


def wanted_slices(service: Object, pods: Sequence[Object], zones: Mapping[str, str]) -> list[Object]:
    """The slices that a service should have, without names: pods with equal ports together, 100 in each.

    Args:
        service: with a selector.
        pods: those that it selects.
        zones: node name → zone.
    """
    groups: dict[tuple[str, bytes], list[Object]] = {}
    for pod in sorted(filter(is_endpoint, pods), key=lambda pod: str(pod["metadata"]["name"])):
        family = "IPv6" if ":" in pod["status"]["podIP"] else "IPv4"
        ports = json.dumps(ports_for(service, pod), sort_keys=True)
        groups.setdefault((family, ports), []).append(pod)
    if not groups:
        groups = {("IPv4", b"[]"): []}
    made = []
    for (family, ports), members in sorted(groups.items()):
        for start in range(0, max(1, len(members)), SLICE_COUNT):
            part = members[start : start + SLICE_COUNT]
            entries = [endpoint(service, pod, zones.get(pod["spec"].get("nodeName") or "", "")) for pod in part]
            made.append(_slice(service, family, json.loads(ports), entries))
    return made


def _slice(service: Object, family: str, ports: list[Any], entries: list[dict[str, Any]]) -> Object:
    meta = service["metadata"]
    labels = {**labels_of(service), SERVICE_LABEL: meta["name"], MANAGED_LABEL: MANAGED_BY}
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS_LABEL] = ""
    return {
        "apiVersion": ENDPOINTSLICES.api_version,
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{meta['name']}-",
            "namespace": meta["namespace"],
            "labels": labels,
            "ownerReferences": [owner_reference(service, SERVICES)],
        },
        "addressType": family,
        "endpoints": entries,
        "ports": ports,
    }


def wanted_endpoints(service: Object, slices: Sequence[Object]) -> Object:
    """The older Endpoints object that says the same as the slices."""
    meta = service["metadata"]
    headless = {HEADLESS_LABEL: ""} if service["spec"].get("clusterIP") == "None" else {}
    subsets = [subset for piece in slices if (subset := _subset(piece))]
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "labels": {**labels_of(service), ENDPOINTS_LABEL: "endpoint-controller", **headless},
        },
        "subsets": subsets,
    }


def _subset(piece: Object) -> dict[str, Any] | None:
    lists: dict[str, list[dict[str, Any]]] = {"addresses": [], "notReadyAddresses": []}
    for entry in piece["endpoints"]:
        if entry["conditions"]["terminating"]:
            continue
        address = {"ip": entry["addresses"][0], "targetRef": entry["targetRef"]}
        address |= {key: entry[key] for key in ("nodeName", "hostname") if key in entry}
        lists["addresses" if entry["conditions"]["ready"] else "notReadyAddresses"].append(address)
    found: dict[str, Any] = {key: value for key, value in lists.items() if value}
    if not found:
        return None
    ports = [{key: value for key, value in port.items() if value != ""} for port in piece["ports"]]
    return {**found, "ports": ports} if ports else found


class EndpointController:
    """Keeps EndpointSlices and Endpoints in step with Services and pods.

    Args:
        api: the cluster.
        informers: shared caches.
    """

    def __init__(self, api: KubeApi, *, informers: InformerSet) -> None:
        self._api = api
        self._services = informers.of(SERVICES, indexes={"namespace": by_namespace})
        self._pods = informers.of(PODS, indexes={"namespace": by_namespace})
        self._nodes = informers.of(NODES)
        self._slices = informers.of(ENDPOINTSLICES, indexes={"service": by_service})
        self._endpoints = informers.of(ENDPOINTS)
        caches: tuple[Informer, ...] = (self._services, self._pods, self._nodes, self._slices, self._endpoints)
        self._loop: Loop[Key] = Loop("endpoints", self._sync, informers=caches)
        self._loop.follow(self._services)
        self._pods.on_event(self._pod_changed)
        self._slices.on_event(self._slice_changed)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    def _pod_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and _facts(old) == _facts(new):
            return
        for pod in (old, new):
            if pod is None:
                continue
            for service in self._services.by_index("namespace", pod["metadata"]["namespace"]):
                if selects(service, pod):
                    self._loop.add_after((service["metadata"]["namespace"], service["metadata"]["name"]), BATCH_S)

    def _slice_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        """Somebody else's hand on our slice, or one slice too many: put it right."""
        piece = new or old
        if piece is not None and by_service(piece):
            self._loop.add_after((piece["metadata"]["namespace"], labels_of(piece)[SERVICE_LABEL]), BATCH_S)

    async def _sync(self, key: Key) -> float | None:
        namespace, name = key
        service = self._services.get(name, namespace)
        if service is None:
            await self._drop_endpoints(namespace, name)
            return None
        if not service["spec"].get("selector") or is_deleting(service):
            return None
        pods = [pod for pod in self._pods.by_index("namespace", namespace) if selects(service, pod)]
        wanted = wanted_slices(service, pods, self._zones())
        await self._write_slices(f"{namespace}/{name}", wanted)
        await self._write_endpoints(wanted_endpoints(service, wanted))
        return None

    def _zones(self) -> dict[str, str]:
        return {node["metadata"]["name"]: labels_of(node).get(ZONE_LABEL, "") for node in self._nodes.items()}

    async def _write_slices(self, service: str, wanted: list[Object]) -> None:
        found = sorted(self._slices.by_index("service", service), key=lambda piece: str(piece["metadata"]["name"]))
        spare = list(found)
        missing = []
        for piece in wanted:
            match = next((old for old in spare if _fits(old, piece)), None)
            if match is None:
                missing.append(piece)
                continue
            spare.remove(match)
            await self._update_slice(match, piece)
        for piece in missing:
            await self._api.create(ENDPOINTSLICES, piece, namespace=piece["metadata"]["namespace"])
        for piece in spare:
            await self._delete_slice(piece)

    async def _update_slice(self, old: Object, piece: Object) -> None:
        same = all(old.get(part) == piece[part] for part in ("endpoints", "ports"))
        if same and labels_of(old) == labels_of(piece):
            return
        meta = {**old["metadata"], "labels": piece["metadata"]["labels"]}
        await self._api.update(ENDPOINTSLICES, {**piece, "metadata": meta})

    async def _delete_slice(self, piece: Object) -> None:
        meta = piece["metadata"]
        try:
            await self._api.delete(ENDPOINTSLICES, meta["name"], namespace=meta["namespace"], uid=meta["uid"])
        except NotFound:
            return

    async def _write_endpoints(self, wanted: Object) -> None:
        meta = wanted["metadata"]
        found = self._endpoints.get(meta["name"], meta["namespace"])
        if found is None:
            try:
                await self._api.create(ENDPOINTS, wanted, namespace=meta["namespace"])
            except AlreadyExists:
                return
        elif (found.get("subsets") or []) != wanted["subsets"] or labels_of(found) != meta["labels"]:
            fresh = {**found["metadata"], "labels": meta["labels"]}
            await self._api.update(ENDPOINTS, {**wanted, "metadata": fresh})

    async def _drop_endpoints(self, namespace: str, name: str) -> None:
        """The slices go with their owner; Endpoints have none."""
        found = self._endpoints.get(name, namespace)
        if found is None or ENDPOINTS_LABEL not in labels_of(found):
            return
        try:
            await self._api.delete(ENDPOINTS, name, namespace=namespace, uid=found["metadata"]["uid"])
        except NotFound:
            return


def _fits(old: Object, wanted: Object) -> bool:
    return bool(old["addressType"] == wanted["addressType"] and (old.get("ports") or []) == wanted["ports"])


def _facts(pod: Object) -> tuple[Any, ...]:
    """What of a pod shows in its endpoints."""
    status = pod.get("status") or {}
    return (
        labels_of(pod), status.get("podIP"), phase_of(pod), is_ready(pod), is_deleting(pod),
        pod["spec"].get("nodeName"), pod["metadata"]["uid"],
    )  # fmt: skip
