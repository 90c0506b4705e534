"""What to do next for one pod: (desired pod, observed pod, stimulus) → actions. Pure.

The actions of one answer are done in order; after the first that fails, or after the last, the world is observed again
and ``plan`` is asked again. So each answer needs to hold only what can be done now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from skerry.api.gvk import Object
from skerry.base.values import Struct, replace
from skerry.edge.pods.view import PodView, Stimulus, Verdict, next_backoff_s, restart_wait_s, spec_hash
from skerry.runtime.ports import ContainerState, ObservedContainer, ObservedPod

_KEPT_ATTEMPTS = 2
_LONGEST_HOLD_S = 301.0
_CLOCK_SKEW_S = 2.0
_DEADLINE_TEXT = "Pod was active on the node longer than the specified deadline"


class CreateSandbox(Struct, frozen=True):
    """Make volumes, log directory and a sandbox."""

    attempt: int


class StartContainer(Struct, frozen=True):
    """Pull if needed, create and start. ``backoff_s`` is what a restart of this attempt will have to wait."""

    name: str
    attempt: int
    sandbox_id: str
    backoff_s: float = 0.0


class StopContainer(Struct, frozen=True):
    """End a container; several in a row are ended side by side.

    Args:
        why: text of the Event; empty for the plain end of a pod.
        after: names of containers that have to end before this one is told to.
    """

    id: str
    name: str
    grace_s: float
    why: str = ""
    after: tuple[str, ...] = ()


class RemoveContainer(Struct, frozen=True):
    """Forget an ended container."""

    id: str


class StopSandbox(Struct, frozen=True):
    """End a sandbox."""

    id: str


class RemoveSandbox(Struct, frozen=True):
    """Remove a sandbox and its containers."""

    id: str


class GiveUp(Struct, frozen=True):
    """Remember that this node ends the pod for good."""

    verdict: Verdict


class ReportEnd(Struct, frozen=True):
    """Leave the final status, before what it is read from is removed."""


class RemoveVolumes(Struct, frozen=True):
    """Remove the volumes of a pod that has ended: what it kept in memory and on the disk is free again."""


class RemoveDirectory(Struct, frozen=True):
    """Remove volumes, logs and tokens of the pod."""


class RequestDelete(Struct, frozen=True):
    """Ask the cloud to delete the object, which waits for us only."""


Action = (
    CreateSandbox
    | StartContainer
    | StopContainer
    | RemoveContainer
    | StopSandbox
    | RemoveSandbox
    | GiveUp
    | ReportEnd
    | RemoveVolumes
    | RemoveDirectory
    | RequestDelete
)


class Plan(Struct, frozen=True):
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
    view = PodView(pod, observed, unstarted=stimulus.unstarted)
    if view.is_deleting:
        return _end(view, stimulus)
    if stimulus.verdict is not None or view.has_ended():
        return Plan(tuple(_after_end(view, stimulus)))
    deadline_s = view.deadline_s(stimulus.now_s)
    if deadline_s is None:
        return _run(view, stimulus)
    if stimulus.now_s >= deadline_s:
        return Plan((GiveUp(Verdict("DeadlineExceeded", _DEADLINE_TEXT)),))
    planned = _run(view, stimulus)
    return Plan(planned.actions, min(deadline_s, planned.again_at_s or deadline_s))


def plan_removal(pod: Object, observed: ObservedPod | None, *, grace_s: float) -> Plan:
    """End a pod that the cloud does not have any more. ``pod`` is its last known form, or just its metadata."""
    view = PodView(pod, observed)
    return Plan((*stops(view, grace_s), *_remove_sandboxes(view), RemoveDirectory()))


def stops(view: PodView, grace_s: float) -> list[StopContainer]:
    """The end of everything that runs: regular containers first, then sidecars in reverse order of their start."""
    running = view.running()
    later: list[str] = [c.name for c in running if not _is_sidecar(view, c.name)]
    found = [StopContainer(c.id, c.name, grace_s) for c in running if c.name in later]
    by_name = {c.name: c for c in running}
    for container in reversed(view.init_containers):
        sidecar = by_name.get(str(container["name"]))
        if sidecar is not None and view.is_sidecar(container):
            found.append(StopContainer(sidecar.id, sidecar.name, grace_s, after=tuple(later)))
            later.append(sidecar.name)
    return found


def _is_sidecar(view: PodView, name: str) -> bool:
    found = view.definition(name)
    return found is not None and found[0] == "initContainers" and view.is_sidecar(found[1])


def _end(view: PodView, stimulus: Stimulus) -> Plan:
    if stimulus.is_finished:
        return Plan()
    if view.running():
        return Plan(tuple(stops(view, view.grace_s(stimulus.now_s))))
    return Plan((ReportEnd(), *_remove_sandboxes(view), RemoveDirectory(), RequestDelete()))


def _remove_sandboxes(view: PodView) -> Iterator[Action]:
    for sandbox in view.observed.sandboxes if view.observed else ():
        yield StopSandbox(sandbox.id)
        yield RemoveSandbox(sandbox.id)


def _after_end(view: PodView, stimulus: Stimulus) -> Iterator[Action]:
    asked_s = stimulus.verdict.grace_s if stimulus.verdict else None
    yield from stops(view, view.grace_s(stimulus.now_s) if asked_s is None else asked_s)
    for sandbox in view.observed.sandboxes if view.observed else ():
        if sandbox.is_ready:
            yield StopSandbox(sandbox.id)
    if view.running():
        return  # how they end is to be seen first
    if stimulus.verdict is not None and stimulus.verdict.frees_disk and view.observed is not None:
        yield from (RemoveContainer(container.id) for container in view.observed.containers)
    if stimulus.has_volumes:
        yield RemoveVolumes()


def _run(view: PodView, stimulus: Stimulus) -> Plan:
    held = _held(stimulus, "")
    if held is not None:
        return Plan((), held)
    sandbox = view.sandbox
    if sandbox is None or not sandbox.is_ready:
        # What still runs belongs to a sandbox that is no good any more.
        why = "Pod sandbox changed, it will be killed and re-created."
        lost = [replace(stop, why=why) for stop in stops(view, view.grace_s(stimulus.now_s))]
        return Plan((*lost, CreateSandbox(sandbox.attempt + 1 if sandbox else 0)))
    actions: list[Action] = [*_outdated(view)]
    waits: list[float] = []
    for container in view.ephemeral_containers:
        if view.latest(container["name"]) is None:
            _start(view, container, None, stimulus, actions, waits)
    if view.has_started() or all(_advance_init(view, c, stimulus, actions, waits) for c in _due_inits(view)):
        if view.has_started():
            for container in filter(view.is_sidecar, view.init_containers):
                _advance(view, container, stimulus, actions, waits, is_init=True)
        for container in view.containers:
            _advance(view, container, stimulus, actions, waits, is_init=False)
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
        if stop := _restart(view, container, latest, stimulus):
            actions.append(stop)
    elif latest.state is ContainerState.EXITED:
        if (is_init and not view.is_here(latest)) or view.restarts(container, latest.exit_code, is_init=is_init):
            # An end that lies ahead of the clock (it was set back, or began in 1970) says nothing: no wait then.
            # That its sandbox was lost is no fault of the container.
            is_ahead = latest.finished_at_s > stimulus.now_s + _CLOCK_SKEW_S
            is_free = is_ahead or not view.is_here(latest)
            due_at_s = stimulus.now_s if is_free else latest.finished_at_s + restart_wait_s(latest)
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


def _restart(
    view: PodView, container: Mapping[str, Any], latest: ObservedContainer, stimulus: Stimulus
) -> StopContainer | None:
    """The end of a container that has to be started anew, or, by its policy, only to end."""
    grace_s = view.grace_s(stimulus.now_s)
    kind = stimulus.unhealthy.get(latest.id)
    if kind:
        own = (container.get(f"{kind}Probe") or {}).get("terminationGracePeriodSeconds")
        found = view.definition(latest.name)
        again = view.restarts(container, 137, is_init=found is not None and found[0] == "initContainers")
        why = f"Container {latest.name} failed {kind} probe{', will be restarted' if again else ''}"
        return StopContainer(latest.id, latest.name, grace_s if own is None else float(own), why)
    if _is_changed(latest, container):
        return StopContainer(
            latest.id, latest.name, grace_s, f"Container {latest.name} definition changed, will be restarted"
        )
    return None


def _is_changed(latest: ObservedContainer, container: Mapping[str, Any]) -> bool:
    """Whether a container was made from another definition. One that another agent made has no hash of ours: the image
    tells, where the engine knows it as the user wrote it."""
    if latest.spec_hash:
        return latest.spec_hash != spec_hash(container)
    is_written = bool(latest.image) and not latest.image.startswith("sha256:")
    return is_written and latest.image != container.get("image")


def _outdated(view: PodView) -> Iterator[Action]:
    """Attempts and sandboxes that nobody asks about any more."""
    for container in [*view.init_containers, *view.containers]:
        for old in view.attempts(container["name"])[_KEPT_ATTEMPTS:]:
            if old.state is ContainerState.EXITED:
                yield RemoveContainer(old.id)
    for sandbox in view.observed.sandboxes[_KEPT_ATTEMPTS:] if view.observed else ():
        yield StopSandbox(sandbox.id)
        yield RemoveSandbox(sandbox.id)
