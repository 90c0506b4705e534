"""What a pod takes on the disk, against what it may. Blocking: call it in a thread.

Memory volumes are bounded by their mount, and are not counted here.
Source of the texts: kubernetes pkg/kubelet/eviction/{eviction_manager,helpers}.go (1.36).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from skerry.api.gvk import Object
from skerry.api.quantity import parse_quantity
from skerry.base.values import Struct

_ENTRIES = 200_000
"""Most files that are looked at; a volume with more is judged by these."""
_STORAGE = "ephemeral-storage"


class Limits(Struct, frozen=True):
    """What a pod may take.

    Args:
        volumes: ``sizeLimit`` of emptyDirs on the disk, by volume; None where there is none.
        containers: limit of ``ephemeral-storage``, by container.
        spare: the most that an init container may take beyond the others, in bytes.
    """

    volumes: Mapping[str, str | None]
    containers: Mapping[str, str]
    spare: int = 0

    def __bool__(self) -> bool:
        return bool(self.containers) or any(self.volumes.values())


def limits_of(pod: Object) -> Limits:
    """The limits of a pod."""
    spec = pod.get("spec") or {}
    volumes = {}
    for volume in spec.get("volumes") or []:
        settings = volume.get("emptyDir")
        if isinstance(settings, Mapping) and settings.get("medium") != "Memory":
            volumes[str(volume["name"])] = settings.get("sizeLimit")
    early = spec.get("initContainers") or []
    mains = _of([*(spec.get("containers") or []), *(c for c in early if c.get("restartPolicy") == "Always")])
    inits = _of([c for c in early if c.get("restartPolicy") != "Always"])
    total = sum(parse_quantity(limit).value for limit in mains.values())
    most = max((parse_quantity(limit).value for limit in inits.values()), default=0)
    return Limits(volumes, mains, max(0, most - total) if mains else 0)


def over_limit(limits: Limits, volumes: Path, logs: Path, layers: Mapping[str, int]) -> str:
    """Who holds more than it may; empty when nobody does.

    Args:
        volumes: the pod's volumes, a directory each.
        logs: the pod's logs, a directory for each container.
        layers: bytes of the writable layer of each container.
    """
    total = 0
    for name, limit in limits.volumes.items():
        used = used_bytes(volumes / name) if limit or limits.containers else 0
        total += used
        if limit and used > parse_quantity(limit).value:
            return f'Usage of EmptyDir volume "{name}" exceeds the limit "{limit}". '
    if not limits.containers:
        return ""
    found = {name: layers.get(name, 0) + used_bytes(logs / name) for name in {*limits.containers, *layers}}
    for name, text in limits.containers.items():
        if found[name] > parse_quantity(text).value:
            return f'Container {name} exceeded its local ephemeral storage limit "{text}". '
    allowed = limits.spare + sum(parse_quantity(text).value for text in limits.containers.values())
    if total + sum(found.values()) > allowed:
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {allowed}. "
    return ""


def used_bytes(directory: Path) -> int:
    """Blocks of the files below ``directory``, never following links; 0 where there is none."""
    found, left = 0, _ENTRIES
    if not directory.is_dir():
        return 0
    for _, _, names, fd in os.fwalk(directory, follow_symlinks=False, onerror=None):
        for name in names:
            try:
                found += os.stat(name, dir_fd=fd, follow_symlinks=False).st_blocks * 512
            except FileNotFoundError:
                continue
        left -= len(names) + 1
        if left <= 0:
            break
    return found


def _of(containers: list[Object]) -> dict[str, str]:
    limits = {str(c["name"]): ((c.get("resources") or {}).get("limits") or {}).get(_STORAGE) for c in containers}
    return {name: str(limit) for name, limit in limits.items() if limit}
