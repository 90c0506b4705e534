"""What the cloud is told of a pod: observed containers → PodStatus. Pure.

The reasons are those that kubectl users know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skerry.api.gvk import Object
from skerry.api.meta import rfc3339
from skerry.api.qos import qos_class
from skerry.base.values import Struct
from skerry.edge.pods.conditions import conditions, phase
from skerry.edge.pods.view import Failure, PodView, Stimulus, restart_wait_s
from skerry.runtime.ports import ContainerState, ObservedContainer, ObservedPod

_POD_REASONS = ("FailedMount", "FailedCreatePodSandBox")
_STATUS_LISTS = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
_NEVER_SEEN = {
    "exitCode": 137,
    "reason": "ContainerStatusUnknown",
    "message": "The container could not be located when the pod was terminated",
}


class NodeView(Struct, frozen=True):
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
    view = PodView(pod, observed, unstarted=stimulus.unstarted)
    inits = [_container(view, container, stimulus, node, kind="init") for container in view.init_containers]
    mains = [_container(view, container, stimulus, node, kind="main") for container in view.containers]
    guests = [_container(view, container, stimulus, node, kind="guest") for container in view.ephemeral_containers]
    now_phase = phase(view, mains, inits, has_verdict=stimulus.verdict is not None)
    old = pod.get("status") or {}
    status: dict[str, Any] = {
        "phase": now_phase,
        "conditions": conditions(view, now_phase, mains, inits, stimulus),
        "hostIP": node.node_ip,
        "hostIPs": [{"ip": node.node_ip}],
        "startTime": old.get("startTime") or rfc3339(view.started_at_s(stimulus.now_s)),
        "containerStatuses": mains,
        "qosClass": old.get("qosClass") or qos_class(pod),
    }
    if inits:
        status["initContainerStatuses"] = inits
    if guests:
        status["ephemeralContainerStatuses"] = guests
    # A pod whose sandbox has gone is known by the address that it had, also when it has ended.
    ips = _addresses(view, node) or [each["ip"] for each in old.get("podIPs") or () if each.get("ip")]
    if ips:
        status |= {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
    if stimulus.verdict is not None and not _has_ever_run(observed, old):
        # Refused before anything was started: there are no containers to tell of, and kubectl shows the reason.
        status |= {kind: [] for kind in _STATUS_LISTS if kind in status}
    return status | _why(view, now_phase, stimulus)


def _has_ever_run(observed: ObservedPod | None, told: Mapping[str, Any]) -> bool:
    """Whether a container of the pod was ever made here."""
    if observed is not None and observed.containers:
        return True
    return any(container.get("containerID") for kind in _STATUS_LISTS for container in told.get(kind) or ())


def _why(view: PodView, now_phase: str, stimulus: Stimulus) -> dict[str, str]:
    """Reason and message of the whole pod."""
    if stimulus.verdict is not None:
        return {"reason": stimulus.verdict.reason, "message": stimulus.verdict.message}
    failure = stimulus.failures.get("")
    if failure is not None and now_phase == "Pending":
        return {"message": failure.message}
    old = view.pod.get("status") or {}
    if now_phase in ("Succeeded", "Failed") and now_phase == old.get("phase"):
        return {key: old[key] for key in ("reason", "message") if old.get(key)}
    return {}


def _addresses(view: PodView, node: NodeView) -> list[str]:
    sandbox = view.sandbox
    if sandbox is None:
        return []
    if not sandbox.ips and not sandbox.is_ready and not view.spec.get("hostNetwork"):
        return []  # it never got one, or the engine has forgotten it
    # A sandbox without an address of its own shares the node's network.
    return [node.node_ip] if view.spec.get("hostNetwork") or not sandbox.ips else list(sandbox.ips)


def _container(
    view: PodView, container: Mapping[str, Any], stimulus: Stimulus, node: NodeView, *, kind: str
) -> dict[str, Any]:
    """One container's status; ``kind`` is main, init or guest (ephemeral)."""
    name = str(container["name"])
    attempts = view.attempts(name)
    latest = attempts[0] if attempts else None
    if latest is None and (told := _told_end(view, name, stimulus)) is not None:
        return told
    state = _state(view, container, latest, stimulus, node, kind=kind)
    is_running = "running" in state
    shown = attempts[1:] if "waiting" not in state or (latest and latest.state is ContainerState.CREATED) else attempts
    last = next((a for a in shown if a.state is ContainerState.EXITED), None)
    is_started = is_running and latest is not None and latest.id not in stimulus.unstarted
    is_ready = is_started and latest is not None and latest.id in stimulus.ready
    if kind == "init" and not view.is_sidecar(container):
        is_ready = latest is not None and latest.state is ContainerState.EXITED and latest.exit_code == 0
    found = {
        "name": name,
        "image": container.get("image", ""),
        "imageID": latest.image_ref if latest else "",
        "containerID": f"{node.engine}://{latest.id}" if latest else "",
        "restartCount": latest.attempt if latest else 0,
        "ready": is_ready and kind != "guest",
        "started": is_started,
        "state": state,
        "lastState": {"terminated": _terminated(last, node)} if last else {},
    }
    if kind == "guest":
        del found["started"]
    return found


def _state(
    view: PodView,
    container: Mapping[str, Any],
    latest: ObservedContainer | None,
    stimulus: Stimulus,
    node: NodeView,
    *,
    kind: str,
) -> dict[str, Any]:
    name = str(container["name"])
    failure = stimulus.failures.get(name) or _refusal(stimulus)
    if latest is None and (view.is_deleting or stimulus.verdict is not None) and not view.running():
        return {"terminated": dict(_NEVER_SEEN)}
    if latest is None or latest.state is ContainerState.CREATED:
        if failure is not None:
            return {"waiting": {"reason": failure.reason, "message": failure.message}}
        return {"waiting": {"reason": "PodInitializing" if view.init_containers else "ContainerCreating"}}
    if latest.state is ContainerState.RUNNING:
        return {"running": {"startedAt": rfc3339(latest.started_at_s)}}
    if latest.state is ContainerState.UNKNOWN:
        return {"waiting": {"reason": "ContainerStatusUnknown"}}
    is_over = kind == "guest" or stimulus.verdict is not None or view.has_ended()
    if is_over or not view.restarts(container, latest.exit_code, is_init=kind == "init"):
        return {"terminated": _terminated(latest, node)}
    if failure is not None:
        return {"waiting": {"reason": failure.reason, "message": failure.message}}
    wait_s = restart_wait_s(latest) if view.is_here(latest) else 0.0
    if latest.finished_at_s + wait_s > stimulus.now_s:
        pod = f"{view.metadata.get('name')}_{view.metadata.get('namespace')}({view.metadata.get('uid')})"
        text = f"back-off {_duration(wait_s)} restarting failed container={name} pod={pod}"
        return {"waiting": {"reason": "CrashLoopBackOff", "message": text}}
    return {"terminated": _terminated(latest, node)}


def _told_end(view: PodView, name: str, stimulus: Stimulus) -> dict[str, Any] | None:
    """What was told of a container that ended with its pod, for when the engine does not have it any more."""
    if stimulus.verdict is None and not view.has_ended():
        return None
    old = view.pod.get("status") or {}
    for told in (entry for kind in _STATUS_LISTS for entry in old.get(kind) or ()):
        if told.get("name") == name and told.get("containerID") and (told.get("state") or {}).get("terminated"):
            return dict(told)
    return None


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


_MERGED = {
    "containerStatuses": "name",
    "initContainerStatuses": "name",
    "ephemeralContainerStatuses": "name",
    "conditions": "type",
}
_KEPT = frozenset({"resize", "observedGeneration", "nominatedNodeName", "allocatedResources"})
"""Members that others write."""


def _merged(item: dict[str, Any], merge_key: str, befores: list[Any]) -> dict[str, Any]:
    same = [old for before in befores for old in before if old.get(merge_key) == item[merge_key]]
    return with_removals(item, *same)
