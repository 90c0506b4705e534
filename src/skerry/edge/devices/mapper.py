"""Built-in mappers: one runner for each device whose protocol the agent speaks by itself.

Level-triggered: after any change the set of runners is made equal to what Devices, models and registered mappers ask
for. An external mapper that is registered for a protocol has all of that protocol's devices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from skerry.api.devices import DeviceView
from skerry.base.aio.clock import Clock
from skerry.base.aio.supervise import Supervisor
from skerry.base.errors import DeviceError, SkerryError
from skerry.base.obs.log import get_log
from skerry.edge.devices.catalog import Catalog
from skerry.edge.devices.reduce import Reading, twin_type
from skerry.edge.devices.twins import TwinKeeper
from skerry.runtime.drivers import UNHEALTHY, DeviceRunner, Driver, PointReport, Sink
from skerry.wire.kubeedge.twin import Value

log = get_log(__name__)

DriverFactory = Callable[[DeviceView], Driver]
"""Makes the driver of one device. Raises ``DeviceError`` that names the wrong key and its value."""


class KeeperSink:
    """Readings of a built-in mapper go straight to the twins."""

    def __init__(self, keeper: TwinKeeper) -> None:
        self._keeper = keeper

    async def report(self, device_id: str, reports: Sequence[PointReport]) -> None:
        """As ``Sink``."""
        await self._keeper.report(device_id, {r.point.name: _reading(r) for r in reports})

    async def state(self, device_id: str, state: str) -> None:
        """As ``Sink``."""
        await self._keeper.state(device_id, state)


class BuiltinMappers:
    """Runs the devices of some protocols.

    Args:
        catalog: what there is to run.
        sink: gets readings and states.
        drivers: factory by protocol name, lower case.
        has_external: whether an external mapper is registered for a protocol.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        sink: Sink,
        drivers: Mapping[str, DriverFactory],
        has_external: Callable[[str], bool] = lambda protocol: False,
        clock: Clock | None = None,
    ) -> None:
        self._catalog = catalog
        self._sink = sink
        self._drivers = drivers
        self._has_external = has_external
        self._clock = clock
        self._supervisor = Supervisor("mappers")
        self._running: dict[str, tuple[DeviceRunner, asyncio.Task[None]]] = {}
        self._invalid: dict[str, DeviceView] = {}
        self._changed = asyncio.Event()

    def start(self) -> None:
        """Begin to follow the catalog."""
        self._catalog.on_change(lambda change: self.reconsider())
        self._changed.set()
        self._supervisor.keep("reconcile", self._follow)

    def reconsider(self) -> None:
        """Something changed: a device, a model, or the registered mappers."""
        self._changed.set()

    async def aclose(self) -> None:
        """Stop every runner."""
        await self._supervisor.aclose()

    @property
    def running(self) -> list[str]:
        """Ids of the devices that are driven here."""
        return sorted(self._running)

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted = {view.device_id: view for view in self._catalog.views() if self._is_ours(view)}
            for device_id in [d for d in self._running if d not in wanted]:
                await self._stop(device_id)
            self._invalid = {d: view for d, view in self._invalid.items() if d in wanted}
            for view in wanted.values():
                await self._ensure(view)

    def _is_ours(self, view: DeviceView) -> bool:
        return view.protocol.lower() in self._drivers and not self._has_external(view.protocol)

    async def _ensure(self, view: DeviceView) -> None:
        found = self._running.get(view.device_id)
        if found is not None and found[0].view.same_wiring(view):
            found[0].update(view)
            return
        await self._stop(view.device_id)
        try:
            driver = self._drivers[view.protocol.lower()](view)
        except DeviceError as exc:
            await self._refuse(view, exc)
            return
        self._invalid.pop(view.device_id, None)
        for problem in view.problems:
            log.warning("device.property_ignored", device=view.device_id, reason=problem)
        runner = DeviceRunner(view=view, driver=driver, sink=self._sink, clock=self._clock)
        self._running[view.device_id] = runner, self._supervisor.keep(view.device_id, runner.run)

    async def _refuse(self, view: DeviceView, exc: DeviceError) -> None:
        if self._invalid.get(view.device_id) == view:
            return
        self._invalid[view.device_id] = view
        log.error("device.invalid", device=view.device_id, error=str(exc), hint=exc.hint or "correct the Device object")
        try:
            await self._sink.state(view.device_id, UNHEALTHY)
        except SkerryError as failed:
            log.warning("device.report_failed", device=view.device_id, error=str(failed))

    async def _stop(self, device_id: str) -> None:
        found = self._running.pop(device_id, None)
        if found is not None:
            found[1].cancel()
            await asyncio.wait([found[1]])


def _reading(report: PointReport) -> Reading:
    stamp = report.timestamp_ms
    return Reading(
        actual=None if report.actual is None else Value(report.actual, stamp),
        observed=None if report.observed is None else Value(report.observed, stamp),
        type=twin_type(report.point.type),
    )
