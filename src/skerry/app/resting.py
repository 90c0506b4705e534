"""A supervisor of processes that becomes a small waiting program (``waiter.py``) until a signal comes.

The kernel keeps what matters over that: the process id, so that children stay ours and everybody's kill finds us; the
lock of the directory; and signals, which are blocked from before our last look until after our next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from skerry.base.values import Struct

_WAITER = Path(__file__).with_name("waiter.py")
_SIGNALS = (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM)
_LOCK = "SKERRY_GROUP_LOCK"
_TOLD = "SKERRY_GROUP_TOLD"
OURS = (_LOCK, _TOLD)
"""Environment variables by which we tell ourselves; no child should see them."""
_TURNS = 4


class Woken(Struct, frozen=True):
    """What we were before this program began.

    Args:
        lock: descriptor of the directory's lock.
        is_told_to_stop: whether SIGINT or SIGTERM woke us; else a child ended.
    """

    lock: int
    is_told_to_stop: bool


def woken(environment: Mapping[str, str]) -> Woken | None:
    """How we were woken; None in a program that did not rest before."""
    try:
        lock, told = int(environment[_LOCK]), int(environment[_TOLD])
        os.fstat(lock)
    except (KeyError, ValueError, OSError):
        return None
    return Woken(lock, told in (signal.SIGINT, signal.SIGTERM))


def listen_again() -> None:
    """Take signals again, once handlers for them are in place."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


async def rest(children: Sequence[int], *, lock: int, stop: asyncio.Event) -> None:
    """Become the waiting program. Returns only when there is something to do: ``stop`` is set or a child has ended.

    Args:
        children: process ids; 0 for one that does not run.
        lock: a descriptor that the next program gets.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    for _ in range(_TURNS):  # a signal from before that goes through the loop to ``stop``
        await asyncio.sleep(0)
    if stop.is_set() or not all(map(_lives, children)):
        listen_again()
        return
    os.set_inheritable(lock, True)
    sys.stdout.flush()
    sys.stderr.flush()
    again = [sys.executable, *sys.orig_argv[1:]]
    os.execve(sys.executable, [sys.executable, "-I", "-S", str(_WAITER), *again], {**os.environ, _LOCK: str(lock)})


def _lives(pid: int) -> bool:
    try:
        return pid > 0 and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def _await_end(pid: int) -> None:
    """Block until a child has ended; it is for ``returncode`` to ask how."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


class Adopted:
    """A child that was started before this program began, as ``asyncio.subprocess.Process`` shows one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    @property
    def returncode(self) -> int | None:
        """Its exit code, minus the signal that ended it, or None while it runs."""
        if self._code is None:
            try:
                ended, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                ended, status = self.pid, 0
            if ended:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    async def wait(self) -> int:
        """Wait until it ends; its exit code."""
        while (code := self.returncode) is None:
            await asyncio.to_thread(_await_end, self.pid)
        return code

    def send_signal(self, number: int) -> None:
        """Signal it, unless it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)
