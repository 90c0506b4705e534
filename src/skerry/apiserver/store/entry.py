"""One state of one object as bytes, and one change. Objects are decoded only when somebody needs their content."""

from __future__ import annotations

from collections.abc import Callable

from skerry.api.gvk import Object
from skerry.apiserver.store.log import Key, Op
from skerry.base import json
from skerry.base.values import Struct

HEAD = b'{"metadata":{'
"""Every stored body begins so: ``kind``, ``apiVersion`` and ``resourceVersion`` are put in when it is served."""


class Entry:
    """One state of one object. ``rv`` 0 marks one that was not stored (dry run)."""

    __slots__ = ("_fields", "_labels", "body", "crv", "key", "rv", "uid")

    def __init__(self, key: Key, uid: str, crv: int, rv: int, body: bytes) -> None:
        self.key = key
        self.uid = uid
        self.crv = crv
        self.rv = rv
        self.body = body
        self._labels: dict[str, str] | None = None
        self._fields: dict[str, str] | None = None

    def content(self) -> Object:
        """A fresh copy of the object, as stored: without kind, apiVersion and resourceVersion."""
        content: Object = json.loads(self.body)
        return content

    def object(self, *, kind: str, api_version: str) -> Object:
        """A fresh copy of the object, as served."""
        content: Object = {"kind": kind, "apiVersion": api_version}
        content.update(json.loads(self.body))
        if self.rv:
            content["metadata"]["resourceVersion"] = str(self.rv)
        return content

    def wire(self, prefix: bytes = b"{") -> bytes:
        """The served JSON; ``prefix`` is ``{`` or ``{"kind":…,"apiVersion":…,``."""
        if not self.rv:
            return prefix + self.body[1:]
        return b'%b"metadata":{"resourceVersion":"%d",%b' % (prefix, self.rv, self.body[len(HEAD) :])

    def metadata_wire(self) -> bytes:
        """The served metadata alone, as JSON."""
        text = json.split(self.body)["metadata"]
        return b'{"resourceVersion":"%d",%b' % (self.rv, text[1:]) if self.rv else text

    def brief(self, *, kind: str, api_version: str) -> Object:
        """As ``object``, without ``managedFields``, which is much of a small object and what nobody is shown."""
        content: Object = {"kind": kind, "apiVersion": api_version}
        members = json.split(self.body)
        meta = json.split(members.pop("metadata"))
        content["metadata"] = {name: json.loads(text) for name, text in meta.items() if name != "managedFields"}
        content["metadata"]["resourceVersion"] = str(self.rv)
        content.update((name, json.loads(text)) for name, text in members.items())
        return content

    def labels(self) -> dict[str, str]:
        """The object's labels; never change them."""
        if self._labels is None:
            text = json.split(json.split(self.body)["metadata"]).get("labels")
            self._labels = (json.loads(text) if text is not None else None) or {}
        return self._labels

    def field(self, label: str, read: Callable[[Object], str]) -> str:
        """The value that field selectors see under a label, read once from the content."""
        if self._fields is None:
            self._fields = {}
        found = self._fields.get(label)
        if found is None:
            found = self._fields[label] = read(self.content())
        return found


def encode(content: Object) -> bytes:
    """The one text of an object for the store. ``kind``, ``apiVersion`` and ``resourceVersion`` are left out."""
    metadata = {name: value for name, value in content["metadata"].items() if name != "resourceVersion"}
    rest = {name: value for name, value in content.items() if name not in ("metadata", "kind", "apiVersion")}
    head = b'{"metadata":' + json.dumps(metadata, sort_keys=True)
    return head + b"," + json.dumps(rest, sort_keys=True)[1:] if rest else head + b"}"


class Event(Struct, frozen=True):
    """One change. ``before`` is None for ADDED, and where a restart has forgotten it (then ``is_blind``)."""

    op: Op
    entry: Entry
    before: Entry | None
    ts: float
    is_blind: bool = False
