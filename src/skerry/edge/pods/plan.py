"""What to do next for one pod: (desired pod, observed pod, stimulus) → actions. Pure.

The actions of one answer are done in order; after the first that fails, or after the last, the world is observed again
and ``plan`` is asked again. So each answer needs to hold only what can be done now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from skerry.api.gvk import Object
from skerry.edge.pods.view import PodView, Stimulus, next_backoff_s, restart_wait_s, spec_hash
from skerry.runtime.ports import ContainerState, ObservedContainer, ObservedPod

_KEPT_ATTEMPTS = 2
_LONGEST_HOLD_S = 301.0
_CLOCK_SKEW_S = 2.0


@dataclass(frozen=True, slots=True)
class CreateSandbox:
    """Make volumes, log directory and a sandbox."""

    attempt: int


@dataclass(frozen=True, slots=True)
class StartContainer:
    """Pull if needed, create and start. ``backoff_s`` is what a restart of this attempt will have to wait."""

    name: str
    attempt: int
    sandbox_id: str
    backoff_s: float = 0.0


@dataclass(frozen=True, slots=True)
class StopContainer:
    """End a container; several in a row are ended side by side."""

    id: str
    name: str
    grace_s: float
    why: str


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    """Forget an ended container."""

    id: str


@dataclass(frozen=True, slots=True)
class StopSandbox:
    """End a sandbox."""

    id: str


@dataclass(frozen=True, slots=True)
class RemoveSandbox:
    """Remove a sandbox and its containers."""

    id: str


@dataclass(frozen=True, slots=True)
class ReportEnd:
    """Leave the final status, before what it is read from is removed."""


@dataclass(frozen=True, slots=True)
class RemoveDirectory:
    """Remove volumes, logs and tokens of the pod."""


@dataclass(frozen=True, slots=True)
class RequestDelete:
    """Ask the cloud to delete the object, which waits for us only."""


Action = (
    CreateSandbox
    | StartContainer
    | StopContainer
    | RemoveContainer
    | StopSandbox
    | RemoveSandbox
    | ReportEnd
    | RemoveDirectory
    | RequestDelete
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions for now, and when to ask again if nothing happens (None: when something changes)."""

    actions: tuple[Action, ...] = ()
    again_at_s: float | None = None


def plan(pod: Object, observed: ObservedPod | None, stimulus: Stimulus) -> Plan:
    """Decide.

    Args:
        pod: as the cloud wants it.
        observed: what the engine has of this uid; None when nothing.
        stimulus: time, failures, probes.
    """
    view = PodView(pod, observed)
    if view.is_deleting:
        return _end(view, stimulus)
    if view.has_ended():
        return Plan(tuple(_after_end(view, stimulus)))
    return _run(view, stimulus)


def plan_removal(pod: Object, observed: ObservedPod | None, *, grace_s: float) -> Plan:
    """End a pod that the cloud does not have any more. ``pod`` is its last known form, or just its metadata."""
    view = PodView(pod, observed)
    running = [StopContainer(c.id, c.name, grace_s, "the pod was deleted") for c in view.running()]
    return Plan((*running, *_remove_sandboxes(view), RemoveDirectory()))


def _end(view: PodView, stimulus: Stimulus) -> Plan:
    if stimulus.is_finished:
        return Plan()
    running = view.running()
    if running:
        grace_s = view.grace_s(stimulus.now_s)
        return Plan(tuple(StopContainer(c.id, c.name, grace_s, "the pod is being deleted") for c in running))
    return Plan((ReportEnd(), *_remove_sandboxes(view), RemoveDirectory(), RequestDelete()))


def _remove_sandboxes(view: PodView) -> Iterator[Action]:
    for sandbox in view.observed.sandboxes if view.observed else ():
        yield StopSandbox(sandbox.id)
        yield RemoveSandbox(sandbox.id)


def _after_end(view: PodView, stimulus: Stimulus) -> Iterator[Action]:
    for container in view.running():
        yield StopContainer(container.id, container.name, view.grace_s(stimulus.now_s), "the pod has ended")
    for sandbox in view.observed.sandboxes if view.observed else ():
        if sandbox.is_ready:
            yield StopSandbox(sandbox.id)


def _run(view: PodView, stimulus: Stimulus) -> Plan:
    held = _held(stimulus, "")
    if held is not None:
        return Plan((), held)
    sandbox = view.sandbox
    if sandbox is None or not sandbox.is_ready:
        # What still runs belongs to a sandbox that is no good any more.
        stops = [StopContainer(c.id, c.name, view.grace_s(stimulus.now_s), "its sandbox ended") for c in view.running()]
        return Plan((*stops, CreateSandbox(sandbox.attempt + 1 if sandbox else 0)))
    actions: list[Action] = [*_outdated(view)]
    waits: list[float] = []
    if view.has_started() or all(_advance_init(view, c, stimulus, actions, waits) for c in _due_inits(view)):
        for container in view.containers:
            _advance(view, container, stimulus, actions, waits, is_init=False)
        if view.has_started():
            for container in filter(view.is_sidecar, view.init_containers):
                _advance(view, container, stimulus, actions, waits, is_init=True)
    return Plan(tuple(actions), min(waits, default=None))


def _due_inits(view: PodView) -> list[dict[str, Any]]:
    """Init containers up to and with the first that is not done."""
    due = []
    for container in view.init_containers:
        due.append(container)
        if not view.is_done(container):
            break
    return due


def _advance_init(
    view: PodView, container: Mapping[str, Any], stimulus: Stimulus, actions: list[Action], waits: list[float]
) -> bool:
    """Bring one init container forward; True when it has done its part."""
    is_done = view.is_done(container)
    if not is_done or view.is_sidecar(container):
        _advance(view, container, stimulus, actions, waits, is_init=True)
    return is_done


def _advance(
    view: PodView,
    container: Mapping[str, Any],
    stimulus: Stimulus,
    actions: list[Action],
    waits: list[float],
    *,
    is_init: bool,
) -> None:
    latest = view.latest(container["name"])
    if latest is None:
        _start(view, container, None, stimulus, actions, waits)
    elif latest.state is ContainerState.RUNNING:
        if why := _why_stop(container, latest, stimulus):
            actions.append(StopContainer(latest.id, latest.name, view.grace_s(stimulus.now_s), why))
    elif latest.state is ContainerState.EXITED:
        if (is_init and not view.is_here(latest)) or view.restarts(container, latest.exit_code, is_init=is_init):
            # An end that lies ahead of the clock (it was set back, or began in 1970) says nothing: no wait then.
            is_ahead = latest.finished_at_s > stimulus.now_s + _CLOCK_SKEW_S
            due_at_s = stimulus.now_s if is_ahead else latest.finished_at_s + restart_wait_s(latest)
            if due_at_s > stimulus.now_s:
                waits.append(due_at_s)
            else:
                _start(view, container, latest, stimulus, actions, waits)
    else:
        # Created but not started: the agent ended in between.
        actions.append(RemoveContainer(latest.id))
        older = view.attempts(container["name"])[1:2]
        _start(view, container, older[0] if older else None, stimulus, actions, waits)


def _start(
    view: PodView,
    container: Mapping[str, Any],
    previous: ObservedContainer | None,
    stimulus: Stimulus,
    actions: list[Action],
    waits: list[float],
) -> None:
    name = str(container["name"])
    held = _held(stimulus, name)
    if held is not None:
        waits.append(held)
        return
    assert view.sandbox is not None
    attempt = previous.attempt + 1 if previous else 0
    actions.append(StartContainer(name, attempt, view.sandbox.id, next_backoff_s(previous)))


def _held(stimulus: Stimulus, name: str) -> float | None:
    """When a failed start may be tried again; None when now."""
    failure = stimulus.failures.get(name)
    if failure is None or not stimulus.now_s < failure.retry_at_s <= stimulus.now_s + _LONGEST_HOLD_S:
        return None  # never failed, waited long enough, or the clock was set back meanwhile
    return failure.retry_at_s


def _why_stop(container: Mapping[str, Any], latest: ObservedContainer, stimulus: Stimulus) -> str:
    if latest.id in stimulus.unhealthy:
        return "its probe failed"
    if latest.spec_hash and latest.spec_hash != spec_hash(container):
        return "its definition changed"
    return ""


def _outdated(view: PodView) -> Iterator[Action]:
    """Attempts and sandboxes that nobody asks about any more."""
    for container in [*view.init_containers, *view.containers]:
        for old in view.attempts(container["name"])[_KEPT_ATTEMPTS:]:
            if old.state is ContainerState.EXITED:
                yield RemoveContainer(old.id)
    for sandbox in view.observed.sandboxes[_KEPT_ATTEMPTS:] if view.observed else ():
        yield StopSandbox(sandbox.id)
        yield RemoveSandbox(sandbox.id)
