"""Images of the process runtime: labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skerry.runtime.ports import StoredImage


class ProcessImages:
    """``ImageStore``: an image is a label, so every image is there."""

    are_labels = True

    async def list(self) -> Sequence[StoredImage]:
        return ()

    async def in_use(self) -> frozenset[str]:
        return frozenset()

    async def filesystem(self) -> Path | None:
        return None

    async def remove(self, image_id: str) -> None:
        """Nothing to remove."""

    async def is_present(self, image: str) -> bool:
        return True

    async def pull(self, image: str, *, secrets: Sequence[dict[str, object]] = ()) -> str:
        return image

    async def resolve(self, image: str) -> str:
        return image
