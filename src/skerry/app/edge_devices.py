"""The device parts of the agent: catalogue, twins, built-in mappers, mapper interface, MQTT bus."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from skerry.api.config.edge import EdgeConfig
from skerry.app.edge_duties import Bus, open_bus
from skerry.base.aio.clock import Clock
from skerry.base.aio.supervise import Supervisor
from skerry.base.obs.log import get_log
from skerry.base.sqlite import Database
from skerry.edge.devices.catalog import DEVICE, MODEL, Catalog
from skerry.edge.devices.dmi import DmiServer, GrpcMappers
from skerry.edge.devices.mapper import BuiltinMappers, KeeperSink
from skerry.edge.devices.mappers.modbus import ModbusDrivers
from skerry.edge.devices.registry import MapperRegistry
from skerry.edge.devices.twins import TwinKeeper
from skerry.edge.link.dial import DialledLink
from skerry.edge.link.ports import LinkError
from skerry.edge.store.objects import Change, EdgeObjects
from skerry.edge.store.outbox import EdgeOutbox
from skerry.edge.sync.inbox import Handler
from skerry.wire.errors import ProtocolError
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import twin as docs
from skerry.wire.kubeedge.answer import unwrapped
from skerry.wire.kubeedge.envelope import Envelope

log = get_log(__name__)


class DeviceParts:
    """Builds and runs the device duty."""

    def __init__(
        self,
        config: EdgeConfig,
        *,
        node: str,
        sockets: Path,
        database: Database,
        objects: EdgeObjects,
        outbox: EdgeOutbox,
        link: DialledLink,
        clock: Clock,
    ) -> None:
        self._config = config
        self._node = node
        self._database = database
        self._objects = objects
        self._link = link
        self._clock = clock
        self._bus: Bus | None = None
        dmi_socket = Path(config.dmi_socket) if config.dmi_socket else sockets / "dmi.sock"
        self.dmi_socket: Path | None = dmi_socket
        self._dmi_paths = [dmi_socket]
        self.catalog = Catalog()
        self.keeper = TwinKeeper(
            store=database,
            outbox=outbox,
            node=node,
            publish=self._publish,
            clock=clock,
        )

    def handlers(self) -> Mapping[str, Handler]:
        """Messages of the cloud that are no objects."""
        return {"membership": self._membership, "membership/detail": self._membership_detail, "twin": _ignore}

    async def start(self, stack: AsyncExitStack) -> None:
        """Bring it up."""
        supervisor = await stack.enter_async_context(Supervisor("devices", clock=self._clock))
        self._objects.subscribe(self._changed)
        for kind in (MODEL, DEVICE):
            for key, obj in self._objects.list(kind).items():
                self.catalog.apply(key, obj)
        self.keeper.start()
        stack.push_async_callback(self.keeper.aclose)
        self.keeper.follow(self.catalog)
        callers = GrpcMappers()
        stack.push_async_callback(callers.aclose)
        registry = MapperRegistry(
            store=self._database, catalog=self.catalog, keeper=self.keeper, caller=callers, own_uid=os.getuid(),
            on_protocols=lambda: mappers.reconsider(), clock=self._clock,
        )  # fmt: skip
        mappers = BuiltinMappers(
            catalog=self.catalog, sink=KeeperSink(self.keeper), drivers={"modbus": ModbusDrivers().factory},
            has_external=registry.has_protocol, clock=self._clock,
        )  # fmt: skip
        registry.start()
        stack.push_async_callback(registry.aclose)
        mappers.start()
        stack.push_async_callback(mappers.aclose)
        server = DmiServer(registry, paths=self._dmi_paths)
        await server.start()
        stack.push_async_callback(server.aclose)
        self._start_bus(supervisor)
        self._link.on_state(lambda is_up: self._ask_membership(supervisor) if is_up else None)

    def counts(self) -> dict[str, int]:
        """What became of readings since the start."""
        counts = self.keeper.counts
        return {
            "accepted": counts.accepted, "superseded": counts.superseded, "unchanged": counts.unchanged,
            "stored": counts.stored, "dropped": counts.dropped, "waiting": self.keeper.waiting,
        }  # fmt: skip

    def values(self) -> dict[str, dict[str, str]]:
        """The newest reported value of each property by device id."""
        return {
            device_id: {name: twin.actual.value for name, twin in device.twins.items() if twin.actual is not None}
            for device_id, device in self.keeper.devices.items()
        }

    def _changed(self, change: Change) -> None:
        if change.type in (DEVICE, MODEL):
            self.catalog.apply(change.key, change.new)

    def _publish(self, topic: str, payload: bytes) -> None:
        if self._bus is not None:
            self._bus.publish(topic, payload)

    def _start_bus(self, supervisor: Supervisor) -> None:
        topics = (
            "$hw/events/device/+/+/twin/+", "$hw/events/device/+/+/state/update", "$hw/events/node/+/membership/get",
        )  # fmt: skip
        routes = dict.fromkeys(topics, self.keeper.on_message)
        self._bus = open_bus(self._config, node=self._node, routes=routes, clock=self._clock)
        if self._bus is not None:
            supervisor.keep("bus", self._bus.run)

    def _ask_membership(self, supervisor: Supervisor) -> None:
        supervisor.detach("membership", self._send_membership_request())

    async def _send_membership_request(self) -> None:
        content = docs.membership_detail_request("", int(self._clock.now_s() * 1000), self._node)
        envelope = Envelope("", c.SOURCE_TWIN, c.GROUP_RESOURCE, c.OP_GET, "membership/detail", content)
        try:
            await self._link.send(envelope)
        except LinkError as exc:
            log.debug("membership.not_asked", why=str(exc))

    async def _membership(self, envelope: Envelope) -> None:
        try:
            await self.keeper.membership(docs.parse_membership(unwrapped(envelope.content)))
        except ProtocolError as exc:
            log.warning("membership.malformed", error=str(exc))

    async def _membership_detail(self, envelope: Envelope) -> None:
        if envelope.parent_id:
            return
        try:
            await self.keeper.membership_detail(docs.parse_membership_detail(unwrapped(envelope.content)))
        except ProtocolError as exc:
            log.warning("membership.malformed", error=str(exc))


async def _ignore(envelope: Envelope) -> None:
    """Confirmations of reports come as answers; one without a request is late and says nothing."""
