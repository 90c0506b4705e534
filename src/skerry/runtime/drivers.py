"""How a device is driven: the driver port, and the loop that reads, writes and reconnects.

One ``DeviceRunner`` per device; the agent's built-in mappers and the mapper SDK both run it, with different sinks.
Not here: protocols (drivers bring them), twins (sinks know them).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from skerry.api import devices as meaning
from skerry.api.devices import DeviceView, Point, Scalar
from skerry.base.aio.backoff import Backoff
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.errors import DeviceError, SkerryError
from skerry.base.obs.log import get_log
from skerry.base.values import Struct

log = get_log(__name__)

ONLINE, OFFLINE, UNHEALTHY = "online", "offline", "unhealthy"


class PointRefused(DeviceError):
    """The device is there but will not read or write this point."""


class Sample(Struct, frozen=True):
    """One value as read. ``timestamp_ms`` 0 means now; ``error`` says why there is no value."""

    value: Scalar | None = None
    timestamp_ms: int = 0
    error: str = ""


class PointReport(Struct, frozen=True):
    """What is told about one property: its actual value and, after a write, the wanted value that was taken."""

    point: Point
    actual: str | None
    observed: str | None = None
    timestamp_ms: int = 0


class Driver(Protocol):
    """Speaks one protocol with one device. Methods are called one at a time.

    ``DeviceError``, ``OSError`` and ``TimeoutError`` mean that the connection is lost; ``PointRefused`` concerns one
    point only.
    """

    async def connect(self) -> None:
        """Reach the device."""

    async def close(self) -> None:
        """Let go; must not fail, also when never connected."""

    async def read(self, points: Sequence[Point]) -> Mapping[str, Sample]:
        """Read several points, in as few exchanges as the protocol allows. A point may fail by its ``error``."""

    async def write(self, point: Point, value: Scalar) -> Scalar:
        """Write a value; returns what reading the point should give now (rounded as the device rounds)."""


class Sink(Protocol):
    """Where readings go. Raises ``SkerryError`` when it cannot take them; the runner goes on and reads again."""

    async def report(self, device_id: str, reports: Sequence[PointReport]) -> None:
        """Readings of one device."""

    async def state(self, device_id: str, state: str) -> None:
        """``online``, ``offline`` or ``unhealthy``."""


class DeviceRunner:
    """Reads a device by its cycles, writes desired values and verifies them, reconnects with jittered back-off.

    Args:
        view: the device; ``update`` replaces it while the wiring stays the same.
        driver: used by this runner alone.
        sink: gets readings and states.
        connect_timeout_s: for one attempt.
    """

    def __init__(
        self,
        *,
        view: DeviceView,
        driver: Driver,
        sink: Sink,
        clock: Clock | None = None,
        connect_timeout_s: float = 5.0,
        retry_first_s: float = 0.5,
        retry_cap_s: float = 30.0,
    ) -> None:
        self._view = view
        self._driver = driver
        self._sink = sink
        self._clock = clock or SystemClock()
        self._connect_timeout_s = connect_timeout_s
        self._backoff = Backoff(first_s=retry_first_s, cap_s=retry_cap_s)
        self._changed = asyncio.Event()
        self._due_s: dict[str, float] = {}
        self._applied: dict[str, str] = {}
        self._impossible: dict[str, str] = {}
        self._retry_s: dict[str, float] = {}
        self._write_backoffs: dict[str, Backoff] = {}
        self._state = ""
        self._log = log.bind(device=view.device_id, protocol=view.protocol)

    @property
    def view(self) -> DeviceView:
        """The device as it is driven now."""
        return self._view

    def update(self, view: DeviceView) -> None:
        """Take new desired values; the wiring must be the same."""
        self._view = view
        self._retry_s.clear()
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                try:
                    async with asyncio.timeout(self._connect_timeout_s):
                        await self._driver.connect()
                    await self._serve()
                except (DeviceError, OSError, TimeoutError) as exc:
                    await self._lost(exc)
                await self._driver.close()
                await self._clock.sleep(self._backoff.next_s())
        finally:
            await self._driver.close()

    async def _serve(self) -> None:
        self._due_s = {}
        while True:
            self._changed.clear()
            await self._apply_desired()
            await self._read_due()
            await self._wait()

    async def _lost(self, exc: Exception) -> None:
        why = str(exc) or type(exc).__name__
        if self._state != OFFLINE:
            self._log.warning("device.offline", error=why)
        await self._set_state(OFFLINE)

    async def _read_due(self) -> None:
        now_s = self._clock.monotonic_s()
        points = [p for p in self._cyclic() if self._due_s.get(p.name, 0.0) <= now_s]
        if not points:
            return
        samples = await self._driver.read(points)
        for point in points:
            next_s = self._due_s.get(point.name, now_s) + point.cycle_ms / 1000
            self._due_s[point.name] = next_s if next_s > now_s else now_s + point.cycle_ms / 1000
        good = [self._report(p, samples[p.name]) for p in points if _has_value(samples.get(p.name))]
        for point in points:
            sample = samples.get(point.name)
            if sample is not None and sample.error and self._log.is_debug:
                self._log.debug("device.point_failed", property=point.name, error=sample.error)
        self._backoff.reset()
        await self._set_state(ONLINE if good else UNHEALTHY)
        await self._deliver(good)

    async def _apply_desired(self) -> None:
        now_s = self._clock.monotonic_s()
        for point in self._view.points:
            wanted = point.desired
            if wanted is None:
                self._applied.pop(point.name, None)
                continue
            done = self._applied.get(point.name) == wanted or self._impossible.get(point.name) == wanted
            if not point.is_writable or done or self._retry_s.get(point.name, 0.0) > now_s:
                continue
            try:
                await self._apply(point, wanted)
            except PointRefused as exc:
                backoff = self._write_backoffs.setdefault(point.name, Backoff(first_s=1.0, cap_s=60.0, jitter=False))
                self._retry_s[point.name] = now_s + backoff.next_s()
                self._log.warning("device.write_failed", property=point.name, error=str(exc))

    async def _apply(self, point: Point, wanted: str) -> None:
        if problem := meaning.desired_problem(wanted, point):
            self._impossible[point.name] = wanted
            self._log.warning("device.desired_impossible", property=point.name, reason=problem)
            return
        value, found = meaning.parse_value(wanted, point.type), await self._read_one(point)
        if not _same(found.value, value):
            settled = await self._driver.write(point, value)
            found = await self._read_one(point)
            if not _same(found.value, settled):
                raise PointRefused(f"wrote {wanted}, read back {found.value!r:.60}")
        self._write_backoffs.pop(point.name, None)
        report = self._report(point, found, observed=wanted)
        if await self._deliver([report]):
            self._applied[point.name] = wanted
            self._log.info("device.desired_applied", property=point.name)

    async def _read_one(self, point: Point) -> Sample:
        sample = (await self._driver.read([point])).get(point.name)
        if not _has_value(sample) or sample is None:
            raise PointRefused(sample.error if sample else "the device gave no value")
        return sample

    def _report(self, point: Point, sample: Sample, *, observed: str | None = None) -> PointReport:
        assert sample.value is not None
        stamp = sample.timestamp_ms or int(self._clock.now_s() * 1000)
        return PointReport(point, meaning.format_value(sample.value, point.type), observed, stamp)

    async def _deliver(self, reports: Sequence[PointReport]) -> bool:
        if not reports:
            return True
        try:
            await self._sink.report(self._view.device_id, reports)
        except SkerryError as exc:
            self._log.warning("device.report_failed", error=str(exc))
            return False
        return True

    async def _set_state(self, state: str) -> None:
        if state == self._state:
            return
        self._log.info("device.state", state=state)
        if self._view.report_state:
            try:
                await self._sink.state(self._view.device_id, state)
            except SkerryError as exc:
                self._log.warning("device.report_failed", error=str(exc))
                return
        self._state = state

    async def _wait(self) -> None:
        now_s = self._clock.monotonic_s()
        deadlines = [self._due_s.get(p.name, 0.0) for p in self._cyclic()]
        deadlines += [at for at in self._retry_s.values() if at > now_s]
        delay_s = max(0.0, min(deadlines) - now_s) if deadlines else 60.0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._changed.wait()

    def _cyclic(self) -> list[Point]:
        return [p for p in self._view.points if p.report and p.type != "STREAM"]


def _has_value(sample: Sample | None) -> bool:
    return sample is not None and not sample.error and sample.value is not None


def _same(found: Scalar | None, wanted: Scalar) -> bool:
    if isinstance(found, int | float) and isinstance(wanted, int | float):
        return math.isclose(found, wanted, rel_tol=1e-6, abs_tol=1e-9)
    return found == wanted
