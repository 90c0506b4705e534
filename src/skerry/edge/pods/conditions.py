"""Phase and conditions of a pod from the statuses of its containers. Pure.

Source: kubernetes pkg/kubelet/kubelet_pods.go:getPhase, pkg/kubelet/status/generate.go (1.36).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skerry.api.meta import rfc3339
from skerry.edge.pods.view import PodView, Stimulus

Statuses = Sequence[Mapping[str, Any]]

_BY_THIS_NODE = frozenset({"Evicted", "Terminated", "Preempting"})
"""Verdicts that tell the owner of a pod that its node has put an end to it."""


def phase(view: PodView, mains: Statuses, inits: Statuses, *, has_verdict: bool) -> str:
    """Pending, Running, Succeeded or Failed.

    A pod is Succeeded or Failed only when nothing of it runs any more.
    """
    if view.stored_phase in ("Succeeded", "Failed"):
        return view.stored_phase
    states = [_kind(status) for status in mains]
    is_alive = bool(view.running())
    if not is_alive and (has_verdict or view.is_deleting):
        return "Failed" if has_verdict or not _all_good(mains) else "Succeeded"
    if not is_alive and view.failed_init() is not None:
        return "Failed"
    if not view.is_init_done() and not view.is_deleting:
        return "Pending"
    if "waiting" in states:
        return "Pending"
    if "running" in states or any(_kind(status) == "running" for status in inits):
        return "Running"
    if states and not is_alive and view.has_ended():
        return "Succeeded" if _all_good(mains) else "Failed"
    return "Running" if states else "Pending"


def conditions(
    view: PodView, pod_phase: str, mains: Statuses, inits: Statuses, stimulus: Stimulus
) -> list[dict[str, Any]]:
    """The conditions that belong to the node, in the kubelet's order; times of unchanged ones stay."""
    old = {c.get("type"): c for c in (view.pod.get("status") or {}).get("conditions") or []}
    sandbox = view.sandbox
    containers_ready = _containers_ready(view, pod_phase, mains, inits)
    found = [
        _condition("PodReadyToStartContainers", sandbox is not None and sandbox.is_ready),
        _initialized(view, pod_phase),
        _condition("Ready", not any(containers_ready), containers_ready),
        _condition("ContainersReady", not any(containers_ready), containers_ready),
        _condition("PodScheduled", True),
    ]
    if not any(containers_ready) and (gates := _closed_gates(view, old)):
        found[2] = _condition("Ready", False, ("ReadinessGatesNotReady", gates))
    if view.is_resized():
        text = "this node does not resize containers that run: they get their new resources when they are restarted"
        resize = {"type": "PodResizePending", "status": "True", "reason": "Infeasible"}
        found.append(resize | {"message": text})
    elif "PodResizePending" in old:
        found.append({"type": "PodResizePending", "status": "False"})
    verdict = stimulus.verdict
    if verdict is not None and verdict.reason in _BY_THIS_NODE:
        ended = {"type": "DisruptionTarget", "status": "True"}
        found.append(ended | {"reason": "TerminationByKubelet", "message": verdict.message})
    for condition in found:
        before = old.get(condition["type"]) or {}
        is_same = before.get("status") == condition["status"]
        kept = before.get("lastTransitionTime") if is_same else None
        condition["lastTransitionTime"] = kept or rfc3339(stimulus.now_s)
    return found


def _kind(status: Mapping[str, Any]) -> str:
    """waiting (never ran), running or stopped."""
    if "running" in status["state"]:
        return "running"
    return "waiting" if "waiting" in status["state"] and not status["lastState"] else "stopped"


def _all_good(mains: Statuses) -> bool:
    ends = [(status["state"].get("terminated") or status["lastState"].get("terminated") or {}) for status in mains]
    return bool(ends) and all(end.get("exitCode") == 0 for end in ends)


def _containers_ready(view: PodView, pod_phase: str, mains: Statuses, inits: Statuses) -> tuple[str, str]:
    """Reason and message of the condition; empty when all are ready."""
    if pod_phase in ("Succeeded", "Failed"):
        return ("PodCompleted" if pod_phase == "Succeeded" else "PodFailed"), ""
    sidecars = {str(container["name"]) for container in view.init_containers if view.is_sidecar(container)}
    counted = [status for status in inits if status["name"] in sidecars] + list(mains)
    unready = [str(status["name"]) for status in counted if not status["ready"]]
    if not unready:
        return "", ""
    return "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"


def _initialized(view: PodView, pod_phase: str) -> dict[str, Any]:
    if pod_phase == "Succeeded":
        return {"type": "Initialized", "status": "True", "reason": "PodCompleted"}
    waiting = [str(c["name"]) for c in view.init_containers if not view.is_done(c)]
    why = ("ContainersNotInitialized", f"containers with incomplete status: [{' '.join(waiting)}]")
    return _condition("Initialized", view.is_init_done(), why)


def _closed_gates(view: PodView, known: Mapping[Any, Mapping[str, Any]]) -> str:
    """Why the readiness gates keep the pod from being ready; empty when they do not."""
    texts = []
    for gate in view.spec.get("readinessGates") or []:
        kind = str(gate.get("conditionType"))
        condition = known.get(kind)
        if condition is None:
            texts.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif condition.get("status") != "True":
            texts.append(f'the status of pod readiness gate "{kind}" is not "True", but {condition.get("status")}')
    return ", ".join(texts)


def _condition(kind: str, is_true: bool, why: tuple[str, str] = ("", "")) -> dict[str, Any]:
    reason, message = ("", "") if is_true else why
    found = {"type": kind, "status": "True" if is_true else "False", "reason": reason, "message": message}
    return {key: value for key, value in found.items() if value}
