"""Creating and deleting pods for an owner: the write, the Event about it, the expectation that the cache shows it."""

from __future__ import annotations

from skerry.api.gvk import PODS, Object
from skerry.api.status import ApiError, NotFound
from skerry.controllers.expectations import Expectations
from skerry.kube.events import EventRecorder
from skerry.kube.informer import Key
from skerry.kube.ports import KubeApi


class PodWrites:
    """Writes pods for owners of one kind.

    Args:
        api: the cluster.
        events: where to say what was done, about the owner.
        expected: told of every write, by the owner's key.
    """

    def __init__(self, api: KubeApi, events: EventRecorder, expected: Expectations) -> None:
        self._api = api
        self._events = events
        self._expected = expected

    async def create(self, key: Key, owner: Object, pod: Object) -> Object:
        """Create a pod. Raises ``ApiError`` after an Event ``FailedCreate``."""
        try:
            made = await self._api.create(PODS, pod, namespace=key[0])
        except ApiError as exc:
            self._events.warning(owner, "FailedCreate", f"Error creating: {exc}")
            raise
        self._expected.created(key, made)
        self._events.normal(owner, "SuccessfulCreate", f"Created pod: {made['metadata']['name']}")
        return made

    async def delete(self, key: Key, owner: Object, pod: Object) -> None:
        """Delete a pod; one that is gone already is no error."""
        name = pod["metadata"]["name"]
        try:
            await self._api.delete(PODS, name, namespace=key[0], uid=pod["metadata"]["uid"])
        except NotFound:
            return
        except ApiError as exc:
            self._events.warning(owner, "FailedDelete", f"Error deleting: {exc}")
            raise
        self._expected.deleted(key, pod)
        self._events.normal(owner, "SuccessfulDelete", f"Deleted pod: {name}")
