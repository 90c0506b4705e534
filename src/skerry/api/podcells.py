"""The cells of a pod in ``kubectl get pods``: READY, STATUS, RESTARTS.

Source: kubernetes pkg/printers/internalversion/printers.go:printPod (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skerry.api.gvk import Object
from skerry.api.meta import parse_rfc3339

_NONE = "<none>"
_ENDED = ("Succeeded", "Failed")


def pod_cells(pod: Object, *, age_text: str, since: Callable[[str | None], str]) -> list[Any]:
    """All cells in the order of the columns.

    Args:
        age_text: age of the pod.
        since: age of a time stamp.
    """
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    reader = _Reader(pod)
    reason = reader.reason()
    restarts = str(reader.restarts)
    if reader.restarts and reader.last_restart:
        restarts = f"{restarts} ({since(reader.last_restart)} ago)"
    ips = [item.get("ip") for item in status.get("podIPs") or []] or [status.get("podIP")]
    return [
        (pod.get("metadata") or {}).get("name", ""), f"{reader.ready}/{reader.total}", reason, restarts, age_text,
        ips[0] or _NONE, spec.get("nodeName") or _NONE, status.get("nominatedNodeName") or _NONE, _gates(spec, status),
    ]  # fmt: skip


def pod_row_conditions(pod: Object) -> list[dict[str, str]]:
    """``conditions`` of the row of a pod that has ended."""
    phase = (pod.get("status") or {}).get("phase")
    if phase not in _ENDED:
        return []
    message = "The pod has completed successfully." if phase == "Succeeded" else "The pod failed."
    return [{"type": "Completed", "status": "True", "reason": phase, "message": message}]


class _Reader:
    """One pass over a pod's containers."""

    def __init__(self, pod: Object) -> None:
        self._pod = pod
        self._spec = pod.get("spec") or {}
        self._status = pod.get("status") or {}
        self._sidecars = {
            item.get("name") for item in self._spec.get("initContainers") or [] if item.get("restartPolicy") == "Always"
        }
        self.ready = 0
        self.total = len(self._spec.get("containers") or []) + len(self._sidecars)
        self.restarts = 0
        self.last_restart: str | None = None
        self._sidecar_restarts = 0
        self._sidecar_last: str | None = None

    def reason(self) -> str:
        """STATUS; also counts ready containers and restarts."""
        reason = self._status.get("reason") or self._status.get("phase") or ""
        for condition in self._status.get("conditions") or []:
            if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
                reason = "SchedulingGated"
        waiting = self._init_reason()
        if waiting:
            reason = waiting
        if not waiting or self._is_initialized():
            reason = self._main_reason(reason)
        return self._ending_reason(reason)

    def _init_reason(self) -> str:
        """``Init:…`` while an init container is not done, else empty."""
        statuses = self._status.get("initContainerStatuses") or []
        for index, container in enumerate(statuses):
            is_sidecar = container.get("name") in self._sidecars
            self._count(container, is_sidecar=is_sidecar)
            state = container.get("state") or {}
            ended, waiting = state.get("terminated"), state.get("waiting")
            if ended is not None and ended.get("exitCode", 0) == 0:
                continue
            if is_sidecar and container.get("started"):
                if container.get("ready"):
                    self.ready += 1
                continue
            if ended is not None:
                return f"Init:{_ended_reason(ended)}"
            if waiting and waiting.get("reason") not in (None, "", "PodInitializing"):
                return f"Init:{waiting['reason']}"
            return f"Init:{index}/{len(self._spec.get('initContainers') or statuses)}"
        return ""

    def _is_initialized(self) -> bool:
        return self._has_condition("Initialized")

    def _has_condition(self, kind: str) -> bool:
        conditions = self._status.get("conditions") or []
        return any(item.get("type") == kind and item.get("status") == "True" for item in conditions)

    def _main_reason(self, reason: str) -> str:
        self.restarts, self.last_restart = self._sidecar_restarts, self._sidecar_last
        is_any_running, error = False, ""
        for container in reversed(self._status.get("containerStatuses") or []):
            self._count(container, is_sidecar=False)
            state = container.get("state") or {}
            waiting, ended, running = state.get("waiting"), state.get("terminated"), state.get("running")
            if waiting is not None and waiting.get("reason"):
                reason = error = waiting["reason"]
            elif ended is not None:
                reason = _ended_reason(ended)
                if reason != "Completed":
                    error = reason
            elif container.get("ready") and running is not None:
                is_any_running = True
                self.ready += 1
        if reason != "Completed":
            return reason
        if is_any_running and self._has_condition("Ready"):
            return "Running"
        if error:
            return error
        return "NotReady" if is_any_running else reason

    def _ending_reason(self, reason: str) -> str:
        if not (self._pod.get("metadata") or {}).get("deletionTimestamp"):
            return reason
        if self._status.get("reason") == "NodeLost":
            return "Unknown"
        return reason if self._status.get("phase") in _ENDED else "Terminating"

    def _count(self, container: dict[str, Any], *, is_sidecar: bool) -> None:
        self.restarts += container.get("restartCount", 0)
        ended = ((container.get("lastState") or {}).get("terminated") or {}).get("finishedAt")
        self.last_restart = _later(self.last_restart, ended)
        if is_sidecar:
            self._sidecar_restarts += container.get("restartCount", 0)
            self._sidecar_last = _later(self._sidecar_last, ended)


def _ended_reason(ended: dict[str, Any]) -> str:
    if ended.get("reason"):
        return str(ended["reason"])
    if ended.get("signal"):
        return f"Signal:{ended['signal']}"
    return f"ExitCode:{ended.get('exitCode', 0)}"


def _later(left: str | None, right: str | None) -> str | None:
    if not right:
        return left
    return right if left is None or (parse_rfc3339(right) or 0.0) > (parse_rfc3339(left) or 0.0) else left


def _gates(spec: dict[str, Any], status: dict[str, Any]) -> str:
    gates = spec.get("readinessGates") or []
    if not gates:
        return _NONE
    true = {item.get("type") for item in status.get("conditions") or [] if item.get("status") == "True"}
    return f"{sum(gate.get('conditionType') in true for gate in gates)}/{len(gates)}"
