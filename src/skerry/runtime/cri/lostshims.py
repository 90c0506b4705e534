"""Shims of containerd that watch over nothing any more.

A creation that is broken off, or a containerd that is killed, leaves the shim of a sandbox that nobody knows.
containerd writes a sandbox's record before it starts the shim, and removes it when it has told the shim to end: so a
shim without a record is lost, its sandbox is neither being made nor running. Whose it was is told by the bundle, the
directory that a shim works in: its ``config.json`` has the control group of the pod, in which there is the node's uid,
and the directory of its logs. Where containerd has removed the bundle nothing tells that. Such a shim can never serve
anybody again; it is ended if nothing runs below it and everything that the engine has is this node's.

Source: containerd pkg/cri/server/sandbox_run.go, runtime/v2/{binary.go,shim_load.go,runc/manager/manager_linux.go}.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from skerry.base import json
from skerry.base.aio.clock import Clock
from skerry.base.grpc import GrpcClient, GrpcError, Status
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.runtime.cgroups import group_name
from skerry.runtime.cri.client import SHORT_S, CriClient
from skerry.runtime.cri.observed import state_of
from skerry.runtime.cri.spec import NODE_LABEL
from skerry.runtime.cri.supervisors import parent_of, supervisors_that, words_of
from skerry.runtime.ports import ContainerState, EngineError, EngineUnavailable
from skerry.wire.pb.containerd import CONTAINERD, CRI_NAMESPACE, GET_CONTAINER, NAMESPACE_HEADER

log = get_log(__name__)

LOOK_S = 60.0
_SHIM = "containerd-shim-runc-"
"""Others may serve sandboxes that have no record of this kind."""
_LOGS = "io.kubernetes.cri.sandbox-log-directory"
_BUNDLE_BYTES = 1024 * 1024
_GONE = " (deleted)"


class Shim(Struct, frozen=True):
    """A shim of our engine.

    Args:
        bundle: the OCI configuration of its sandbox; None where the bundle is gone.
        is_parent: whether a process runs below it.
    """

    sandbox: str
    bundle: Mapping[str, Any] | None
    is_parent: bool = False


class Told(Struct, frozen=True):
    """All that an engine has, whosever, as CRI lists it."""

    sandboxes: Sequence[Mapping[str, Any]]
    containers: Sequence[Mapping[str, Any]]

    def known(self) -> set[str]:
        """Ids of sandboxes that it tells of, also by their containers."""
        return {item["id"] for item in self.sandboxes} | {item.get("pod_sandbox_id", "") for item in self.containers}


class Owner(Struct, frozen=True):
    """A node, by what it leaves in its sandboxes.

    Args:
        logs: below which its agent has the containers' logs, absolute.
    """

    node_uid: str
    logs: Path

    def made(self, bundle: Mapping[str, Any]) -> bool:
        """Whether a sandbox with this OCI configuration was its."""
        place = str((bundle.get("linux") or {}).get("cgroupsPath") or "")
        directory = str((bundle.get("annotations") or {}).get(_LOGS) or "")
        is_below = bool(directory) and self.logs in Path(directory).parents
        return is_below or place.startswith(f"/{group_name(self.node_uid)}/")

    def has(self, item: Mapping[str, Any]) -> bool:
        """Whether a sandbox or container of a list is its."""
        labels: Mapping[str, str] = item.get("labels", {})
        return labels.get(NODE_LABEL) == self.node_uid

    def has_all(self, told: Told) -> bool:
        """Whether an engine has nothing but its."""
        return all(self.has(item) for item in (*told.sandboxes, *told.containers))


async def all_of(client: CriClient) -> Told:
    """What an engine has now. Raises ``EngineError``."""
    return Told(
        (await client.call("ListPodSandbox", {})).get("items", []),
        (await client.call("ListContainers", {})).get("containers", []),
    )


def shim_of(words: Sequence[str]) -> tuple[str, str]:
    """(sandbox, socket of the engine) by a shim's command line; empty for any but those of CRI's sandboxes. Pure."""
    if not words or not words[0].rpartition("/")[2].startswith(_SHIM):
        return "", ""
    told = dict(itertools.pairwise(words[1:]))
    if told.get("-namespace") != CRI_NAMESPACE:
        return "", ""
    return told.get("-id", ""), told.get("-address", "")


def unknown(shims: Collection[Shim], told: Told, owner: Owner) -> set[str]:
    """Sandboxes of shims that are the owner's to end if there is no record of them. Pure."""
    known = told.known()
    is_alone = owner.has_all(told)
    return {
        shim.sandbox
        for shim in shims
        if shim.sandbox not in known
        and (is_alone and not shim.is_parent if shim.bundle is None else owner.made(shim.bundle))
    }


def idle(told: Told, owner: Owner) -> set[str]:
    """The owner's sandboxes that have ended and have no container that runs or may run. Pure."""
    busy = {item.get("pod_sandbox_id", "") for item in told.containers if state_of(item) is not ContainerState.EXITED}
    return {item["id"] for item in told.sandboxes if item.get("state", 0) != 0 and owner.has(item)} - busy


class LostShims:
    """Ends the lost shims of one node on one containerd; finds none on other engines.

    A sandbox that is kept after its end has no use for a shim: one that has nothing to watch over at two looks in a row
    is lost as well.

    Args:
        client: of the engine; stays its owner's.
    """

    def __init__(self, client: CriClient, owner: Owner, *, clock: Clock) -> None:
        self._client = client
        self._owner = owner
        self._clock = clock
        self._idle: set[str] = set()

    async def run(self) -> None:
        """Look each ``LOOK_S``; never ends."""
        while True:
            try:
                await self.end()
            except EngineError as exc:
                log.debug("shims.engine_away", why=str(exc))
            await self._clock.sleep(LOOK_S)

    async def end(self) -> int:
        """End those that are lost now; how many.

        Raises:
            EngineError: the engine does not tell what it knows.
        """
        seen = self._seen()
        if not seen:
            return 0
        told = await all_of(self._client)
        found = unknown(_shims(seen, told.known()), told, self._owner)
        lost = {sandbox for sandbox in found if not await self._has_record(sandbox)}
        idle_before, self._idle = self._idle, idle(told, self._owner) & set(seen.values())
        lost |= self._idle & idle_before
        if not lost:
            return 0
        with supervisors_that(lambda pid: pid in seen and self._sandbox_of(pid) in lost) as supervisors:
            ended = supervisors.end()
        for sandbox in lost if ended else ():
            log.warning(
                "engine.lost_shim_ended", sandbox=sandbox,
                hint="the container engine was killed, or interrupted, while it made or ended the sandbox",
            )  # fmt: skip
        return ended

    def _seen(self) -> dict[int, str]:
        """For which sandbox each of the engine's shims is, by the number of its process."""
        return {pid: sandbox for pid in _processes() if (sandbox := self._sandbox_of(pid))}

    def _sandbox_of(self, pid: int) -> str:
        """For which a process is a shim of our engine; empty for any other."""
        sandbox, socket = shim_of(words_of(pid))
        is_of_engine = bool(socket) and os.path.realpath(socket) == os.path.realpath(self._client.socket)
        return sandbox if is_of_engine else ""

    async def _has_record(self, container: str) -> bool:
        client = GrpcClient(self._client.socket, CONTAINERD, headers={NAMESPACE_HEADER: CRI_NAMESPACE})
        try:
            await client.call(GET_CONTAINER, {"id": container}, timeout_s=SHORT_S)
        except GrpcError as exc:
            if exc.status is Status.NOT_FOUND:
                return False
            raise EngineUnavailable(f"container engine at {self._client.socket}: {exc.message}") from exc
        finally:
            await client.aclose()
        return True


def _shims(seen: Mapping[int, str], known: Collection[str]) -> list[Shim]:
    """Those of sandboxes that are not known."""
    bundles = {pid: _bundle(pid) for pid, sandbox in seen.items() if sandbox not in known}
    parents = {parent_of(pid) for pid in _processes()} if None in bundles.values() else set()
    return [Shim(seen[pid], bundle, pid in parents) for pid, bundle in bundles.items()]


def _processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - no object for each


def _bundle(pid: int) -> Mapping[str, Any] | None:
    """The OCI configuration of the sandbox that a shim was started for; None where the bundle is gone, else empty."""
    place = Path(f"/proc/{pid}/cwd")
    with contextlib.suppress(OSError, json.JsonError):
        if str(place.readlink()).endswith(_GONE):
            return None
        with (place / "config.json").open("rb") as file:
            found = json.loads(file.read(_BUNDLE_BYTES))
        return found if isinstance(found, dict) else {}
    return {}
