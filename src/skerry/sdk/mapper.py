"""Write a device mapper: a driver class and one line.

    from skerry.sdk.mapper import Driver, Mapper

    mapper = Mapper("thermo", "acme-thermo")

    @mapper.driver
    class Thermo(Driver):
        async def connect(self): self.bus = await acme.open(self.config["host"])
        async def close(self): await self.bus.close()
        async def read(self, points): return {p.name: Sample(await self.bus.get(p.visitor["register"])) for p in points}
        async def write(self, point, value): await self.bus.set(point.visitor["register"], value); return value

    mapper.run()

The mapper serves ``v1beta1.DeviceMapperService`` on a socket of its own and registers at the agent's ``dmi.sock``, and
again whenever that socket is made anew. It reads by the Devices' cycles, reconnects, writes desired values and verifies
them. Works with Skerry's agent and with KubeEdge's edgecore: one report per device carries all changed properties, both
sides of each twin are present, and where the agent says "too many request" the mapper slows down to one report in two
seconds, half of what edgecore takes from all mappers together.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from skerry.api import devices as meaning
from skerry.api.devices import DeviceView, Point, Scalar
from skerry.api.gvk import Object
from skerry.base.aio.backoff import Backoff
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.aio.supervise import Supervisor, race
from skerry.base.errors import ConfigError, DeviceError, SkerryError
from skerry.base.grpc import Call, Caller, GrpcClient, GrpcError, GrpcServer, Status
from skerry.base.obs.log import get_log
from skerry.runtime.drivers import DeviceRunner, PointRefused, PointReport, Sample
from skerry.wire.kubeedge import dmi
from skerry.wire.kubeedge.dmi import MapperInfo, Message, Report
from skerry.wire.kubeedge.twin import Value
from skerry.wire.pb.codec import DMI

__all__ = ["DeviceError", "DeviceView", "Driver", "Mapper", "Point", "PointRefused", "Sample", "Scalar"]

log = get_log(__name__)

EDGE_SOCKETS = ("/run/skerry/dmi.sock", "/var/lib/skerry/edge/dmi.sock", "/etc/kubeedge/dmi.sock")
_TOO_MANY = "too many request"
_SLOW_EVERY_S = 2.0
_AT_ONCE = 16
"""Devices whose reports may be under way at the same time."""
_REFUSED = frozenset({Status.INVALID_ARGUMENT, Status.NOT_FOUND, Status.PERMISSION_DENIED})


class Driver:
    """Speaks with one device; one instance per device. Raise ``DeviceError`` or ``OSError`` when the device is gone."""

    def __init__(self, device: DeviceView) -> None:
        self.device = device

    @property
    def config(self) -> Mapping[str, Any]:
        """``protocol.configData``, the model's defaults overlaid by the Device's keys."""
        return self.device.config

    async def connect(self) -> None:
        """Reach the device."""

    async def close(self) -> None:
        """Let go; must not fail."""

    async def read(self, points: Sequence[Point]) -> Mapping[str, Sample]:
        """Read several points. A point may fail by its ``error``."""
        raise PointRefused(f"driver {type(self).__name__} cannot read")

    async def write(self, point: Point, value: Scalar) -> Scalar:
        """Write a value; returns what reading the point should give now."""
        raise PointRefused(f"driver {type(self).__name__} cannot write")


class Mapper:
    """One mapper process.

    Args:
        name: fixed name of this mapper on its node.
        protocol: ``protocolName`` of the Devices that it drives.
        version: its own version, for people.
        edge_socket: the agent's ``dmi.sock``; by default the first of ``EDGE_SOCKETS`` that exists.
        socket: where this mapper listens; by default ``<name>.sock`` beside the agent's socket.
        reports_per_s: sustained reports a second, all devices together.
        burst: reports that may go at once after a quiet time.
    """

    def __init__(
        self,
        name: str,
        protocol: str,
        *,
        version: str = "1",
        edge_socket: str | None = None,
        socket: str | None = None,
        reports_per_s: float = 10.0,
        burst: int = 50,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.protocol = protocol
        self._version = version
        self._edge_socket = Path(edge_socket or _find_edge_socket())
        self._socket = Path(socket or self._edge_socket.parent / f"{name}.sock")
        self._clock = clock or SystemClock()
        self._driver: type[Driver] | None = None
        self._edge = GrpcClient(self._edge_socket, DMI)
        self._sink = _PacedSink(self._edge, clock=self._clock, reports_per_s=reports_per_s, burst=burst)
        self._models: dict[str, Object] = {}
        self._devices: dict[str, Object] = {}
        self._running: dict[str, tuple[DeviceRunner, asyncio.Task[None]]] = {}
        self._supervisor = Supervisor(f"mapper-{name}")
        self._changed = asyncio.Event()

    def driver(self, cls: type[Driver]) -> type[Driver]:
        """Class decorator: this is the driver."""
        self._driver = cls
        return cls

    def run(self) -> None:
        """Serve until SIGTERM or Ctrl-C. Ends the process with code 2, and the reason on stderr, where it cannot."""
        try:
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(self._run())
        except ConfigError as exc:
            sys.stderr.write(f"{exc.explained()}\n")
            raise SystemExit(2) from exc

    async def serve(self) -> None:
        """Serve until cancelled.

        Raises:
            ConfigError: no driver, or the socket cannot be made.
        """
        if self._driver is None:
            raise ConfigError(f"mapper {self.name} has no driver", hint="decorate a Driver class with @mapper.driver")
        server = GrpcServer(DMI, {f"/{dmi.MAPPER_SERVICE}/{name}": call for name, call in self._calls().items()})
        try:
            await server.start(self._socket, mode=0o660)
        except OSError as exc:
            raise ConfigError(
                f"mapper {self.name} cannot listen on {self._socket}: {exc}", hint="check the directory's rights"
            ) from exc
        try:
            async with self._supervisor:
                self._supervisor.keep("register", self._stay_registered)
                self._supervisor.keep("reports", self._sink.run)
                self._supervisor.keep("devices", self._follow)
                await self._supervisor.wait()
        finally:
            await server.aclose()
            await self._edge.aclose()

    async def _run(self) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await race(self.serve(), stop.wait())

    async def _stay_registered(self) -> None:
        """Register, and again when the agent's socket is another one: older agents forget their mappers."""
        backoff = Backoff(first_s=0.2, cap_s=5.0)
        registered_at: tuple[int, int] | None = None
        while True:
            found = _identity(self._edge_socket)
            if found is not None and found != registered_at:
                try:
                    await self._register()
                    registered_at = found
                    backoff.reset()
                except (GrpcError, OSError) as exc:
                    log.warning("mapper.not_registered", mapper=self.name, error=str(exc))
            delay_s = 1.0 if found is not None and found == registered_at else backoff.next_s()
            await self._clock.sleep(delay_s)

    async def _register(self) -> None:
        info = MapperInfo(self.name, self.protocol, str(self._socket), self._version, "v1.0.0", "ok")
        response = await self._edge.call(
            f"/{dmi.EDGE_SERVICE}/MapperRegister", dmi.register_request(info), timeout_s=10.0
        )
        for message in response.get("modelList", []):
            self._put_model(message)
        self._devices = {}
        for message in response.get("deviceList", []):
            self._put_device(message)
        self._changed.set()
        log.info("mapper.registered", mapper=self.name, devices=len(self._devices))

    def _calls(self) -> dict[str, Call]:
        return {
            "RegisterDevice": self._on_device,
            "UpdateDevice": self._on_update_device,
            "RemoveDevice": self._on_remove_device,
            "CreateDeviceModel": self._on_model,
            "UpdateDeviceModel": self._on_model,
            "RemoveDeviceModel": self._on_remove_model,
            "GetDevice": self._on_get_device,
        }

    async def _on_device(self, request: Message, caller: Caller) -> Message:
        message = request.get("device") or {}
        if not message.get("name"):
            raise GrpcError(Status.INVALID_ARGUMENT, "device without a name")
        model = (message.get("spec") or {}).get("deviceModelReference", "")
        if f"{message.get('namespace') or 'default'}/{model}" not in self._models:
            raise GrpcError(Status.FAILED_PRECONDITION, f"device model {model!r} is not known yet, try again")
        self._put_device(message)
        self._changed.set()
        return {"deviceName": message["name"], "deviceNamespace": message.get("namespace", "")}

    async def _on_update_device(self, request: Message, caller: Caller) -> Message:
        await self._on_device(request, caller)
        return {}

    async def _on_remove_device(self, request: Message, caller: Caller) -> Message:
        self._devices.pop(dmi.id_of(request), None)
        self._changed.set()
        return {}

    async def _on_model(self, request: Message, caller: Caller) -> Message:
        message = request.get("model") or {}
        if not message.get("name"):
            raise GrpcError(Status.INVALID_ARGUMENT, "model without a name")
        self._put_model(message)
        self._changed.set()
        return {"deviceModelName": message["name"], "deviceModelNamespace": message.get("namespace", "")}

    async def _on_remove_model(self, request: Message, caller: Caller) -> Message:
        self._models.pop(dmi.id_of(request, name="modelName", namespace="modelNamespace"), None)
        return {}

    async def _on_get_device(self, request: Message, caller: Caller) -> Message:
        device_id = dmi.id_of(request)
        device = self._devices.get(device_id)
        model = self._models.get(meaning.model_id(device)) if device is not None else None
        if device is None or model is None:
            raise GrpcError(Status.NOT_FOUND, f"device {device_id} is not known")
        return {"device": dmi.device_message(device, model)}

    def _put_model(self, message: Message) -> None:
        model = dmi.model_object(message)
        self._models[meaning.device_id(model)] = model

    def _put_device(self, message: Message) -> None:
        device = dmi.device_object(message)
        self._devices[meaning.device_id(device)] = device

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            views: dict[str, DeviceView] = {}
            for device_id, device in self._devices.items():
                model = self._models.get(meaning.model_id(device))
                if model is not None:
                    views[device_id] = meaning.view(device, model)
            for device_id in [d for d in self._running if d not in views]:
                await self._stop(device_id)
            for view in views.values():
                await self._ensure(view)

    async def _ensure(self, view: DeviceView) -> None:
        found = self._running.get(view.device_id)
        if found is not None and found[0].view.same_wiring(view):
            found[0].update(view)
            return
        await self._stop(view.device_id)
        assert self._driver is not None
        runner = DeviceRunner(view=view, driver=self._driver(view), sink=self._sink, clock=self._clock)
        self._running[view.device_id] = runner, self._supervisor.keep(view.device_id, runner.run)

    async def _stop(self, device_id: str) -> None:
        found = self._running.pop(device_id, None)
        if found is not None:
            found[1].cancel()
            await asyncio.wait([found[1]])
            self._sink.forget(device_id)


class _PacedSink:
    """Keeps the newest of each property and state until the agent has taken it; paced by a token bucket."""

    def __init__(self, edge: GrpcClient, *, clock: Clock, reports_per_s: float, burst: int) -> None:
        self._edge = edge
        self._clock = clock
        self._every_s = 1 / reports_per_s
        self._burst = float(burst)
        self._tokens = float(burst)
        self._turn = asyncio.Lock()
        self._filled_s = clock.monotonic_s()
        self._reports: dict[str, dict[str, Report]] = {}
        self._states: dict[str, str] = {}
        self._news = asyncio.Event()

    async def report(self, device_id: str, reports: Sequence[PointReport]) -> None:
        """As ``Sink``; returns at once."""
        waiting = self._reports.setdefault(device_id, {})
        for report in reports:
            said = _to_report(report)
            before = waiting.pop(report.point.name, None)
            if before is not None:
                said = Report(said.actual or before.actual, said.observed or before.observed, said.type)
            waiting[report.point.name] = said
        self._news.set()

    async def state(self, device_id: str, state: str) -> None:
        """As ``Sink``; returns at once."""
        self._states[device_id] = state
        self._news.set()

    def forget(self, device_id: str) -> None:
        """Nothing more is told about a device."""
        self._reports.pop(device_id, None)
        self._states.pop(device_id, None)

    async def run(self) -> None:
        """Send what waits, again and again."""
        backoff = Backoff(first_s=0.2, cap_s=10.0)
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._send_all()
                backoff.reset()
            except (GrpcError, OSError, SkerryError) as exc:
                log.warning("mapper.report_failed", error=str(exc))
                self._news.set()
                await self._clock.sleep(backoff.next_s())

    async def _send_all(self) -> None:
        """Everything that waits, several devices at once: the agent answers a report when it is on its disk."""
        await self._each(list(self._states), self._send_state)
        await self._each(list(self._reports), self._send_reports)

    async def _each(self, device_ids: Sequence[str], send: Callable[[str], Awaitable[None]]) -> None:
        """Raises the first failure, after the others were tried."""
        room = asyncio.Semaphore(_AT_ONCE)

        async def one(device_id: str) -> None:
            async with room:
                await send(device_id)

        outcomes = await asyncio.gather(*map(one, device_ids), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _send_state(self, device_id: str) -> None:
        await self._pace()
        state = self._states.get(device_id)
        if state is None:
            return
        namespace, _, name = device_id.partition("/")
        request = {"deviceName": name, "deviceNamespace": namespace, "state": state}
        await self._call("ReportDeviceStates", device_id, request)
        if self._states.get(device_id) == state:
            del self._states[device_id]

    async def _send_reports(self, device_id: str) -> None:
        await self._pace()
        reports = dict(self._reports.get(device_id, {}))
        if reports:
            await self._call("ReportDeviceStatus", device_id, dmi.report_request(device_id, reports))
        self._settle(device_id, reports)

    async def _call(self, method: str, device_id: str, request: Message) -> None:
        """One call. What the agent refuses for good is dropped, so that it does not hold up the others."""
        try:
            await self._edge.call(f"/{dmi.EDGE_SERVICE}/{method}", request, timeout_s=10.0)
        except GrpcError as exc:
            if _TOO_MANY in exc.message and self._every_s < _SLOW_EVERY_S:
                log.warning("mapper.slowed_down", every_s=_SLOW_EVERY_S)
                self._every_s, self._tokens = _SLOW_EVERY_S, 0.0
            if exc.status not in _REFUSED:
                raise
            log.warning("mapper.report_refused", device=device_id, error=str(exc))

    def _settle(self, device_id: str, sent: Mapping[str, Report]) -> None:
        waiting = self._reports.get(device_id, {})
        left = {name: report for name, report in waiting.items() if sent.get(name) is not report}
        if left:
            self._reports[device_id] = left
        else:
            self._reports.pop(device_id, None)

    async def _pace(self) -> None:
        async with self._turn:
            now_s = self._clock.monotonic_s()
            self._tokens = min(self._burst, self._tokens + (now_s - self._filled_s) / self._every_s)
            self._filled_s = now_s
            if self._tokens < 1:
                await self._clock.sleep((1 - self._tokens) * self._every_s)
                self._tokens, self._filled_s = 1.0, self._clock.monotonic_s()
            self._tokens -= 1


def _to_report(report: PointReport) -> Report:
    actual = None if report.actual is None else Value(report.actual, report.timestamp_ms)
    observed = None if report.observed is None else Value(report.observed, report.timestamp_ms)
    return Report(actual, observed, report.point.type.lower())


def _find_edge_socket() -> str:
    named = os.environ.get("SKERRY_DMI_SOCKET")
    return named or next((path for path in EDGE_SOCKETS if Path(path).exists()), EDGE_SOCKETS[0])


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns
