"""The processes by which engines watch over containers: containerd's shims and CRI-O's conmon.

Source: containerd runtime/v2/README.md (``-id``: the sandbox that it is for), conmon(8).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_NAMES = ("containerd-shim", "conmon")
_ID_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Supervisors:
    """Some, by handles that stay theirs whatever becomes of their numbers."""

    handles: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many."""
        return len(self.handles)

    def end(self) -> None:
        """Kill them."""
        for handle in self.handles:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)


@contextlib.contextmanager
def supervisors_of(pids: Collection[int], *, known: Collection[str]) -> Iterator[Supervisors]:
    """Those that watch over processes of lost containers, and over none of the containers ``known``."""
    found: dict[int, int] = {}
    try:
        for pid in pids:
            parent = _parent(pid)
            if parent in found:
                continue
            with contextlib.suppress(OSError):
                found[parent] = os.pidfd_open(parent)
                if not _is_lost(parent, known):  # looked at through a number that the handle keeps from being reused
                    os.close(found.pop(parent))
        yield Supervisors(tuple(found.values()))
    finally:
        for handle in found.values():
            os.close(handle)


@contextlib.contextmanager
def supervisors_for(ids: Collection[str]) -> Iterator[Supervisors]:
    """Those that were started for one of these sandboxes or containers, whether anything runs below them or not."""
    found: list[int] = []
    try:
        for name in os.listdir("/proc"):  # noqa: PTH208 - a few thousand entries, without an object for each
            if name.isdigit() and _ids(int(name)) & set(ids):
                with contextlib.suppress(OSError):
                    found.append(os.pidfd_open(int(name)))
                    if not _ids(int(name)) & set(ids):  # another process meanwhile
                        os.close(found.pop())
        yield Supervisors(tuple(found))
    finally:
        for handle in found:
            os.close(handle)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _is_lost(pid: int, known: Collection[str]) -> bool:
    ids = _ids(pid)
    return bool(ids) and not ids & set(known)


def _ids(pid: int) -> set[str]:
    """What a supervisor was started for; nothing for any other process."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return set()
    if not words[0].rpartition("/")[2].startswith(_NAMES):
        return set()
    return {word for word in words if len(word) == _ID_LENGTH and word.isalnum()}
