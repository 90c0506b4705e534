"""What a Deployment needs next, from itself and its ReplicaSets. Pure.

Source of behaviour: kubernetes pkg/controller/deployment/{sync,rolling,recreate,progress}.go and
util/deployment_util.go (v1.36). One call decides one step; the loop runs again when its ReplicaSets have moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skerry.api.gvk import DEPLOYMENTS, Object
from skerry.api.meta import is_deleting, owner_reference, parse_rfc3339, rfc3339
from skerry.base import json
from skerry.base.values import Struct, field
from skerry.controllers.objects import annotations_of, condition_of, created_s, resolve_percent
from skerry.controllers.templates import HASH_LABEL, same_template, template_hash

REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED = {
    REVISION, HISTORY, DESIRED, MAXIMUM,
    "kubectl.kubernetes.io/last-applied-configuration", "deprecated.deployment.rollback.to",
}  # fmt: skip
_NO_DEADLINE = 2**31 - 1


class CreateSet(Struct, frozen=True):
    """Create the ReplicaSet of the current template."""

    replica_set: Object


class ChangeSet(Struct, frozen=True):
    """Scale a ReplicaSet, or change its annotations, or both. ``event`` is empty for annotations only."""

    name: str
    replicas: int
    annotations: dict[str, str]
    event: str = ""


class DeleteSet(Struct, frozen=True):
    """Remove a ReplicaSet beyond the history limit."""

    name: str
    uid: str


class Annotate(Struct, frozen=True):
    """Set annotations of the Deployment."""

    annotations: dict[str, str]


class SetStatus(Struct, frozen=True):
    """Write the Deployment's status."""

    status: dict[str, Any]


Action = CreateSet | ChangeSet | DeleteSet | Annotate | SetStatus


class Plan(Struct, frozen=True):
    """Actions in order, and when to look again though nothing changed."""

    actions: list[Action] = field(default_factory=list)
    again_s: float | None = None


def find_new_set(deployment: Object, sets: Sequence[Object]) -> Object | None:
    """The ReplicaSet of the current template; the oldest when there are several."""
    template = deployment["spec"]["template"]
    fitting = [rs for rs in sets if same_template(rs["spec"]["template"], template)]
    return min(fitting, key=_age, default=None)


def fenceposts(deployment: Object) -> tuple[int, int]:
    """``(maxSurge, maxUnavailable)`` in pods: surge rounds up, unavailable down, never both zero."""
    spec = deployment["spec"]
    if _is_recreate(deployment):
        return 0, 0
    rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    total = _desired(deployment)
    surge = resolve_percent(rolling.get("maxSurge"), total, round_up=True, default="25%")
    unavailable = resolve_percent(rolling.get("maxUnavailable"), total, round_up=False, default="25%")
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, total)


def plan(deployment: Object, sets: Sequence[Object], *, old_pods_count: int, now_s: float) -> Plan:
    """Decide the next step.

    Args:
        deployment: as stored.
        sets: the ReplicaSets that it owns.
        old_pods_count: pods of other templates that have not finished, including those being deleted (Recreate
            waits for them).
        now_s: wall clock.
    """
    return _Planner(deployment, sets, old_pods_count, now_s).decide()


class _Planner:
    """One decision; replica numbers decided on the way are kept in ``_replicas``."""

    def __init__(self, deployment: Object, sets: Sequence[Object], old_pods_count: int, now_s: float) -> None:
        self._deployment = deployment
        self._sets = sorted(sets, key=_age)
        self._old_pods_count = old_pods_count
        self._now_s = now_s
        self._surge, self._unavailable = fenceposts(deployment)
        self._desired = _desired(deployment)
        self._replicas = {rs["metadata"]["name"]: _replicas(rs) for rs in sets}
        self._annotations: dict[str, dict[str, str]] = {}
        self._actions: list[Action] = []
        self._events: dict[str, str] = {}
        self._new = find_new_set(deployment, self._sets)
        self._old = [rs for rs in self._sets if rs is not self._new]
        self._conditions: list[dict[str, Any]] = list((deployment.get("status") or {}).get("conditions") or [])

    def decide(self) -> Plan:
        deployment = self._deployment
        if is_deleting(deployment):
            return self._finished()
        if deployment["spec"].get("paused"):
            self._note_pause(paused=True)
            self._keep_revision(create=False)
            self._scale_all()
            self._clean_up()
            return self._finished()
        self._note_pause(paused=False)
        if self._is_scaling_event():
            self._keep_revision(create=False)
            self._scale_all()
            return self._finished()
        if _is_recreate(deployment):
            self._recreate()
        else:
            self._roll()
        return self._finished()

    # -- strategies

    def _recreate(self) -> None:
        if self._scale_down_all(self._old):
            return
        if self._old_pods_count:
            return
        self._keep_revision(create=True)
        if self._new is not None:
            self._scale(self._new, self._desired)
            if self._is_complete():
                self._clean_up()

    def _roll(self) -> None:
        self._keep_revision(create=True)
        if self._new is None or self._reconcile_new() or self._reconcile_old():
            return
        if self._is_complete():
            self._clean_up()

    def _reconcile_new(self) -> bool:
        assert self._new is not None
        if _replicas(self._new) > self._desired:
            return self._scale(self._new, self._desired)
        return self._scale(self._new, self._new_count(_replicas(self._new)))

    def _new_count(self, current: int) -> int:
        if _is_recreate(self._deployment):
            return self._desired
        room = self._desired + self._surge - sum(self._replicas.values())
        return current + max(0, min(room, self._desired - current))

    def _reconcile_old(self) -> bool:
        assert self._new is not None
        if not sum(_replicas(rs) for rs in self._old):
            return False
        least_available = self._desired - self._unavailable
        new_unavailable = _replicas(self._new) - _available(self._new)
        budget = sum(self._replicas.values()) - least_available - new_unavailable
        if budget <= 0:
            return False
        cleaned = self._drop_unhealthy(budget)
        return self._drop_healthy(least_available) or cleaned

    def _drop_unhealthy(self, budget: int) -> bool:
        changed = False
        for rs in self._old:
            sick = _replicas(rs) - _available(rs)
            if budget <= 0 or sick <= 0:
                continue
            count = min(budget, sick)
            changed |= self._scale(rs, _replicas(rs) - count)
            budget -= count
        return changed

    def _drop_healthy(self, least_available: int) -> bool:
        budget = sum(_available(rs) for rs in self._sets) - least_available
        changed = False
        for rs in self._old:
            now = self._replicas[rs["metadata"]["name"]]
            if budget <= 0 or now == 0:
                continue
            count = min(budget, now)
            changed |= self._scale(rs, now - count)
            budget -= count
        return changed

    # -- scaling without a roll-out

    def _is_scaling_event(self) -> bool:
        for rs in self._sets:
            noted = annotations_of(rs).get(DESIRED)
            if _replicas(rs) > 0 and noted is not None and noted != str(self._desired):
                return True
        return False

    def _scale_all(self) -> None:
        active = [rs for rs in self._sets if _replicas(rs) > 0]
        only = self._active_or_latest(active)
        if only is not None:
            self._scale(only, self._desired)
        elif self._new is not None and self._is_saturated(self._new):
            self._scale_down_all(self._old)
        elif not _is_recreate(self._deployment):
            self._scale_in_proportion(active)

    def _active_or_latest(self, active: list[Object]) -> Object | None:
        if len(active) > 1:
            return None
        if active:
            return active[0]
        return self._new or (self._sets[-1] if self._sets else None)

    def _is_saturated(self, rs: Object) -> bool:
        return annotations_of(rs).get(DESIRED) == str(self._desired) and _replicas(rs) == self._desired == _available(
            rs
        )

    def _scale_in_proportion(self, active: list[Object]) -> None:
        allowed = self._desired + self._surge if self._desired else 0
        to_add = allowed - sum(_replicas(rs) for rs in active)
        order = sorted(active, key=_age, reverse=to_add > 0)  # ties: grow the newer first, shrink the older first
        order = sorted(order, key=_replicas, reverse=True)
        added = 0
        sizes = {}
        for rs in order:
            share = self._fraction(rs, allowed, to_add, added) if to_add else 0
            sizes[rs["metadata"]["name"]] = _replicas(rs) + share
            added += share
        if order and added != to_add:
            first = order[0]["metadata"]["name"]
            sizes[first] = max(0, sizes[first] + to_add - added)
        for rs in order:
            self._scale(rs, sizes[rs["metadata"]["name"]])

    def _fraction(self, rs: Object, allowed: int, to_add: int, added: int) -> int:
        noted = annotations_of(rs).get(MAXIMUM)
        before = int(noted) if noted and noted.isdigit() and int(noted) > 0 else (
            (self._deployment.get("status") or {}).get("replicas") or _replicas(rs) or 1
        )  # fmt: skip
        share = int(_replicas(rs) * allowed / before + 0.5) - _replicas(rs)
        left = to_add - added
        return min(share, left) if to_add > 0 else max(share, left)

    def _scale_down_all(self, sets: list[Object]) -> bool:
        changed = [self._scale(rs, 0) for rs in sets if _replicas(rs) > 0]
        return any(changed)

    # -- revisions

    def _keep_revision(self, *, create: bool) -> None:
        revision = str(max((_revision(rs) for rs in self._old), default=0) + 1)
        if self._new is None and create:
            self._create_new(revision)
        elif self._new is not None:
            self._refresh_new(self._new, revision)
            if create and condition_of(self._deployment, "Progressing") is None:
                message = f'Found new replica set "{self._new["metadata"]["name"]}"'
                self._progress("True", "FoundNewReplicaSet", message)
        else:
            return
        assert self._new is not None
        changed = self._annotations.get(self._new["metadata"]["name"], {})
        number = changed.get(REVISION) or annotations_of(self._new).get(REVISION)
        if number and annotations_of(self._deployment).get(REVISION) != number:
            self._actions.append(Annotate({REVISION: number}))

    def _create_new(self, revision: str) -> None:
        deployment, meta = self._deployment, self._deployment["metadata"]
        collisions = (deployment.get("status") or {}).get("collisionCount") or 0
        digest = template_hash(deployment["spec"]["template"], collisions)
        name = f"{meta['name']}-{digest}"
        template = json.deep_copy(deployment["spec"]["template"])
        labels = template.setdefault("metadata", {}).setdefault("labels", {})
        labels[HASH_LABEL] = digest
        selector = json.deep_copy(deployment["spec"]["selector"])
        selector.setdefault("matchLabels", {})[HASH_LABEL] = digest
        replicas = self._new_count(0)
        rs: Object = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": name,
                "namespace": meta["namespace"],
                "labels": dict(labels),
                "annotations": {**self._copied(), **self._sizes(), REVISION: revision},
                "ownerReferences": [owner_reference(deployment, DEPLOYMENTS)],
            },
            "spec": {
                "replicas": replicas,
                "minReadySeconds": deployment["spec"].get("minReadySeconds") or 0,
                "selector": selector,
                "template": template,
            },
        }
        self._actions.append(CreateSet(rs))
        self._new = rs
        self._sets.append(rs)
        self._replicas[name] = replicas
        self._progress("True", "NewReplicaSetCreated", f'Created new replica set "{name}"')

    def _refresh_new(self, new: Object, revision: str) -> None:
        found = annotations_of(new)
        fresh = {**self._copied()}
        old_revision = found.get(REVISION, "")
        if int(old_revision or 0) < int(revision):
            fresh[REVISION] = revision
            if old_revision:
                history = [part for part in found.get(HISTORY, "").split(",") if part]
                fresh[HISTORY] = ",".join([*history, old_revision])
        changed = {key: value for key, value in fresh.items() if found.get(key) != value}
        if changed:
            self._annotations.setdefault(new["metadata"]["name"], {}).update(changed)

    def _copied(self) -> dict[str, str]:
        return {key: value for key, value in annotations_of(self._deployment).items() if key not in _NOT_COPIED}

    def _sizes(self) -> dict[str, str]:
        return {DESIRED: str(self._desired), MAXIMUM: str(self._desired + self._surge)}

    # -- bookkeeping

    def _scale(self, rs: Object, replicas: int) -> bool:
        name, before = rs["metadata"]["name"], _replicas(rs)
        found = annotations_of(rs)
        changed = {key: value for key, value in self._sizes().items() if found.get(key) != value}
        if replicas == before and not changed:
            return False
        if "resourceVersion" not in rs["metadata"]:  # created in this very step
            return False
        self._annotations.setdefault(name, {}).update(changed)
        self._replicas[name] = replicas
        if replicas == before:
            return False
        direction = "up" if replicas > before else "down"
        self._events[name] = f"Scaled {direction} replica set {name} from {before} to {replicas}"
        return True

    def _clean_up(self) -> None:
        limit = self._deployment["spec"].get("revisionHistoryLimit")
        if limit is None:
            return
        surplus = len(self._old) - limit
        for rs in sorted(self._old, key=lambda rs: (_revision(rs), _age(rs)))[: max(0, surplus)]:
            status = rs.get("status") or {}
            idle = not status.get("replicas") and not _replicas(rs) and not is_deleting(rs)
            if idle and (status.get("observedGeneration") or 0) >= rs["metadata"].get("generation", 0):
                self._actions.append(DeleteSet(rs["metadata"]["name"], rs["metadata"]["uid"]))

    def _finished(self) -> Plan:
        for rs in self._sets:
            name = rs["metadata"]["name"]
            annotations, replicas = self._annotations.get(name, {}), self._replicas[name]
            if "resourceVersion" in rs["metadata"] and (annotations or replicas != _replicas(rs)):
                self._actions.append(ChangeSet(name, replicas, annotations, self._events.get(name, "")))
        status, again_s = self._status()
        if status != self._deployment.get("status"):
            self._actions.append(SetStatus(status))
        return Plan(self._actions, again_s)

    # -- status

    def _status(self) -> tuple[dict[str, Any], float | None]:
        status = self._counts()
        again_s = None if self._is_held() else self._judge_progress(status)
        self._judge_availability(status)
        self._judge_failure()
        if self._conditions:
            status["conditions"] = self._conditions
        return status, again_s

    def _is_held(self) -> bool:
        return bool(self._deployment["spec"].get("paused")) or is_deleting(self._deployment)

    def _counts(self) -> dict[str, Any]:
        stored = [rs for rs in self._sets if "resourceVersion" in rs["metadata"]]
        available = sum(_available(rs) for rs in stored)
        total = sum(_status_of(rs, "replicas") for rs in stored)
        new = self._new if self._new in stored else None
        wanted = sum(self._replicas[rs["metadata"]["name"]] for rs in self._sets)
        counts: dict[str, Any] = {
            "replicas": total,
            "updatedReplicas": _status_of(new, "replicas") if new else 0,
            "readyReplicas": sum(_status_of(rs, "readyReplicas") for rs in stored),
            "availableReplicas": available,
            "unavailableReplicas": max(0, wanted - available),
            "collisionCount": (self._deployment.get("status") or {}).get("collisionCount"),
        }
        counts = {key: value for key, value in counts.items() if value}
        if any("terminatingReplicas" in (rs.get("status") or {}) for rs in stored):
            counts["terminatingReplicas"] = sum(_status_of(rs, "terminatingReplicas") for rs in stored)
        return {"observedGeneration": self._deployment["metadata"].get("generation", 0), **counts}

    def _is_complete(self) -> bool:
        return _is_complete(self._desired, self._counts())

    def _judge_availability(self, status: Mapping[str, Any]) -> None:
        if status.get("availableReplicas", 0) >= self._desired - self._unavailable:
            text = "Deployment has minimum availability."
            self._condition("Available", "True", "MinimumReplicasAvailable", text)
        else:
            text = "Deployment does not have minimum availability."
            self._condition("Available", "False", "MinimumReplicasUnavailable", text)

    def _judge_failure(self) -> None:
        failures = [c for rs in reversed(self._sets) if (c := condition_of(rs, "ReplicaFailure"))]
        if failures:
            first = failures[0]
            self._condition("ReplicaFailure", first["status"], first["reason"], first["message"])
        else:
            self._conditions = [c for c in self._conditions if c["type"] != "ReplicaFailure"]

    def _judge_progress(self, status: Mapping[str, Any]) -> float | None:
        deadline_s = self._deployment["spec"].get("progressDeadlineSeconds")
        if deadline_s is None or deadline_s >= _NO_DEADLINE:
            self._conditions = [c for c in self._conditions if c["type"] != "Progressing"]
            return None
        now = next((c for c in self._conditions if c["type"] == "Progressing"), None)
        settled = now is not None and now.get("reason") == "NewReplicaSetAvailable"
        if settled and status.get("replicas", 0) == status.get("updatedReplicas", 0):
            return None
        about = f'ReplicaSet "{self._new["metadata"]["name"]}"' if self._new else (
            f'Deployment "{self._deployment["metadata"]["name"]}"'
        )  # fmt: skip
        if _is_complete(self._desired, status):
            self._progress("True", "NewReplicaSetAvailable", f"{about} has successfully progressed.")
            return None
        if _has_progressed(self._deployment.get("status") or {}, status):
            self._progress("True", "ReplicaSetUpdated", f"{about} is progressing.")
        elif now is not None and not settled and self._is_late(now, deadline_s):
            self._progress("False", "ProgressDeadlineExceeded", f"{about} has timed out progressing.")
        return self._until_deadline_s(deadline_s)

    def _is_late(self, condition: Mapping[str, Any], deadline_s: int) -> bool:
        if condition.get("reason") == "ProgressDeadlineExceeded":
            return True
        return self._now_s - self._updated_s(condition) >= deadline_s

    def _until_deadline_s(self, deadline_s: int) -> float | None:
        now = next((c for c in self._conditions if c["type"] == "Progressing"), None)
        if now is None or now.get("status") == "False" or now.get("reason") == "NewReplicaSetAvailable":
            return None
        return max(1.0, self._updated_s(now) + deadline_s - self._now_s + 1.0)

    def _updated_s(self, condition: Mapping[str, Any]) -> float:
        return parse_rfc3339(condition.get("lastUpdateTime")) or self._now_s

    def _note_pause(self, *, paused: bool) -> None:
        if not self._deployment["spec"].get("progressDeadlineSeconds"):
            return
        condition = condition_of(self._deployment, "Progressing")
        reason = (condition or {}).get("reason")
        if reason == "ProgressDeadlineExceeded":
            return
        if paused and reason != "DeploymentPaused":
            self._progress("Unknown", "DeploymentPaused", "Deployment is paused")
        elif not paused and reason == "DeploymentPaused":
            self._progress("Unknown", "DeploymentResumed", "Deployment is resumed")

    def _progress(self, status: str, reason: str, message: str) -> None:
        self._condition("Progressing", status, reason, message)

    def _condition(self, kind: str, status: str, reason: str, message: str) -> None:
        now = rfc3339(self._now_s)
        old = next((c for c in self._conditions if c["type"] == kind), None)
        same = old is not None and old.get("status") == status and old.get("reason") == reason
        if same and reason != "ReplicaSetUpdated":  # only progress renews its time: the deadline counts from there
            return
        since = old["lastTransitionTime"] if old is not None and old.get("status") == status else now
        fresh = {
            "type": kind, "status": status, "lastUpdateTime": now, "lastTransitionTime": since,
            "reason": reason, "message": message,
        }  # fmt: skip
        self._conditions = [*(c for c in self._conditions if c["type"] != kind), fresh]


def _age(rs: Object) -> tuple[float, str]:
    return created_s(rs), rs["metadata"]["name"]


def _desired(deployment: Object) -> int:
    count = deployment["spec"].get("replicas")
    return 1 if count is None else int(count)


def _is_recreate(deployment: Object) -> bool:
    return (deployment["spec"].get("strategy") or {}).get("type") == "Recreate"


def _replicas(rs: Object) -> int:
    count = rs["spec"].get("replicas")
    return 1 if count is None else int(count)


def _status_of(rs: Object, name: str) -> int:
    return int((rs.get("status") or {}).get(name) or 0)


def _available(rs: Object) -> int:
    return _status_of(rs, "availableReplicas")


def _revision(rs: Object) -> int:
    text = annotations_of(rs).get(REVISION, "")
    return int(text) if text.isdigit() else 0


def _is_complete(desired: int, status: Mapping[str, Any]) -> bool:
    return all(status.get(name, 0) == desired for name in ("updatedReplicas", "replicas", "availableReplicas"))


def _has_progressed(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    def old_count(status: Mapping[str, Any]) -> int:
        return int(status.get("replicas", 0) - status.get("updatedReplicas", 0))

    grown = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return any(after.get(n, 0) > before.get(n, 0) for n in grown) or old_count(after) < old_count(before)
