"""What the kubelet interface needs of the node's pods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from skerry.api.gvk import Object


class ContainerLog(Protocol):
    """Where a container's log lies."""

    @property
    def path(self) -> Path:
        """The newest log file, in CRI format."""

    @property
    def is_running(self) -> bool:
        """Whether more may come."""


class NodePods(Protocol):
    """The pods of this node."""

    def pods(self) -> Sequence[Object]:
        """Every pod with its newest status."""

    async def container_log(self, namespace: str, pod: str, container: str, *, previous: bool) -> ContainerLog:
        """The log of a container, or of the one before its last restart.

        Raises:
            NotFound: no such pod on this node.
            BadRequest: no such container, or it has not started, or there is no previous one.
        """

    async def running_container(self, namespace: str, pod: str, container: str) -> str:
        """The engine's id of a container.

        Raises:
            NotFound: no such pod on this node.
            BadRequest: no such container, or it does not run.
        """

    async def sandbox(self, namespace: str, pod: str) -> str:
        """The engine's id of a pod's sandbox.

        Raises:
            NotFound: no such pod on this node.
            BadRequest: the pod does not run.
        """

    async def is_running(self, namespace: str, pod: str, container: str) -> bool:
        """Whether the container runs now; a follower of its log asks."""


class LogReader(Protocol):
    """Reads a CRI log file as ``kubectl logs`` shows it."""

    def __call__(
        self,
        path: Path,
        *,
        follow: bool,
        is_running: Callable[[], Awaitable[bool]],
        tail_lines: int | None,
        since_s: float | None,
        timestamps: bool,
        limit_bytes: int | None,
    ) -> AsyncIterator[bytes]:
        """Pieces of the log; with ``follow`` until ``is_running`` says no. ``since_s`` is seconds since 1970."""
