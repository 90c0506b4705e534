"""External mappers: who is registered, and what each of them must know.

Level-triggered: for every device the registry compares what its mapper was told with what the catalog says, and calls
the mapper until both agree; the order in which mapper, model and device appear does not matter. A mapper that is not
there is tried again with back-off; what it must know is never queued, only looked up anew.
Not here: sockets (``dmi``), built-in mappers (``mapper``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from skerry.api import devices as meaning
from skerry.api.gvk import Object
from skerry.base import json
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.aio.keyed import KeyedQueue
from skerry.base.aio.supervise import Supervisor
from skerry.base.errors import DeviceError, SkerryError
from skerry.base.obs.log import get_log
from skerry.base.values import Struct, asdict
from skerry.edge.devices.catalog import DEVICE, Catalog, Change
from skerry.edge.devices.ports import MapperCaller, MapperRefused, MapperUnreachable, Store
from skerry.edge.devices.reduce import Reading, twin_type
from skerry.edge.devices.twins import TwinKeeper
from skerry.edge.store import twins as rows
from skerry.wire.kubeedge import dmi
from skerry.wire.kubeedge.dmi import MapperInfo, Message, Report

log = get_log(__name__)

MAPPER_LIMIT = 256
"""Mappers that may be registered on one node."""


class NotAllowed(DeviceError):
    """The caller may not speak for this device or under this name."""


class Peer(Struct, frozen=True):
    """Who is on the other end of a socket, as the kernel says; -1 where it does not."""

    uid: int = -1
    pid: int = -1


class _Mapper(Struct, frozen=True):
    info: MapperInfo
    uid: int


class _Told(Struct, frozen=True):
    """What a mapper knows of a device: the merged Device and the model it was told with."""

    mapper: str
    device: Object
    model: Object


class MapperRegistry:
    """Owner of the mapper rows; handles the calls of ``v1beta1.DeviceManagerService``.

    Args:
        store: the agent's database; holds ``edge.store.twins.TABLES``.
        catalog: Devices and DeviceModels of this node.
        keeper: gets what mappers report.
        caller: calls mappers back.
        own_uid: a mapper of this user, or of root, may speak for every device.
        on_protocols: told when the set of protocols with an external mapper changed.
        probe_every_s: how often to look whether mappers are still there; devices of one that is gone become
            ``unknown``, and one that is back is told everything anew.
    """

    def __init__(
        self,
        *,
        store: Store,
        catalog: Catalog,
        keeper: TwinKeeper,
        caller: MapperCaller,
        own_uid: int,
        on_protocols: Callable[[], None] = lambda: None,
        retry_first_s: float = 0.5,
        retry_cap_s: float = 30.0,
        probe_every_s: float = 10.0,
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._keeper = keeper
        self._caller = caller
        self._own_uid = own_uid
        self._on_protocols = on_protocols
        self._probe_every_s = probe_every_s
        self._clock = clock or SystemClock()
        self._supervisor = Supervisor("dmi-probe")
        self._gone: set[str] = set()
        self._mappers: dict[str, _Mapper] = {}
        self._told: dict[str, _Told] = {}
        self._models_told: dict[tuple[str, str], Object] = {}
        self._queue: KeyedQueue[str, None] = KeyedQueue(
            "dmi", self._sync, on_error=self._failed, retry_first_s=retry_first_s, retry_cap_s=retry_cap_s
        )

    def start(self) -> None:
        """Load the mappers that were registered before, and begin to follow the catalog."""
        for _, _, document in self._store.read(rows.SELECT_MAPPERS):
            loaded = json.loads(document)  # type: ignore[arg-type]
            uid = loaded.pop("uid", -1)
            self._mappers[loaded["name"]] = _Mapper(MapperInfo(**loaded), uid)
        self._catalog.on_change(self._changed)
        self._supervisor.keep("probe", self._probe)
        self._wake_all()

    async def aclose(self) -> None:
        """Stop calling mappers."""
        await self._supervisor.aclose()
        await self._queue.aclose()

    def has_protocol(self, protocol: str) -> bool:
        """Whether an external mapper is registered for a protocol."""
        return self._mapper_for(protocol) is not None

    @property
    def mappers(self) -> list[MapperInfo]:
        """Every registered mapper; of one protocol the last registered is used."""
        return [mapper.info for mapper in self._mappers.values()]

    async def map_register(self, request: Message, peer: Peer) -> Message:
        """``MapperRegister``: remember the mapper, and give it its devices if it wants them.

        Raises:
            Malformed: not a registration.
            NotAllowed: the name belongs to a mapper of another user, or there are too many.
        """
        info, with_data = dmi.parse_mapper(request)
        known = self._mappers.get(info.name)
        if known is not None and not self._may_speak(peer, known.uid):
            raise NotAllowed(f"mapper name {info.name} belongs to another user")
        if known is None and len(self._mappers) >= MAPPER_LIMIT:
            raise NotAllowed(f"more than {MAPPER_LIMIT} mappers on this node")
        document = asdict(info) | {"uid": peer.uid}
        await self._store.write(lambda c: rows.put_mapper(c, info.name, info.protocol, document))
        self._mappers.pop(info.name, None)
        self._mappers[info.name] = _Mapper(info, peer.uid)
        self._gone.discard(info.name)
        self._forget_told(info.name)
        log.info("mapper.registered", mapper=info.name, protocol=info.protocol, socket=info.address)
        self._on_protocols()
        response = self._everything_for(info) if with_data else {"modelList": [], "deviceList": []}
        self._wake_all()
        return response

    async def report_status(self, request: Message, peer: Peer) -> Message:
        """``ReportDeviceStatus``: values; stored when this returns.

        Raises:
            Malformed, NotAllowed, DeviceUnknown.
        """
        device_id, reports = dmi.parse_report(request)
        self._check_speaker(device_id, peer)
        view = self._catalog.view(device_id)
        types = {point.name: twin_type(point.type) for point in view.points} if view else {}
        await self._keeper.report(device_id, {name: _reading(r, types.get(name, "")) for name, r in reports.items()})
        return {}

    async def report_states(self, request: Message, peer: Peer) -> Message:
        """``ReportDeviceStates``: online, offline and the like.

        Raises:
            Malformed, NotAllowed, DeviceUnknown, TwinRefused.
        """
        device_id = dmi.id_of(request)
        self._check_speaker(device_id, peer)
        await self._keeper.state(device_id, str(request.get("state", "")))
        return {}

    async def _probe(self) -> None:
        while True:
            await self._clock.sleep(self._probe_every_s)
            for mapper in list(self._mappers.values()):
                is_there = await self._caller.probe(mapper.info.address)
                if is_there and mapper.info.name in self._gone:
                    self._gone.discard(mapper.info.name)
                    log.info("mapper.back", mapper=mapper.info.name)
                    self._forget_told(mapper.info.name)
                    self._wake_all()
                elif not is_there and mapper.info.name not in self._gone:
                    self._gone.add(mapper.info.name)
                    log.warning("mapper.gone", mapper=mapper.info.name, socket=mapper.info.address)
                    await self._mark_unknown(mapper.info)

    async def _mark_unknown(self, info: MapperInfo) -> None:
        for view in self._catalog.views():
            current = self._mapper_for(view.protocol)
            if current is not None and current.name == info.name:
                try:
                    await self._keeper.state(view.device_id, "unknown")
                except SkerryError as exc:
                    log.warning("device.report_failed", device=view.device_id, error=str(exc))

    def _check_speaker(self, device_id: str, peer: Peer) -> None:
        device = self._catalog.device(device_id)
        if device is None or peer.uid in (-1, 0, self._own_uid):
            return
        view = self._catalog.view(device_id)
        protocol = view.protocol if view is not None else ""
        if not any(m.uid == peer.uid and m.info.protocol == protocol for m in self._mappers.values()):
            raise NotAllowed(f"user {peer.uid} has no mapper registered for the protocol of device {device_id}")

    def _may_speak(self, peer: Peer, uid: int) -> bool:
        return peer.uid in (-1, 0, self._own_uid, uid) or uid == -1

    def _mapper_for(self, protocol: str) -> MapperInfo | None:
        found = [m.info for m in self._mappers.values() if m.info.protocol.lower() == protocol.lower()]
        return found[-1] if found else None

    def _everything_for(self, info: MapperInfo) -> Message:
        response: Message = {"modelList": [], "deviceList": []}
        for device_id, merged, model in self._devices_of(info.protocol):
            response["modelList"].append(dmi.model_message(model))
            response["deviceList"].append(dmi.device_message(merged, model))
            self._told[device_id] = _Told(info.name, merged, model)
            self._models_told[info.name, meaning.device_id(model)] = model
        return response

    def _devices_of(self, protocol: str) -> Iterator[tuple[str, Object, Object]]:
        for view in self._catalog.views():
            if view.protocol.lower() == protocol.lower():
                device, model = self._catalog.device(view.device_id), self._catalog.model_of(view.device_id)
                if device is not None and model is not None:
                    yield view.device_id, meaning.merge(device, model), model

    def _forget_told(self, mapper: str) -> None:
        self._told = {device_id: told for device_id, told in self._told.items() if told.mapper != mapper}
        self._models_told = {key: model for key, model in self._models_told.items() if key[0] != mapper}

    def _changed(self, change: Change) -> None:
        for device_id in [change.id] if change.type == DEVICE else self._catalog.users_of(change.id):
            self._queue.put(device_id, None)

    def _wake_all(self) -> None:
        for device_id in {*self._catalog.devices, *self._told}:
            self._queue.put(device_id, None)

    def _failed(self, device_id: str, exc: Exception) -> bool:
        if not isinstance(exc, MapperUnreachable | MapperRefused):
            raise exc
        log.warning("mapper.call_failed", device=device_id, error=str(exc))
        return True

    async def _sync(self, device_id: str, _: None) -> None:
        view = self._catalog.view(device_id)
        wanted = self._mapper_for(view.protocol) if view is not None else None
        told = self._told.get(device_id)
        if told is not None and (wanted is None or told.mapper != wanted.name):
            await self._remove(device_id, told)
            told = None
        device, model = self._catalog.device(device_id), self._catalog.model_of(device_id)
        if wanted is None or device is None or model is None:
            return
        await self._tell_model(wanted, model)
        merged = meaning.merge(device, model)
        if told is None:
            await self._register(wanted, merged, model)
        elif not meaning.same_spec(told.device, merged):
            await self._caller.call(wanted.address, "UpdateDevice", {"device": dmi.device_message(merged, model)})
        self._told[device_id] = _Told(wanted.name, merged, model)

    async def _tell_model(self, mapper: MapperInfo, model: Object) -> None:
        key = mapper.name, meaning.device_id(model)
        known = self._models_told.get(key)
        if known is not None and meaning.same_spec(known, model):
            return
        request = {"model": dmi.model_message(model)}
        if known is not None:
            try:
                await self._caller.call(mapper.address, "UpdateDeviceModel", request)
            except MapperRefused:  # it forgot the model
                known = None
        if known is None:
            await self._caller.call(mapper.address, "CreateDeviceModel", request)
        self._models_told[key] = model

    async def _register(self, mapper: MapperInfo, merged: Object, model: Object) -> None:
        request = {"device": dmi.device_message(merged, model)}
        try:
            await self._caller.call(mapper.address, "RegisterDevice", request)
        except MapperRefused as refused:
            try:  # it may know the device from before we were started
                await self._caller.call(mapper.address, "UpdateDevice", request)
            except MapperRefused:
                raise refused from None

    async def _remove(self, device_id: str, told: _Told) -> None:
        mapper = self._mappers.get(told.mapper)
        namespace, _, name = device_id.partition("/")
        if mapper is not None:
            request = {"deviceName": name, "deviceNamespace": namespace}
            try:
                await self._caller.call(mapper.info.address, "RemoveDevice", request)
            except MapperRefused as refused:
                log.warning("mapper.remove_refused", device=device_id, error=str(refused))
        self._told.pop(device_id, None)
        model = meaning.device_id(told.model)
        if mapper is None or any(
            t.mapper == told.mapper and meaning.device_id(t.model) == model for t in self._told.values()
        ):
            return
        self._models_told.pop((told.mapper, model), None)
        namespace, _, name = model.partition("/")
        try:
            await self._caller.call(
                mapper.info.address, "RemoveDeviceModel", {"modelName": name, "modelNamespace": namespace}
            )
        except MapperRefused as refused:
            log.warning("mapper.remove_refused", model=model, error=str(refused))


def _reading(report: Report, kind: str) -> Reading:
    return Reading(report.actual, report.observed, kind or report.type)
