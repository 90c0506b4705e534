"""``metadata.managedFields``: its entries, how updates change them, and the apply verb over them.

Source: apimachinery pkg/util/managedfields/internal/*.go (v1.36), structured-merge-diff merge/update.go (v6).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from skerry.api.apply.fieldsets import (
    FieldSet,
    difference,
    has,
    intersection,
    is_well_formed,
    path_text,
    paths,
    union,
    with_containers,
)
from skerry.api.apply.typed import Comparison, NotTyped, all_fields, check_keys, compare, field_set, merge, without
from skerry.api.gvk import Object
from skerry.api.schema import Schema
from skerry.api.status import Conflict
from skerry.base import json
from skerry.base.values import Struct, replace

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
BEFORE_FIRST_APPLY = "before-first-apply"
ANCIENT = "ancient-changes"
MAX_UPDATE_MANAGERS = 10

_KUBECTL = "kubectl"
_STRIPPED_METADATA = (
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "generation",
    "managedFields",
    "resourceVersion",
)


class Writer(Struct, frozen=True):
    """Who writes, and how: the identity of an entry.

    Args:
        operation: ``Apply`` or ``Update``.
        api_version: in which the write is made; entries of ``Apply`` are the same in every version.
        subresource: empty for the object itself.
    """

    manager: str
    operation: str
    api_version: str
    subresource: str = ""

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What tells its entry from others."""
        is_apply = self.operation == "Apply"
        return (self.manager, self.operation, "" if is_apply else self.api_version, self.subresource)

    def text(self) -> str:
        """As messages name it."""
        name = json.dumps(self.manager).decode()
        where = f" with subresource {json.dumps(self.subresource).decode()}" if self.subresource else ""
        return f"{name}{where}" + (f" using {self.api_version}" if self.operation == "Update" else "")


class Ownership(Struct, frozen=True):
    """What one writer owns. ``time`` is RFC 3339, empty when unknown."""

    writer: Writer
    fields: FieldSet
    time: str = ""


Owners = dict[tuple[str, str, str, str], Ownership]


class Applied(Struct, frozen=True):
    """Result of an apply: the next object, without ``managedFields``, and the entries to put there."""

    obj: Object
    managed: list[Object]


class ApplyConflict(Conflict):
    """Other managers own fields that the configuration changes."""

    def __init__(self, found: list[tuple[Writer, tuple[str, ...]]]) -> None:
        self.found = found
        causes = [
            {
                "reason": "FieldManagerConflict",
                "message": f"conflict with {writer.text()}",
                "field": path_text(path),
            }
            for writer, path in found
        ]
        super().__init__(_conflict_text(found), details={"causes": causes})


def are_readable(entries: Any) -> bool:
    """Whether every entry of a ``managedFields`` from outside can be decoded."""
    return isinstance(entries, list) and all(
        isinstance(entry, dict)
        and entry.get("operation") in ("Apply", "Update")
        and isinstance(entry.get("apiVersion"), str)
        and bool(entry["apiVersion"])
        and entry.get("fieldsType") == "FieldsV1"
        and is_well_formed(entry.get("fieldsV1") or {})
        for entry in entries
    )


def read_entries(entries: Iterable[Object]) -> Owners:
    """Decode ``managedFields`` that are readable."""
    owners: Owners = {}
    for entry in entries:
        fields = entry.get("fieldsV1") or {}
        writer = Writer(
            str(entry.get("manager", "")), entry["operation"], str(entry["apiVersion"]), entry.get("subresource") or ""
        )
        owners[writer.identity] = Ownership(writer, fields, str(entry.get("time") or ""))
    return owners


def write_entries(owners: Owners) -> list[Object]:
    """Encode ``managedFields`` in its order."""
    return [
        _entry(owned)
        for owned in sorted(
            owners.values(),
            key=lambda owned: (
                owned.writer.operation,
                owned.time,
                owned.writer.manager,
                owned.writer.api_version,
                owned.writer.subresource,
            ),
        )
    ]


def base_entries(sent: Any, stored: Any, *, is_subresource: bool) -> list[Object]:
    """Entries that an update starts from: those of the body when it may and does set them, else the stored ones.

    An empty list in the body, or one with one empty entry, takes all ownership away.
    """
    kept: list[Object] = stored if isinstance(stored, list) else []
    if is_subresource or sent is None or sent == kept:
        return kept
    if sent in ([], [{}]):
        return []
    return list(sent) if are_readable(sent) else kept


def track_create(obj: Object, schema: Schema, writer: Writer, *, now: str, hidden: Iterable[str] = ()) -> list[Object]:
    """Entries of a new object: its writer owns every field.

    Args:
        hidden: members that this kind of write does not set (``status``).
    """
    fields = _stripped(_without_top(all_fields(obj, schema), hidden))
    return write_entries({writer.identity: Ownership(writer, fields, now)}) if fields else []


def track_update(
    old: Object,
    new: Object,
    schema: Schema,
    writer: Writer,
    *,
    entries: list[Object],
    now: str,
    hidden: Iterable[str] = (),
) -> list[Object]:
    """Entries after an update: the writer takes what it changed from all others.

    Args:
        old, new: without ``managedFields``.
        entries: as they were; objects without any stay so until their first apply.
    """
    change = _visible(compare(old, new, schema), hidden)
    if not entries or not (change.changed or change.removed):
        return entries
    return write_entries(_capped(_after_update(read_entries(entries), change, writer, now)))


def apply_config(
    live: Object,
    config: Object,
    schema: Schema,
    writer: Writer,
    *,
    entries: list[Object],
    now: str,
    force: bool = False,
    hidden: Iterable[str] = (),
) -> Applied:
    """Apply a configuration to a live object, or to ``{}`` to make one.

    Args:
        live: without ``managedFields``.
        config: as sent, with unknown fields taken out, without ``managedFields``.
        entries: ``managedFields`` of the live object.

    Raises:
        ApplyConflict: others own what would change, and ``force`` is not set.
        NotTyped: the configuration does not fit the schema.
    """
    check_keys(config, schema)
    owners = read_entries(entries)
    if not owners and live:
        first = replace(writer, manager=BEFORE_FIRST_APPLY, operation="Update")
        fields = _stripped(_without_top(all_fields(live, schema), hidden))
        owners = {first.identity: Ownership(first, fields, now)} if fields else {}
    try:
        applied = _apply(live, config, schema, writer, owners, now, force, hidden)
    except ApplyConflict as exc:
        if writer.manager != _KUBECTL:
            raise
        left = [(who, path) for who, path in exc.found if not has(_last_applied_fields(live, schema, writer), path)]
        if left:
            raise ApplyConflict(left) from None
        applied = _apply(live, config, schema, writer, owners, now, True, hidden)
    if writer.manager == _KUBECTL:
        applied = replace(applied, obj=_renew_last_applied(applied.obj, config))
    return applied


def _apply(
    live: Object,
    config: Object,
    schema: Schema,
    writer: Writer,
    owners: Owners,
    now: str,
    force: bool,
    hidden: Iterable[str],
) -> Applied:
    before = owners.get(writer.identity)
    wanted = _stripped(_without_top(field_set(config, schema), hidden))
    merged = merge(live, config, schema)
    others = {identity: owned for identity, owned in owners.items() if identity != writer.identity}
    if before is not None and before.fields:
        claimed = wanted
        for owned in others.values():
            claimed = union(claimed, owned.fields)
        merged = _pruned(merged, schema, before.fields, claimed)
    change = _visible(compare(live, merged, schema), hidden)
    lost = {
        identity: taken for identity, owned in others.items() if (taken := intersection(owned.fields, change.changed))
    }
    if lost and not force:
        found = [(others[identity].writer, path) for identity in sorted(lost) for path in paths(lost[identity])]
        raise ApplyConflict(found)
    left = _taken_away(others, change)
    is_changed = bool(change.changed or change.removed)
    time = now if is_changed or before is None else before.time
    if wanted:
        left[writer.identity] = Ownership(writer, wanted, time)
    return Applied(merged, write_entries(left))


def _pruned(merged: Object, schema: Schema, last: FieldSet, claimed: FieldSet) -> Object:
    """Without what the manager applied the last time and nobody claims now."""
    last = with_containers(last, schema)
    there = with_containers(field_set(merged, schema), schema)
    cut = without(merged, last, schema)
    kept = union(with_containers(field_set(cut, schema), schema), with_containers(claimed, schema))
    cut = without(merged, difference(there, kept), schema)
    kept = with_containers(field_set(cut, schema), schema)
    pruned: Object = without(merged, intersection(difference(there, kept), last), schema)
    return pruned


def _after_update(owners: Owners, change: Comparison, writer: Writer, now: str) -> Owners:
    before = owners.get(writer.identity)
    fields = before.fields if before is not None else {}
    left = _taken_away(owners, change)
    own = _stripped(change.changed)
    if not own:
        return left
    fields = difference(fields, change.removed) if change.removed else fields
    left[writer.identity] = Ownership(writer, union(fields, own), now)
    return left


def _taken_away(owners: Mapping[tuple[str, str, str, str], Ownership], change: Comparison) -> Owners:
    """What everybody still owns after somebody else's change."""
    lost = union(change.changed, change.removed) if change.removed else change.changed
    left: Owners = {}
    for identity, owned in owners.items():
        fields = difference(owned.fields, lost) if lost else owned.fields
        if fields:
            left[identity] = owned if fields == owned.fields else replace(owned, fields=fields)
    return left


def _capped(owners: Owners) -> Owners:
    """At most ``MAX_UPDATE_MANAGERS`` updaters: the oldest share one entry of each version."""
    updaters = sorted(
        (owned for owned in owners.values() if owned.writer.operation == "Update"),
        key=lambda owned: (owned.time, owned.writer.identity),
    )
    excess = len(updaters) - MAX_UPDATE_MANAGERS
    if excess <= 0:
        return owners
    owners = dict(owners)
    firsts: dict[str, Ownership] = {}
    for owned in updaters:
        if excess <= 0:
            break
        version = owned.writer.api_version
        first = firsts.setdefault(version, owned)
        if first is owned:
            continue
        bucket = Writer(ANCIENT, "Update", version)
        base = owners.get(bucket.identity) or first
        owners.pop(first.writer.identity, None)
        owners.pop(owned.writer.identity, None)
        owners[bucket.identity] = Ownership(bucket, union(base.fields, owned.fields), owned.time)
        excess -= 1
    return owners


def _visible(change: Comparison, hidden: Iterable[str]) -> Comparison:
    return Comparison(_without_top(change.changed, hidden), _without_top(change.removed, hidden))


def _without_top(tree: FieldSet, hidden: Iterable[str]) -> FieldSet:
    gone = {"f:apiVersion", "f:kind", *(f"f:{name}" for name in hidden)}
    return {part: node for part, node in tree.items() if part not in gone}


def _stripped(tree: FieldSet) -> FieldSet:
    """Without the metadata that belongs to nobody."""
    meta = tree.get("f:metadata")
    if meta is None:
        return tree
    gone = {".", *(f"f:{name}" for name in _STRIPPED_METADATA)}
    kept = {part: node for part, node in meta.items() if part not in gone}
    rest = {part: node for part, node in tree.items() if part != "f:metadata"}
    return {"f:metadata": kept, **rest} if kept else rest


def _entry(owned: Ownership) -> Object:
    writer = owned.writer
    entry: Object = {
        "manager": writer.manager,
        "operation": writer.operation,
        "apiVersion": writer.api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": owned.fields,
    }
    if owned.time:
        entry["time"] = owned.time
    if writer.subresource:
        entry["subresource"] = writer.subresource
    return entry


def _last_applied_fields(live: Object, schema: Schema, writer: Writer) -> FieldSet:
    """Fields that client-side apply wrote and that still have its values."""
    text = (live.get("metadata", {}).get("annotations") or {}).get(LAST_APPLIED)
    if not text:
        return {}
    try:
        last = json.loads(text)
        if not isinstance(last, dict) or last.get("apiVersion") != writer.api_version:
            return {}
        fields = field_set(last, schema)
        change = compare(last, live, schema)
    except (json.JsonError, NotTyped):
        return {}
    return difference(difference(fields, change.changed), change.removed)


def _renew_last_applied(obj: Object, config: Object) -> Object:
    """Keep the annotation of client-side apply true for those who go back to it."""
    annotations = obj.get("metadata", {}).get("annotations") or {}
    if not annotations.get(LAST_APPLIED):
        return obj
    meta = dict(config.get("metadata") or {})
    own = {name: value for name, value in (meta.get("annotations") or {}).items() if name != LAST_APPLIED}
    meta = {**meta, "annotations": own} if "annotations" in meta else meta
    text = json.dumps({**config, "metadata": meta}, sort_keys=True).decode() + "\n"
    return {**obj, "metadata": {**obj["metadata"], "annotations": {**annotations, LAST_APPLIED: text}}}


def _conflict_text(found: list[tuple[Writer, tuple[str, ...]]]) -> str:
    if len(found) == 1:
        writer, path = found[0]
        return f"Apply failed with 1 conflict: conflict with {writer.text()}: {path_text(path)}"
    by_writer: dict[str, list[str]] = {}
    for writer, path in found:
        by_writer.setdefault(writer.text(), []).append(path_text(path))
    lines = [
        line for who in sorted(by_writer) for line in (f"conflicts with {who}:", *(f"- {at}" for at in by_writer[who]))
    ]
    return f"Apply failed with {len(found)} conflicts: " + "\n".join(lines)
