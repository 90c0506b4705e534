"""Networks of sandboxes that a killed engine forgot: their addresses, interfaces, rules and name spaces are given back.

An engine that is killed while it joins a sandbox to its networks may never give back what the plugins took, and a node
runs out of addresses. Old ones do not know the sandbox then. The plugins' library notes each network that it has
joined, with the pod's uid; by these notes the same plugins are asked to undo it. Others know the sandbox, but not what
the plugins answered, and give nothing back without that (containerd 1.7): then the plugins are asked by the sandbox's
id, before it is removed.

Source: CNI specification 1.1 (DEL), containernetworking/cni libcni/api.go (the notes), containerd
pkg/cri/sbserver/{status.go,sandbox_status.go,sandbox_stop.go,sandbox_run.go} (``cniconfig``, ``cniResult``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from skerry.base import json
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.runtime.cri.client import CriClient
from skerry.runtime.mounting import unmount_below
from skerry.runtime.ports import EngineError, EngineUnavailable

log = get_log(__name__)

NOTES = Path("/var/lib/cni/results")
_NOTE_BYTES = 256 * 1024
_PLUGIN_S = 30.0
_POD_NETWORK = 0
_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


class Note(Struct, frozen=True):
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


class Network(Struct, frozen=True):
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


def has_no_result(answer: Mapping[str, Any]) -> bool:
    """Whether an engine tells of a sandbox with a network of its own that it never got a result for. Pure.

    Args:
        answer: the verbose PodSandboxStatus; engines other than containerd do not tell.
    """
    options = answer.get("status", {}).get("linux", {}).get("namespaces", {}).get("options", {})
    if options.get("network", _POD_NETWORK) != _POD_NETWORK:
        return False
    try:
        told = json.loads(answer.get("info", {}).get("info", "").encode())
    except json.JsonError:
        return False
    return isinstance(told, dict) and told.get("cniResult", "not told") is None


def arguments_of(sandbox: str, metadata: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What the plugins are told of a pod, as the engine does. Pure."""
    return (
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", str(metadata.get("namespace", ""))),
        ("K8S_POD_NAME", str(metadata.get("name", ""))),
        ("K8S_POD_INFRA_CONTAINER_ID", sandbox),
        ("K8S_POD_UID", str(metadata.get("uid", ""))),
    )


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
        return [note for note in self.all() if ("K8S_POD_UID", uid) in note.arguments]

    async def clear(self, uid: str, *, known: Collection[str]) -> None:
        """Undo the networks of a pod's sandboxes that the engine does not know.

        Raises:
            EngineError: the engine does not answer.
        """
        lost: dict[str, list[Note]] = {}
        for note in self.of(uid):
            if note.sandbox not in known:
                lost.setdefault(note.sandbox, []).append(note)
        for sandbox, notes in lost.items():
            await self._undo_all(sandbox, notes, notes[0])

    async def give_back(self, sandbox: str) -> None:
        """Undo the networks of a stopped sandbox where the engine did not: it knows no result of theirs.

        Raises:
            EngineError: the engine does not answer.
        """
        try:
            answer = await self._client.call("PodSandboxStatus", {"pod_sandbox_id": sandbox, "verbose": True})
        except EngineUnavailable:
            raise
        except EngineError:  # it is gone meanwhile
            return
        if has_no_result(answer):
            await self.undo(sandbox, arguments_of(sandbox, answer["status"].get("metadata", {})))

    async def undo(self, sandbox: str, arguments: tuple[tuple[str, str], ...], *, name_space: str = "") -> bool:
        """Undo the networks of a sandbox, noted or not; whether that was done.

        Args:
            name_space: where the sandbox's is kept, if that is known; it goes too.

        Raises:
            EngineError: the engine does not answer.
        """
        notes = [note for note in self.all() if note.sandbox == sandbox]
        return await self._undo_all(sandbox, notes, Note(Path(), sandbox, "", arguments, {}, {}, name_space))

    def sandboxes(self) -> set[str]:
        """Ids of all noted sandboxes, by the notes' names alone: ``<network>-<sandbox>-<interface>``."""
        try:
            return set(_ID.findall("\n".join(os.listdir(self._notes))))  # noqa: PTH208 - names only
        except OSError:
            return set()

    def all(self) -> list[Note]:
        """Every note, whosever."""
        try:
            paths = sorted(self._notes.iterdir())
        except OSError:
            return []
        return [note for path in paths if (note := read_note(path)) is not None]

    async def _undo_all(self, sandbox: str, notes: Sequence[Note], unnoted: Note) -> bool:
        """Undo each network by its note, one that has none by ``unnoted``; then the notes go."""
        plugins, networks = networks_of((await self._client.call("Status", {"verbose": True})).get("info", {}))
        by_network = {note.network: note for note in notes}
        is_undone = bool(networks)
        for network in networks:
            note = by_network.get(str(network.configuration["name"]), unnoted)
            is_undone &= await self._undo(network, note, plugins)
        if not is_undone:
            return False
        for note in notes:
            note.path.unlink(missing_ok=True)
        for place in {note.name_space for note in (*notes, unnoted)} - {""}:
            remove_name_space(Path(place))
        log.warning(
            "engine.lost_network_removed", sandbox=sandbox, pod=dict(unnoted.arguments).get("K8S_POD_NAME", ""),
            hint="the container engine was killed while it made the sandbox",
        )  # fmt: skip
        return True

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


def remove_name_space(place: Path) -> None:
    """Remove a name space that is kept by a mount, as engines make them: ``…/netns/cni-<uuid>``."""
    if place.parent.name != "netns" or not place.name.startswith("cni-"):
        return
    unmount_below(place)
    with contextlib.suppress(OSError):
        place.unlink()
