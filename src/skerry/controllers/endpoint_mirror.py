"""EndpointSlices for Endpoints that somebody writes by hand, for Services without a selector.

Source of behaviour: kubernetes pkg/controller/endpointslicemirroring (v1.36).
"""

from __future__ import annotations

from typing import Any

from skerry.api.gvk import ENDPOINTS, ENDPOINTSLICES, SERVICES, Object
from skerry.api.meta import is_deleting, owner_reference
from skerry.api.status import NotFound
from skerry.controllers.endpoints import ENDPOINTS_LABEL, MANAGED_LABEL, SERVICE_LABEL
from skerry.controllers.loop import Loop
from skerry.controllers.objects import labels_of
from skerry.kube.informer import InformerSet, Key
from skerry.kube.ports import KubeApi

MANAGED_BY = "endpointslicemirroring-controller.k8s.io"
SKIP_LABEL = "endpointslice.kubernetes.io/skip-mirror"
MIRRORED_COUNT = 1000
"""Addresses of one subset that are mirrored; upstream's limit."""


def mirrored(endpoints: Object) -> list[Object]:
    """The slices that say what an Endpoints object says: one per subset and family of addresses, without names."""
    meta = endpoints["metadata"]
    labels = {key: value for key, value in labels_of(endpoints).items() if key != ENDPOINTS_LABEL}
    made = []
    for subset in endpoints.get("subsets") or ():
        entries: dict[str, list[dict[str, Any]]] = {}
        listed = [(address, True) for address in subset.get("addresses") or ()]
        listed += [(address, False) for address in subset.get("notReadyAddresses") or ()]
        for address, is_ready in listed[:MIRRORED_COUNT]:
            family = "IPv6" if ":" in address["ip"] else "IPv4"
            entries.setdefault(family, []).append(_entry(address, is_ready=is_ready))
        ports = [{"name": "", "protocol": "TCP", **port} for port in subset.get("ports") or ()]
        for family, found in sorted(entries.items()):
            made.append(
                {
                    "apiVersion": ENDPOINTSLICES.api_version,
                    "kind": "EndpointSlice",
                    "metadata": {
                        "generateName": f"{meta['name']}-",
                        "namespace": meta["namespace"],
                        "labels": {**labels, SERVICE_LABEL: meta["name"], MANAGED_LABEL: MANAGED_BY},
                        "ownerReferences": [owner_reference(endpoints, ENDPOINTS)],
                    },
                    "addressType": family,
                    "endpoints": found,
                    "ports": ports,
                }
            )
    return made


def _entry(address: dict[str, Any], *, is_ready: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"addresses": [address["ip"]], "conditions": {"ready": is_ready}}
    return entry | {key: address[key] for key in ("hostname", "nodeName", "targetRef") if address.get(key)}


def is_mirrored(endpoints: Object, service: Object | None) -> bool:
    """Whether nobody else makes slices for this."""
    labels = labels_of(endpoints)
    notes = endpoints["metadata"].get("annotations") or {}
    if labels.get(SKIP_LABEL) == "true" or "control-plane.alpha.kubernetes.io/leader" in notes:
        return False
    return service is not None and not is_deleting(service) and not service["spec"].get("selector")


class EndpointMirror:
    """Keeps those slices.

    Args:
        api: the cluster.
        informers: shared caches.
    """

    def __init__(self, api: KubeApi, *, informers: InformerSet) -> None:
        self._api = api
        self._endpoints = informers.of(ENDPOINTS)
        self._services = informers.of(SERVICES)
        self._slices = informers.of(ENDPOINTSLICES, indexes={"mirror": _by_mirrored})
        caches = (self._endpoints, self._services, self._slices)
        self._loop: Loop[Key] = Loop("endpoint-mirror", self._sync, informers=caches)
        self._loop.follow(self._endpoints)
        self._loop.follow(self._services)
        self._slices.on_event(self._slice_changed)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    def _slice_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        piece = new or old
        if piece is not None and _by_mirrored(piece):
            self._loop.add((piece["metadata"]["namespace"], labels_of(piece)[SERVICE_LABEL]))

    async def _sync(self, key: Key) -> float | None:
        endpoints, service = self._endpoints.get(key[1], key[0]), self._services.get(key[1], key[0])
        wanted = mirrored(endpoints) if endpoints is not None and is_mirrored(endpoints, service) else []
        spare = self._slices.by_index("mirror", f"{key[0]}/{key[1]}")
        for piece in wanted:
            match = next((old for old in spare if old["addressType"] == piece["addressType"]), None)
            if match is None:
                await self._api.create(ENDPOINTSLICES, piece, namespace=key[0])
                continue
            spare = [old for old in spare if old is not match]
            same = all((match.get(part) or []) == piece[part] for part in ("endpoints", "ports"))
            if not same or labels_of(match) != piece["metadata"]["labels"]:
                meta = {**match["metadata"], "labels": piece["metadata"]["labels"]}
                await self._api.update(ENDPOINTSLICES, {**piece, "metadata": meta})
        for piece in spare:
            meta = piece["metadata"]
            try:
                await self._api.delete(ENDPOINTSLICES, meta["name"], namespace=key[0], uid=meta["uid"])
            except NotFound:
                continue
        return None


def _by_mirrored(piece: Object) -> tuple[str, ...]:
    labels = labels_of(piece)
    if labels.get(MANAGED_LABEL) != MANAGED_BY or SERVICE_LABEL not in labels:
        return ()
    return (f"{piece['metadata']['namespace']}/{labels[SERVICE_LABEL]}",)
