"""Opens a container engine that speaks CRI, and says what stands between it and pods."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from skerry.api.checkup import EngineProbe
from skerry.api.config.edge import EdgeConfig
from skerry.app.runtimes import OpenRuntime
from skerry.base.aio.clock import SystemClock
from skerry.edge.node.machine import cpu_count, memory
from skerry.runtime.cgroups import Cgroups, group_name
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.engine import CriRuntime
from skerry.runtime.cri.images import CriImages
from skerry.runtime.cri.leases import PullLeases
from skerry.runtime.cri.logrotation import LogRotation
from skerry.runtime.cri.lostleases import LostLeases
from skerry.runtime.cri.lostrules import LostRules
from skerry.runtime.cri.lostshims import LostShims, Owner
from skerry.runtime.cri.lostspaces import LostSpaces
from skerry.runtime.cri.network import network_places
from skerry.runtime.cri.podgroups import PodGroups
from skerry.runtime.cri.probe import DEFAULT_SOCKET, find_socket, probe
from skerry.runtime.network import missing_plugins
from skerry.runtime.ports import EngineError


async def can_make_network(cri_socket: str) -> bool:
    """Whether a pod network can be written: by root, where the engine says where, and with its plugins."""
    socket = _socket(cri_socket)
    if socket is None or os.geteuid() != 0:
        return False
    client = CriClient(socket)
    try:
        places = await network_places(client)
    except EngineError:
        return False
    finally:
        await client.aclose()
    return places is not None and not missing_plugins((places.plugins,))


async def probe_engine(cri_socket: str) -> Sequence[EngineProbe]:
    """What stands between this machine and pods on a container engine; empty when nothing does."""
    socket = _socket(cri_socket)
    if socket is None:
        return [EngineProbe("SK-E003", "no socket of containerd, CRI-O or cri-dockerd was found")]
    return await probe(socket)


def open_cri(config: EdgeConfig, cri_socket: str, node_uid: str, adopted: Mapping[str, str]) -> OpenRuntime:
    """The engine at ``cri_socket``, or at the usual place."""
    # After a boot the agent may be here before the engine: its socket comes later, and pods wait for it.
    socket = _socket(cri_socket) or DEFAULT_SOCKET
    client = CriClient(socket)
    groups = PodGroups(
        client, Cgroups(group_name(node_uid), clock=SystemClock()), cpu_count=cpu_count(),
        process_count=config.pod_pids_limit,
    )  # fmt: skip
    runtime = CriRuntime(
        client, node_uid=node_uid, groups=groups, adopted=adopted, machine_memory_bytes=memory()["MemTotal"]
    )
    rotation = LogRotation(
        runtime, clock=SystemClock(), max_bytes=config.container_log_max_bytes,
        max_files=config.container_log_max_files,
    )  # fmt: skip
    owner = Owner(node_uid, logs=config.data.absolute() / "pod-logs")
    clock = SystemClock()
    upkeep = {
        "log-rotation": rotation.run, "lost-shims": LostShims(client, owner, clock=clock).run,
        "lost-spaces": LostSpaces(client, owner, clock=clock).run, "lost-rules": LostRules(client, clock=clock).run,
        "lost-leases": LostLeases(client, owner, clock=clock).run,
    }  # fmt: skip
    notes = {"skerry.dev/runtime": "cri"}
    leases = PullLeases(socket, clock=SystemClock())
    images = CriImages(client, mirrors=config.registry_mirrors, leases=leases)
    return OpenRuntime(
        "cri", runtime, runtime, images, notes=notes, socket=socket, upkeep=upkeep,
        network=lambda: network_places(client),
    )  # fmt: skip


def _socket(configured: str) -> Path | None:
    return Path(configured.removeprefix("unix://")) if configured else find_socket()
