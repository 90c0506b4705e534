"""What a pod may have on a node of the process runtime, and as whom its programs run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from skerry.runtime.ports import ContainerSpec, EngineRefused
from skerry.runtime.process.settings import ProcessSettings

_IDS = ("runAsUser", "runAsGroup", "supplementalGroups", "fsGroup")


def check_pod(pod: Mapping[str, object], settings: ProcessSettings) -> None:
    """Refuse what a pod asks of the whole node.

    Raises:
        EngineRefused: names the field and the setting that allows it.
    """
    spec: Any = pod.get("spec") or {}
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name) and not settings.allow_host_namespaces:
            raise _refused(f"spec.{name} is not allowed on this node", "allowPrivileged")
    for volume in spec.get("volumes") or []:
        if volume.get("hostPath") is not None and not settings.allow_host_paths:
            raise _refused(f"hostPath volume {volume.get('name')!r} is not allowed on this node", "allowPrivileged")


def check_container(spec: ContainerSpec, pod: Mapping[str, object], own: int | None, settings: ProcessSettings) -> None:
    """Refuse what one container asks for.

    Args:
        own: the pod's user id; None where the agent is not root.

    Raises:
        EngineRefused: names the field and the setting that allows it.
    """
    if not spec.command:
        raise EngineRefused(
            f"container {spec.name!r} has no command: it runs as a process here, its image is only a label",
            reason="CreateContainerError",
            hint=f"set spec.containers[].command of {spec.name!r}, or give the node a container engine",
        )
    security: Any = spec.container.get("securityContext") or {}
    if security.get("privileged") and not settings.allow_privileged:
        raise _refused(f"privileged container {spec.name!r} is not allowed on this node", "allowPrivileged")
    whole: Any = part(pod, "spec").get("securityContext") or {}
    for name in _IDS:
        asked = security.get(name, whole.get(name))
        if asked not in (None, []):
            _check_id(name, asked, spec.name, own, settings)


def _check_id(name: str, asked: Any, container: str, own: int | None, settings: ProcessSettings) -> None:
    """Refuse an id that the program would not get, or that is another pod's."""
    what = f"{name} {asked!r} of container {container!r}"
    is_root = os.geteuid() == 0
    if asked == own if is_root else has_already(name, asked):
        return
    if not settings.allow_privileged:
        raise _refused(f"{what} is not allowed on this node", "allowPrivileged")
    if not is_root:
        raise EngineRefused(f"{what} cannot be had: the agent is not root", hint="run the agent as root")
    pods = range(settings.uid_base, settings.uid_base + settings.uid_count)
    if is_root and any(int(number) in pods for number in (asked if isinstance(asked, list) else [asked])):
        raise EngineRefused(
            f"{what} is one of those that belong to pods ({pods.start} to {pods.stop - 1})",
            hint="choose an id outside of this range",
        )


def is_privileged(container: Mapping[str, object], settings: ProcessSettings) -> bool:
    """Whether the container runs without confinement: it asks for that, and the node allows it."""
    security: Any = container.get("securityContext") or {}
    return bool(security.get("privileged")) and settings.allow_privileged


def ids(
    container: Mapping[str, object], pod: Mapping[str, object], own: int | None, settings: ProcessSettings
) -> tuple[int | None, int | None, list[int]]:
    """User, group and further groups of a container's program; the pod's own unless it may ask for others."""
    security: Any = container.get("securityContext") or {}
    whole: Any = part(pod, "spec").get("securityContext") or {}
    if not settings.allow_privileged or os.geteuid() != 0:
        return own, own, []
    user = security.get("runAsUser", whole.get("runAsUser"))
    group = security.get("runAsGroup", whole.get("runAsGroup"))
    groups = [int(g) for g in whole.get("supplementalGroups") or []]
    if whole.get("fsGroup") is not None:
        groups.append(int(whole["fsGroup"]))
    if user is None:
        user = 0 if security.get("privileged") else own
    return user, user if group is None else group, groups


def has_already(name: str, asked: Any) -> bool:
    """Whether an agent that is not root has an id itself, so that its pods have it too."""
    if name == "runAsUser":
        return bool(asked == os.geteuid())
    mine = {os.getegid(), *os.getgroups()}
    if name == "runAsGroup":
        return bool(asked == os.getegid())
    return {int(number) for number in (asked if isinstance(asked, list) else [asked])} <= mine


def part(value: Mapping[str, object], name: str) -> Mapping[str, Any]:
    """A mapping in a mapping; empty where there is none."""
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}


def _refused(message: str, setting: str) -> EngineRefused:
    return EngineRefused(
        message, hint=f"remove it from the pod, or allow it with {setting} in the node's configuration"
    )
