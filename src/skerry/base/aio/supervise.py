"""Named tasks with an owner: the only place that creates asyncio tasks.

A ``Supervisor`` owns its tasks. A task that ends with an exception is an error: it is logged with its name and,
by its policy, restarted after a back-off or made the supervisor's failure. Cancellation is never swallowed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from skerry.base.aio.backoff import Backoff
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.obs.log import get_log

log = get_log(__name__)

T = TypeVar("T")
Body = Callable[[], Coroutine[Any, Any, None]]


class Supervisor:
    """Owner of background tasks; an async context manager that cancels and awaits all of them on exit.

    Args:
        name: prefix of every task's name in logs.
        clock: time source for restart delays.
        on_failure: called with the exception of a ``run`` task that failed.
    """

    def __init__(
        self, name: str, *, clock: Clock | None = None, on_failure: Callable[[Exception], None] | None = None
    ) -> None:
        self.name = name
        self._on_failure = on_failure
        self._clock = clock or SystemClock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[None] | None = None
        self._closing = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def run(self, name: str, body: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that ends by itself. Its exception is logged and ends the supervisor's ``wait()``."""
        self._check_open(name, body)
        return self._closing_after(self._start(name, self._once(name, body)), body)

    def keep(self, name: str, body: Body, *, first_s: float = 0.2, cap_s: float = 30.0) -> asyncio.Task[None]:
        """Start a task that must not end: on an exception it is restarted after a jittered back-off."""
        return self._start(name, self._keep(name, body, Backoff(first_s=first_s, cap_s=cap_s)))

    def detach(self, name: str, body: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task whose failure is logged as an error but harms nobody else (one request, one peer)."""
        self._check_open(name, body)
        return self._closing_after(self._start(name, self._alone(name, body)), body)

    async def wait(self) -> None:
        """Wait until a ``run`` task fails, and raise its exception."""
        if self._failure is None:
            self._failure = asyncio.get_running_loop().create_future()
        await self._failure

    async def aclose(self) -> None:
        """Cancel every task and wait for each to end."""
        self._closing = True
        current = asyncio.current_task()
        while pending := [t for t in self._tasks if t is not current]:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            self._tasks.difference_update(t for t in pending if t.done())
        if self._failure is not None and not self._failure.done():
            self._failure.cancel()

    def _start(self, name: str, body: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._check_open(name, body)
        task = asyncio.get_running_loop().create_task(body, name=f"{self.name}/{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _check_open(self, name: str, body: Coroutine[Any, Any, None]) -> None:
        if self._closing:
            body.close()
            raise RuntimeError(f"supervisor {self.name} is closed; task {name} not started")

    @staticmethod
    def _closing_after(task: asyncio.Task[None], body: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that is cancelled before its first step would leave its body never awaited."""
        task.add_done_callback(lambda _: body.close())
        return task

    async def _once(self, name: str, body: Coroutine[Any, Any, None]) -> None:
        try:
            await body
        except asyncio.CancelledError:
            raise
        except Exception as exc:
            log.exception("task.failed", exc, task=f"{self.name}/{name}")
            self._fail(exc)
        finally:
            body.close()

    async def _alone(self, name: str, body: Coroutine[Any, Any, None]) -> None:
        try:
            await body
        except asyncio.CancelledError:
            raise
        except Exception as exc:
            log.exception("task.failed", exc, task=f"{self.name}/{name}")
        finally:
            body.close()

    async def _keep(self, name: str, body: Body, backoff: Backoff) -> None:
        while True:
            started_s = self._clock.monotonic_s()
            try:
                await body()
                log.error("task.ended", task=f"{self.name}/{name}", hint="a task that must not end has ended")
            except asyncio.CancelledError:
                raise
            except Exception as exc:
                log.exception("task.failed", exc, task=f"{self.name}/{name}")
            if self._clock.monotonic_s() - started_s > 60:
                backoff.reset()
            await self._clock.sleep(backoff.next_s())

    def _fail(self, exc: Exception) -> None:
        if self._on_failure is not None:
            self._on_failure(exc)
        if self._failure is None:
            self._failure = asyncio.get_running_loop().create_future()
        if not self._failure.done():
            self._failure.set_exception(exc)
            self._failure.exception()  # mark as retrieved: wait() raises it, nobody is obliged to call wait()


async def race(*works: Coroutine[Any, Any, Any]) -> tuple[int, Any]:
    """Run all until one ends; the others are cancelled and have ended on return.

    Returns:
        Which one ended (the first in order, if several did), and its result. Its exception is raised.
    """
    tasks = [asyncio.get_running_loop().create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        first = next(number for number, task in enumerate(tasks) if task.done())
        return first, tasks[first].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def together(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all at the same time; their results in order. The first exception cancels the others and is raised."""
    if len(works) == 1:
        return [await works[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except BaseExceptionGroup as exc:
        raise exc.exceptions[0] from exc
    return [task.result() for task in tasks]


async def wait_for_condition(
    condition: Callable[[], bool], changed: asyncio.Event, *, timeout_s: float | None = None
) -> bool:
    """Wait until ``condition()`` holds, checking each time ``changed`` is set. False on time-out."""

    async def loop() -> None:
        while not condition():
            changed.clear()
            await changed.wait()

    try:
        async with asyncio.timeout(timeout_s):
            await loop()
    except TimeoutError:
        return False
    return True


async def shielded(work: Awaitable[None]) -> None:
    """Let ``work`` finish even if the caller is cancelled meanwhile; then let the cancellation go on.

    Also when the work fails then: its exception would take the place of the cancellation, and whoever bears that
    exception would never end.
    """
    future = asyncio.ensure_future(work)
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        if not future.cancelled():
            future.exception()  # seen: nobody is left to bear it
        raise
