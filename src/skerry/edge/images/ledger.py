"""Which images this node fetched, when it last used each, and which came from an archive.

An engine may be shared: only images in this ledger are ever removed. It lies in the store as one fact. Archives are
told by another process (``skerry image load``), in a file of names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from skerry.base import json
from skerry.base.aio.clock import Clock
from skerry.base.files import write_secret
from skerry.base.values import Struct, asdict

LOADED_FILE = "loaded-images.json"
_FACT = "images"
_USE_TOLD_S = 3600.0


class Facts(Protocol):
    """Where the ledger is kept: ``edge.store.objects.EdgeObjects`` as it is."""

    def fact(self, name: str) -> str:
        """Empty when unknown."""

    async def remember(self, name: str, value: str) -> None:
        """Keep a fact."""


class Fetched(Struct, frozen=True):
    """One image that this node pulled.

    Args:
        name: as the pod wrote it.
        used_at_s: wall-clock time of the last start of a container with it, to the hour.
    """

    name: str
    pulled_at_s: float
    used_at_s: float


class ImageLedger:
    """By image id. Bound: as many entries as images that were pulled and not removed."""

    def __init__(self, facts: Facts, *, directory: Path, clock: Clock) -> None:
        self._facts = facts
        self._directory = directory
        self._clock = clock
        text = facts.fact(_FACT)
        self._entries = {key: Fetched(**entry) for key, entry in json.loads(text.encode()).items()} if text else {}

    @property
    def entries(self) -> Mapping[str, Fetched]:
        """What this node pulled."""
        return self._entries

    def loaded(self) -> frozenset[str]:
        """Names of images that came from archives."""
        return frozenset(read_loaded(self._directory))

    async def pulled(self, image_id: str, name: str) -> None:
        """An image was pulled."""
        now_s = self._clock.now_s()
        self._entries[image_id] = Fetched(name, now_s, now_s)
        await self._save()

    async def used(self, image_id: str) -> None:
        """A container starts with an image; written once an hour at most."""
        entry = self._entries.get(image_id)
        now_s = self._clock.now_s()
        if entry is not None and abs(now_s - entry.used_at_s) > _USE_TOLD_S:
            self._entries[image_id] = Fetched(entry.name, entry.pulled_at_s, now_s)
            await self._save()

    async def removed(self, image_id: str) -> None:
        """An image is gone."""
        if self._entries.pop(image_id, None) is not None:
            await self._save()

    async def _save(self) -> None:
        found = {image_id: asdict(entry) for image_id, entry in self._entries.items()}
        await self._facts.remember(_FACT, json.dumps(found).decode())


def read_loaded(directory: Path) -> list[str]:
    """Names of the images that ``skerry image load`` brought."""
    try:
        found = json.loads((directory / LOADED_FILE).read_bytes())
    except (OSError, json.JsonError):
        return []
    return [str(name) for name in found] if isinstance(found, list) else []


def add_loaded(directory: Path, names: list[str]) -> None:
    """Remember names of images from an archive."""
    write_secret(directory / LOADED_FILE, json.dumps(sorted({*read_loaded(directory), *names})))
