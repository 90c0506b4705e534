"""ImageStore over CRI v1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skerry.runtime.cri.client import PULL_S, CriClient
from skerry.runtime.cri.credentials import auths_for, registry_of
from skerry.runtime.ports import EngineError, EngineUnavailable

_UNREACHABLE = ("no such host", "connection refused", "i/o timeout", "network is unreachable", "no route to host")
_BAD_NAME = ("invalid reference", "couldn't parse image")


class CriImages:
    """Images of a CRI engine. The client belongs to the runtime and is closed there."""

    def __init__(self, client: CriClient) -> None:
        self._client = client

    async def is_present(self, image: str) -> bool:
        """Whether ``image`` can be used without a pull."""
        return await self._find(image) is not None

    async def pull(self, image: str, *, secrets: Sequence[dict[str, object]] = ()) -> str:
        """Pull with each fitting credential, then without; the reference to create containers with.

        Raises:
            EngineError: ``ErrImagePull``, ``RegistryUnavailable`` or ``InvalidImageName``.
        """
        failure: EngineError | None = None
        for auth in [*auths_for(image, secrets), None]:
            try:
                return await self._pull(image, auth)
            except EngineUnavailable:
                raise
            except EngineError as exc:
                failure = failure or exc
        assert failure is not None
        raise failure

    async def resolve(self, image: str) -> str:
        """The reference of an image that is present. Raises ``EngineError`` (``ErrImageNeverPull``)."""
        found = await self._find(image)
        if found is None:
            raise EngineError(f"container image {image!r} is not present", reason="ErrImageNeverPull")
        return found

    async def _find(self, image: str) -> str | None:
        answer = await self._client.call("ImageStatus", {"image": {"image": image}}, reason="ImageInspectError")
        found = answer.get("image", {}).get("id")
        return str(found) if found else None

    async def _pull(self, image: str, auth: dict[str, str] | None) -> str:
        request: dict[str, Any] = {"image": {"image": image}}
        if auth is not None:
            request["auth"] = auth
        try:
            answer = await self._client.call("PullImage", request, reason="ErrImagePull", timeout_s=PULL_S)
        except EngineUnavailable:
            raise
        except EngineError as exc:
            raise _explained(image, exc) from exc
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
    if "not found" in text or "unauthorized" in text or "authorization failed" in text:
        return EngineError(text, reason="ErrImagePull", hint="check the image's name and the pod's imagePullSecrets")
    return EngineError(text, reason="ErrImagePull")
