"""systemd-logind as an ``Inhibitor``: a delay lock on shutdowns, and its signal that one begins.

Source: org.freedesktop.login1(5).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from skerry.base.dbus import SYSTEM_BUS, BusError, DBus

_NAME = "org.freedesktop.login1"
_PATH = "/org/freedesktop/login1"
_MANAGER = (_NAME, _PATH, "org.freedesktop.login1.Manager")
_PROPERTIES = (_NAME, _PATH, "org.freedesktop.DBus.Properties")
_SIGNAL = "PrepareForShutdown"


class Logind:
    """Speaks to logind over the system bus."""

    def __init__(self, path: Path = SYSTEM_BUS) -> None:
        self._path = path
        self._bus: DBus | None = None
        self._lock: Any = None

    async def hold(self) -> float:
        """As ``Inhibitor``. Raises ``BusError``."""
        self.release()
        bus = await self._connected()
        why = ("shutdown", "skerry", "pods are ended in order", "delay")
        (self._lock,) = await bus.call(_MANAGER, "Inhibit", "ssss", why)
        ((_, delay_us),) = await bus.call(_PROPERTIES, "Get", "ss", (_MANAGER[2], "InhibitDelayMaxUSec"))
        return float(delay_us) / 1e6

    def release(self) -> None:
        """As ``Inhibitor``."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()

    async def announcements(self) -> AsyncIterator[bool]:
        """As ``Inhibitor``."""
        bus = await self._connected()
        async for member, body in bus.signals():
            if member == _SIGNAL:
                yield bool(body[0])
        await self.aclose()

    async def aclose(self) -> None:
        """As ``Inhibitor``."""
        self.release()
        bus, self._bus = self._bus, None
        if bus is not None:
            bus.close()

    async def _connected(self) -> DBus:
        if self._bus is None:
            bus = await DBus.connect(self._path)
            try:
                await bus.listen(_MANAGER, _SIGNAL)
            except BusError:
                bus.close()
                raise
            self._bus = bus
        return self._bus
