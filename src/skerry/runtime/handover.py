"""Volumes of pods that pass from a kubelet's directories to ours, and back, under running containers.

A directory is renamed, so that containers go on with the same files; a memory volume is mounted at its new place and
unmounted at its old one. Where the two lie on different disks a link is left, and the files stay where they are.

Source: kubelet pkg/kubelet/kubelet_getters.go (1.32): ``<root>/pods/<uid>/volumes/kubernetes.io~<plugin>/<name>``.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from skerry.api.gvk import Object
from skerry.base.values import Struct
from skerry.runtime.mounting import move_mount

_PLUGINS = {
    "emptyDir": "kubernetes.io~empty-dir",
    "configMap": "kubernetes.io~configmap",
    "secret": "kubernetes.io~secret",
    "projected": "kubernetes.io~projected",
    "downwardAPI": "kubernetes.io~downward-api",
}


class Move(Struct, frozen=True):
    """One volume's way."""

    source: Path
    target: Path

    def back(self) -> Move:
        """The opposite."""
        return Move(self.target, self.source)


def to_us(pods: Sequence[Object], *, kubelet: Path, ours: Path) -> list[Move]:
    """The moves that bring volumes of ``pods`` from below ``kubelet`` (its root directory) to below ``ours``."""
    return [
        Move(kubelet / "pods" / uid / "volumes" / plugin / name, ours / uid / "volumes" / name)
        for uid, name, plugin in _volumes(pods)
    ]


def to_kubelet(pods: Sequence[Object], *, kubelet: Path, ours: Path) -> list[Move]:
    """The opposite moves."""
    return [move.back() for move in to_us(pods, kubelet=kubelet, ours=ours)]


def carry_out(move: Move) -> bool:
    """Do one move; False when there is nothing to move, or the target is there already.

    Raises:
        OSError: the file system refuses.
    """
    if not move.source.exists() or move.target.exists():
        return False
    move.target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    if move.source.is_symlink():  # it never left: a link that a former move made
        real = move.source.resolve()
        move.source.unlink()
        if real != move.target:
            move.target.symlink_to(real)
    elif move.source.is_mount():
        move.target.mkdir()
        move_mount(move.source, move.target)
        move.source.rmdir()
    else:
        try:
            move.source.rename(move.target)
        except OSError as exc:
            if exc.errno != errno.EXDEV:
                raise
            move.target.symlink_to(move.source)
    return True


def _volumes(pods: Sequence[Object]) -> Iterator[tuple[str, str, str]]:
    for pod in pods:
        for volume in (pod.get("spec") or {}).get("volumes") or []:
            if (plugin := _plugin(volume)) is not None:
                yield str(pod["metadata"]["uid"]), str(volume.get("name")), plugin


def _plugin(volume: Mapping[str, Any]) -> str | None:
    sources = [key for key, value in volume.items() if key != "name" and value is not None]
    return _PLUGINS.get(sources[0] if sources else "emptyDir")
