"""Volume claims of a StatefulSet's pods: made from its templates, and owned so that they go when its policy says so.

Source of behaviour: kubernetes pkg/controller/statefulset/stateful_set_utils.go (v1.36).
"""

from __future__ import annotations

from typing import Any

from skerry.api.gvk import PERSISTENTVOLUMECLAIMS, PODS, STATEFULSETS, Object
from skerry.api.meta import owner_reference, owners_of
from skerry.base.json import deep_copy
from skerry.controllers.statefulsets.plan import claim_name, ordinal_of, ordinals

RETAIN, DELETE = "Retain", "Delete"


def wanted_claims(stateful_set: Object, ordinal: int) -> list[Object]:
    """The claims of one ordinal."""
    meta, spec = stateful_set["metadata"], stateful_set["spec"]
    chosen = (spec.get("selector") or {}).get("matchLabels") or {}
    claims = []
    for template in spec.get("volumeClaimTemplates") or ():
        found = template.get("metadata") or {}
        claim_meta: dict[str, Any] = {
            "name": claim_name(template, meta["name"], ordinal),
            "namespace": meta["namespace"],
            "labels": {**(found.get("labels") or {}), **chosen},
        }
        claim_meta |= {key: deep_copy(found[key]) for key in ("annotations", "finalizers") if found.get(key)}
        if _policy(stateful_set)["whenDeleted"] == DELETE:
            claim_meta["ownerReferences"] = [owner_reference(stateful_set, STATEFULSETS)]
        claims.append(
            {
                "apiVersion": PERSISTENTVOLUMECLAIMS.api_version,
                "kind": "PersistentVolumeClaim",
                "metadata": claim_meta,
                "spec": deep_copy(template["spec"]),
            }
        )
    return claims


def _policy(stateful_set: Object) -> dict[str, str]:
    asked = stateful_set["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    return {key: asked.get(key) or RETAIN for key in ("whenDeleted", "whenScaled")}


def wanted_owners(claim: Object, stateful_set: Object, pod: Object) -> list[dict[str, Any]]:
    """The owner references that the retention policy asks of a claim; those of strangers stay.

    A claim that an older set or pod of the same name owns, or that another controller owns while a policy is set, is
    not touched beyond taking our own references away.
    """
    owners = owners_of(claim)
    if any(_is_stale(owner, stateful_set, pod) for owner in owners):
        return owners
    ours = {stateful_set["metadata"]["uid"], pod["metadata"]["uid"]}
    strangers = [owner for owner in owners if owner["uid"] not in ours]
    policy = _policy(stateful_set)
    if any(owner.get("controller") for owner in strangers):
        return strangers
    ordinal = ordinal_of(stateful_set["metadata"]["name"], pod["metadata"]["name"])
    is_scaled_down = ordinal not in ordinals(stateful_set)
    if policy["whenScaled"] == DELETE and is_scaled_down:
        return [*strangers, owner_reference(pod, PODS)]
    if policy["whenDeleted"] == DELETE:
        return [*strangers, owner_reference(stateful_set, STATEFULSETS)]
    return strangers


def _is_stale(owner: dict[str, Any], stateful_set: Object, pod: Object) -> bool:
    for resource, obj in ((STATEFULSETS, stateful_set), (PODS, pod)):
        named = (resource.api_version, resource.kind, obj["metadata"]["name"])
        if (owner["apiVersion"], owner["kind"], owner["name"]) == named and owner["uid"] != obj["metadata"]["uid"]:
            return True
    return False
