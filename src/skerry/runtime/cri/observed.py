"""What a CRI engine tells: its messages → ObservedSandbox, ObservedContainer, ObservedPod. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from skerry.base.values import Struct
from skerry.runtime.cri.spec import CONTAINER_NAME, IMAGE, LOG_PATH, OWN_ANNOTATIONS, POD_UID, SPEC_HASH
from skerry.runtime.ports import ContainerState, ObservedContainer, ObservedPod, ObservedSandbox

_STATES = (ContainerState.CREATED, ContainerState.RUNNING, ContainerState.EXITED, ContainerState.UNKNOWN)
_NS = 1e9

Message = Mapping[str, Any]


class Details(Struct, frozen=True):
    """The part of a container's status that a list does not tell. ``log_path`` is absolute, or empty."""

    started_at_s: float = 0.0
    finished_at_s: float = 0.0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    log_path: str = ""


def sandbox_from(item: Message, ips: tuple[str, ...]) -> ObservedSandbox:
    """A PodSandbox of a list, with the addresses of its status."""
    metadata = item.get("metadata", {})
    return ObservedSandbox(
        id=item["id"],
        namespace=metadata.get("namespace", ""),
        name=metadata.get("name", ""),
        uid=metadata.get("uid", ""),
        attempt=metadata.get("attempt", 0),
        is_ready=item.get("state", 0) == 0,
        created_at_s=item.get("created_at", 0) / _NS,
        ips=ips,
        annotations=item.get("annotations", {}),
    )


def ips_from(status: Message) -> tuple[str, ...]:
    """Addresses of a PodSandboxStatus; empty with the host's network."""
    network = status.get("network", {})
    first = network.get("ip", "")
    more = [entry.get("ip", "") for entry in network.get("additional_ips", [])]
    return tuple(ip for ip in (first, *more) if ip)


def state_of(item: Message) -> ContainerState:
    """State of a Container of a list."""
    value = item.get("state", 0)
    return _STATES[value] if 0 <= value < len(_STATES) else ContainerState.UNKNOWN


def details_from(status: Message) -> Details:
    """Details of a ContainerStatus."""
    return Details(
        started_at_s=max(0, status.get("started_at", 0)) / _NS,
        finished_at_s=max(0, status.get("finished_at", 0)) / _NS,
        exit_code=status.get("exit_code", 0),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        log_path=status.get("log_path", ""),
    )


def container_from(item: Message, details: Details) -> ObservedContainer:
    """A Container of a list with its details; one that another agent made has no annotations of ours."""
    annotations = item.get("annotations", {})
    metadata = item.get("metadata", {})
    log_path = annotations.get(LOG_PATH) or details.log_path
    image = item.get("image", {})
    return ObservedContainer(
        id=item["id"],
        sandbox_id=item.get("pod_sandbox_id", ""),
        name=metadata.get("name", "") or item.get("labels", {}).get(CONTAINER_NAME, ""),
        attempt=metadata.get("attempt", 0),
        state=state_of(item),
        image=annotations.get(IMAGE) or image.get("user_specified_image") or image.get("image", ""),
        image_ref=item.get("image_ref", ""),
        created_at_s=item.get("created_at", 0) / _NS,
        started_at_s=details.started_at_s,
        finished_at_s=details.finished_at_s,
        exit_code=details.exit_code,
        signal=details.exit_code - 128 if 128 < details.exit_code < 160 else 0,
        reason=details.reason,
        message=details.message,
        log_path=Path(log_path) if log_path else None,
        spec_hash=annotations.get(SPEC_HASH, ""),
        annotations={key: value for key, value in annotations.items() if key not in OWN_ANNOTATIONS},
    )


def pods_from(
    sandboxes: Iterable[ObservedSandbox], containers: Iterable[tuple[Message, ObservedContainer]]
) -> dict[str, ObservedPod]:
    """Pods by uid: sandboxes newest first, containers newest attempt first."""
    by_uid: dict[str, list[ObservedSandbox]] = {}
    for sandbox in sandboxes:
        by_uid.setdefault(sandbox.uid, []).append(sandbox)
    of_pod: dict[str, list[ObservedContainer]] = {}
    for item, container in containers:
        of_pod.setdefault(item.get("labels", {}).get(POD_UID, ""), []).append(container)
    return {
        uid: ObservedPod(
            uid=uid,
            namespace=found[0].namespace,
            name=found[0].name,
            sandboxes=tuple(sorted(found, key=lambda s: (s.attempt, s.created_at_s), reverse=True)),
            containers=tuple(sorted(of_pod.get(uid, ()), key=lambda c: (c.attempt, c.created_at_s), reverse=True)),
        )
        for uid, found in by_uid.items()
    }
