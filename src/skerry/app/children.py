"""Child processes of ``skerry up`` and ``skerry demo``: the cloud and one edge agent, each its own process."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from skerry.app import resting
from skerry.base import json
from skerry.base.errors import ConfigError, SkerryError
from skerry.base.files import write_atomic
from skerry.base.obs.log import get_log
from skerry.runtime.process.shim import start_time
from skerry.runtime.process.starter import open_process, send_signal

log = get_log(__name__)

PIDS = "pids"
_STOP_S = 10.0
_SET_PDEATHSIG = 1


class ChildFailed(SkerryError):
    """A child process ended before it was ready, or was not ready in time."""


class Child:
    """One process that is told to stop when we die. ``skerry`` says on stdout, as JSON, that it serves.

    Args:
        name: for logs.
        arguments: of the program.
        program: another program than ``skerry``; it serves once ``serves_on`` takes connections.
        log_file: where its stderr goes.
        pid_file: says which process it is, so that a later start can end one that outlived us (``end_left_over``).
    """

    def __init__(
        self, name: str, arguments: Sequence[str], *, log_file: Path, environment: Mapping[str, str],
        pid_file: Path | None = None, program: Sequence[str] = (), serves_on: tuple[str, int] | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self._program = program or (sys.executable, "-m", "skerry.cli.main")
        self._serves_on = serves_on
        self.log_file = log_file
        self._pid_file = pid_file
        self.ready: dict[str, Any] = {}
        self._arguments = arguments
        self._environment = environment
        self._process: asyncio.subprocess.Process | resting.Adopted | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 when it does not run."""
        return self._process.pid if self.is_running and self._process is not None else 0

    @property
    def is_running(self) -> bool:
        """Whether the process runs now."""
        return self._process is not None and self._process.returncode is None

    def adopt(self, ready: dict[str, Any]) -> None:
        """Take over the process that ``pid_file`` names: our child, from before this program began.

        Args:
            ready: what it said when it served.

        Raises:
            ConfigError: the file names none.
        """
        assert self._pid_file is not None
        try:
            self._process = resting.Adopted(int(json.loads(self._pid_file.read_bytes())["pid"]))
        except (OSError, json.JsonError, KeyError, TypeError, ValueError) as exc:
            raise ConfigError(f"{self._pid_file} does not name the process of {self.name}: {exc}") from exc
        self.ready = ready

    async def start(self, *, timeout_s: float = 60.0) -> dict[str, Any]:
        """Start it and wait until it serves; returns what it said.

        Raises:
            ChildFailed: it ended first, or took too long; with the last lines of its log.
        """
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as stderr:
            process = self._process = await asyncio.create_subprocess_exec(
                *self._program, *self._arguments,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=stderr,
                start_new_session=True, env=dict(self._environment), limit=1024 * 1024,
                preexec_fn=_stop_with(os.getpid()),
            )  # fmt: skip
        self._write_down(process.pid)
        try:
            async with asyncio.timeout(timeout_s):
                ready = await (_said(process) if self._serves_on is None else self._taking(*self._serves_on))
        except TimeoutError as exc:
            await self.stop()
            raise ChildFailed(f"{self.name} was not ready within {timeout_s:.0f} s", hint=self.last_words()) from exc
        if ready is None:
            code = await process.wait()
            raise ChildFailed(f"{self.name} ended with exit code {code} before it was ready", hint=self.last_words())
        self.ready = ready
        return ready

    async def _taking(self, host: str, port: int) -> dict[str, Any] | None:
        """Where it takes connections, once it does; None when the process ended."""
        while self.is_running:
            try:
                _, writer = await asyncio.open_connection(host, port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return {"host": host, "port": port}
        return None

    def _write_down(self, pid: int) -> None:
        if self._pid_file is not None:
            self._pid_file.parent.mkdir(exist_ok=True)
            write_atomic(self._pid_file, json.dumps({"pid": pid, "start": start_time(pid)}), mode=0o600)

    async def wait(self) -> int:
        """Wait until it ends; its exit code."""
        assert self._process is not None
        return await self._process.wait()

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.is_running and self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()

    async def stop(self) -> None:
        """SIGTERM, after 10 s SIGKILL, and wait until it is gone."""
        if not self.is_running or self._process is None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await self._process.wait()
        except TimeoutError:
            log.warning("child.killed", name=self.name, after_s=_STOP_S)
            await self.kill()

    def last_words(self, *, lines: int = 5) -> str:
        """Where its log is, and the end of it."""
        try:
            found = self.log_file.read_text(errors="replace").splitlines()[-lines:]
        except OSError:
            found = []
        return f"see {self.log_file}; its last lines:\n    " + "\n    ".join(found or ["(empty)"])


class Keeper:
    """Starts a child again when it ends by itself, until told to rest."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._active = asyncio.Event()
        self._active.set()

    def rest(self) -> None:
        """From now on the child may end."""
        self._active.clear()

    def resume(self) -> None:
        """From now on a child that ends is started again; it must run now."""
        self._active.set()

    async def run(self) -> None:
        """Watch the child; ends only by cancellation. A start that fails is this task's error."""
        while True:
            code = await self._child.wait()
            if self._active.is_set():
                log.warning("child.ended", name=self._child.name, code=code)
                await self._child.start()
            await self._active.wait()


async def _said(process: asyncio.subprocess.Process) -> dict[str, Any] | None:
    """The line of JSON on stdout; None when the process ended without one."""
    assert process.stdout is not None
    line = await process.stdout.readline()
    return dict(json.loads(line)) if line else None


def end_left_over(data: Path) -> list[str]:
    """End children that outlived a killed group in ``data``: SIGTERM, after 10 s SIGKILL. Returns their names.

    Call it only with the directory's lock held: otherwise they are another group's children.
    """
    alive = {}
    for path in sorted((data / PIDS).glob("*.json")):
        with contextlib.suppress(OSError, json.JsonError, KeyError, TypeError, ValueError):
            found = json.loads(path.read_bytes())
            pid, started = int(found["pid"]), int(found["start"])
            if started and start_time(pid) == started:
                alive[path.stem] = (pid, started)
    for name, (pid, started) in alive.items():
        log.warning("child.left_over", name=name, pid=pid)
        send_signal(pid, started, signal.SIGTERM)
    for pid, started in alive.values():
        if not await_end(pid, started, timeout_s=_STOP_S):
            send_signal(pid, started, signal.SIGKILL)
            await_end(pid, started, timeout_s=_STOP_S)
    return list(alive)


def await_end(pid: int, started: int, *, timeout_s: float) -> bool:
    """Wait (blocking) until exactly the process that began at ``started`` has ended; False when time is up."""
    fd = open_process(pid, started)
    if fd is None or fd < 0:
        return fd is not None
    try:
        return bool(select.select([fd], [], [], timeout_s)[0])
    finally:
        os.close(fd)


def _stop_with(parent: int) -> Callable[[], None]:
    """What a child does before it becomes the program: ask the kernel for SIGTERM at the parent's death."""
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(0)

    return ask


def process_environment() -> dict[str, str]:
    """Our environment without what would confuse a child."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONASYNCIODEBUG", *resting.OURS)}


def on_signals() -> asyncio.Event:
    """An event that SIGINT or SIGTERM sets; the second signal ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told)
    return stop
