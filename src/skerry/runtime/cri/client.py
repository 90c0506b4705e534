"""CRI calls over the gRPC door, with the engine's errors in our terms. Not here: what the messages mean for pods."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

from skerry.base.grpc import GrpcClient, GrpcError, Status
from skerry.runtime.ports import EngineError, EngineRefused, EngineUnavailable
from skerry.wire.pb.codec import CRI

SHORT_S = 10.0
"""Deadline of questions."""
ACTION_S = 120.0
"""Deadline of create, start and remove; the kubelet's own."""
SANDBOX_S = 240.0
"""Deadline of a sandbox start, which may wait for the network."""
PULL_S = 24 * 3600.0
"""Deadline of one image pull: none that a thin or capped link could meet. The engine ends a stalled one much earlier,
and a pull that we cut off may have to begin anew."""

_STARTING = "server is not initialized yet"
"""What containerd answers between its socket and its CRI plugin."""
_IMAGE_METHODS = frozenset({"ListImages", "ImageStatus", "PullImage", "RemoveImage", "ImageFsInfo"})

_REMEDIES: tuple[tuple[str, str, str], ...] = (
    (
        "cni plugin not initialized",
        "SK-E006",
        "install the CNI plugins and put a conflist into the engine's conf_dir (/etc/cni/net.d)",
    ),
    (
        "failed to open iptables",
        "SK-E006",
        "install iptables: the network plugin makes host ports with it",
    ),
    (
        "neither iptables nor ip6tables",
        "SK-E006",
        "install iptables: the network plugin takes host ports back with it",
    ),
    (
        "failed to get sandbox image",
        "SK-E008",
        "the pause image is not on this machine: connect once to a registry, or `ctr -n k8s.io images import` it",
    ),
    (
        "oom_score_adj",
        "SK-E007",
        "the container engine may not lower it here: give its service CAP_SYS_RESOURCE, or set "
        "restrict_oom_score_adj = true in the CRI section of containerd; then restart the engine",
    ),
    (
        "memory.max: no such file",
        "",
        "this kernel limits no memory: add cgroup_enable=memory to its command line (Raspberry Pi: cmdline.txt) and "
        "restart the machine, or take the memory limit away",
    ),
)


def remedy(text: str) -> tuple[str, str]:
    """(cause code, remedy) for an engine's error text; empty where we know none."""
    for mark, code, hint in _REMEDIES:
        if mark in text:
            return code, hint
    return "", ""


class CriClient:
    """Calls of RuntimeService and ImageService by their short name.

    Args:
        socket: of the engine.
    """

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._grpc = GrpcClient(socket, CRI)

    async def call(
        self,
        name: str,
        request: Mapping[str, Any],
        *,
        reason: str = "EngineError",
        timeout_s: float = SHORT_S,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """One call.

        Args:
            name: such as ``RunPodSandbox``.
            reason: of the ``EngineError`` when the engine says no.
            headers: sent along; engines skip those that they do not know.

        Raises:
            EngineUnavailable: no connection, or no answer in time.
            EngineRefused: the engine cannot do this at all.
            EngineError: everything else, with the engine's words and the remedy where we know it.
        """
        try:
            return await self._grpc.call(_path(name), request, timeout_s=timeout_s, headers=headers)
        except GrpcError as exc:
            raise self._translated(name, reason, exc) from exc

    async def call_if_there(self, name: str, request: Mapping[str, Any], *, timeout_s: float = ACTION_S) -> bool:
        """One call on something that may be gone already; False if it was."""
        try:
            await self._grpc.call(_path(name), request, timeout_s=timeout_s)
        except GrpcError as exc:
            if exc.status is Status.NOT_FOUND or is_gone(exc.message):
                return False
            raise self._translated(name, "EngineError", exc) from exc
        return True

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        """GetContainerEvents.

        Raises:
            EngineRefused: the engine does not implement it (containerd before 1.7).
            EngineUnavailable: the stream broke.
        """
        try:
            async with contextlib.aclosing(self._grpc.stream(_path("GetContainerEvents"), {})) as stream:
                async for event in stream:
                    yield event
        except GrpcError as exc:
            raise self._translated("GetContainerEvents", "EngineError", exc) from exc

    async def aclose(self) -> None:
        """Close the connection."""
        await self._grpc.aclose()

    def _translated(self, name: str, reason: str, exc: GrpcError) -> EngineError:
        is_away = exc.status in (Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED, Status.CANCELLED)
        if is_away or _STARTING in exc.message:
            return EngineUnavailable(
                f"container engine at {self.socket}: {exc.message}", hint="is it running? systemctl status containerd"
            )
        if exc.status is Status.UNIMPLEMENTED:
            return EngineRefused(f"container engine at {self.socket} does not implement {name}", reason=reason)
        _, hint = remedy(exc.message)
        return EngineError(exc.message, reason=reason, hint=hint)


def is_gone(text: str) -> bool:
    """Whether an engine's error text says that there is no such thing (containerd, CRI-O; Docker). Pure."""
    return "not found" in text or "No such container" in text


def _path(name: str) -> str:
    return f"/runtime.v1.{'ImageService' if name in _IMAGE_METHODS else 'RuntimeService'}/{name}"
