"""What the cloud is told of a pod: observed containers → PodStatus. Pure.

The reasons are those that kubectl users know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skerry.api.gvk import Object
from skerry.api.meta import rfc3339
from skerry.edge.pods.view import Failure, PodView, Stimulus, restart_wait_s
from skerry.runtime.ports import ContainerState, ObservedContainer, ObservedPod

_POD_REASONS = ("FailedMount", "FailedCreatePodSandBox")


@dataclass(frozen=True, slots=True)
class NodeView:
    """What the node adds to every status.

    Args:
        node_ip: told as host address, and as the address of pods on the host's network.
        engine: prefix of container ids, such as ``containerd``.
    """

    node_ip: str
    engine: str


def pod_status(pod: Object, observed: ObservedPod | None, stimulus: Stimulus, node: NodeView) -> dict[str, Any]:
    """The whole status of a pod.

    Args:
        pod: desired, with the status that was last reported: times of conditions and the start are kept.
        observed: what the engine has.
        stimulus: as for ``plan``.
        node: about the node.
    """
    view = PodView(pod, observed)
    inits = [_container(view, container, stimulus, node, is_init=True) for container in view.init_containers]
    mains = [_container(view, container, stimulus, node, is_init=False) for container in view.containers]
    phase = _phase(view, mains)
    old = pod.get("status") or {}
    status: dict[str, Any] = {
        "phase": phase,
        "conditions": _conditions(view, phase, mains, stimulus),
        "hostIP": node.node_ip,
        "hostIPs": [{"ip": node.node_ip}],
        "startTime": old.get("startTime") or rfc3339(stimulus.now_s),
        "containerStatuses": mains,
        "qosClass": old.get("qosClass") or "BestEffort",
    }
    if inits:
        status["initContainerStatuses"] = inits
    ips = _addresses(view, node)
    if ips and phase not in ("Succeeded", "Failed"):
        status |= {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
    failure = stimulus.failures.get("")
    if failure is not None and phase == "Pending":
        status["message"] = failure.message
    return status


def _addresses(view: PodView, node: NodeView) -> list[str]:
    sandbox = view.sandbox
    if sandbox is None:
        return []
    # A sandbox without an address of its own shares the node's network.
    return [node.node_ip] if view.spec.get("hostNetwork") or not sandbox.ips else list(sandbox.ips)


def _container(
    view: PodView, container: Mapping[str, Any], stimulus: Stimulus, node: NodeView, *, is_init: bool
) -> dict[str, Any]:
    name = str(container["name"])
    attempts = view.attempts(name)
    latest = attempts[0] if attempts else None
    state = _state(view, container, latest, stimulus, node, is_init=is_init)
    is_running = "running" in state
    shown = attempts[1:] if "waiting" not in state or (latest and latest.state is ContainerState.CREATED) else attempts
    last = next((a for a in shown if a.state is ContainerState.EXITED), None)
    is_ready = is_running and latest is not None and latest.id in stimulus.ready
    if is_init and not view.is_sidecar(container):
        is_ready = latest is not None and latest.state is ContainerState.EXITED and latest.exit_code == 0
    return {
        "name": name,
        "image": container.get("image", ""),
        "imageID": latest.image_ref if latest else "",
        "containerID": f"{node.engine}://{latest.id}" if latest else "",
        "restartCount": latest.attempt if latest else 0,
        "ready": is_ready,
        "started": is_running,
        "state": state,
        "lastState": {"terminated": _terminated(last, node)} if last else {},
    }


def _state(
    view: PodView,
    container: Mapping[str, Any],
    latest: ObservedContainer | None,
    stimulus: Stimulus,
    node: NodeView,
    *,
    is_init: bool,
) -> dict[str, Any]:
    name = str(container["name"])
    failure = stimulus.failures.get(name) or _refusal(stimulus)
    if latest is None or latest.state is ContainerState.CREATED:
        if failure is not None:
            return {"waiting": {"reason": failure.reason, "message": failure.message}}
        is_held = bool(view.init_containers) and not view.is_init_done()
        return {"waiting": {"reason": "PodInitializing" if is_held else "ContainerCreating"}}
    if latest.state is ContainerState.RUNNING:
        return {"running": {"startedAt": rfc3339(latest.started_at_s)}}
    if latest.state is ContainerState.UNKNOWN:
        return {"waiting": {"reason": "ContainerStatusUnknown"}}
    if not view.restarts(container, latest.exit_code, is_init=is_init):
        return {"terminated": _terminated(latest, node)}
    if failure is not None:
        return {"waiting": {"reason": failure.reason, "message": failure.message}}
    wait_s = restart_wait_s(latest)
    if latest.finished_at_s + wait_s > stimulus.now_s:
        pod = f"{view.metadata.get('name')}_{view.metadata.get('namespace')}({view.metadata.get('uid')})"
        text = f"back-off {_duration(wait_s)} restarting failed container={name} pod={pod}"
        return {"waiting": {"reason": "CrashLoopBackOff", "message": text}}
    return {"terminated": _terminated(latest, node)}


def _refusal(stimulus: Stimulus) -> Failure | None:
    """A failure of the whole pod that its containers show; the others are told by Events only, as kubelets do."""
    failure = stimulus.failures.get("")
    return failure if failure is not None and failure.reason not in _POD_REASONS else None


def _terminated(container: ObservedContainer, node: NodeView) -> dict[str, Any]:
    reason = container.reason or ("Completed" if container.exit_code == 0 else "Error")
    found: dict[str, Any] = {
        "exitCode": container.exit_code,
        "reason": reason,
        "startedAt": rfc3339(container.started_at_s or container.finished_at_s),
        "finishedAt": rfc3339(container.finished_at_s),
        "containerID": f"{node.engine}://{container.id}",
    }
    if container.signal:
        found["signal"] = container.signal
    if container.message:
        found["message"] = container.message
    return found


def _phase(view: PodView, mains: list[dict[str, Any]]) -> str:
    if view.stored_phase in ("Succeeded", "Failed"):
        return view.stored_phase
    if view.failed_init() is not None:
        return "Failed"
    latest = [view.latest(container["name"]) for container in view.containers]
    if not view.is_init_done() and not view.is_deleting:
        return "Pending"
    if any(c is not None and c.state is ContainerState.RUNNING for c in latest):
        return "Running"
    ended = [c for c in latest if c is not None and c.state is ContainerState.EXITED]
    is_over = view.is_deleting or (len(ended) == len(latest) and view.has_ended())
    if is_over:
        return "Succeeded" if ended and len(ended) == len(latest) and not any(c.exit_code for c in ended) else "Failed"
    if any("waiting" in main["state"] and main["state"]["waiting"] and not main["lastState"] for main in mains):
        return "Pending"
    return "Running"


def _conditions(view: PodView, phase: str, mains: list[dict[str, Any]], stimulus: Stimulus) -> list[dict[str, Any]]:
    is_over = phase in ("Succeeded", "Failed")
    unready = [str(main["name"]) for main in mains if not main["ready"]]
    waiting = [str(c["name"]) for c in view.init_containers if not view.is_done(c)]
    is_initialized = view.is_init_done() or phase == "Succeeded"
    sandbox = view.sandbox
    not_ready = ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    if is_over:
        not_ready = ("PodCompleted", "") if phase == "Succeeded" else ("PodFailed", "")
    found = [
        _condition("PodReadyToStartContainers", sandbox is not None and sandbox.is_ready),
        _condition(
            "Initialized",
            is_initialized,
            ("ContainersNotInitialized", f"containers with incomplete status: [{' '.join(waiting)}]"),
        ),
        _condition("Ready", not unready and not is_over, not_ready),
        _condition("ContainersReady", not unready and not is_over, not_ready),
        _condition("PodScheduled", True),
    ]
    if is_over and phase == "Succeeded":
        found[1]["reason"] = "PodCompleted"
    old = {c.get("type"): c for c in (view.pod.get("status") or {}).get("conditions") or []}
    for condition in found:
        before = old.get(condition["type"]) or {}
        is_same = before.get("status") == condition["status"]
        kept = before.get("lastTransitionTime") if is_same else None
        condition["lastTransitionTime"] = kept or rfc3339(stimulus.now_s)
    return found


def _condition(kind: str, is_true: bool, why: tuple[str, str] = ("", "")) -> dict[str, Any]:
    reason, message = ("", "") if is_true else why
    found = {"type": kind, "status": "True" if is_true else "False", "reason": reason, "message": message}
    return {key: value for key, value in found.items() if value}


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def with_removals(new: dict[str, Any], *olds: Mapping[str, Any]) -> dict[str, Any]:
    """``new`` as a strategic merge patch over any of ``olds``: what they have more is set to null.

    Lists of containers and conditions are merged by ``name`` and ``type``, as the server does.
    """
    patch: dict[str, Any] = {}
    for key, value in new.items():
        befores = [old[key] for old in olds if old.get(key) is not None]
        if isinstance(value, dict):
            patch[key] = with_removals(value, *(b for b in befores if isinstance(b, dict)))
        elif key in _MERGED:
            patch[key] = [_merged(item, _MERGED[key], befores) for item in value]
        else:
            patch[key] = value
    for old in olds:
        patch |= {key: None for key, value in old.items() if key not in new and value is not None and key not in _KEPT}
    return patch


_MERGED = {"containerStatuses": "name", "initContainerStatuses": "name", "conditions": "type"}
_KEPT = frozenset(
    {"ephemeralContainerStatuses", "resize", "observedGeneration", "nominatedNodeName", "allocatedResources"}
)
"""Members that others write."""


def _merged(item: dict[str, Any], merge_key: str, befores: list[Any]) -> dict[str, Any]:
    same = [old for before in befores for old in before if old.get(merge_key) == item[merge_key]]
    return with_removals(item, *same)
