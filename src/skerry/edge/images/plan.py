"""Which images may go when the disk fills, in which order. Pure.

Never: an image of a container of anybody on this engine, of a pod that this node knows, or that this node did not pull
itself. While the node is offline an image that came from an archive stays too: it could not be had again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from skerry.edge.images.ledger import Fetched
from skerry.runtime.ports import StoredImage

MIN_AGE_S = 120.0


def collectable(
    images: Sequence[StoredImage],
    fetched: Mapping[str, Fetched],
    *,
    in_use: Collection[str],
    known: Collection[str],
    loaded: Collection[str],
    is_offline: bool,
    now_s: float,
) -> list[StoredImage]:
    """Images that may be removed, those unused longest first.

    Args:
        images: of the engine.
        fetched: by image id, what this node pulled.
        in_use: image ids and names of all containers on the engine.
        known: image names of the pods of this node, whatever their state.
        loaded: names that came from archives.
        now_s: an image pulled less than ``MIN_AGE_S`` ago is being started and stays.
    """
    kept = {*in_use, *known, *(loaded if is_offline else ())}
    found = [
        image
        for image in images
        if image.id in fetched
        and not image.is_pinned
        and kept.isdisjoint({image.id, fetched[image.id].name, *image.tags, *image.digests})
        and not 0 <= now_s - fetched[image.id].pulled_at_s < MIN_AGE_S
    ]
    return sorted(found, key=lambda image: fetched[image.id].used_at_s)


def bytes_to_free(total_bytes: int, free_bytes: int, *, high_percent: int, low_percent: int) -> int:
    """How much has to go: nothing below ``high_percent`` of use, else down to ``low_percent``."""
    used = total_bytes - free_bytes
    if total_bytes <= 0 or used * 100 < high_percent * total_bytes:
        return 0
    return max(1, used - low_percent * total_bytes // 100)
