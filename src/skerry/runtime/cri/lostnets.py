"""Networks of sandboxes that a killed engine forgot: their addresses, interfaces, rules and name spaces are given back.

An engine joins a sandbox to its networks before it knows the sandbox itself. Killed in between, it never gives back
what the plugins took, and a node runs out of addresses. The plugins' library notes each network that it has joined,
with the pod's uid; by these notes the same plugins are asked to undo it.

Source: CNI specification 1.1 (DEL), containernetworking/cni libcni/api.go (the notes), containerd
pkg/cri/sbserver/status.go (``cniconfig``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry.base import json
from skerry.base.obs.log import get_log
from skerry.runtime.cri.client import CriClient
from skerry.runtime.mounting import unmount_below

log = get_log(__name__)

NOTES = Path("/var/lib/cni/results")
_NOTE_BYTES = 256 * 1024
_PLUGIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Note:
    """One network that a sandbox was joined to.

    Args:
        arguments: as the plugins got them, ``K8S_POD_UID`` among them.
        name_space: path of the sandbox's network name space; empty where the note does not say.
    """

    path: Path
    sandbox: str
    network: str
    arguments: tuple[tuple[str, str], ...]
    capabilities: Mapping[str, Any]
    result: Mapping[str, Any]
    name_space: str


@dataclass(frozen=True, slots=True)
class Network:
    """A network of the engine: its plugins' configuration, and the interface that it makes."""

    interface: str
    configuration: Mapping[str, Any]


def read_note(path: Path) -> Note | None:
    """A note of the library's; None for another file."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_NOTE_BYTES))
        arguments = tuple((str(key), str(value)) for key, value in found.get("cniArgs") or ())
        result = found.get("result") or {}
        spaces = [str(each.get("sandbox") or "") for each in result.get("interfaces") or ()]
        return Note(
            path, str(found["containerId"]), str(found["networkName"]), arguments,
            found.get("capabilityArgs") or {}, result, next(filter(None, spaces), ""),
        )  # fmt: skip
    except (OSError, json.JsonError, KeyError, TypeError, ValueError, AttributeError):
        return None


def requests(network: Network, note: Note) -> list[tuple[str, bytes]]:
    """(plugin, its configuration) for a DEL, the last plugin first. Pure."""
    whole = network.configuration
    found = []
    for plugin in reversed(whole.get("plugins") or [whole]):
        asked = {**plugin, "name": whole["name"], "cniVersion": whole.get("cniVersion", "0.4.0")}
        wanted = {key for key, is_on in (plugin.get("capabilities") or {}).items() if is_on}
        if given := {key: value for key, value in note.capabilities.items() if key in wanted}:
            asked["runtimeConfig"] = given
        if note.network == whole["name"] and note.result:
            asked["prevResult"] = note.result
        found.append((str(plugin["type"]), json.dumps(asked)))
    return found


class LostNetworks:
    """Undoes networks of one engine's lost sandboxes.

    Args:
        notes: where the plugins' library keeps its notes; all engines of a machine share the place.
    """

    def __init__(self, client: CriClient, *, notes: Path = NOTES) -> None:
        self._client = client
        self._notes = notes

    def of(self, uid: str) -> list[Note]:
        """The notes of a pod."""
        try:
            paths = sorted(self._notes.iterdir())
        except OSError:
            return []
        found = [note for path in paths if (note := read_note(path)) is not None]
        return [note for note in found if ("K8S_POD_UID", uid) in note.arguments]

    async def clear(self, uid: str, *, known: Collection[str]) -> None:
        """Undo the networks of a pod's sandboxes that the engine does not know.

        Raises:
            EngineError: the engine does not answer.
        """
        lost: dict[str, list[Note]] = {}
        for note in self.of(uid):
            if note.sandbox not in known:
                lost.setdefault(note.sandbox, []).append(note)
        if not lost:
            return
        plugins, networks = networks_of((await self._client.call("Status", {"verbose": True})).get("info", {}))
        for sandbox, notes in lost.items():
            by_network = {note.network: note for note in notes}
            is_undone = bool(networks)
            for network in networks:
                note = by_network.get(str(network.configuration["name"]), notes[0])
                is_undone &= await self._undo(network, note, plugins)
            if is_undone:
                for note in notes:
                    note.path.unlink(missing_ok=True)
                for place in {note.name_space for note in notes} - {""}:
                    _remove_name_space(Path(place))
                log.warning(
                    "engine.lost_network_removed", uid=uid, sandbox=sandbox,
                    hint="the container engine was killed while it made the sandbox",
                )  # fmt: skip

    async def _undo(self, network: Network, note: Note, plugins: Path) -> bool:
        environment = {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "CNI_COMMAND": "DEL",
            "CNI_CONTAINERID": note.sandbox,
            "CNI_NETNS": note.name_space if Path(note.name_space).is_file() else "",
            "CNI_IFNAME": network.interface,
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in note.arguments),
            "CNI_PATH": str(plugins),
        }
        for plugin, configuration in requests(network, note):
            if "/" in plugin:
                return False
            try:
                process = await asyncio.create_subprocess_exec(
                    str(plugins / plugin), env=environment, stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                )  # fmt: skip
                async with asyncio.timeout(_PLUGIN_S):
                    said, _ = await process.communicate(configuration)
            except (OSError, TimeoutError) as exc:
                log.warning("engine.lost_network_kept", sandbox=note.sandbox, plugin=plugin, why=str(exc))
                return False
            if process.returncode:
                why = said[:500].decode(errors="replace")
                log.warning("engine.lost_network_kept", sandbox=note.sandbox, plugin=plugin, why=why)
                return False
        return True


def networks_of(info: Mapping[str, str]) -> tuple[Path, list[Network]]:
    """Where the plugins are, and the networks, as containerd's verbose status tells them; none of another engine."""
    try:
        found = json.loads(info.get("cniconfig", "").encode())
        networks = [
            Network(str(each["IFName"]), json.loads(each["Config"]["Source"].encode())) for each in found["Networks"]
        ]
        return Path(str(found["PluginDirs"][0])), networks
    except (json.JsonError, KeyError, TypeError, IndexError, AttributeError):
        return Path(), []


def _remove_name_space(place: Path) -> None:
    """A name space that is kept by a mount, as engines make them: ``…/netns/cni-<uuid>``."""
    if place.parent.name != "netns" or not place.name.startswith("cni-"):
        return
    unmount_below(place)
    with contextlib.suppress(OSError):
        place.unlink()
