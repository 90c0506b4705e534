"""ImageStore over CRI v1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skerry.base import json
from skerry.runtime.cri.client import PULL_S, CriClient
from skerry.runtime.cri.credentials import auths_for, registry_of
from skerry.runtime.cri.leases import PullLeases
from skerry.runtime.ports import EngineError, EngineUnavailable, StoredImage
from skerry.wire.pb.containerd import LEASE_HEADER

_UNREACHABLE = ("no such host", "connection refused", "i/o timeout", "network is unreachable", "no route to host")
_BAD_NAME = ("invalid reference", "couldn't parse image")


class CriImages:
    """Images of a CRI engine. The client belongs to the runtime and is closed there.

    Args:
        mirrors: place to ask first, by registry host.
        leases: keep what broken-off pulls have fetched; None leaves that to the engine.
    """

    are_labels = False

    def __init__(
        self, client: CriClient, *, mirrors: Mapping[str, str] | None = None, leases: PullLeases | None = None
    ) -> None:
        self._client = client
        self._leases = leases
        self._mirrors = dict(mirrors or {})

    async def list(self) -> Sequence[StoredImage]:
        """Every image of the engine, ours or not."""
        answer = await self._client.call("ListImages", {})
        return [
            StoredImage(
                id=str(item.get("id", "")),
                tags=tuple(item.get("repo_tags", [])),
                digests=tuple(item.get("repo_digests", [])),
                size_bytes=int(item.get("size", 0)),
                is_pinned=bool(item.get("pinned")),
            )
            for item in answer.get("images", [])
        ]

    async def in_use(self) -> frozenset[str]:
        """Ids and names of the images of all containers on the engine, and of its sandboxes."""
        found = set(await self._sandbox_images())
        for item in (await self._client.call("ListContainers", {})).get("containers", []):
            found |= {item.get("image_ref", ""), item.get("image", {}).get("image", "")}
        return frozenset(found - {""})

    async def filesystem(self) -> Path | None:
        """Where images lie."""
        answer = await self._client.call("ImageFsInfo", {})
        for item in answer.get("image_filesystems", []):
            if mountpoint := item.get("fs_id", {}).get("mountpoint"):
                return Path(mountpoint)
        return None

    async def remove(self, image_id: str) -> None:
        """Remove an image with all its names."""
        await self._client.call_if_there("RemoveImage", {"image": {"image": image_id}})

    async def is_present(self, image: str) -> bool:
        """Whether ``image`` can be used without a pull."""
        return await self._find(image) is not None

    async def pull(self, image: str, *, secrets: Sequence[dict[str, object]] = ()) -> str:
        """Pull with each fitting credential, then without; the reference to create containers with.

        Raises:
            EngineError: ``ErrImagePull``, ``RegistryUnavailable`` or ``InvalidImageName``.
        """
        failure: EngineError | None = None
        for name in reversed(self._names(image)):  # the mirror first
            for auth in [*auths_for(name, secrets), None]:
                try:
                    return await self._pull(name, auth)
                except EngineUnavailable:
                    raise
                except EngineError as exc:
                    failure = exc if name == image and failure is None else failure or exc
        assert failure is not None
        raise failure

    async def resolve(self, image: str) -> str:
        """The reference of an image that is present. Raises ``EngineError`` (``ErrImageNeverPull``)."""
        found = await self._find(image)
        if found is None:
            raise EngineError(f"container image {image!r} is not present", reason="ErrImageNeverPull")
        return found

    async def _find(self, image: str) -> str | None:
        for name in self._names(image):
            answer = await self._client.call("ImageStatus", {"image": {"image": name}}, reason="ImageInspectError")
            if found := answer.get("image", {}).get("id"):
                return str(found)
        return None

    def _names(self, image: str) -> tuple[str, ...]:
        """The image's own name, and its name at the mirror of its registry."""
        host, repository = registry_of(image)
        mirror = self._mirrors.get(host)
        if mirror is None:
            return (image,)
        rest = image.removeprefix(f"{host}/")
        tail = rest[rest.index(repository.removeprefix("library/")) + len(repository.removeprefix("library/")) :]
        return image, f"{mirror}/{repository}{tail}"

    async def _sandbox_images(self) -> Sequence[str]:
        status = await self._client.call("Status", {"verbose": True})
        try:
            config = json.loads(status.get("info", {}).get("config", "") or "{}")
        except json.JsonError:
            return []
        name = str(config.get("sandboxImage") or "") if isinstance(config, dict) else ""
        answer = await self._client.call("ImageStatus", {"image": {"image": name}}) if name else {}
        return [name, str(answer.get("image", {}).get("id") or "")]

    async def _pull(self, image: str, auth: dict[str, str] | None) -> str:
        request: dict[str, Any] = {"image": {"image": image}}
        if auth is not None:
            request["auth"] = auth
        lease = await self._leases.hold(image) if self._leases is not None else ""
        headers = {LEASE_HEADER: lease} if lease else None
        try:
            answer = await self._client.call(
                "PullImage", request, reason="ErrImagePull", timeout_s=PULL_S, headers=headers
            )
        except EngineUnavailable:
            raise
        except EngineError as exc:
            raise _explained(image, exc) from exc
        if self._leases is not None and lease:
            await self._leases.release(lease)
        return str(answer["image_ref"])


def _explained(image: str, failure: EngineError) -> EngineError:
    """The failure with a reason that kubectl users know and a remedy."""
    text = str(failure)
    if any(mark in text for mark in _BAD_NAME):
        return EngineError(text, reason="InvalidImageName", hint=f"{image!r} is not an image name")
    if any(mark in text for mark in _UNREACHABLE):
        host, _ = registry_of(image)
        return EngineError(
            text,
            reason="RegistryUnavailable",
            hint=f"this machine cannot reach {host}: connect it once, configure a mirror, or import the image",
        )
    if any(mark in text.lower() for mark in ("not found", "unauthorized", "authorization failed", "forbidden")):
        return EngineError(text, reason="ErrImagePull", hint="check the image's name and the pod's imagePullSecrets")
    return EngineError(text, reason="ErrImagePull")
