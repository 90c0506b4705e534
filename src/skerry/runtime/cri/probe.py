"""What is wrong with the container engine of a machine, for ``join`` and ``doctor``; starts no container."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from skerry.api.checkup import EngineProbe
from skerry.base import json
from skerry.base.grpc import GrpcError, Status
from skerry.runtime.cri.client import CriClient
from skerry.runtime.ports import EngineError, EngineRefused

SOCKETS = (
    Path("/run/containerd/containerd.sock"),
    Path("/run/crio/crio.sock"),
    Path("/run/cri-dockerd.sock"),
    Path("/run/k3s/containerd/containerd.sock"),
)
"""Where engines listen, best first."""

_WITH_SHELL = ("busybox", "alpine", "debian", "ubuntu", "bash")
_SYS_RESOURCE = 24
_LOWEST_OOM_SCORE = -998


DEFAULT_SOCKET = SOCKETS[0]


def find_socket(places: Sequence[Path] = SOCKETS) -> Path | None:
    """The first engine socket that is there; one that we may not look at is none."""
    return next((path for path in places if _is_socket(path)), None)


def _is_socket(path: Path) -> bool:
    try:
        return path.is_socket()
    except OSError:
        return False


def may_lower_oom_score() -> bool:
    """Whether processes of this machine may have an ``oom_score_adj`` of -998 (CAP_SYS_RESOURCE)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return bool(int(line.split()[1], 16) >> _SYS_RESOURCE & 1)
    return True


async def probe(socket: Path, *, may_lower: Callable[[], bool] = may_lower_oom_score) -> list[EngineProbe]:
    """Everything that we can find wrong without starting a container; empty is good.

    Codes: SK-E004 no answer, SK-E005 CRI switched off, SK-E006 no pod network, SK-E007 oom_score_adj, SK-E008 pause
    image missing.
    """
    client = CriClient(socket)
    try:
        return await _probed(client, may_lower)
    except EngineError as exc:
        return [EngineProbe(_code_of(exc), _cause_of(socket, exc))]
    finally:
        await client.aclose()


async def images_with_shell(socket: Path) -> list[str]:
    """Tags that the engine holds now of images that are known to have ``/bin/sh``, the smallest first.

    Raises:
        EngineError: the engine does not tell.
    """
    client = CriClient(socket)
    try:
        images = (await client.call("ListImages", {})).get("images", [])
    finally:
        await client.aclose()
    by_size = sorted(images, key=lambda image: int(image.get("size", 0)))
    tags = [tag for image in by_size for tag in image.get("repo_tags", [])]
    return [tag for tag in tags if tag.rpartition(":")[0].rpartition("/")[2] in _WITH_SHELL]


async def _probed(client: CriClient, may_lower: Callable[[], bool]) -> list[EngineProbe]:
    await client.call("Version", {})
    status = await client.call("Status", {"verbose": True})
    found = []
    for condition in status.get("status", {}).get("conditions", []):
        if not condition.get("status"):
            text = condition.get("message", "") or f"{condition.get('type')} is false"
            code = "SK-E006" if condition.get("type") == "NetworkReady" else "SK-E004"
            found.append(EngineProbe(code, text))
    config = _config_of(status.get("info", {}).get("config", ""))
    image = str(config.get("sandboxImage") or config.get("SandboxImage") or "")
    if image and not (await client.call("ImageStatus", {"image": {"image": image}})).get("image", {}).get("id"):
        found.append(EngineProbe("SK-E008", f"sandbox image {image} is not in the engine"))
    restricts = config.get("restrictOOMScoreAdj")
    if restricts is False and not may_lower():
        found.append(EngineProbe("SK-E007", f"oom_score_adj {_LOWEST_OOM_SCORE} is refused here (no CAP_SYS_RESOURCE)"))
    return found


def _config_of(text: str) -> dict[str, object]:
    """containerd tells its configuration in the verbose status; other engines do not."""
    try:
        found = json.loads(text) if text else {}
    except json.JsonError:
        return {}
    return found if isinstance(found, dict) else {}


def _code_of(failure: EngineError) -> str:
    return "SK-E005" if isinstance(failure, EngineRefused) else "SK-E004"


def _cause_of(socket: Path, failure: EngineError) -> str:
    """The sentence for a socket that cannot be used."""
    below: BaseException | None = failure.__cause__
    while isinstance(below, GrpcError) and below.status is Status.UNAVAILABLE and below.__cause__ is not None:
        below = below.__cause__
    if isinstance(below, PermissionError):
        return f"no permission to use {socket}; run as root"
    if isinstance(below, FileNotFoundError):
        return f"there is no socket {socket}"
    if isinstance(below, ConnectionRefusedError):
        return f"nobody listens on {socket}"
    return str(failure)
