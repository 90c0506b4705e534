"""Objects that this node asks for by itself: the cloud neither sends changes of them nor takes them away.

So the node tells nothing of them at the beginning of a session, and forgets claims and their volumes as soon as the pod
that mounted them is gone: another claim of that name may come. RuntimeClasses stay: they are few, and asked for anew
whenever one is used while the cloud can be reached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from skerry.api.gvk import Object
from skerry.edge.store.objects import Change, EdgeObjects
from skerry.runtime.claims import claim_of
from skerry.wire.errors import Malformed
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import route

ASKED_TYPES = frozenset({c.TYPE_PV, c.TYPE_PVC, c.TYPE_RUNTIMECLASS})
_PV_NAMESPACE = "default"  # as nodes ask for volumes, which have none


class UnusedClaims:
    """Claims and volumes of pods that are gone. Bound: as many as the store has."""

    def __init__(self, objects: EdgeObjects) -> None:
        self._objects = objects
        self._keys: dict[str, None] = {}
        self._came = asyncio.Event()
        objects.subscribe(self._changed)

    def __contains__(self, key: object) -> bool:
        """Whether the object must not be used any more, though the store still has it."""
        return key in self._keys

    async def run(self) -> None:
        """Remove them from the store, for ever."""
        while True:
            await self._came.wait()
            for key in list(self._keys):
                await self._objects.delete(key)
                self._keys.pop(key, None)
            if not self._keys:
                self._came.clear()

    def _changed(self, change: Change) -> None:
        if change.type in ASKED_TYPES:
            self._keys.pop(change.key, None)  # asked for anew, or removed
        if change.type != c.TYPE_POD or change.old is None or _uid(change.old) == _uid(change.new or {}):
            return
        gone = list(self._mounted(change.old))
        pods = [pod for key, pod in self._objects.list(c.TYPE_POD).items() if gone and key != change.key]
        in_use = {key for pod in pods for key in self._mounted(pod)}
        for key in gone:
            if key not in in_use and self._objects.get(key) is not None:
                self._keys[key] = None
                self._came.set()

    def _mounted(self, pod: Object) -> Iterator[str]:
        """Keys of the claims that a pod mounts, and of the volumes behind them."""
        try:
            claims = [claim_of(pod, volume) for volume in (pod.get("spec") or {}).get("volumes") or []]
            keys = [route.build(str(pod["metadata"]["namespace"]), c.TYPE_PVC, claim[0]) for claim in claims if claim]
        except (KeyError, TypeError, AttributeError, Malformed):
            return  # its start tells
        for key in keys:
            yield key
            if name := ((self._objects.get(key) or {}).get("spec") or {}).get("volumeName"):
                yield route.build(_PV_NAMESPACE, c.TYPE_PV, str(name))


def _uid(obj: Object) -> str:
    return str((obj.get("metadata") or {}).get("uid") or "")
