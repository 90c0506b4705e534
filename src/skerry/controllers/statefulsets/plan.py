"""What a StatefulSet needs next: pods by ordinal, one after the other unless it says Parallel. Pure.

Source of behaviour: kubernetes pkg/controller/statefulset/stateful_set_control.go (v1.36). One difference: with the
policy Parallel an outdated pod that is unavailable anyway is replaced at once, so that a broken rollout heals itself
when its template is mended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skerry.api.gvk import STATEFULSETS, Object
from skerry.api.meta import is_deleting
from skerry.base.json import deep_copy
from skerry.base.values import Struct, field
from skerry.controllers.objects import (
    available_in_s,
    is_available,
    is_ready,
    labels_of,
    phase_of,
    pod_from_template,
    resolve_percent,
)
from skerry.controllers.revisions import REVISION_LABEL, Revision

POD_NAME_LABEL = "statefulset.kubernetes.io/pod-name"
POD_INDEX_LABEL = "apps.kubernetes.io/pod-index"


def ordinal_of(set_name: str, pod_name: str) -> int | None:
    """The ordinal in ``<set>-<ordinal>``; None for any other name."""
    head, dash, tail = pod_name.rpartition("-")
    if not dash or head != set_name or not (tail.isascii() and tail.isdigit()) or str(int(tail)) != tail:
        return None
    return int(tail)


def is_member(stateful_set: Object, pod: Object) -> bool:
    """Whether the pod's name is one that this set gives."""
    return ordinal_of(stateful_set["metadata"]["name"], pod["metadata"]["name"]) is not None


def ordinals(stateful_set: Object) -> range:
    """The ordinals that should have pods."""
    spec = stateful_set["spec"]
    start = int((spec.get("ordinals") or {}).get("start") or 0)
    return range(start, start + int(spec.get("replicas", 1)))


def claim_name(template: Mapping[str, Any], set_name: str, ordinal: int) -> str:
    """Name of the claim made from a claim template for one pod."""
    return f"{template['metadata']['name']}-{set_name}-{ordinal}"


def stateful_pod(stateful_set: Object, ordinal: int, revision: Revision) -> Object:
    """The pod of one ordinal: named, with a stable host name and the claims of its ordinal as volumes."""
    pod = pod_from_template(revision.template, stateful_set, STATEFULSETS)
    set_name = stateful_set["metadata"]["name"]
    name = f"{set_name}-{ordinal}"
    meta, spec = pod["metadata"], pod["spec"]
    del meta["generateName"]
    meta["name"] = name
    meta["labels"] |= {REVISION_LABEL: revision.name, POD_NAME_LABEL: name, POD_INDEX_LABEL: str(ordinal)}
    spec["hostname"] = name
    spec["subdomain"] = stateful_set["spec"].get("serviceName") or ""
    templates = stateful_set["spec"].get("volumeClaimTemplates") or ()
    claimed = {template["metadata"]["name"] for template in templates}
    others = [volume for volume in spec.get("volumes") or () if volume["name"] not in claimed]
    volumes = [_volume(template, set_name, ordinal) for template in templates] + others
    if volumes:
        spec["volumes"] = volumes
    return pod


def _volume(template: Mapping[str, Any], set_name: str, ordinal: int) -> dict[str, Any]:
    return {
        "name": template["metadata"]["name"],
        "persistentVolumeClaim": {"claimName": claim_name(template, set_name, ordinal)},
    }


def has_identity(pod: Object) -> bool:
    """Whether the pod still carries the label of its name, by which Services select single pods."""
    return bool(labels_of(pod).get(POD_NAME_LABEL) == pod["metadata"]["name"])


class StatefulPlan(Struct, frozen=True):
    """What to do, in this order.

    Args:
        create: pods to make; their claims come first.
        delete: pods to delete.
        relabel: pods whose identity labels were taken away.
        again_s: look again after so many seconds, None when only events bring news.
    """

    create: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    relabel: list[Object] = field(default_factory=list)
    again_s: float | None = None


class _Draft(Struct):
    create: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    relabel: list[Object] = field(default_factory=list)


def plan(
    stateful_set: Object, pods: Sequence[Object], *, current: Revision, update: Revision, now_s: float
) -> StatefulPlan:
    """Decide the next step.

    Args:
        stateful_set: as stored.
        pods: those that it controls.
        current: the revision that pods below the partition have.
        update: the revision of the present template.
        now_s: wall clock.
    """
    if is_deleting(stateful_set):
        return StatefulPlan()
    spec = stateful_set["spec"]
    min_ready_s = int(spec.get("minReadySeconds") or 0)
    by_ordinal = _by_ordinal(stateful_set, pods)
    wanted = ordinals(stateful_set)
    condemned = [by_ordinal[n] for n in sorted(by_ordinal, reverse=True) if n not in wanted]
    is_ordered = spec.get("podManagementPolicy") != "Parallel"
    draft = _Draft()
    members = {n: by_ordinal[n] for n in wanted if n in by_ordinal}
    is_settled = _fill(stateful_set, members, draft, current=current, update=update, now_s=now_s, is_ordered=is_ordered)
    if is_settled:
        is_settled = _scale_down(members, condemned, draft, min_ready_s=min_ready_s, now_s=now_s, is_ordered=is_ordered)
    if is_settled and (spec.get("updateStrategy") or {}).get("type") != "OnDelete":
        draft.delete += outdated(stateful_set, members, update=update, now_s=now_s)
    waits = [available_in_s(pod, min_ready_s, now_s) for pod in members.values() if not is_deleting(pod)]
    return StatefulPlan(draft.create, draft.delete, draft.relabel, min((w for w in waits if w), default=None))


def _by_ordinal(stateful_set: Object, pods: Sequence[Object]) -> dict[int, Object]:
    name = stateful_set["metadata"]["name"]
    found = {ordinal_of(name, pod["metadata"]["name"]): pod for pod in pods}
    return {ordinal: pod for ordinal, pod in found.items() if ordinal is not None}


def _fill(
    stateful_set: Object,
    members: Mapping[int, Object],
    draft: _Draft,
    *,
    current: Revision,
    update: Revision,
    now_s: float,
    is_ordered: bool,
) -> bool:
    """Make missing pods and replace ended ones; False when the rest has to wait for what is under way."""
    min_ready_s = int(stateful_set["spec"].get("minReadySeconds") or 0)
    is_settled = True
    for ordinal in ordinals(stateful_set):
        pod = members.get(ordinal)
        if pod is None:
            revision = current if _keeps_current(stateful_set, ordinal) else update
            draft.create.append(stateful_pod(stateful_set, ordinal, revision))
            is_settled = False
        elif phase_of(pod) in ("Failed", "Succeeded"):
            draft.delete += [pod] if not is_deleting(pod) else []
            is_settled = False
        else:
            if not has_identity(pod) and not is_deleting(pod):
                draft.relabel.append(pod)
            if is_ordered and (is_deleting(pod) or not is_available(pod, min_ready_s, now_s)):
                return False
            continue
        if is_ordered:
            return False
    return is_settled


def _keeps_current(stateful_set: Object, ordinal: int) -> bool:
    """Whether a new pod of this ordinal gets the old template: below the partition of a rolling update."""
    strategy = stateful_set["spec"].get("updateStrategy") or {}
    rolling = strategy.get("rollingUpdate")
    start = ordinals(stateful_set).start
    if rolling is not None:
        return ordinal < start + int(rolling.get("partition") or 0)
    if strategy.get("type") == "OnDelete":
        return False
    return ordinal < start + int((stateful_set.get("status") or {}).get("currentReplicas") or 0)


def _scale_down(
    members: Mapping[int, Object],
    condemned: Sequence[Object],
    draft: _Draft,
    *,
    min_ready_s: int,
    now_s: float,
    is_ordered: bool,
) -> bool:
    """Delete pods beyond the wanted ordinals, highest first; False when that is under way."""
    if not is_ordered:
        draft.delete += [pod for pod in condemned if not is_deleting(pod)]
        return True
    weak = [pod for pod in (*members.values(), *reversed(condemned)) if _is_unavailable(pod, min_ready_s, now_s)]
    for pod in condemned:
        if not is_deleting(pod) and (not _is_unavailable(pod, min_ready_s, now_s) or pod is weak[0]):
            draft.delete.append(pod)
        return False
    return True


def _is_unavailable(pod: Object, min_ready_s: int, now_s: float) -> bool:
    return is_deleting(pod) or not is_available(pod, min_ready_s, now_s)


def outdated(stateful_set: Object, members: Mapping[int, Object], *, update: Revision, now_s: float) -> list[Object]:
    """Rolling update: pods of an older revision that may go now, highest ordinal first.

    Never more than ``maxUnavailable`` pods are unavailable because of it; one that is unavailable already costs
    nothing.
    """
    spec = stateful_set["spec"]
    rolling = (spec.get("updateStrategy") or {}).get("rollingUpdate") or {}
    min_ready_s, start = int(spec.get("minReadySeconds") or 0), ordinals(stateful_set).start
    total = len(ordinals(stateful_set))
    limit = max(1, resolve_percent(rolling.get("maxUnavailable"), total, round_up=True, default=1))
    broken = {n for n, pod in members.items() if _is_unavailable(pod, min_ready_s, now_s)}
    room = limit - len(broken)
    doomed = []
    for ordinal in sorted(members, reverse=True):
        pod = members[ordinal]
        if ordinal < start + int(rolling.get("partition") or 0):
            break
        if is_deleting(pod) or labels_of(pod).get(REVISION_LABEL) == update.name:
            continue
        if ordinal in broken:
            doomed.append(pod)
        elif room > 0:
            room -= 1
            doomed.append(pod)
    return doomed


def status_of(
    stateful_set: Object, pods: Sequence[Object], *, current: Revision, update: Revision, now_s: float
) -> dict[str, Any]:
    """The status that the pods add up to; a finished rolling update makes its revision the current one."""
    min_ready_s = int(stateful_set["spec"].get("minReadySeconds") or 0)
    old = stateful_set.get("status") or {}
    members = list(_by_ordinal(stateful_set, pods).values())
    alive = [pod for pod in members if not is_deleting(pod)]
    running = [pod for pod in members if phase_of(pod) == "Running" and is_ready(pod)]
    counts = {
        "replicas": len(members),
        "readyReplicas": len(running),
        "availableReplicas": sum(is_available(pod, min_ready_s, now_s) for pod in running),
        "currentReplicas": sum(labels_of(pod).get(REVISION_LABEL) == current.name for pod in alive),
        "updatedReplicas": sum(labels_of(pod).get(REVISION_LABEL) == update.name for pod in alive),
    }
    current_name = current.name
    strategy = (stateful_set["spec"].get("updateStrategy") or {}).get("type") or "RollingUpdate"
    is_complete = counts["updatedReplicas"] == counts["replicas"] == counts["readyReplicas"]
    if strategy == "RollingUpdate" and is_complete:
        current_name, counts["currentReplicas"] = update.name, counts["updatedReplicas"]
    status: dict[str, Any] = {
        "observedGeneration": stateful_set["metadata"].get("generation", 0),
        **{key: value for key, value in counts.items() if value or key in ("replicas", "availableReplicas")},
        "currentRevision": current_name,
        "updateRevision": update.name,
        "collisionCount": int(old.get("collisionCount") or 0),
    }
    if old.get("conditions"):
        status["conditions"] = deep_copy(old["conditions"])
    return status
