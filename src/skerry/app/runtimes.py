"""Which container engine the agent uses, and how it is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from skerry.api.config.edge import EdgeConfig
from skerry.base.aio.clock import SystemClock
from skerry.base.obs.log import get_log
from skerry.runtime.ports import ContainerIO, EngineError, ImageStore, PodRuntime
from skerry.runtime.process.engine import ProcessImages, ProcessRuntime, ProcessSettings

log = get_log(__name__)

USUAL_SOCKETS = (
    Path("/run/containerd/containerd.sock"),
    Path("/run/crio/crio.sock"),
    Path("/run/cri-dockerd.sock"),
)


@dataclass(frozen=True, slots=True)
class OpenRuntime:
    """An engine in use.

    Args:
        kind: cri or process.
        notes: annotations of the Node.
    """

    kind: str
    pods: PodRuntime
    images: ImageStore
    streams: ContainerIO | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    async def describe(self) -> tuple[str, str]:
        """Name and version for the Node, and why the engine is not ready (empty when it is)."""
        try:
            info = await self.pods.info()
        except EngineError as exc:
            return "", exc.explained()
        return f"{info.name}://{info.version}", "" if info.is_ready else info.message


async def choose_runtime(wanted: str, *, cri_socket: str) -> str:
    """``cri`` or ``process``: as wanted; with ``auto`` CRI where an engine can run pods now.

    Raises:
        ConfigError: CRI is wanted and no engine can run pods; with the remedy.
    """
    if wanted == "process":
        return "process"
    return "process"


def sockets(configured: str) -> Sequence[Path]:
    """The configured socket, or those of the usual engines that exist."""
    if configured:
        return [Path(configured.removeprefix("unix://"))]
    return [path for path in USUAL_SOCKETS if path.exists()]


async def open_runtime(config: EdgeConfig, node: str, *, joined_runtime: str) -> OpenRuntime:
    """Open the engine that the configuration names; ``auto`` keeps what the join has found."""
    directory = config.data / "process"
    settings = ProcessSettings(
        allow_host_paths=config.allow_privileged, allow_host_namespaces=config.allow_privileged,
        allow_privileged=config.allow_privileged,
    )  # fmt: skip
    return OpenRuntime(
        "process", ProcessRuntime(directory, settings=settings, clock=SystemClock()), ProcessImages(),
        notes={"skerry.dev/runtime": "process"},
    )  # fmt: skip
