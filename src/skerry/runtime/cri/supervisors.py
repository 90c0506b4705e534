"""The processes by which engines watch over containers: containerd's shims and CRI-O's conmon.

Source: containerd runtime/v2/README.md (``-id``: the sandbox that it is for), runtime/v2/shim/util_unix.go (where it
listens), conmon(8).
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import select
import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from skerry.base.aio.clock import Clock
from skerry.base.values import Struct

_NAMES = ("containerd-shim", "conmon")
_SOCKETS = Path("/run/containerd/s")
"""Of all containerds that root runs."""
_ID_LENGTH = 64
_ERRANDS = ("start", "delete")
"""Last words of those that run for a moment only: they are the engine's own business."""
_LOOK_S = 0.02


class Supervisors(Struct, frozen=True):
    """Some, by handles that stay theirs whatever becomes of their numbers.

    Args:
        sockets: where each listens; None where that is not known.
    """

    handles: tuple[int, ...]
    sockets: tuple[Path | None, ...]

    @property
    def count(self) -> int:
        """How many."""
        return len(self.handles)

    def end(self) -> int:
        """Kill them, and remove their sockets; how many. An agent that is not root may not, and leaves them."""
        ended = 0
        for handle, path in zip(self.handles, self.sockets, strict=True):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                ended += 1
                if path is not None:
                    path.unlink(missing_ok=True)
        return ended

    async def have_ended(self, *, within_s: float, clock: Clock) -> bool:
        """Whether all of them end by themselves; looks for ``within_s``."""
        deadline_s = clock.monotonic_s() + within_s
        while self._is_any_running():
            if clock.monotonic_s() >= deadline_s:
                return False
            await clock.sleep(_LOOK_S)
        return True

    def _is_any_running(self) -> bool:
        ended = select.poll()
        for handle in self.handles:
            ended.register(handle, select.POLLIN)
        return len(ended.poll(0)) < len(self.handles)


@contextlib.contextmanager
def supervisors_of(pids: Collection[int], *, known: Collection[str]) -> Iterator[Supervisors]:
    """Those that watch over processes of lost containers, and over none of the containers ``known``."""
    found: dict[int, int] = {}
    sockets: dict[int, Path | None] = {}
    try:
        for pid in pids:
            parent = parent_of(pid)
            if parent in found:
                continue
            with contextlib.suppress(OSError):
                found[parent] = os.pidfd_open(parent)
                if not _is_lost(parent, known):  # looked at through a number that the handle keeps from being reused
                    os.close(found.pop(parent))
                else:
                    sockets[parent] = socket_of(words_of(parent))
        yield Supervisors(tuple(found.values()), tuple(sockets.values()))
    finally:
        for handle in found.values():
            os.close(handle)


@contextlib.contextmanager
def supervisors_for(ids: Collection[str]) -> Iterator[Supervisors]:
    """Those that were started for one of these sandboxes or containers, whether anything runs below them or not."""
    wanted = set(ids)
    with supervisors_that(lambda pid: bool(_ids(pid) & wanted)) as found:
        yield found


@contextlib.contextmanager
def supervisors_that(is_wanted: Callable[[int], bool]) -> Iterator[Supervisors]:
    """Those processes that are wanted.

    Args:
        is_wanted: by the process' number; False for one that has ended, and for every process but a supervisor.
    """
    found: list[int] = []
    sockets: list[Path | None] = []
    try:
        for name in os.listdir("/proc"):  # noqa: PTH208 - a few thousand entries, without an object for each
            if name.isdigit() and is_wanted(int(name)):
                with contextlib.suppress(OSError):
                    found.append(os.pidfd_open(int(name)))
                    if not is_wanted(int(name)):  # another process meanwhile
                        os.close(found.pop())
                    else:
                        sockets.append(socket_of(words_of(int(name))))
        yield Supervisors(tuple(found), tuple(sockets))
    finally:
        for handle in found:
            os.close(handle)


def words_of(pid: int) -> list[str]:
    """A supervisor's command line; nothing for any other process, nor for one that only runs an errand."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
    return words if is_supervisor(words) else []


def is_supervisor(words: Sequence[str]) -> bool:
    """Whether a command line is a supervisor's. Pure."""
    told = [word for word in words if word]
    return bool(told) and told[0].rpartition("/")[2].startswith(_NAMES) and told[-1] not in _ERRANDS


def socket_of(words: Sequence[str]) -> Path | None:
    """Where a shim of containerd listens, by its command line; None for any other. Pure."""
    told = dict(itertools.pairwise(words[1:]))
    parts = [told.get(f"-{name}", "") for name in ("address", "namespace", "id")]
    if not all(parts):
        return None
    return _SOCKETS / hashlib.sha256(os.path.normpath("/".join(parts)).encode()).hexdigest()


def parent_of(pid: int) -> int:
    """Number of the parent of a process; 0 where there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _is_lost(pid: int, known: Collection[str]) -> bool:
    ids = _ids(pid)
    return bool(ids) and not ids & set(known)


def _ids(pid: int) -> set[str]:
    """What a supervisor was started for; nothing for any other process."""
    return {word for word in words_of(pid) if len(word) == _ID_LENGTH and word.isalnum()}
