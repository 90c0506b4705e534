"""The file that ``skerry edge status`` reads, which must work with the agent busy and the cloud gone.

It is written often and worth nothing after a boot, so it lies in memory where the machine has a file system for that,
with a link to it in the data directory: flash storage is not worn by it.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from skerry.app.places import memory_directory
from skerry.base.files import write_atomic
from skerry.base.obs.log import get_log

log = get_log(__name__)

STATUS_FILE = "status.json"


class StatusFile:
    """``status.json`` of a data directory, mode 0600."""

    def __init__(self, data: Path) -> None:
        self._link = data / STATUS_FILE
        self._directory = memory_directory(data)
        self._path = self._directory / STATUS_FILE
        self._text = b""
        self._is_failing = False

    def write(self, text: bytes) -> None:
        """Replace it; a full disk is said once."""
        self._text = text
        try:
            write_atomic(self._path, text, mode=0o600)
            if self._path != self._link:
                self._point()
            self._is_failing = False
        except OSError as exc:
            if not self._is_failing:
                log.warning("status.not_written", file=str(self._path), why=str(exc))
            self._is_failing = True

    def keep(self) -> None:
        """The agent stops in order: leave what it said last on the disk, and nothing in memory."""
        if self._path == self._link:
            return
        with contextlib.suppress(OSError):
            write_atomic(self._link, self._text, mode=0o600)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _point(self) -> None:
        if self._link.is_symlink() and self._link.readlink() == self._path:
            return
        fresh = self._link.with_name(f".{STATUS_FILE}.link")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self._path)
        fresh.replace(self._link)
