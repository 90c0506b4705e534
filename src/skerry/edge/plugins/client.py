"""One device plugin: asks it, and follows its list of devices."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from skerry.base.grpc import GrpcClient, GrpcError, Status
from skerry.base.obs.log import get_log
from skerry.edge.plugins.ports import PluginAway, PluginRefused
from skerry.wire.pb.codec import DEVICE_PLUGIN

log = get_log(__name__)

_HEALTHY = "Healthy"
_MAX_DEVICES = 4096
_SHORT_S, _PRE_START_S = 10.0, 30.0
_ALLOCATE_S = 60.0
_AWAY = frozenset({Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED, Status.CANCELLED})


class PluginClient:
    """A plugin on its socket.

    Args:
        resource: what it offers.
        socket: its own, beside ours.
    """

    def __init__(self, resource: str, socket: Path) -> None:
        self.resource = resource
        self._client = GrpcClient(socket, DEVICE_PLUGIN)
        self._options: Mapping[str, Any] = {}
        self._devices: dict[str, bool] = {}
        self.is_there = False

    @property
    def wants_pre_start(self) -> bool:
        """Whether it is to be told of each container's start."""
        return bool(self._options.get("pre_start_required"))

    @property
    def devices(self) -> Mapping[str, bool]:
        """Whether each device is healthy, by id; none is when the plugin has gone."""
        return self._devices if self.is_there else dict.fromkeys(self._devices, False)

    async def follow(self, changed: Callable[[], None]) -> None:
        """Ask for its options, then follow its devices until it ends; ``changed`` is called at every change."""
        try:
            self._options = await self._call("GetDevicePluginOptions", {}, _SHORT_S)
            messages = self._client.stream("/v1beta1.DevicePlugin/ListAndWatch", {})
            async with contextlib.aclosing(messages) as stream:
                async for message in stream:
                    self._take(message)
                    changed()
        except (PluginAway, PluginRefused, GrpcError) as exc:
            log.warning("plugin.lost", resource=self.resource, why=str(exc))
        finally:
            self.is_there = False
            changed()
            await self._client.aclose()

    def _take(self, message: Mapping[str, Any]) -> None:
        listed = message.get("devices") or []
        if len(listed) > _MAX_DEVICES:
            log.warning("plugin.too_many_devices", resource=self.resource, count=len(listed), taken=_MAX_DEVICES)
        found = {str(d.get("ID") or ""): d.get("health") == _HEALTHY for d in listed[:_MAX_DEVICES]}
        if found != self._devices or not self.is_there:
            log.info("plugin.devices", resource=self.resource, count=len(found), healthy=sum(found.values()))
        self._devices, self.is_there = found, True

    async def prefer(self, offered: Sequence[str], sure: Sequence[str], count: int) -> Sequence[str]:
        """As ``Plugin``."""
        if not self._options.get("get_preferred_allocation_available"):
            return ()
        request = {"available_deviceIDs": list(offered), "must_include_deviceIDs": list(sure), "allocation_size": count}
        answer = await self._call("GetPreferredAllocation", {"container_requests": [request]}, _SHORT_S)
        return [str(d) for each in answer.get("container_responses") or [] for d in each.get("deviceIDs") or []]

    async def allocate(self, devices: Sequence[str]) -> dict[str, Any]:
        """As ``Plugin``."""
        answer = await self._call("Allocate", {"container_requests": [{"devices_ids": list(devices)}]}, _ALLOCATE_S)
        answers = answer.get("container_responses") or []
        if len(answers) != 1:
            raise PluginRefused(f"the device plugin of {self.resource} gave {len(answers)} answers to one request")
        return dict(answers[0])

    async def pre_start(self, devices: Sequence[str]) -> None:
        """As ``Plugin``."""
        await self._call("PreStartContainer", {"devices_ids": list(devices)}, _PRE_START_S)

    async def _call(self, method: str, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        try:
            return await self._client.call(f"/v1beta1.DevicePlugin/{method}", request, timeout_s=timeout_s)
        except GrpcError as exc:
            kind = PluginAway if exc.status in _AWAY else PluginRefused
            raise kind(f"device plugin of {self.resource}: {method}: {exc.message}") from exc
