"""What travels through the server's core: one request as a value, and its answer. HTTP is not known here."""

from __future__ import annotations

from typing import Any

from skerry.api.gvk import Object
from skerry.apiserver.auth.authn import User
from skerry.apiserver.registry import Kind
from skerry.apiserver.request_info import RequestInfo, WriteOptions
from skerry.apiserver.store.entry import Entry
from skerry.base.values import Struct, field


class Call(Struct):
    """One request on a served resource.

    Args:
        warnings: filled on the way; they become Warning headers.
        duplicates: members that stood twice in the body.
        annotations: what admission notes for the audit log.
    """

    user: User
    info: RequestInfo
    kind: Kind
    options: WriteOptions = field(default_factory=WriteOptions)
    warnings: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return self.info.namespace if self.kind.resource.namespaced else ""

    @property
    def name(self) -> str:
        return self.info.name


class Answer(Struct, frozen=True):
    """Either a stored state of the call's kind, or any other object (Status, Scale, a review)."""

    status: int
    entry: Entry | None = None
    obj: Object | None = None


class ListAnswer(Struct, frozen=True):
    """One page."""

    entries: list[Entry]
    rv: int
    continue_token: str = ""
    remaining: int | None = None

    def metadata(self) -> dict[str, Any]:
        """The list's metadata."""
        found: dict[str, Any] = {"resourceVersion": str(self.rv)}
        if self.continue_token:
            found["continue"] = self.continue_token
        if self.remaining is not None:
            found["remainingItemCount"] = self.remaining
        return found
