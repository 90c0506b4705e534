"""From answers to bytes: negotiation of the form, and each form of objects, lists and watch events.

Plain JSON is made of stored bytes without decoding them.
"""

from __future__ import annotations

import asyncio
import json as stdlib_json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

from skerry.api.gvk import Object
from skerry.api.status import NotAcceptable
from skerry.apiserver import views
from skerry.apiserver.calls import Answer, Call, ListAnswer
from skerry.apiserver.handlers.watch import Step
from skerry.apiserver.registry import Kind
from skerry.apiserver.semantics import Semantics
from skerry.apiserver.store.entry import Entry
from skerry.base import json, yaml
from skerry.base.values import Struct

TOGETHER = 200
MOST_LINES = 1024
MOST_LINE_BYTES = 8 * 1024 * 1024

_META_GROUP = "meta.k8s.io"
_ACCEPTED = "application/json, application/yaml"


class Form(Struct, frozen=True):
    """What the client takes.

    Args:
        encoding: of the bytes.
        shape: the object itself, a Table, or only its metadata.
        version: of ``meta.k8s.io`` for the last two.
    """

    encoding: Literal["json", "yaml"] = "json"
    shape: Literal["", "Table", "PartialObjectMetadata"] = ""
    version: str = "v1"

    @property
    def content_type(self) -> str:
        return f"application/{self.encoding}"


def negotiate(accept: str) -> Form:
    """The first form of the Accept header that we have.

    Raises:
        NotAcceptable: none of them.
    """
    if not accept.strip():
        return Form()
    for part in accept.split(","):
        form = _form(part)
        if form is not None:
            return form
    raise NotAcceptable(f"only the following media types are accepted: {_ACCEPTED}")


def _form(part: str) -> Form | None:
    media, *rest = [item.strip() for item in part.split(";")]
    parameters = dict(item.partition("=")[::2] for item in rest)
    if media in ("application/json", "*/*", "application/*"):
        encoding: Literal["json", "yaml"] = "json"
    elif media in ("application/yaml", "text/yaml"):
        encoding = "yaml"
    else:
        return None
    shape = parameters.get("as", "").removesuffix("List") if parameters.get("as") != "Table" else "Table"
    if not shape:
        return Form(encoding)
    if parameters.get("g") != _META_GROUP or parameters.get("v") not in ("v1", "v1beta1"):
        return None
    if shape == "Table":
        return Form(encoding, "Table", parameters["v"])
    if shape == "PartialObjectMetadata":
        return Form(encoding, "PartialObjectMetadata", parameters["v"])
    return None


class Renderer:
    """Makes the bytes of one server's answers.

    Args:
        semantics: columns and cells of tables.
        now_s: time for ages.
    """

    def __init__(self, *, semantics: Semantics, now_s: Callable[[], float]) -> None:
        self._semantics = semantics
        self._now_s = now_s
        self._lines = LineCache()
        self._newest: tuple[Step, Form, str, bytes] | None = None

    def answer(self, call: Call, answer: Answer, form: Form, *, is_pretty: bool = False) -> bytes:
        """One object."""
        if answer.entry is None:
            assert answer.obj is not None
            is_status = answer.obj.get("kind") == "Status"
            obj = answer.obj if is_status or not form.shape else self._shaped(call, [answer.obj], {}, form)
            return self._encode(obj, form, is_pretty=is_pretty)
        if form == Form() and not is_pretty and self._is_raw(call.kind):
            return answer.entry.wire(prefix(call.kind))
        obj = self.served(call.kind, answer.entry)
        if form.shape == "PartialObjectMetadata":
            obj = partial(obj, form.version)
        elif form.shape == "Table":
            obj = self._shaped(call, [obj], {"resourceVersion": str(answer.entry.rv)}, form)
        return self._encode(obj, form, is_pretty=is_pretty)

    async def page(self, call: Call, answer: ListAnswer, form: Form, *, is_pretty: bool = False) -> bytes:
        """A page. Objects are decoded one by one and never kept: ten thousand at once are slow, and 200 MB."""
        kind, metadata = call.kind, answer.metadata()
        resource = kind.resource
        shape, items_name = form.shape, b',"items":['
        if shape == "Table":
            head = self._table(call, metadata, form)
            items_name = b',"rows":['
        else:
            list_kind = f"{shape or resource.kind}List"
            version = f"{_META_GROUP}/{form.version}" if shape else resource.api_version
            head = {"kind": list_kind, "apiVersion": version, "metadata": metadata}
        item = self._item_maker(call, form)
        texts: list[bytes] = []
        for start in range(0, len(answer.entries), TOGETHER):
            texts += [item(entry) for entry in answer.entries[start : start + TOGETHER]]
            await asyncio.sleep(0)
        text = json.dumps(head)[:-1] + items_name + b",".join(texts) + b"]}"
        if form.encoding == "json" and not is_pretty:
            return text
        return self._encode(json.loads(text), form, is_pretty=is_pretty)

    def _item_maker(self, call: Call, form: Form) -> Callable[[Entry], bytes]:
        """What makes the text of one entry of a page."""
        kind = call.kind
        is_raw = self._is_raw(kind)
        if form.shape == "Table":
            now_s = self._now_s()
            return lambda entry: self._row(call, entry, form, now_s, is_raw=is_raw)
        if form.shape == "PartialObjectMetadata":
            start = partial_start(form.version)
            return lambda entry: start + self._metadata(kind, entry, is_raw=is_raw) + b"}"
        if is_raw:
            prefixed = prefix(kind) if kind.custom is not None else b"{"
            return lambda entry: entry.wire(prefixed)
        return lambda entry: json.dumps(self._listed(kind, entry))

    def _listed(self, kind: Kind, entry: Entry) -> Object:
        obj = self.served(kind, entry)
        if kind.custom is None:
            del obj["kind"], obj["apiVersion"]
        return obj

    def _metadata(self, kind: Kind, entry: Entry, *, is_raw: bool) -> bytes:
        return entry.metadata_wire() if is_raw else json.dumps(self.served(kind, entry)["metadata"])

    def _row(self, call: Call, entry: Entry, form: Form, now_s: float, *, is_raw: bool) -> bytes:
        kind, include = call.kind, call.info.query.get("includeObject", "Metadata")
        resource = kind.resource
        if is_raw and include != "Object":
            obj = entry.brief(kind=resource.kind, api_version=resource.api_version)
        else:
            obj = self.served(kind, entry)
        row = self._semantics.row(kind, call.info.subresource, obj, now_s=now_s)
        if include == "Object":
            row["object"] = obj
        text = json.dumps(row)
        if include != "Metadata":
            return text
        metadata = entry.metadata_wire() if is_raw else json.dumps(obj["metadata"])
        return text[:-1] + b',"object":' + partial_start(form.version) + metadata + b"}}"

    def _table(self, call: Call, metadata: dict[str, Any], form: Form) -> dict[str, Any]:
        """A table without rows."""
        return {
            "kind": "Table",
            "apiVersion": f"{_META_GROUP}/{form.version}",
            "metadata": metadata,
            "columnDefinitions": self._semantics.columns(call.kind, call.info.subresource),
        }

    def events(self, call: Call, steps: list[Step], form: Form, *, is_first: bool) -> bytes:
        """Lines of a watch. All watchers of one form share one text of each change."""
        include, newest = call.info.query.get("includeObject", ""), self._newest
        is_one = len(steps) == 1 and not is_first
        if is_one and newest is not None and newest[0] is steps[0] and newest[1:3] == (form, include):
            return newest[3]
        lines = []
        for step in steps:
            is_shared = not (is_first and form.shape == "Table") and step.type != "BOOKMARK"
            place = (call.kind.resource, step.rv, step.type, form, include)
            line = self._lines.get(place) if is_shared else None
            if line is None:
                line = self._event(call, step, form, is_first=is_first)
                if is_shared:
                    self._lines.put(place, line)
            lines.append(line)
            if is_shared and len(steps) == 1:
                self._newest = step, form, include, line
            is_first = False
        return b"".join(lines) if len(lines) > 1 else lines[0]

    def _event(self, call: Call, step: Step, form: Form, *, is_first: bool) -> bytes:
        kind = call.kind
        if step.type == "BOOKMARK" or step.entry is None:
            body = json.dumps(self._bookmark(call, step, form, is_first=is_first))
        elif not form.shape and self._is_raw(kind):
            entry = step.entry
            body = Entry(entry.key, entry.uid, entry.crv, step.rv, entry.body).wire(prefix(kind))
        else:
            obj = self.served(kind, step.entry)
            obj["metadata"]["resourceVersion"] = str(step.rv)
            body = json.dumps(self._event_object(call, obj, form, is_first=is_first))
        return b'{"type":"%b","object":%b}\n' % (step.type.encode(), body)

    def served(self, kind: Kind, entry: Entry) -> Object:
        """A fresh copy of a stored state as the row shows it."""
        resource = kind.resource
        obj = views.to_served(kind, entry.object(kind=resource.kind, api_version=resource.api_version))
        self._semantics.default_read(kind, obj)
        return obj

    def _is_raw(self, kind: Kind) -> bool:
        """Whether stored bytes may be served as they are."""
        return not kind.view and not self._semantics.changes_on_read(kind)

    def _event_object(self, call: Call, obj: Object, form: Form, *, is_first: bool) -> Object:
        if form.shape == "PartialObjectMetadata":
            return partial(obj, form.version)
        if form.shape != "Table":
            return obj
        table = self._shaped(call, [obj], {"resourceVersion": obj["metadata"]["resourceVersion"]}, form)
        if not is_first:
            table["columnDefinitions"] = None
        return table

    def _bookmark(self, call: Call, step: Step, form: Form, *, is_first: bool) -> Object:
        resource = call.kind.resource
        metadata: dict[str, Any] = {"resourceVersion": str(step.rv), "creationTimestamp": None}
        if step.is_initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        obj: Object = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
        return self._event_object(call, obj, form, is_first=is_first)

    def _shaped(self, call: Call, objects: list[Object], metadata: dict[str, Any], form: Form) -> Object:
        include, now_s = call.info.query.get("includeObject", "Metadata"), self._now_s()
        rows = [self._semantics.row(call.kind, call.info.subresource, obj, now_s=now_s) for obj in objects]
        for row, obj in zip(rows, objects, strict=True):
            if include == "Object":
                row["object"] = obj
            elif include == "Metadata":
                row["object"] = partial(obj, form.version)
        return {**self._table(call, metadata, form), "rows": rows}

    @staticmethod
    def _encode(obj: Any, form: Form, *, is_pretty: bool) -> bytes:
        if form.encoding == "yaml":
            return yaml.dump(obj).encode()
        if is_pretty:
            return (stdlib_json.dumps(obj, indent=2, ensure_ascii=False) + "\n").encode()
        return json.dumps(obj)


class LineCache:
    """Texts of the newest changes, ``MOST_LINES`` of them and ``MOST_LINE_BYTES`` in all; the oldest go first."""

    def __init__(self) -> None:
        self._lines: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()
        self._bytes = 0

    def get(self, place: tuple[Any, ...]) -> bytes | None:
        """The text made for this change in this form, if it is still here."""
        return self._lines.get(place)

    def put(self, place: tuple[Any, ...], line: bytes) -> None:
        """Keep a text."""
        self._lines[place] = line
        self._bytes += len(line)
        while self._bytes > MOST_LINE_BYTES or len(self._lines) > MOST_LINES:
            self._bytes -= len(self._lines.popitem(last=False)[1])


def prefix(kind: Kind) -> bytes:
    """How an object of this row begins on the wire."""
    resource = kind.resource
    return b'{"kind":"%b","apiVersion":"%b",' % (resource.kind.encode(), resource.api_version.encode())


def partial_start(version: str) -> bytes:
    """How a PartialObjectMetadata begins, up to its metadata."""
    return b'{"kind":"PartialObjectMetadata","apiVersion":"%b/%b","metadata":' % (
        _META_GROUP.encode(),
        version.encode(),
    )


def partial(obj: Object, version: str) -> Object:
    """Only the metadata."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"{_META_GROUP}/{version}",
        "metadata": obj.get("metadata", {}),
    }


def wants_pretty(query: str | None, user_agent: str) -> bool:
    """Whether JSON is indented: asked for, or read by a person with curl, wget or a browser."""
    if query is not None:
        return query.lower() in ("", "1", "true")
    return user_agent.startswith(("curl", "Wget", "Mozilla/5.0"))
