"""Ports to a container engine. Adapters: ``runtime.cri`` (CRI v1) and ``runtime.process`` (host processes), and the
fake in ``skerry.testing.fakeruntime``; all pass ``skerry.testing.contracts.pod_runtime``.

The pod worker makes directories for volumes and logs (``runtime.volumes``), then speaks only to these ports.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from skerry.base.errors import Permanent, Retryable, SkerryError
from skerry.base.values import Struct, field


class EngineError(SkerryError):
    """The container engine failed. ``reason`` is what kubectl users know (``ErrImagePull``, ``RunContainerError``…)."""

    reason: str = "EngineError"

    def __init__(self, message: str, *, reason: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        if reason:
            self.reason = reason


class EngineUnavailable(EngineError, Retryable):
    """The engine does not answer now."""

    reason = "ContainerRuntimeNotReady"


class EngineRefused(EngineError, Permanent):
    """This engine can never do what the pod asks; the pod's status says why."""

    reason = "CreateContainerConfigError"


class PodUnfit(EngineError, Permanent):
    """The pod cannot run here and has to fail; ``reason`` and text become those of its status."""

    reason = "UnexpectedAdmissionError"


class ExecTimeout(EngineError):
    """A command in a container did not end in time; it was ended."""

    reason = "ExecTimeout"


class ContainerState(StrEnum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


RUNTIME_HANDLER = "skerry.dev/runtime-handler"
"""Annotation of a sandbox: the engine's handler that the pod's RuntimeClass names; empty is the engine's default."""


class Mount(Struct, frozen=True):
    """One volume in one container: ``host_path`` appears at ``container_path``."""

    host_path: Path
    container_path: str
    read_only: bool = False
    propagation: str = "None"


class DeviceNode(Struct, frozen=True):
    """A device file of the node in one container. ``permissions``: of ``rwm``."""

    host_path: str
    container_path: str
    permissions: str = "rwm"


class DeviceGrant(Struct, frozen=True):
    """What device plugins add to one container.

    Args:
        envs: variables; those of the container's own definition win.
        cdi_names: fully qualified names of CDI devices, which the engine looks up.
    """

    envs: Mapping[str, str] = field(default_factory=dict)
    mounts: Sequence[Mount] = ()
    nodes: Sequence[DeviceNode] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    cdi_names: Sequence[str] = ()


class SandboxSpec(Struct, frozen=True):
    """What a pod's sandbox needs.

    Args:
        uid: the pod's uid; identity together with ``attempt``.
        annotations: carried by the engine and given back; ``skerry.dev/…`` keys are ours.
        log_directory: where container log files go.
        pod: the whole desired Pod, for engine-specific settings (securityContext, hostNetwork…).
    """

    namespace: str
    name: str
    uid: str
    attempt: int
    hostname: str
    log_directory: Path
    pod: dict[str, object]
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    dns_servers: Sequence[str] = ()
    dns_searches: Sequence[str] = ()
    dns_options: Sequence[str] = ()


class ContainerSpec(Struct, frozen=True):
    """What one container needs; everything is resolved (no references to ConfigMaps left).

    Args:
        name: container name in the pod.
        attempt: 0 for the first, +1 for each restart.
        image: as the user wrote it; ``image_ref`` is what ``ImageStore.pull`` gave.
        command: replaces the image's entrypoint when not empty.
        env: in order; later keys win.
        log_path: relative to the sandbox's log directory.
        container: the container's part of the PodSpec (resources, securityContext…).
        spec_hash: hash of what would need a new container; carried as an annotation.
        target_id: container whose processes this one sees (ephemeral containers); empty for none.
        devices: device files of the node.
        cdi_names: CDI devices, which the engine looks up.
    """

    name: str
    attempt: int
    image: str
    image_ref: str
    command: Sequence[str]
    args: Sequence[str]
    env: Sequence[tuple[str, str]]
    mounts: Sequence[Mount]
    log_path: str
    container: dict[str, object]
    working_dir: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    spec_hash: str = ""
    target_id: str = ""
    devices: Sequence[DeviceNode] = ()
    cdi_names: Sequence[str] = ()


class ObservedSandbox(Struct, frozen=True):
    """A sandbox as the engine tells it now."""

    id: str
    namespace: str
    name: str
    uid: str
    attempt: int
    is_ready: bool
    created_at_s: float
    ips: Sequence[str] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)


class ObservedContainer(Struct, frozen=True):
    """A container as the engine tells it now. Times are seconds since 1970, 0 when unset."""

    id: str
    sandbox_id: str
    name: str
    attempt: int
    state: ContainerState
    image: str
    image_ref: str
    created_at_s: float = 0.0
    started_at_s: float = 0.0
    finished_at_s: float = 0.0
    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    log_path: Path | None = None
    spec_hash: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)


class ObservedPod(Struct, frozen=True):
    """Everything that the engine has for one pod uid: sandboxes newest first, containers newest attempt first."""

    uid: str
    namespace: str
    name: str
    sandboxes: Sequence[ObservedSandbox]
    containers: Sequence[ObservedContainer]


class EngineInfo(Struct, frozen=True):
    """Who the engine is, for the Node's status and for ``doctor``."""

    name: str
    version: str
    is_ready: bool
    message: str = ""


class ContainerUsage(Struct, frozen=True):
    """What a container used: CPU since its start; memory, disk and processes now. 0 where the engine does not tell."""

    container_id: str
    cpu_ns: int
    memory_bytes: int
    disk_bytes: int = 0
    process_count: int = 0


class PodRuntime(Protocol):
    """Runs pods. Every call is idempotent by id and raises ``EngineError``."""

    async def info(self) -> EngineInfo:
        """Name, version and readiness. Raises ``EngineUnavailable``."""

    async def observe(self) -> dict[str, ObservedPod]:
        """All pods of this node by uid (only ours; a shared engine may hold others)."""

    def changes(self) -> AsyncIterator[str]:
        """Pod uids whose state may have changed; ``""`` means any. A hint: ``observe`` tells the truth."""

    async def create_sandbox(self, spec: SandboxSpec) -> str:
        """Create and start a sandbox; returns its id."""

    async def stop_sandbox(self, sandbox_id: str) -> None:
        """Stop it and every container in it, at once."""

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Remove a stopped sandbox and its containers."""

    async def create_container(self, sandbox_id: str, spec: ContainerSpec, sandbox: SandboxSpec) -> str:
        """Create a container; returns its id."""

    async def start_container(self, container_id: str) -> None:
        """Start a created container."""

    async def stop_container(self, container_id: str, *, grace_s: float) -> None:
        """SIGTERM (or the image's stop signal), after ``grace_s`` SIGKILL; returns when it has ended."""

    async def remove_container(self, container_id: str) -> None:
        """Remove an ended container; its log file stays for ``logs --previous``."""

    async def clear_pod(self, uid: str) -> None:
        """End and remove what is left of a pod that has no sandbox any more: an engine that was killed may have lost
        containers that run on."""

    def leftovers(self) -> set[str]:
        """Uids of pods that something may be left of, those that run among them."""

    async def stats(self) -> Mapping[str, ContainerUsage]:
        """Usage of our running containers, by id."""

    async def aclose(self) -> None:
        """Let go of the engine; containers keep running."""


class StoredImage(Struct, frozen=True):
    """An image of the engine.

    Args:
        id: what containers are created with.
        tags, digests: names with tag, and names with digest.
        is_pinned: the engine wants it kept.
    """

    id: str
    tags: Sequence[str]
    digests: Sequence[str]
    size_bytes: int
    is_pinned: bool = False


class ImageStore(Protocol):
    """Images of the engine. The process runtime's images are labels only."""

    are_labels: bool
    """Whether images are names and nothing else: there is nothing to pull, and nothing of them runs."""

    async def list(self) -> Sequence[StoredImage]:
        """Every image of the engine, ours or not."""

    async def in_use(self) -> frozenset[str]:
        """Ids and names of the images of all containers on the engine, ours or not, and of its sandboxes."""

    async def filesystem(self) -> Path | None:
        """Where images lie; None when they take no place."""

    async def remove(self, image_id: str) -> None:
        """Remove an image with all its names."""

    async def is_present(self, image: str) -> bool:
        """Whether ``image`` can be used without a pull."""

    async def pull(self, image: str, *, secrets: Sequence[dict[str, object]] = ()) -> str:
        """Pull; returns the reference to create containers with. Raises ``EngineError`` (``ErrImagePull``)."""

    async def resolve(self, image: str) -> str:
        """The reference of an image that is present. Raises ``EngineError`` (``ErrImageNeverPull``)."""


class StreamWanted(Struct, frozen=True):
    """A stream into a pod.

    Args:
        kind: ``exec``, ``attach`` or ``portForward``.
        target_id: of the container, or, for a port-forward, of the sandbox.
    """

    kind: str
    target_id: str
    command: Sequence[str] = ()
    tty: bool = False
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False


class ContainerIO(Protocol):
    """Streams into containers: exec, attach, port-forward. Logs are files and need no engine."""

    async def stream_url(self, wanted: StreamWanted) -> str:
        """Where the engine's streaming server serves this stream once; the client upgrades there.

        Raises:
            EngineRefused: this engine has no streams.
            EngineError: the container does not run.
        """

    async def exec_sync(self, container_id: str, command: Sequence[str], *, timeout_s: float) -> tuple[int, bytes]:
        """Run ``command`` in a running container to its end; exit code and output (at most 16 KiB).

        The words are given to the program as they are, never to a shell.

        Raises:
            ExecTimeout: it did not end within ``timeout_s``.
            EngineError: the container does not run, or has no such program.
        """
