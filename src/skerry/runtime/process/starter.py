"""The agent's side of the shims: run the starter, ask it for shims, watch and signal processes by identity."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import skerry
from skerry.base.aio.supervise import Supervisor
from skerry.runtime.ports import EngineError
from skerry.runtime.process.shim import start_time

_START_S = 20.0
_POLL_S = 0.5
_SOURCE = Path(skerry.__file__).parent.parent
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from skerry.runtime.process import shim; shim.{0}()"


class Starter:
    """Runs one starter process and restarts it when it is gone. Shims live on without it."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()
        self._waiting: dict[str, asyncio.Future[str]] = {}

    async def start(self, directory: Path) -> None:
        """Start the container in ``directory``; returns when its program runs.

        Raises:
            EngineError: the program could not be started, or the shim did not answer.
        """
        text = await self._ask(directory, _START_S)
        if text:
            raise EngineError(text, reason="RunContainerError")

    async def exec(self, request: Path, *, timeout_s: float) -> None:
        """Run the command that a request names; its answer lies beside it then.

        Raises:
            EngineError: it could not be tried, or there was no answer.
        """
        text = await self._ask(request, timeout_s + _START_S)
        if text not in ("", "done"):
            raise EngineError(text, reason="ExecError")

    async def _ask(self, path: Path, timeout_s: float) -> str:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[path.name] = answer
        try:
            async with self._lock:
                process = await self._running()
            assert process.stdin is not None
            process.stdin.write(os.fsencode(path) + b"\n")
            async with asyncio.timeout(timeout_s):
                return await answer
        except (TimeoutError, OSError) as exc:
            raise EngineError(
                f"the starter of processes did not answer in {timeout_s:.0f} s", reason="RunContainerError"
            ) from exc
        finally:
            self._waiting.pop(path.name, None)

    async def can_unshare(self) -> bool:
        """Whether containers can have a file system view of their own."""
        probe = await asyncio.create_subprocess_exec(
            *_command("probe"), stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, env={}, cwd="/"
        )
        return await probe.wait() == 0

    async def aclose(self) -> None:
        """End the starter; containers keep running."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *_command("serve"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                env={},
                cwd="/",
            )
            self._supervisor.detach("starter", self._listen(self._process))
        return self._process

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            name, _, text = line.decode(errors="replace").strip().partition(" ")
            answer = self._waiting.get(name)
            if answer is not None and not answer.done():
                answer.set_result("" if text == "started" else text.removeprefix("failed "))
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_result("the starter of processes ended")


class Watch:
    """Tells when processes end, by pidfd where the kernel has it, else by looking twice a second.

    Args:
        ended: called with the key of each process that ended.
    """

    def __init__(self, ended: Callable[[str], None]) -> None:
        self._ended = ended
        self._fds: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def add(self, key: str, pid: int, started: int) -> None:
        """Watch a process; ``ended`` is called soon when it has ended already."""
        if key in self._fds or key in self._timers:
            return
        loop = asyncio.get_running_loop()
        fd = open_process(pid, started)
        if fd is None:
            self._timers[key] = loop.call_later(_POLL_S, self._look, key, pid, started)
        elif fd < 0:
            loop.call_soon(self._ended, key)
        else:
            self._fds[key] = fd
            loop.add_reader(fd, self._gone, key)

    def close(self) -> None:
        """Watch nothing any more."""
        for fd in self._fds.values():
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)
        for timer in self._timers.values():
            timer.cancel()
        self._fds.clear()
        self._timers.clear()

    def _gone(self, key: str) -> None:
        fd = self._fds.pop(key)
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)
        self._ended(key)

    def _look(self, key: str, pid: int, started: int) -> None:
        if start_time(pid) == started:
            self._timers[key] = asyncio.get_running_loop().call_later(_POLL_S, self._look, key, pid, started)
            return
        del self._timers[key]
        self._ended(key)


def open_process(pid: int, started: int) -> int | None:
    """A pidfd of exactly the process that began at ``started``; -1 when it is gone, None without kernel support."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return -1
    except OSError as exc:
        if exc.errno in (errno.ENOSYS, errno.EPERM):
            return None
        raise
    if start_time(pid) == started:
        return fd
    os.close(fd)
    return -1


def send_signal(pid: int, started: int, number: int) -> None:
    """Signal exactly the process that began at ``started``; nothing happens when it is gone."""
    fd = open_process(pid, started)
    with contextlib.suppress(ProcessLookupError):
        if fd is None and start_time(pid) == started:
            os.kill(pid, number)
        elif fd is not None and fd >= 0:
            try:
                signal.pidfd_send_signal(fd, number)
            finally:
                os.close(fd)


def end_session(pid: int, started: int) -> None:
    """Kill everything in the session that the program ``pid`` led, also when it has ended itself.

    A number cannot be given to a new process while a session bears it, so members without a leader are ours.
    """
    if start_time(pid) not in (0, started):
        return
    for entry in os.scandir("/proc"):
        member = int(entry.name) if entry.name.isdigit() else 0
        try:
            if member and os.getsid(member) == pid:
                send_signal(member, start_time(member), signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def _command(function: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-E", "-c", _BOOT.format(function), str(_SOURCE)]
