"""Child processes of ``skerry up`` and ``skerry demo``: the cloud and one edge agent, each its own process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skerry.base import json
from skerry.base.errors import SkerryError
from skerry.base.obs.log import get_log

log = get_log(__name__)

_STOP_S = 10.0


class ChildFailed(SkerryError):
    """A child process ended before it was ready, or was not ready in time."""


class Child:
    """One ``skerry`` process that says on stdout, as JSON, that it serves.

    Args:
        name: for logs.
        arguments: of the command ``skerry``.
        log_file: where its stderr goes.
    """

    def __init__(self, name: str, arguments: Sequence[str], *, log_file: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log_file = log_file
        self.ready: dict[str, Any] = {}
        self._arguments = arguments
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 when it does not run."""
        return self._process.pid if self.is_running and self._process is not None else 0

    @property
    def is_running(self) -> bool:
        """Whether the process runs now."""
        return self._process is not None and self._process.returncode is None

    async def start(self, *, timeout_s: float = 60.0) -> dict[str, Any]:
        """Start it and wait until it serves; returns what it said.

        Raises:
            ChildFailed: it ended first, or took too long; with the last lines of its log.
        """
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as stderr:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "skerry.cli.main", *self._arguments,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=stderr,
                start_new_session=True, env=dict(self._environment), limit=1024 * 1024,
            )  # fmt: skip
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._process.stdout.readline()
        except TimeoutError as exc:
            await self.stop()
            raise ChildFailed(f"{self.name} was not ready within {timeout_s:.0f} s", hint=self._last_words()) from exc
        if not line:
            code = await self._process.wait()
            raise ChildFailed(f"{self.name} ended with exit code {code} before it was ready", hint=self._last_words())
        self.ready = json.loads(line)
        return self.ready

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

    def _last_words(self) -> str:
        try:
            lines = self.log_file.read_text(errors="replace").splitlines()[-5:]
        except OSError:
            lines = []
        return f"see {self.log_file}; its last lines:\n    " + "\n    ".join(lines or ["(empty)"])


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


def process_environment() -> dict[str, str]:
    """Our environment without what would confuse a child."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONASYNCIODEBUG",)}


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
