"""What the volumes of a pod take on the disk, against what it may. Blocking: call it in a thread.

Memory volumes are bounded by their mount, and are not counted here.
Source of the text: kubernetes pkg/kubelet/eviction/eviction_manager.go:emptyDirLimitEviction (1.36).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from skerry.api.gvk import Object
from skerry.api.quantity import parse_quantity

_ENTRIES = 200_000
"""Most files that are looked at; a volume with more is judged by these."""


def limits_of(pod: Object) -> dict[str, str]:
    """Limits of the pod's emptyDirs on the disk, by volume."""
    found = {}
    for volume in (pod.get("spec") or {}).get("volumes") or []:
        settings = volume.get("emptyDir") or {}
        if settings.get("sizeLimit") and settings.get("medium") != "Memory":
            found[str(volume["name"])] = str(settings["sizeLimit"])
    return found


def over_limit(limits: Mapping[str, str], volumes: Path) -> str:
    """Which emptyDir holds more than its ``sizeLimit``; empty when none does."""
    for name, limit in limits.items():
        if used_bytes(volumes / name) > parse_quantity(limit).value:
            return f'Usage of EmptyDir volume "{name}" exceeds the limit "{limit}". '
    return ""


def used_bytes(directory: Path) -> int:
    """Blocks of the files below ``directory``, never following links."""
    found, left = 0, _ENTRIES
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
