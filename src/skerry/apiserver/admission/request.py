"""One write as admission sees it, and what every step needs: lookups, the form of a refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skerry.api.gvk import Object
from skerry.api.status import Forbidden
from skerry.apiserver.auth.authn import User
from skerry.apiserver.registry import Kind
from skerry.apiserver.store.entry import Entry
from skerry.apiserver.store.log import Key
from skerry.apiserver.store.watch import Collection
from skerry.base.values import Struct, field

Find = Callable[[Key], Entry | None]
Collect = Callable[[str], Collection]


class AdmissionRequest(Struct):
    """One write on its way.

    Args:
        operation: ``create``, ``update``, ``delete`` or ``connect``.
        obj: the new state as it will be stored, without kind and apiVersion; for ``delete`` the present one. Steps
            may change it in place or put another in its place.
        old: the present state of an update.
        is_dry_run: nothing will be stored; webhooks with side effects are not called.
        warnings: become Warning headers of the answer.
        annotations: for the audit log.
        options: the CreateOptions, UpdateOptions or DeleteOptions of the request.
        own: group, version and kind of what is sent to a subresource with a form of its own: Scale, Binding, Eviction.
    """

    user: User
    kind: Kind
    operation: str
    subresource: str
    namespace: str
    name: str
    obj: Object
    old: Object | None = None
    is_dry_run: bool = False
    warnings: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    options: Object | None = None
    own: tuple[str, str, str] | None = None

    @property
    def is_new_pod(self) -> bool:
        """Whether this creates a pod."""
        return self.creates("pods")

    def creates(self, storage: str) -> bool:
        """Whether this creates an object that is stored under that group resource."""
        return self.kind.storage == storage and self.operation == "create" and not self.subresource

    def warn(self, text: str) -> None:
        """Tell the client, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def forbidden(self, text: str) -> Forbidden:
        """The refusal of this write, worded as Kubernetes words it."""
        resource = self.kind.resource
        details: dict[str, Any] = {"name": self.name, "kind": resource.plural}
        if resource.group:
            details["group"] = resource.group
        return Forbidden(f'{resource.group_resource} "{self.name}" is forbidden: {text}', details=details)
