"""Rotation of container logs on a CRI engine: rename, then tell the engine to open the file anew.

``0.log`` becomes ``0.log.1``, the one before ``0.log.2``, and so on; the last goes. Each step is one rename: a crash in
between loses no line, and the next round goes on. The process runtime rotates by itself, in the same names.

A log that is a link is the engine's own file: behind cri-dockerd it is Docker's, which opens none anew and rotates by
itself (``max-size`` and ``max-file`` of its ``log-opts``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from skerry.base.aio.clock import Clock
from skerry.base.obs.log import get_log
from skerry.runtime.cri.engine import CriRuntime
from skerry.runtime.ports import ContainerState, EngineError, ObservedContainer

log = get_log(__name__)

LOOK_S = 10.0
SOONEST_S = 1.0
MAX_BYTES = 10 * 1024 * 1024
MAX_FILES = 5


class LogRotation:
    """Keeps each container's log at ``max_files`` files of about ``max_bytes``.

    A file may grow beyond ``max_bytes`` by what its container writes until the next look: that comes after ``LOOK_S``,
    and the sooner the faster a log grows, so that a flood takes what it writes in a few times ``SOONEST_S``.

    Args:
        max_files: with the newest; at least 2.
    """

    def __init__(
        self, runtime: CriRuntime, *, clock: Clock, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._max_bytes = max_bytes
        self._max_files = max(2, max_files)

    async def run(self) -> None:
        """Look at every log again and again; never ends."""
        wait_s = LOOK_S
        while True:
            await self._clock.sleep(wait_s)
            try:
                wait_s = next_look_s(wait_s, await self.rotate(), self._max_bytes)
            except EngineError as exc:
                log.debug("logs.engine_away", why=str(exc))

    async def rotate(self) -> int:
        """One round; the size of the largest log that was found, in bytes.

        Raises:
            EngineError: the engine does not tell its containers.
        """
        largest = 0
        for pod in (await self._runtime.observe()).values():
            for container in pod.containers:
                if container.state is ContainerState.RUNNING and container.log_path is not None:
                    largest = max(largest, await self._one(container, container.log_path))
        return largest

    async def _one(self, container: ObservedContainer, path: Path) -> int:
        if path.is_symlink():
            return 0
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            size = -1  # renamed, and the engine was not told: it writes into the renamed file still
        except OSError as exc:
            log.warning("logs.not_rotated", path=str(path), why=str(exc))
            return 0
        if 0 <= size < self._max_bytes:
            return size
        try:
            if size >= 0:
                _shift(path, self._max_files)
            await self._runtime.reopen_log(container.id)
        except (OSError, EngineError) as exc:
            log.warning("logs.not_rotated", container=container.name, path=str(path), why=str(exc))
        return size


def next_look_s(waited_s: float, largest_bytes: int, max_bytes: int) -> float:
    """When a log that grows as fast as the largest has would be full; at most twice as long as the wait before.

    Args:
        waited_s: before the look.
        largest_bytes: the largest log then.
        max_bytes: size at which a log is full.
    """
    full_after_s = waited_s * max_bytes / max(1, largest_bytes)
    return max(SOONEST_S, min(LOOK_S, 2 * waited_s, full_after_s))


def _shift(path: Path, max_files: int) -> None:
    numbered = dict(_rotated(path))
    for number in sorted(numbered, reverse=True):
        if number >= max_files - 1:
            numbered[number].unlink(missing_ok=True)
        else:
            numbered[number].replace(path.with_name(f"{path.name}.{number + 1}"))
    path.replace(path.with_name(f"{path.name}.1"))


def _rotated(path: Path) -> Iterator[tuple[int, Path]]:
    for found in path.parent.glob(f"{path.name}.*"):
        suffix = found.name.removeprefix(f"{path.name}.")
        if suffix.isdecimal():
            yield int(suffix), found
