"""Which container engine the agent uses, and how it is opened.

What speaks CRI is in ``runtime_cri``, what runs processes in ``runtime_process``: each is loaded only where it is used
(gRPC costs 6 MB).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skerry.api.causes import CauseTable
from skerry.api.config.edge import EdgeConfig
from skerry.app.places import claims_directory
from skerry.base.errors import ConfigError
from skerry.base.files import DirectoryLock, lock_holder, make_private_dir
from skerry.base.obs.log import get_log
from skerry.base.values import Struct, field
from skerry.edge.node.podnet import NetworkPlaces
from skerry.edge.node.rivals import conflicting
from skerry.runtime.cgroups import CONTROLLERS
from skerry.runtime.ports import ContainerIO, EngineError, ImageStore, PodRuntime

log = get_log(__name__)

_NO_NETWORK = "SK-E006"


class OpenRuntime(Struct, frozen=True):
    """An engine in use.

    Args:
        kind: cri or process.
        notes: annotations of the Node.
        socket: of the engine, where it has one.
        upkeep: endless jobs that the engine needs while the agent runs, by name.
        keeps: the limits that it keeps, of ``cpu``, ``memory`` and ``pids``.
    """

    kind: str
    pods: PodRuntime
    io: ContainerIO
    images: ImageStore
    notes: Mapping[str, str] = field(default_factory=dict)
    socket: Path | None = None
    upkeep: Mapping[str, Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=dict)
    network: Callable[[], Coroutine[Any, Any, NetworkPlaces | None]] | None = None
    keeps: frozenset[str] = frozenset(CONTROLLERS)

    async def describe(self) -> tuple[str, str]:
        """Name and version for the Node, and why the engine is not ready (empty when it is)."""
        try:
            info = await self.pods.info()
        except EngineError as exc:
            return "", exc.explained()
        return f"{info.name}://{info.version}", "" if info.is_ready else info.message or "the engine is not ready"


async def choose_runtime(wanted: str, *, cri_socket: str) -> str:
    """``cri`` or ``process``: as wanted; with ``auto`` CRI where an engine can run pods now.

    Raises:
        ConfigError: CRI is wanted and no engine can run pods; with the remedy.
    """
    if wanted == "process":
        return "process"
    from skerry.app.runtime_cri import can_make_network, probe_engine

    found = await probe_engine(cri_socket)
    if all(each.code == _NO_NETWORK for each in found) and (not found or await can_make_network(cri_socket)):
        return "cri"
    if wanted == "auto":
        return "process"
    first = CauseTable()[found[0].code]
    raise ConfigError(f"{first.title}: {found[0].evidence}", hint=first.remedy)


async def open_runtime(config: EdgeConfig, joined: Mapping[str, Any]) -> OpenRuntime:
    """Open the engine that the configuration names; what it leaves open stays as the join has found it.

    Args:
        joined: what the join wrote: ``runtime``, ``criSocket`` and ``nodeUid``, by which an engine that is shared
            tells this node's pods from others'; and ``adopted``, the sandboxes that an adoption took over.
    """
    joined_runtime, cri_socket = str(joined.get("runtime", "")), config.cri_socket or str(joined.get("criSocket", ""))
    wanted = joined_runtime if config.runtime == "auto" and joined_runtime else config.runtime
    kind = wanted if wanted != "auto" else await choose_runtime("auto", cri_socket=cri_socket)
    log.info("runtime.chosen", runtime=kind)
    if kind == "cri":
        adopted = {str(sandbox): str(uid) for sandbox, uid in (joined.get("adopted") or {}).items()}
        from skerry.app.runtime_cri import open_cri

        return open_cri(config, cri_socket, str(joined.get("nodeUid") or joined["node"]), adopted)
    from skerry.app.runtime_process import open_process

    return open_process(config, str(joined.get("nodeUid") or joined["node"]))


def refuse_rivals(runtime: OpenRuntime) -> None:
    """Refuse an engine that another node agent manages: each would take the other's pods for orphans of its own.

    Raises:
        ConfigError: names the agent.
    """
    if runtime.socket is not None and (found := conflicting(runtime.socket)):
        rival, socket = found[0], runtime.socket
        raise ConfigError(
            f"{rival.name} (pid {rival.pid}) manages the container engine at {socket} already",
            hint=f"stop and disable it (systemctl disable --now {rival.name}), or give this node an engine of its own",
        )


@contextmanager
def claim_engine(runtime: OpenRuntime, joined: Mapping[str, Any], *, place: Path | None = None) -> Iterator[None]:
    """Be the only agent of this node on its engine. A copied data directory has the same identity as its original: two
    agents would make, and end, the same pods. The claim of a killed agent is free at once.

    Args:
        joined: what the join wrote; names the node.
        place: where claims lie.

    Raises:
        ConfigError: another process serves this node on this engine; names it.
    """
    if runtime.socket is None:  # the process runtime keeps its pods in the data directory, which has a lock
        yield
        return
    node_uid, socket = str(joined.get("nodeUid") or joined["node"]), runtime.socket.resolve()
    name = hashlib.sha256(f"{socket}\n{node_uid}".encode()).hexdigest()[:16]
    directory = make_private_dir(place or claims_directory())
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(DirectoryLock(directory, name=f"engine-{name}.lock"))
        except ConfigError as exc:
            holder = lock_holder(directory, name=f"engine-{name}.lock")
            raise ConfigError(
                f"node {joined['node']} is served on the container engine at {socket} by another agent (pid {holder})",
                hint="stop that one; if its data directory is a copy, join the copy anew: skerry reset, skerry join",
            ) from exc
        yield
