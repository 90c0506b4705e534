"""The image of a container: there already, or fetched by its policy; one pull at a time, and one for all who wait."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from skerry.base.aio.clock import Clock
from skerry.base.aio.supervise import race
from skerry.base.obs.log import get_log
from skerry.edge.images.ledger import ImageLedger
from skerry.runtime.ports import EngineError, ImageStore

log = get_log(__name__)

_TURN_S = 1800.0

Tell = Callable[[str, str, bool], Awaitable[None]]
"""(reason, message, is a warning) → an Event about the container."""


class ImageKeeper:
    """Gives images to containers.

    Pulls go one by one: on a thin link two at once only make both late. Who has waited for half an hour goes beside.
    A pull that was cut off is taken up again by the engine where it keeps partial layers (containerd does).

    Args:
        credentials: file in the form of docker's ``config.json``, for every pod; read at each pull, may be missing.
        is_offline: whether the cloud cannot be reached; nothing that is present is pulled then.
        carried: bytes that the proxy for capped pulls has carried; None where pulls have no cap.
    """

    def __init__(
        self,
        images: ImageStore,
        *,
        ledger: ImageLedger,
        credentials: Path,
        is_offline: Callable[[], bool],
        clock: Clock,
        carried: Callable[[], int] | None = None,
    ) -> None:
        self._carried = carried
        self._images = images
        self._ledger = ledger
        self._credentials = credentials
        self._is_offline = is_offline
        self._clock = clock
        self._turn = asyncio.Lock()

    async def reference(
        self, image: str, policy: str, secrets: Callable[[], Awaitable[Sequence[dict[str, object]]]], tell: Tell
    ) -> str:
        """What to create a container with.

        Args:
            image: as the pod wrote it.
            policy: Always, IfNotPresent or Never.
            secrets: the pod's pull secrets; asked only for a pull.

        Raises:
            EngineError: ``ErrImageNeverPull``, ``ErrImagePull``, ``RegistryUnavailable`` or ``InvalidImageName``.
        """
        if self._images.are_labels:
            text = f'Image "{image}" is a label on this node: nothing is pulled, the command runs from the node itself'
            await tell("ImageNotUsed", text, False)
            return await self._images.resolve(image)
        found = await self._present(image, policy, tell)
        if found is None:
            asked_s = self._clock.monotonic_s()
            async with self._in_turn():
                # Another container may have brought it while this one waited for its turn.
                found = None if policy == "Always" else await self._present(image, policy, tell)
                if found is None:
                    found = await self._pull(image, await secrets(), tell, asked_s)
        await self._ledger.used(found)
        return found

    @contextlib.asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        """Wait for the pulls before this one, but not for ever: a registry may be silent."""
        is_ours = False

        async def take() -> None:
            nonlocal is_ours
            is_ours = await self._turn.acquire()

        try:
            await race(take(), self._clock.sleep(_TURN_S))
            yield
        finally:
            if is_ours:  # also of a wait that was cancelled when its turn had just come
                self._turn.release()

    async def _present(self, image: str, policy: str, tell: Tell) -> str | None:
        is_present = await self._images.is_present(image)
        if policy == "Never" or (is_present and policy != "Always"):
            found = await self._images.resolve(image)
            await tell("Pulled", f'Container image "{image}" already present on machine', False)
            return found
        if is_present and self._is_offline():
            await tell("PullSkipped", f'Image "{image}" is used as it is here: the node is offline', True)
            return await self._images.resolve(image)
        return None

    async def _pull(self, image: str, secrets: Sequence[dict[str, object]], tell: Tell, asked_s: float) -> str:
        await tell("Pulling", f'Pulling image "{image}"', False)
        started_s = self._clock.monotonic_s()
        carried = self._carried() if self._carried is not None else 0
        try:
            found = await self._images.pull(image, secrets=[*secrets, *self._node_secrets()])
        except EngineError as exc:
            if not await self._images.is_present(image):
                raise
            # A node that cannot reach its registry goes on with the image that it has.
            await tell("PullSkipped", f'Image "{image}" is used as it is here: {exc}', True)
            return await self._images.resolve(image)
        if self._carried is not None and self._carried() == carried:
            text = f'Image "{image}" did not come through imagePullProxy, so its rate was not capped: '
            await tell("PullNotCapped", text + "set HTTPS_PROXY and HTTP_PROXY of the container engine", True)
        ended_s = self._clock.monotonic_s()
        await self._ledger.pulled(found, image)
        text = f'Successfully pulled image "{image}" in {_seconds(ended_s - started_s)}'
        text += f" ({_seconds(ended_s - asked_s)} including waiting)."
        if size := await self._size(found):
            text += f" Image size: {size} bytes."
        await tell("Pulled", text, False)
        log.info("image.pulled", image=image, took_s=round(ended_s - started_s, 1), bytes=size)
        return found

    async def _size(self, image_id: str) -> int:
        try:
            return next((image.size_bytes for image in await self._images.list() if image.id == image_id), 0)
        except EngineError:
            return 0  # the pull itself went well; the size is only told

    def _node_secrets(self) -> list[dict[str, object]]:
        try:
            text = self._credentials.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as exc:
            log.warning("image.credentials_unreadable", path=str(self._credentials), why=str(exc))
            return []
        return [{"data": {".dockerconfigjson": base64.b64encode(text).decode()}}]


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms" if seconds < 1 else f"{seconds:.3f}s"
