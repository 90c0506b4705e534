"""Takes registrations of device plugins on ``kubelet.sock``, and keeps one client for each resource.

At the start the sockets of earlier plugins are removed and ours is made anew: both are how plugins notice that they
have to register again. A socket that a plugin makes because of ours is none of those.

Source: kubernetes pkg/kubelet/cm/devicemanager/plugin/v1beta1 (v1.36).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import stat
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from skerry.base.aio.clock import Clock
from skerry.base.aio.supervise import Supervisor
from skerry.base.errors import ConfigError
from skerry.base.grpc import Caller, GrpcError, GrpcServer, Status
from skerry.base.obs.log import get_log
from skerry.edge.plugins.client import PluginClient
from skerry.edge.plugins.ports import Plugin
from skerry.wire.pb.codec import DEVICE_PLUGIN

log = get_log(__name__)

VERSION = "v1beta1"
SOCKET = "kubelet.sock"
_MAX_PLUGINS = 64
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,90}\Z")
_RESOURCE = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)/[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z")


class Registrar:
    """The plugins of this node.

    Args:
        directory: of all the sockets, by default ``/var/lib/kubelet/device-plugins``.
        known: resources that were offered before a restart; they count as none until their plugin is back.
        changed: called when there are other devices, or another plugin.
    """

    def __init__(self, directory: Path, *, known: Collection[str], changed: Callable[[], None], clock: Clock) -> None:
        self._directory = directory
        self._known = set(known)
        self._changed = changed
        self._server = GrpcServer(DEVICE_PLUGIN, {"/v1beta1.Registration/Register": self._register})
        self._supervisor = Supervisor("plugins", clock=clock)
        self._plugins: dict[str, PluginClient] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: the directory or the socket cannot be made, or another agent serves it.
        """
        path = self._directory / SOCKET
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o750)
            earlier = {other: _made(other) for other in self._directory.iterdir() if other != path}
            await self._server.start(path)
            for other, made in earlier.items():
                if made is not None and _made(other) == made:
                    other.unlink(missing_ok=True)
        except OSError as exc:
            raise ConfigError(
                f"cannot listen on {path} for device plugins: {exc}",
                hint="stop what uses it, or set devicePlugins to another directory, or to nothing",
            ) from exc
        log.info("plugins.listening", socket=str(path))

    async def aclose(self) -> None:
        """Let go of every plugin."""
        await self._supervisor.aclose()
        await self._server.aclose()

    def names(self) -> Collection[str]:
        """Resources that plugins of this node have offered."""
        return self._known

    def get(self, resource: str) -> Plugin | None:
        """The plugin of a resource; None when there is none now."""
        plugin = self._plugins.get(resource)
        return plugin if plugin is not None and plugin.is_there else None

    def amounts(self) -> dict[str, tuple[int, int]]:
        """Devices of each resource: how many there are, and how many of them are healthy."""
        found = dict.fromkeys(self._known, (0, 0))
        for name, plugin in self._plugins.items():
            devices = plugin.devices
            found[name] = (len(devices), sum(devices.values()))
        return found

    async def _register(self, request: dict[str, Any], caller: Caller) -> Mapping[str, Any]:
        resource, endpoint = str(request.get("resource_name") or ""), str(request.get("endpoint") or "")
        if why := self._unfit(str(request.get("version") or ""), resource, endpoint):
            log.warning("plugin.refused", resource=resource[:256], why=why, pid=caller.pid)
            raise GrpcError(Status.INVALID_ARGUMENT, why)
        await self._drop(resource)
        plugin = PluginClient(resource, self._directory / endpoint)
        self._known.add(resource)
        self._plugins[resource] = plugin
        self._tasks[resource] = self._supervisor.detach(resource, plugin.follow(self._changed))
        log.info("plugin.registered", resource=resource, endpoint=endpoint, pid=caller.pid)
        return {}

    async def _drop(self, resource: str) -> None:
        task = self._tasks.pop(resource, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _unfit(self, version: str, resource: str, endpoint: str) -> str:
        """Why a registration is not taken: names come from outside, and the endpoint becomes a path."""
        if version != VERSION:
            return f'API version "{version}" is not supported by this node, which speaks {VERSION}'
        found = _RESOURCE.match(resource)
        if found is None or found[1] == "kubernetes.io" or found[1].endswith(".kubernetes.io"):
            return f"the ResourceName {resource[:256]!r} is invalid: a name like vendor.example/device is wanted"
        if not _FILE_NAME.match(endpoint) or endpoint == SOCKET:
            return f"the endpoint {endpoint[:256]!r} is invalid: a file name in {self._directory} is wanted"
        if resource not in self._known and len(self._known) >= _MAX_PLUGINS:
            return f"there are {_MAX_PLUGINS} device plugins already"
        return ""


def _made(path: Path) -> tuple[int, int] | None:
    """Which socket this is; None when there is none."""
    with contextlib.suppress(FileNotFoundError):
        found = path.stat(follow_symlinks=False)
        if stat.S_ISSOCK(found.st_mode):
            return found.st_ino, found.st_ctime_ns
    return None
