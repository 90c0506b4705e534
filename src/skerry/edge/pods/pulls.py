"""The image of a container that is to start: present, pulled, or a reason why not."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from skerry.api.gvk import Object
from skerry.api.status import ApiError
from skerry.edge.pods.events import PodEvents
from skerry.runtime.ports import EngineError, ImageStore
from skerry.runtime.volumes import Objects


class Pulls:
    """Gets images by their pull policies."""

    def __init__(self, images: ImageStore, *, objects: Objects, events: PodEvents) -> None:
        self._images = images
        self._objects = objects
        self._events = events

    async def image(self, pod: Object, container: Mapping[str, Any]) -> str:
        """The reference to create the container with.

        Raises:
            EngineError: ``ErrImagePull``, ``ErrImageNeverPull``, ``InvalidImageName``…
        """
        image = str(container.get("image") or "")
        policy = container.get("imagePullPolicy") or "IfNotPresent"
        is_present = await self._images.is_present(image)
        if policy == "Never" or (is_present and policy != "Always"):
            return await self._images.resolve(image)
        name = str(container["name"])
        await self._events.tell(pod, "Pulling", f'Pulling image "{image}"', container=name)
        try:
            reference = await self._images.pull(image, secrets=await self._secrets(pod))
        except EngineError as exc:
            if not is_present:
                raise
            # A node that cannot reach its registry goes on with the image that it has.
            text = f'Image "{image}" is used as it is here: {exc}'
            await self._events.tell(pod, "PullSkipped", text, container=name, warning=True)
            return await self._images.resolve(image)
        await self._events.tell(pod, "Pulled", f'Successfully pulled image "{image}"', container=name)
        return reference

    async def _secrets(self, pod: Object) -> list[dict[str, object]]:
        found = []
        for reference in (pod.get("spec") or {}).get("imagePullSecrets") or []:
            with contextlib.suppress(ApiError):
                found.append(await self._objects.get("secret", str(pod["metadata"]["namespace"]), reference["name"]))
        return found
