"""A pod and what the engine shows of it, side by side: which attempt of which container counts. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from skerry.api.gvk import Object
from skerry.api.meta import parse_rfc3339
from skerry.base import json
from skerry.base.values import Struct, field
from skerry.runtime.ports import ContainerState, ObservedContainer, ObservedPod, ObservedSandbox

BACKOFF_ANNOTATION = "skerry.dev/backoff-s"
"""On a container: how long a restart of it has to wait, if it does not run well."""

CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")

RESOURCES_ANNOTATION = "skerry.dev/resources"
"""On a container: hash of the resources that it was started with."""

EVICTED = "Evicted"
EVICTION_GRACE_S = 1.0
"""What an evicted pod gets, as from a kubelet at a hard threshold: the node is short of what the pod uses."""

_FIRST_BACKOFF_S = 10.0
_FIRST_SANDBOX_S = 2.0
_LAST_BACKOFF_S = 300.0
_GOOD_RUN_S = 600.0
_DEFAULT_GRACE_S = 30.0


class Failure(Struct, frozen=True):
    """Why a container (or, with an empty name, the pod) cannot be started now.

    Args:
        reason: as kubectl shows it, such as ``ErrImagePull``.
        retry_at_s: wall-clock time of the next try.
        delay_s: how long that was from the failure.
    """

    reason: str
    message: str
    retry_at_s: float
    delay_s: float = 0.0


class Verdict(Struct, frozen=True):
    """Why this node ends a pod for good, whatever its restart policy says.

    Args:
        reason: of the pod's status, such as ``DeadlineExceeded`` or ``Evicted``.
        grace_s: for its containers; None is the pod's own.
    """

    reason: str
    message: str
    grace_s: float | None = None

    @property
    def frees_disk(self) -> bool:
        """Whether what its containers wrote has to go: the node is, or was, short of room."""
        return self.reason == EVICTED


class Stimulus(Struct, frozen=True):
    """What else is known when deciding.

    Args:
        now_s: wall-clock seconds.
        failures: by container name; ``""`` for the pod's sandbox and volumes.
        unhealthy: kind of the probe (``liveness``, ``startup``) that has failed, by container id.
        ready: ids of running containers whose readiness counts as good.
        unstarted: ids of running containers whose startup probe has not succeeded yet.
        verdict: the pod has to end, by decision of this node.
        is_finished: the pod's end was reported and everything of it removed.
        has_volumes: its volumes are on the node.
    """

    now_s: float
    failures: Mapping[str, Failure] = field(default_factory=dict)
    unhealthy: Mapping[str, str] = field(default_factory=dict)
    ready: frozenset[str] = frozenset()
    unstarted: frozenset[str] = frozenset()
    verdict: Verdict | None = None
    is_finished: bool = False
    has_volumes: bool = False


class PodView:
    """A desired pod with its observed containers.

    Args:
        pod: desired.
        observed: what the engine has; None when nothing.
        unstarted: ids of containers that run but have not started up yet.
    """

    def __init__(self, pod: Object, observed: ObservedPod | None, *, unstarted: frozenset[str] = frozenset()) -> None:
        self.pod = pod
        self.spec: dict[str, Any] = pod.get("spec") or {}
        self.metadata: dict[str, Any] = pod.get("metadata") or {}
        self.observed = observed
        self.containers: list[dict[str, Any]] = self.spec.get("containers") or []
        self.init_containers: list[dict[str, Any]] = self.spec.get("initContainers") or []
        self.ephemeral_containers: list[dict[str, Any]] = self.spec.get("ephemeralContainers") or []
        self._unstarted = unstarted
        self._by_name: dict[str, list[ObservedContainer]] = {}
        for container in observed.containers if observed else ():
            self._by_name.setdefault(container.name, []).append(container)
        for attempts in self._by_name.values():
            attempts.sort(key=lambda c: (c.attempt, c.created_at_s), reverse=True)

    @property
    def is_deleting(self) -> bool:
        """Whether the pod is to end."""
        return bool(self.metadata.get("deletionTimestamp"))

    @property
    def restart_policy(self) -> str:
        """Always, OnFailure or Never."""
        return str(self.spec.get("restartPolicy") or "Always")

    @property
    def stored_phase(self) -> str:
        """The phase that the cloud knows."""
        return str((self.pod.get("status") or {}).get("phase") or "")

    @property
    def sandbox(self) -> ObservedSandbox | None:
        """The newest sandbox."""
        return self.observed.sandboxes[0] if self.observed and self.observed.sandboxes else None

    def attempts(self, name: str) -> list[ObservedContainer]:
        """Attempts of a container, newest first."""
        return self._by_name.get(name, [])

    def latest(self, name: str) -> ObservedContainer | None:
        """The newest attempt, or None."""
        return next(iter(self.attempts(name)), None)

    def running(self) -> list[ObservedContainer]:
        """Every container that runs, whatever the pod says."""
        observed = self.observed.containers if self.observed else ()
        return [container for container in observed if container.state is ContainerState.RUNNING]

    def definition(self, name: str) -> tuple[str, dict[str, Any]] | None:
        """The list (``containers``…) that a container is in, and its definition; None when the pod has none such."""
        for kind in CONTAINER_LISTS:
            for container in self.spec.get(kind) or []:
                if container.get("name") == name:
                    return kind, container
        return None

    def is_resized(self) -> bool:
        """Whether a container that runs was started with other resources than the pod has now."""
        for running in self.running():
            found = self.definition(running.name)
            started_with = running.annotations.get(RESOURCES_ANNOTATION)
            if found is not None and started_with and started_with != resources_hash(found[1]):
                return True
        return False

    def started_at_s(self, now_s: float) -> float:
        """When this node took the pod on: as reported, else by its oldest sandbox, else now."""
        reported = parse_rfc3339((self.pod.get("status") or {}).get("startTime"))
        sandboxes = self.observed.sandboxes if self.observed else ()
        return reported or min((s.created_at_s for s in sandboxes if s.created_at_s), default=now_s)

    def deadline_s(self, now_s: float) -> float | None:
        """When ``activeDeadlineSeconds`` are over; None without one."""
        seconds = _number(self.spec.get("activeDeadlineSeconds"), 0.0)
        return self.started_at_s(now_s) + seconds if seconds else None

    def is_sidecar(self, container: Mapping[str, Any]) -> bool:
        """Whether an init container is a restartable one."""
        return container.get("restartPolicy") == "Always"

    def restarts(self, container: Mapping[str, Any], exit_code: int, *, is_init: bool) -> bool:
        """Whether an ended container is to run again."""
        if self.is_deleting:
            return False
        for rule in container.get("restartPolicyRules") or []:
            if _applies(rule, exit_code):
                return bool(rule.get("action") == "Restart")
        policy = str(container.get("restartPolicy") or self.restart_policy)
        if self.is_sidecar(container):
            return True
        if is_init:
            return exit_code != 0 and policy != "Never"
        return policy == "Always" or (policy == "OnFailure" and exit_code != 0)

    def has_started(self) -> bool:
        """Whether any regular container was created in this sandbox: init containers are done then."""
        latest = (self.latest(container["name"]) for container in self.containers)
        return any(container is not None and self.is_here(container) for container in latest)

    def is_here(self, container: ObservedContainer) -> bool:
        """Whether a container belongs to the newest sandbox; init containers run once per sandbox."""
        return self.sandbox is None or container.sandbox_id == self.sandbox.id

    def is_init_done(self) -> bool:
        """Whether every init container has done its part."""
        return self.has_started() or all(self.is_done(container) for container in self.init_containers)

    def is_done(self, container: Mapping[str, Any]) -> bool:
        """Whether an init container has done its part."""
        latest = self.latest(container["name"])
        if latest is None or not self.is_here(latest):
            return False
        if self.is_sidecar(container):
            return latest.state is ContainerState.RUNNING and latest.id not in self._unstarted
        return latest.state is ContainerState.EXITED and latest.exit_code == 0

    def failed_init(self) -> ObservedContainer | None:
        """The init container whose failure ends the pod."""
        for container in self.init_containers:
            latest = self.latest(container["name"])
            if latest is None or latest.state is not ContainerState.EXITED or latest.exit_code == 0:
                continue
            if not self.restarts(container, latest.exit_code, is_init=True):
                return latest
        return None

    def has_ended(self) -> bool:
        """Whether every regular container ended for good, or an init container failed for good.

        Sidecars do not count: they are ended after the regular containers.
        """
        if self.stored_phase in ("Succeeded", "Failed"):
            return True
        if self.failed_init() is not None:
            return not self.running()
        if not self.containers:
            return False
        for container in self.containers:
            latest = self.latest(container["name"])
            if latest is None or latest.state is not ContainerState.EXITED:
                return False
            if self.restarts(container, latest.exit_code, is_init=False):
                return False
        return True

    def grace_s(self, now_s: float) -> float:
        """How long the containers of an ending pod may take from now."""
        period = self.metadata.get("deletionGracePeriodSeconds")
        if period is None:
            period = self.spec.get("terminationGracePeriodSeconds")
        period_s = _number(period, _DEFAULT_GRACE_S)
        deadline_s = parse_rfc3339(self.metadata.get("deletionTimestamp"))
        if deadline_s is None or not self.is_deleting:
            return period_s
        # Whole seconds are lost in the time stamp; a clock behind the cloud's must not stretch the grace.
        return max(0.0, min(period_s, deadline_s + 1.0 - now_s))


def _number(value: Any, default: float) -> float:
    """A pod whose numbers are none must still come to its end."""
    return float(value) if isinstance(value, int | float) else default


def _applies(rule: Mapping[str, Any], exit_code: int) -> bool:
    codes = rule.get("exitCodes") or {}
    is_listed = exit_code in (codes.get("values") or [])
    return is_listed if codes.get("operator") == "In" else not is_listed and codes.get("operator") == "NotIn"


def restart_wait_s(container: ObservedContainer) -> float:
    """How long after its end a container may be started again."""
    if container.started_at_s and container.finished_at_s - container.started_at_s >= _GOOD_RUN_S:
        return 0.0
    try:
        return float(container.annotations.get(BACKOFF_ANNOTATION, "0"))
    except ValueError:
        return 0.0


def next_backoff_s(previous: ObservedContainer | None) -> float:
    """The wait that the next attempt carries: 0 for the first, then 10 s, doubling to 5 minutes."""
    if previous is None:
        return 0.0
    wait_s = restart_wait_s(previous)
    return min(_LAST_BACKOFF_S, wait_s * 2) if wait_s else _FIRST_BACKOFF_S


def failure_delay_s(previous_s: float, *, is_sandbox: bool = False) -> float:
    """The wait after a failure to start: 10 s, for a sandbox 2 s (engines fail at their start), then twice the last."""
    first_s = _FIRST_SANDBOX_S if is_sandbox else _FIRST_BACKOFF_S
    return min(_LAST_BACKOFF_S, previous_s * 2) if previous_s else first_s


def resources_hash(container: Mapping[str, Any]) -> str:
    """Of what a resize of the pod would change."""
    return hashlib.blake2b(json.dumps(container.get("resources") or {}, sort_keys=True), digest_size=8).hexdigest()


def spec_hash(container: Mapping[str, Any]) -> str:
    """Of what needs a new container when it changes. Only the image of a container may change in a pod."""
    part = {"name": container.get("name"), "image": container.get("image")}
    return hashlib.blake2b(json.dumps(part, sort_keys=True), digest_size=8).hexdigest()
