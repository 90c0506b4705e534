"""What the process runtime keeps on the disk, one directory per sandbox and one per container in it.

``<data>/<sandbox id>/sandbox.json``, ``<data>/<sandbox id>/<container id>/spec.json`` (written by the agent) and
``state.json`` (written by the shim). Ids never hold a slash.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skerry.base import json
from skerry.base.files import make_private_dir, write_atomic
from skerry.runtime.process.shim import SPEC, STATE
from skerry.runtime.trees import remove_tree

SANDBOX = "sandbox.json"
_LAST_USER = "last-user-id.json"


class Records:
    """The directories.

    Args:
        directory: made when missing; readable by its owner only.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = make_private_dir(directory)
        self._specs: dict[str, dict[str, Any]] = {}

    def sandboxes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Id and record of every sandbox."""
        for entry in sorted(self.directory.iterdir()):
            record = _read(entry / SANDBOX)
            if record is not None:
                yield entry.name, record

    def torn(self) -> list[Path]:
        """Directories without a readable record: their making or removal was cut short."""
        return [entry for entry in self.directory.iterdir() if entry.is_dir() and _read(entry / SANDBOX) is None]

    def sandbox(self, sandbox_id: str) -> dict[str, Any] | None:
        """One sandbox's record."""
        return _read(self.directory / sandbox_id / SANDBOX)

    def put_sandbox(self, sandbox_id: str, record: dict[str, Any]) -> None:
        """Write a sandbox's record."""
        path = self.directory / sandbox_id
        path.mkdir(exist_ok=True, mode=0o700)
        write_atomic(path / SANDBOX, json.dumps(record), mode=0o600)

    def last_user_id(self) -> int | None:
        """The user id that a pod was given last."""
        number = (_read(self.directory / _LAST_USER) or {}).get("number")
        return number if isinstance(number, int) else None

    def put_last_user_id(self, number: int) -> None:
        """Keep it, so that the next pod gets another one though this one is gone."""
        write_atomic(self.directory / _LAST_USER, json.dumps({"number": number}), mode=0o600)

    def containers(self, sandbox_id: str) -> list[str]:
        """Ids of a sandbox's containers."""
        home = self.directory / sandbox_id
        return [entry.name for entry in home.iterdir() if (entry / SPEC).exists()] if home.is_dir() else []

    def place(self, container_id: str) -> Path | None:
        """A container's directory; its id begins with its sandbox's."""
        path = self.directory / container_id.partition(".")[0] / container_id
        return path if path.is_dir() else None

    def put_container(self, container_id: str, record: dict[str, Any]) -> Path:
        """Write what the shim and ``observe`` need; gives the container's directory."""
        path = self.directory / container_id.partition(".")[0] / container_id
        path.mkdir(mode=0o700)
        (path / "root").mkdir()
        write_atomic(path / SPEC, json.dumps(record), mode=0o600)
        return path

    def container(self, container_id: str) -> dict[str, Any] | None:
        """What ``put_container`` wrote."""
        if container_id not in self._specs:
            place = self.place(container_id)
            record = _read(place / SPEC) if place else None
            if record is None:
                return None
            self._specs[container_id] = {key: value for key, value in record.items() if key != "shim"}
        return self._specs[container_id]

    def shim(self, container_id: str) -> dict[str, Any] | None:
        """The part of ``put_container`` that is the shim's."""
        place = self.place(container_id)
        found = (_read(place / SPEC) or {}).get("shim") if place else None
        return found if isinstance(found, dict) else None

    def state(self, container_id: str) -> dict[str, Any]:
        """What the shim wrote last; empty before the start."""
        place = self.place(container_id)
        return (_read(place / STATE) if place else None) or {}

    def put_state(self, container_id: str, state: dict[str, Any]) -> None:
        """Write the end that a shim could not write."""
        place = self.place(container_id)
        if place is not None:
            write_atomic(place / STATE, json.dumps(state), mode=0o600)

    def remove_container(self, container_id: str) -> None:
        """Remove a container's directory."""
        self._specs.pop(container_id, None)
        place = self.place(container_id)
        if place is not None:
            (place / SPEC).unlink(missing_ok=True)
            remove_tree(place)

    def remove_sandbox(self, sandbox_id: str) -> None:
        """Remove a sandbox's directory with everything in it; the record goes first."""
        for container_id in self.containers(sandbox_id):
            self._specs.pop(container_id, None)
        home = self.directory / sandbox_id
        (home / SANDBOX).unlink(missing_ok=True)
        remove_tree(home)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, json.JsonError):
        return None
    return value if isinstance(value, dict) else None
