"""Shims of containerd that watch over nothing any more: those of this node's sandboxes that containerd has forgotten.

containerd writes a sandbox's record before it starts the shim, and removes it when it has told the shim to end. So a
shim that runs while there is no record of its id is lost: its sandbox is neither being made nor running. Whose it was
is told by the bundle, the directory that a shim works in: its ``config.json`` has the control group of the pod, in
which there is the node's uid, and the directory of its logs. Where the bundle is gone nothing is touched.

Source: containerd pkg/cri/server/sandbox_run.go, runtime/v2/{shim_load.go,runc/manager/manager_linux.go}.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skerry.base import json
from skerry.base.aio.clock import Clock
from skerry.base.grpc import GrpcClient, GrpcError, Status
from skerry.base.obs.log import get_log
from skerry.runtime.cri.client import SHORT_S, CriClient
from skerry.runtime.cri.supervisors import supervisors_that, words_of
from skerry.runtime.ports import EngineError, EngineUnavailable
from skerry.wire.pb.containerd import CONTAINERD, CRI_NAMESPACE, GET_CONTAINER, NAMESPACE_HEADER

log = get_log(__name__)

LOOK_S = 60.0
_SHIM = "containerd-shim-runc-"
"""Others may serve sandboxes that have no record of this kind."""
_LOGS = "io.kubernetes.cri.sandbox-log-directory"
_BUNDLE_BYTES = 1024 * 1024


def shim_of(words: Sequence[str]) -> tuple[str, str]:
    """(sandbox, socket of the engine) by a shim's command line; empty for any but those of CRI's sandboxes. Pure."""
    if not words or not words[0].rpartition("/")[2].startswith(_SHIM):
        return "", ""
    told = dict(itertools.pairwise(words[1:]))
    if told.get("-namespace") != CRI_NAMESPACE:
        return "", ""
    return told.get("-id", ""), told.get("-address", "")


def is_ours(bundle: Mapping[str, Any], *, group: str, logs: Path) -> bool:
    """Whether a sandbox was made by this node. Pure.

    Args:
        bundle: the sandbox's OCI configuration.
        group: name of the node's own control group, which has its uid in it.
        logs: below which this node's agent has the containers' logs.
    """
    place = str((bundle.get("linux") or {}).get("cgroupsPath") or "")
    directory = str((bundle.get("annotations") or {}).get(_LOGS) or "")
    return place.startswith(f"/{group}/") or (bool(directory) and logs in Path(directory).parents)


class LostShims:
    """Ends the lost shims of one node on one containerd; finds none on other engines.

    Args:
        client: of the engine; stays its owner's.
        group: name of the node's own control group.
        logs: below which the containers' logs are, absolute.
    """

    def __init__(self, client: CriClient, *, group: str, logs: Path, clock: Clock) -> None:
        self._client = client
        self._group = group
        self._logs = logs
        self._clock = clock

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
        seen = self._ours()
        lost = set(seen.values()) - await self._known() if seen else set()
        for sandbox in list(lost):
            if await self._has_record(sandbox):
                lost.discard(sandbox)
        if not lost:
            return 0
        with supervisors_that(lambda pid: pid in seen and self._sandbox_of(pid) in lost) as shims:
            shims.end()
        for sandbox in lost:
            log.warning(
                "engine.lost_shim_ended", sandbox=sandbox, hint="the container engine forgot it when it was killed"
            )
        return shims.count

    def _ours(self) -> dict[int, str]:
        """Sandboxes of this node by the number of their shim's process."""
        found = {}
        for name in os.listdir("/proc"):  # noqa: PTH208 - a few thousand entries, without an object for each
            if not name.isdigit() or not (sandbox := self._sandbox_of(int(name))):
                continue
            if is_ours(_bundle(int(name)), group=self._group, logs=self._logs):
                found[int(name)] = sandbox
        return found

    def _sandbox_of(self, pid: int) -> str:
        """For which a process is a shim of our engine; empty for any other."""
        sandbox, socket = shim_of(words_of(pid))
        is_of_engine = bool(socket) and os.path.realpath(socket) == os.path.realpath(self._client.socket)
        return sandbox if is_of_engine else ""

    async def _known(self) -> set[str]:
        """Every sandbox that the engine tells of, whoever made it, also by its containers."""
        sandboxes = await self._client.call("ListPodSandbox", {})
        containers = await self._client.call("ListContainers", {})
        by_containers = {item.get("pod_sandbox_id", "") for item in containers.get("containers", [])}
        return by_containers | {item["id"] for item in sandboxes.get("items", [])}

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


def _bundle(pid: int) -> Mapping[str, Any]:
    """The OCI configuration of the sandbox that a shim was started for; nothing where its bundle is gone."""
    with contextlib.suppress(OSError, json.JsonError):
        with Path(f"/proc/{pid}/cwd/config.json").open("rb") as file:
            found = json.loads(file.read(_BUNDLE_BYTES))
        return found if isinstance(found, dict) else {}
    return {}
