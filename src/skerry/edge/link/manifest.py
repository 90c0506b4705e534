"""A list of everything that Skerry made on this machine, so that ``skerry reset`` undoes that and nothing else.

An entry is written before the thing is made: a crash in between leaves an entry for nothing, never a thing without one.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from skerry.base import json
from skerry.base.files import write_secret
from skerry.base.obs.log import get_log
from skerry.base.values import Struct

log = get_log(__name__)

FILE = "manifest.json"


class Made(Struct, frozen=True):
    """One thing: ``kind`` is ``file``, ``directory``, ``unit`` (systemd) or ``bridge`` (network device)."""

    kind: str
    name: str


class Manifest:
    """The list in a data directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._made = [Made(item["kind"], item["name"]) for item in self._read()]

    @property
    def made(self) -> Sequence[Made]:
        """Everything listed, oldest first."""
        return tuple(self._made)

    def add(self, kind: str, name: str) -> None:
        """List a thing that is about to be made; once."""
        entry = Made(kind, name)
        if entry not in self._made:
            self._made.append(entry)
            self._write()

    def undo(self, *, kinds: Sequence[str] = ()) -> list[str]:
        """Remove everything listed, or only these kinds, newest first; returns what was done, in words."""
        wanted = [entry for entry in self._made if not kinds or entry.kind in kinds]
        done = [_undo(entry) for entry in reversed(wanted)]
        self._made = [entry for entry in self._made if entry not in wanted]
        if self._made:
            self._write()
        else:
            self._path.unlink(missing_ok=True)
        return done

    def _read(self) -> list[dict[str, str]]:
        try:
            found = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return []
        return list(found)

    def _write(self) -> None:
        write_secret(self._path, json.dumps([{"kind": entry.kind, "name": entry.name} for entry in self._made]))


def _undo(entry: Made) -> str:
    path = Path(entry.name)
    if entry.kind == "unit":
        _run("systemctl", "disable", "--now", path.name)
        path.unlink(missing_ok=True)
        _run("systemctl", "daemon-reload")
    elif entry.kind == "file":
        path.unlink(missing_ok=True)
    elif entry.kind == "directory":
        shutil.rmtree(path, ignore_errors=True)
    elif entry.kind == "bridge":
        _run("ip", "link", "delete", entry.name)
    return f"removed {entry.kind} {entry.name}"


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=False, capture_output=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as exc:
        log.warning("reset.command_failed", command=" ".join(command), error=str(exc))
