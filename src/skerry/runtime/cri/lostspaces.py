"""What a killed containerd leaves of a sandbox that it had noted nowhere: a name space of the network, an address.

containerd makes a sandbox's network name space first, then asks the plugins, and writes a record when they have
answered. Killed in between, it knows nothing of either, and nobody ever takes them away: the mount keeps the name space
and its interface for good. Nothing in them says whose they were. So they are ended only where they can be nobody
else's, and nobody's at work:

- everything that the engine has is this node's;
- they lie where only this engine puts such things, or no other engine runs on the machine;
- no process is in the name space, no sandbox of the engine has it, and no note tells of a sandbox that may live;
- they are older than the engine's process, or have been seen for longer than the making of a sandbox may take;
- they were seen the same at two looks in a row, so that a clock that is set ends nothing by itself.

An address is in a sandbox a moment after it was taken. One that was taken at both looks, that no interface of the
machine has, and whose sandbox is in no note and unknown to the engine, was taken by a plugin that went on after its
parent was killed: nobody has it, whosever it was.

Source: containerd pkg/cri/server/{sandbox_run.go,sandbox_status.go,service_linux.go}, pkg/netns/netns_linux.go.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from skerry.base import json
from skerry.base.aio.clock import Clock
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.runtime.cri.addresses import Lease, leases_in, leases_of
from skerry.runtime.cri.client import SANDBOX_S, CriClient
from skerry.runtime.cri.lostnets import NOTES, LostNetworks, networks_of, remove_name_space
from skerry.runtime.cri.lostshims import Owner, Told, all_of
from skerry.runtime.cri.netspaces import Space, addresses_in_use, addresses_inside, entered, mounted_in
from skerry.runtime.ports import EngineError, EngineUnavailable

log = get_log(__name__)

LOOK_S = 60.0
_KEPT_S = 2.5 * SANDBOX_S
"""For so long an engine may be at work on a sandbox; our own calls wait ``SANDBOX_S`` at most."""
_AGAIN_S = 3600.0
"""Between two tries to undo what the plugins would not."""
_COMMON = Path("/run/netns")
_ENGINES = frozenset({"containerd", "crio", "conmon", "podman"})
"""Programs that make sandboxes with CNI's plugins, as the kernel names their processes."""
_UNKNOWN = (("IgnoreUnknown", "1"),)


class Place(Struct, frozen=True):
    """Where an engine keeps name spaces.

    Args:
        is_private: below a directory of its own.
    """

    directory: Path
    is_private: bool


class Claims(Struct, frozen=True):
    """What somebody has, or may have.

    Args:
        sandboxes: ids that the engine knows.
        spaces: names of the name spaces that its sandboxes have.
        notes: the sandbox by the name of its name space, as the plugins' library noted it.
    """

    sandboxes: frozenset[str]
    spaces: frozenset[str]
    notes: Mapping[str, str]


def place_of(info: Mapping[str, str]) -> Place | None:
    """Where an engine keeps name spaces, by its verbose status; None for any but containerd. Pure."""
    try:
        config = json.loads(info.get("config", "").encode())
        if config["netnsMountsUnderStateDir"]:
            return Place(Path(str(config["stateDir"])) / "netns", is_private=True)
    except (json.JsonError, KeyError, TypeError):
        return None
    return Place(_COMMON, is_private=False)


def space_of(answer: Mapping[str, Any]) -> str | None:
    """Name of a sandbox's own name space by its verbose status, empty without one; None where it is not told. Pure."""
    try:
        told = json.loads(answer.get("info", {}).get("info", "").encode())
        spaces = ((told.get("runtimeSpec") or {}).get("linux") or {}).get("namespaces")
        if spaces is None:
            return Path(str(told["sandboxMetadata"]["Metadata"]["NetNSPath"])).name
        return next((Path(str(each.get("path") or "")).name for each in spaces if each["type"] == "network"), "")
    except (json.JsonError, KeyError, TypeError, AttributeError):
        return None


def unclaimed(spaces: Iterable[Space], claims: Claims, place: Place) -> list[Space]:
    """Those that no sandbox has which may live.

    A note of another engine's is believed; one of a sandbox that ours does not know is not, in its own place. Pure.
    """
    found = []
    for space in spaces:
        noted = claims.notes.get(space.place.name)
        is_noted = noted is not None and (not place.is_private or noted in claims.sandboxes)
        if space.place.name not in claims.spaces and not is_noted:
            found.append(space)
    return found


def ripe(
    made_at_s: Mapping[str, float], *, first_s: Mapping[str, float], now_s: float, engine_began_at_s: float
) -> set[str]:
    """What no sandbox can be in the making with. Pure.

    Args:
        made_at_s: when each was made, by the clock of that time, as ``engine_began_at_s`` is.
        first_s: since when each has been seen at every look, without this one; ``now_s`` is of the same clock.
    """
    return {
        key
        for key, at_s in made_at_s.items()
        if key in first_s and (at_s < engine_began_at_s or now_s - first_s[key] >= _KEPT_S)
    }


def other_engines(processes: Mapping[int, str], engine: int) -> set[str]:
    """Names of the other engines that run; ``engine`` is the number of ours. Pure."""
    return {name for pid, name in processes.items() if name in _ENGINES and pid != engine}


class LostSpaces:
    """Ends lost name spaces and addresses of one node on one containerd; finds none on other engines.

    Args:
        client: of the engine; stays its owner's.
        notes: where the plugins' library keeps its notes.
    """

    def __init__(self, client: CriClient, owner: Owner, *, clock: Clock, notes: Path = NOTES) -> None:
        self._client = client
        self._owner = owner
        self._clock = clock
        self._networks = LostNetworks(client, notes=notes)
        self._first_s: dict[str, float] = {}
        self._failed_s: dict[str, float] = {}

    async def run(self) -> None:
        """Look each ``LOOK_S``; never ends."""
        while True:
            try:
                await self.end()
            except (EngineError, OSError) as exc:
                log.debug("spaces.not_seen", why=str(exc))
            await self._clock.sleep(LOOK_S)

    async def end(self) -> int:
        """End those that are lost now; how many.

        Raises:
            EngineError: the engine does not tell what it knows.
            OSError: what is lost cannot be removed.
        """
        info = (await self._client.call("Status", {"verbose": True})).get("info", {})
        place = place_of(info)
        if place is None or os.geteuid() != 0:
            return 0
        spaces = {str(space.place): space for space in _empty(mounted_in(place.directory), has_threads=False)}
        noted = self._networks.sandboxes()
        leases = leases_of(networks_of(info)[1])
        unnoted = {f"{lease.path} {lease.sandbox}": lease for lease in leases if lease.sandbox not in noted}
        now_s, before = self._clock.monotonic_s(), self._first_s
        self._first_s = {key: before.get(key, now_s) for key in (*spaces, *unnoted)}
        if self._first_s.keys().isdisjoint(before):
            return 0
        told = await all_of(self._client)
        began_at_s, engine = listener(self._client.socket)
        if engine == 0:
            return 0
        refused, ended = self._refused(now_s), 0
        if self._owner.has_all(told) and (place.is_private or not other_engines(_processes(), engine)):
            made_at_s = {key: _made_at_s(space.place) for key, space in spaces.items()}
            lost = ripe(made_at_s, first_s=before, now_s=now_s, engine_began_at_s=began_at_s) - refused
            ended += await self._end_spaces([spaces[key] for key in sorted(lost)], place, told, leases)
        kept = {key: unnoted[key] for key in unnoted.keys() & before.keys() - refused}
        return ended + await self._end_leases(kept, told.known())

    async def _end_leases(self, kept: Mapping[str, Lease], known: Collection[str]) -> int:
        """Give addresses back that were taken at both looks and that nothing has."""
        kept = {key: lease for key, lease in kept.items() if lease.sandbox not in known}
        if not kept:
            return 0
        in_use, ended = addresses_in_use(), 0
        for key, lease in kept.items():
            if lease.address not in in_use and lease in leases_in(lease.path.parent):  # not given back meanwhile
                ended += await self._undo(key, lease.sandbox, "")
        return ended

    async def _end_spaces(self, lost: list[Space], place: Place, told: Told, leases: list[Lease]) -> int:
        claims = await self._claims(told) if lost else None
        if claims is None:
            return 0
        ended = 0
        for space in _empty(unclaimed(lost, claims, place), has_threads=True):
            sandbox = claims.notes.get(space.place.name) or _tenant(space, leases)
            if sandbox and sandbox not in claims.sandboxes:
                ended += await self._undo(str(space.place), sandbox, str(space.place))
            elif not sandbox:
                remove_name_space(space.place)
                ended += 1
                log.warning(
                    "engine.lost_name_space_removed", place=str(space.place),
                    hint="the container engine was killed while it made a sandbox",
                )  # fmt: skip
        return ended

    async def _undo(self, key: str, sandbox: str, name_space: str) -> bool:
        is_undone = await self._networks.undo(sandbox, _UNKNOWN, name_space=name_space)
        if not is_undone:
            self._failed_s[key] = self._clock.monotonic_s()
        return is_undone

    def _refused(self, now_s: float) -> set[str]:
        """What the plugins would not undo a while ago."""
        self._failed_s = {key: at_s for key, at_s in self._failed_s.items() if now_s - at_s < _AGAIN_S}
        return set(self._failed_s)

    async def _claims(self, told: Told) -> Claims | None:
        """None where the engine does not tell of some sandbox which name space it has."""
        spaces = set()
        for item in told.sandboxes:
            try:
                answer = await self._client.call("PodSandboxStatus", {"pod_sandbox_id": item["id"], "verbose": True})
            except EngineUnavailable:
                raise
            except EngineError:  # it is gone meanwhile
                continue
            space = space_of(answer)
            if space is None:
                log.debug("spaces.not_told", sandbox=item["id"])
                return None
            spaces.add(space)
        notes = {Path(note.name_space).name: note.sandbox for note in self._networks.all() if note.name_space}
        return Claims(frozenset(told.known()), frozenset(spaces), notes)


def _tenant(space: Space, leases: Iterable[Lease]) -> str:
    """The sandbox that was given an address which is in a name space; empty if there is none."""
    try:
        inside = addresses_inside(space.place)
    except OSError:
        return ""
    return next((lease.sandbox for lease in leases if lease.address in inside), "")


def _empty(spaces: list[Space], *, has_threads: bool) -> list[Space]:
    """Those that no process is in; none where that cannot be told."""
    if not spaces:
        return []
    try:
        full = entered(has_threads=has_threads)
    except PermissionError:
        return []
    return [space for space in spaces if space.inode not in full]


def _made_at_s(path: Path) -> float:
    """When a lease was written, or a name space first opened, by the clock of that time; now for one that is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return float("inf")


def listener(path: Path) -> tuple[float, int]:
    """When an engine began to listen at its socket, by the clock of that time, and the number of its process.

    The number is 0 where it is not to be seen from here, as from a container: then nobody is.

    Raises:
        EngineUnavailable: nobody listens.
    """
    try:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(1)
            peer.connect(str(path))
            pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return path.stat().st_mtime, pid
    except OSError as exc:
        raise EngineUnavailable(f"container engine at {path}: {exc}") from exc


def _processes() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - a few thousand entries, without an object for each
        if name.isdigit():
            try:
                found[int(name)] = Path(f"/proc/{name}/comm").read_text().strip()
            except OSError:
                continue
    return found
