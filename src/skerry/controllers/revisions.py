"""History of pod templates as ControllerRevisions, by which kubectl shows and undoes rollouts.

A template that was used before keeps its revision object, with a new number.
Source of behaviour: kubernetes pkg/controller/history/controller_history.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from skerry.api.gvk import CONTROLLERREVISIONS, Object, Resource
from skerry.api.meta import controller_of, owner_reference
from skerry.api.status import AlreadyExists, NotFound
from skerry.base.json import deep_copy
from skerry.base.values import Struct
from skerry.controllers.objects import annotations_of
from skerry.controllers.templates import template_hash
from skerry.kube.informer import Informer
from skerry.kube.ports import KubeApi

REVISION_LABEL = "controller-revision-hash"
HASH_LABEL = "controller.kubernetes.io/hash"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
DEFAULT_LIMIT = 10
"""Revisions that no pod uses and that are kept."""


class Revision(Struct, frozen=True):
    """One remembered template.

    Args:
        name: of the ControllerRevision.
        digest: value of its hash label.
        template: the pod template.
        number: grows with every change of the owner's template.
    """

    name: str
    digest: str
    template: Mapping[str, Any]
    number: int


def number_of(item: Object) -> int:
    """The revision number of a ControllerRevision."""
    return int(item.get("revision", 0))


def template_in(item: Object) -> dict[str, Any]:
    """The pod template that a ControllerRevision remembers."""
    template = deep_copy(((item.get("data") or {}).get("spec") or {}).get("template") or {})
    template.pop("$patch", None)
    return dict(template)


def read(item: Object) -> Revision:
    """A ControllerRevision as a value."""
    labels = item["metadata"].get("labels") or {}
    digest = labels.get(HASH_LABEL) or labels.get(REVISION_LABEL) or ""
    return Revision(item["metadata"]["name"], digest, template_in(item), number_of(item))


def newest(history: Sequence[Object]) -> Object | None:
    """The revision with the highest number."""
    return max(history, key=lambda item: (number_of(item), str(item["metadata"]["name"])), default=None)


def equal_in(history: Sequence[Object], template: Mapping[str, Any]) -> Object | None:
    """The newest revision that remembers this template."""
    return newest([item for item in history if template_in(item) == template])


def revision_object(owner: Object, resource: Resource, *, number: int, collisions: int = 0, label: str) -> Object:
    """The ControllerRevision of the owner's present template.

    Args:
        label: which label carries the hash.
        collisions: counted up when the name is taken by another template.
    """
    template = owner["spec"]["template"]
    digest = template_hash(template, collisions)
    meta = owner["metadata"]
    return {
        "apiVersion": CONTROLLERREVISIONS.api_version,
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{meta['name']}-{digest}",
            "namespace": meta["namespace"],
            "labels": {**((template.get("metadata") or {}).get("labels") or {}), label: digest},
            "annotations": {key: value for key, value in annotations_of(owner).items() if key != _LAST_APPLIED},
            "ownerReferences": [owner_reference(owner, resource)],
        },
        "data": {"spec": {"template": {**deep_copy(template), "$patch": "replace"}}},
        "revision": number,
    }


def surplus(history: Sequence[Object], *, in_use: Collection[str], limit: int | None) -> list[Object]:
    """Revisions beyond the limit that nothing uses, oldest first.

    Args:
        in_use: names of revisions that must stay.
        limit: ``spec.revisionHistoryLimit``.
    """
    idle = sorted((item for item in history if item["metadata"]["name"] not in in_use), key=number_of)
    return idle[: max(0, len(idle) - (DEFAULT_LIMIT if limit is None else limit))]


class RevisionHistory:
    """Keeps the ControllerRevisions of owners of one kind.

    Args:
        api: the cluster.
        resource: the kind of the owners.
        revisions: cache with the index ``controller``.
        label: which label carries the hash.
    """

    def __init__(self, api: KubeApi, resource: Resource, revisions: Informer, *, label: str) -> None:
        self._api = api
        self._resource = resource
        self._revisions = revisions
        self._label = label

    def of(self, owner: Object) -> list[Object]:
        """What is remembered for the owner."""
        return self._revisions.by_index("controller", owner["metadata"]["uid"])

    async def keep(self, owner: Object) -> Revision:
        """Make sure that the present template is the newest revision."""
        history = self.of(owner)
        last = newest(history)
        found = equal_in(history, owner["spec"]["template"])
        if found is None:
            return await self._create(owner, number=number_of(last) + 1 if last else 1)
        if last is not None and number_of(found) < number_of(last):
            meta, number = found["metadata"], number_of(last) + 1
            found = await self._api.patch(
                CONTROLLERREVISIONS, meta["name"], {"revision": number}, namespace=meta["namespace"]
            )
        return read(found)

    async def _create(self, owner: Object, *, number: int) -> Revision:
        collisions = int((owner.get("status") or {}).get("collisionCount") or 0)
        while True:
            wanted = revision_object(owner, self._resource, number=number, collisions=collisions, label=self._label)
            name, namespace = wanted["metadata"]["name"], wanted["metadata"]["namespace"]
            try:
                return read(await self._api.create(CONTROLLERREVISIONS, wanted, namespace=namespace))
            except AlreadyExists:
                there = await self._api.get(CONTROLLERREVISIONS, name, namespace=namespace)
                controller = controller_of(there) or {}
                is_ours = controller.get("uid") == owner["metadata"]["uid"]
                if is_ours and template_in(there) == owner["spec"]["template"]:
                    return read(there)
                collisions += 1

    async def trim(self, owner: Object, *, in_use: Collection[str]) -> None:
        """Delete what is beyond ``spec.revisionHistoryLimit``.

        Args:
            in_use: names of revisions that must stay.
        """
        limit = owner["spec"].get("revisionHistoryLimit")
        for item in surplus(self.of(owner), in_use=in_use, limit=limit):
            meta = item["metadata"]
            try:
                await self._api.delete(CONTROLLERREVISIONS, meta["name"], namespace=meta["namespace"], uid=meta["uid"])
            except NotFound:
                continue
