"""The image of a container that is to start, with the pod's pull secrets and Events. Not here: how images are had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skerry.api.gvk import Object
from skerry.api.status import ApiError
from skerry.edge.pods.events import PodEvents
from skerry.edge.pods.ports import Images
from skerry.runtime.volumes import Objects


class Pulls:
    """Asks the node's images for one container."""

    def __init__(self, images: Images, *, objects: Objects, events: PodEvents) -> None:
        self._images = images
        self._objects = objects
        self._events = events

    async def image(self, pod: Object, container: Mapping[str, Any]) -> str:
        """The reference to create the container with.

        Raises:
            EngineError: ``ErrImagePull``, ``ErrImageNeverPull``, ``InvalidImageName``…
        """

        async def secrets() -> list[dict[str, object]]:
            return await self._secrets(pod)

        async def tell(reason: str, message: str, is_warning: bool) -> None:
            await self._events.tell(pod, reason, message, container=str(container["name"]), warning=is_warning)

        policy = str(container.get("imagePullPolicy") or "IfNotPresent")
        return await self._images.reference(str(container.get("image") or ""), policy, secrets, tell)

    async def _secrets(self, pod: Object) -> list[dict[str, object]]:
        found, missing = [], []
        for reference in (pod.get("spec") or {}).get("imagePullSecrets") or []:
            name = str(reference.get("name") or "")
            try:
                found.append(await self._objects.get("secret", str(pod["metadata"]["namespace"]), name))
            except ApiError:
                missing.append(name)
        if missing:
            text = f"Unable to retrieve some image pull secrets ({', '.join(missing)}); attempting to pull the image "
            text += "may not succeed."
            await self._events.tell(pod, "FailedToRetrieveImagePullSecret", text, warning=True)
        return found
