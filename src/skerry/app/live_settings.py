"""Settings that change while the cloud runs: the configuration file is read again when it changes.

Only ``advertise`` takes effect at once; for anything else a log line says that a restart is needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from skerry.api.config.cloud import CloudConfig
from skerry.base.aio.clock import Clock
from skerry.base.errors import ConfigError
from skerry.base.obs.log import get_log

log = get_log(__name__)

LOOK_EVERY_S = 2.0
LIVE = frozenset({"advertise"})


class LiveSettings:
    """Watches one file.

    Args:
        file: the configuration file; None when there is none, and nothing to watch.
        load: reads the configuration as at the start, with flags and environment.
    """

    def __init__(self, file: Path | None, load: Callable[[], CloudConfig]) -> None:
        self._file = file
        self._load = load
        self._seen = self._stamp()
        self._listeners: list[Callable[[CloudConfig], None]] = []

    def on_change(self, listener: Callable[[CloudConfig], None]) -> None:
        """Call ``listener`` with every new configuration."""
        self._listeners.append(listener)

    async def run(self, config: CloudConfig, clock: Clock) -> None:
        """Watch; never ends. ``config`` is what runs now."""
        while True:
            await clock.sleep(LOOK_EVERY_S)
            stamp = self._stamp()
            if stamp == self._seen or stamp is None:
                continue
            self._seen = stamp
            try:
                found = self._load()
            except ConfigError as exc:
                log.error("settings.not_reloaded", error=str(exc), hint=exc.hint or "the cloud goes on as it was")
                continue
            names = [field.name for field in dataclasses.fields(config)]
            changed = [name for name in names if getattr(found, name) != getattr(config, name)]
            if later := sorted(set(changed) - LIVE):
                log.warning("settings.need_a_restart", settings=later)
            config = found
            for listener in self._listeners:
                listener(found)

    def _stamp(self) -> tuple[int, int, int] | None:
        """A mounted ConfigMap is replaced by a rename: the inode tells, too."""
        try:
            found = self._file.stat() if self._file is not None else None
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size, found.st_ino) if found is not None else None
