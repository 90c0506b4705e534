"""The device mapper interface on unix sockets: our server for mappers, our calls to them.

The socket has mode 0660; who may open it may register. Beyond that the kernel's word about the caller decides: reports
about a device come from the user whose mapper is registered for its protocol (``registry``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from skerry.base.errors import ConfigError, StoreError
from skerry.base.grpc import Call, Caller, GrpcClient, GrpcError, GrpcServer, Status
from skerry.base.obs.log import get_log
from skerry.edge.devices.ports import MapperRefused, MapperUnreachable
from skerry.edge.devices.reduce import TwinRefused
from skerry.edge.devices.registry import MapperRegistry, NotAllowed, Peer
from skerry.edge.devices.twins import DeviceUnknown
from skerry.wire.errors import ProtocolError
from skerry.wire.kubeedge import dmi
from skerry.wire.kubeedge.dmi import Message
from skerry.wire.pb.codec import DMI

log = get_log(__name__)

SOCKET_MODE = 0o660
_GONE = frozenset({Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED, Status.CANCELLED})


class DmiServer:
    """Serves ``v1beta1.DeviceManagerService``.

    Args:
        registry: answers the calls.
        paths: sockets; ``/run/skerry/dmi.sock``, and ``/etc/kubeedge/dmi.sock`` in compatibility mode.
        gid: group of the sockets, -1 leaves it.
    """

    def __init__(self, registry: MapperRegistry, *, paths: Sequence[Path], gid: int = -1) -> None:
        calls = {
            "MapperRegister": registry.map_register,
            "ReportDeviceStatus": registry.report_status,
            "ReportDeviceStates": registry.report_states,
        }
        table = {f"/{dmi.EDGE_SERVICE}/{name}": _translated(call) for name, call in calls.items()}
        self._paths = tuple(paths)
        self._gid = gid
        self._servers = [GrpcServer(DMI, table) for _ in self._paths]

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: a socket cannot be made.
        """
        for server, path in zip(self._servers, self._paths, strict=True):
            try:
                await server.start(path, mode=SOCKET_MODE, gid=self._gid)
            except OSError as exc:
                raise ConfigError(
                    f"cannot listen on {path} for device mappers: {exc}",
                    hint="stop what uses it, or choose another path for the mapper socket",
                ) from exc
            log.info("dmi.listening", socket=str(path))

    async def aclose(self) -> None:
        """End every connection."""
        for server in self._servers:
            await server.aclose()


class GrpcMappers:
    """Calls mappers over their sockets; a ``MapperCaller``.

    Args:
        timeout_s: for one call; Go mappers look three times, a second apart, for a model that is on its way.
    """

    def __init__(self, *, timeout_s: float = 10.0) -> None:
        self._timeout_s = timeout_s
        self._clients: dict[str, GrpcClient] = {}

    async def call(self, address: str, method: str, request: Message) -> Message:
        """As ``MapperCaller``."""
        client = self._clients.get(address)
        if client is None:
            client = self._clients[address] = GrpcClient(Path(address), DMI)
        try:
            return await client.call(f"/{dmi.MAPPER_SERVICE}/{method}", request, timeout_s=self._timeout_s)
        except GrpcError as exc:
            if exc.status not in _GONE:
                raise MapperRefused(f"mapper at {address} refused {method}: {exc.message}") from exc
            self._clients.pop(address, None)
            await client.aclose()
            raise MapperUnreachable(f"mapper at {address}: {exc.message}") from exc

    async def probe(self, address: str) -> bool:
        """As ``MapperCaller``."""
        try:
            async with asyncio.timeout(2.0):
                _, writer = await asyncio.open_unix_connection(address)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    async def aclose(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()


def _translated(call: Callable[[Message, Peer], Awaitable[Message]]) -> Call:
    async def answer(request: Message, caller: Caller) -> Mapping[str, object]:
        try:
            return await call(request, Peer(caller.uid, caller.pid))
        except NotAllowed as exc:
            raise GrpcError(Status.PERMISSION_DENIED, str(exc)) from exc
        except DeviceUnknown as exc:
            raise GrpcError(Status.NOT_FOUND, str(exc)) from exc
        except (TwinRefused, ProtocolError) as exc:
            raise GrpcError(Status.INVALID_ARGUMENT, str(exc)) from exc
        except StoreError as exc:
            raise GrpcError(Status.UNAVAILABLE, exc.explained()) from exc

    return answer
