"""The verbs on stored objects, the same for HTTP and for callers inside the process.

The write path: body rules → unknown fields → defaults → field owners → admission → what the server decides → validation
→ store.
Dry runs take the whole path except the store. A write conflict inside a patch is tried again with the newest state.
"""

from __future__ import annotations

import datetime
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from skerry.api.gvk import Object
from skerry.api.status import (
    AlreadyExists,
    BadRequest,
    Conflict,
    Gone,
    InternalError,
    Invalid,
    NotFound,
    already_exists,
    conflict,
    not_found,
)
from skerry.apiserver import strategies, views
from skerry.apiserver.admission.chain import AdmissionChain
from skerry.apiserver.admission.request import AdmissionRequest
from skerry.apiserver.calls import Answer, Call, ListAnswer
from skerry.apiserver.handlers.bodies import DeleteOptions
from skerry.apiserver.handlers.lists import ListOptions, decode_continue, encode_continue
from skerry.apiserver.ownership import FieldOwners
from skerry.apiserver.registry import Kind
from skerry.apiserver.semantics import Semantics
from skerry.apiserver.store.entry import Entry, encode
from skerry.apiserver.store.log import Exists, Key, Missing, Stale
from skerry.apiserver.store.objects import ObjectStore
from skerry.apiserver.store.watch import Collection, TooOld
from skerry.apiserver.webhooks.conversion import Conversions
from skerry.base.aio.clock import Clock
from skerry.base.json import deep_copy

NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
GENERATED_LETTERS = 5
LONGEST_BASE = 58
NAME_TRIES = 8
PATCH_TRIES = 6

_EXPIRED_PAGE = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)

Managed = Sequence[Object]
BeforeStore = Callable[[Call, Object, Object | None], Awaitable[None]]


class Objects:
    """Get, list, create, update, patch and delete.

    Args:
        store: where objects live.
        semantics: schemas, defaults, validation, selectors, patches.
        admission: what is put into objects, and refused.
        conversions: between the versions of custom resources.
        clock: time of creation and deletion.
        rng: random ends of names.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        semantics: Semantics,
        admission: AdmissionChain,
        conversions: Conversions,
        clock: Clock,
        rng: random.Random | None = None,
    ) -> None:
        self.store = store
        self.semantics = semantics
        self.owners = FieldOwners(semantics=semantics, now_text=self.now_text)
        self._admission = admission
        self.conversions = conversions
        self._clock = clock
        self._rng = rng or random.SystemRandom()
        self.before_store: dict[str, BeforeStore] = {}

    def letters(self, count: int) -> str:
        """A random end of a name."""
        return "".join(self._rng.choice(NAME_LETTERS) for _ in range(count))

    def now_text(self, *, after_s: float = 0.0) -> str:
        """A timestamp as metadata has it."""
        moment = datetime.datetime.fromtimestamp(int(self._clock.now_s() + after_s), datetime.UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def key(self, call: Call, name: str | None = None) -> Key:
        """Where the call's object is stored."""
        return Key(call.kind.storage, call.namespace, call.name if name is None else name)

    def collection(self, call: Call) -> Collection:
        """Where the call's objects are stored."""
        return self.store.collection(call.kind.storage)

    def find(self, call: Call) -> Entry:
        """The call's object.

        Raises:
            NotFound: it is not there.
        """
        entry = self.store.get(self.key(call))
        if entry is None:
            raise not_found(call.kind.resource.group_resource, call.name)
        return entry

    def served(self, call: Call, entry: Entry) -> Object:
        """A fresh copy as the call's row shows it."""
        resource = call.kind.resource
        obj = views.to_served(call.kind, entry.object(kind=resource.kind, api_version=resource.api_version))
        self.semantics.default_read(call.kind, obj)
        return obj

    async def get(self, call: Call) -> Answer:
        """One object."""
        return Answer(200, await self.shown(call, self.find(call)))

    async def shown(self, call: Call, entry: Entry) -> Entry:
        """An entry of the store in the version that the call wants."""
        return (await self.conversions.shown(call.kind, [entry]))[0]

    async def list(self, call: Call, options: ListOptions) -> ListAnswer:
        """One page of a list."""
        matches = self.semantics.matcher(call.kind, options.label_selector, options.field_selector)
        is_late = self.semantics.selects_converted(call.kind, options.field_selector)
        start, at_rv = "", options.at_rv(self.store.rv)
        if options.continue_token:
            start, token_rv = decode_continue(options.continue_token)
            at_rv = token_rv if token_rv > 0 else None
            if at_rv is not None and at_rv < self.store.oldest_page_rv:
                raise self._expired(start)
        try:
            page = self.collection(call).page(
                ns=call.namespace or None,
                current_rv=self.store.rv,
                at_rv=at_rv,
                start=start,
                limit=0 if is_late else options.limit,  # nobody knows before the conversion what will be left
                matches=None if is_late else matches,
            )
        except TooOld as exc:
            raise self._expired(start) from exc
        token = encode_continue(page.rv, page.next_start) if page.next_start else ""
        remaining = page.remaining if token and matches is None else None
        entries = await self.conversions.shown(call.kind, page.entries)
        if is_late and matches is not None:
            entries = [entry for entry in entries if matches(entry)]
        return ListAnswer(entries, page.rv, token, remaining)

    async def create(self, call: Call, obj: Object) -> Answer:
        """Create from a body."""
        self.accept(call, obj)
        meta = obj["metadata"]
        if meta.get("resourceVersion"):
            error = InternalError("resourceVersion should not be set on objects to be created")
            error.reason = ""
            raise error
        if meta.get("name"):
            return await self.create_as(call, obj, str(meta["name"]))
        base = meta.get("generateName")
        if not base:
            text = "Required value: name or generateName is required"
            raise Invalid(
                f'{self._kind_name(call)} "" is invalid: metadata.name: {text}',
                details=self._cause(call, "", "FieldValueRequired", "metadata.name", text),
            )
        for _ in range(NAME_TRIES - 1):
            try:
                return await self.create_as(call, deep_copy(obj), self._generated(base))
            except AlreadyExists:
                continue
        return await self.create_as(call, obj, self._generated(base))

    async def update(self, call: Call, obj: Object) -> Answer:
        """Replace from a body; creates what is missing where the kind allows that."""
        self.accept(call, obj)
        name = str(obj["metadata"].setdefault("name", call.name))
        if name != call.name:
            raise BadRequest(f"the name of the object ({name}) does not match the name on the URL ({call.name})")
        entry = self.store.get(self.key(call))
        if entry is None:
            if not call.kind.creates_on_update or call.info.subresource:
                raise not_found(call.kind.resource.group_resource, call.name)
            obj["metadata"].pop("resourceVersion", None)
            return await self.create_as(call, obj, name)
        pinned = str(obj["metadata"].get("resourceVersion") or "")
        if not pinned and call.kind.needs_version_on_update:
            text = "Invalid value: 0: must be specified for an update"
            raise Invalid(
                f'{self._kind_name(call)} "{name}" is invalid: metadata.resourceVersion: {text}',
                details=self._cause(call, name, "FieldValueInvalid", "metadata.resourceVersion", text),
            )
        for _ in range(PATCH_TRIES):
            if pinned and pinned != str(entry.rv):
                raise conflict(call.kind.resource.group_resource, name)
            try:
                return await self.replace(call, entry, deep_copy(obj))
            except Stale:
                entry = self.find(call)
            except Missing:
                raise not_found(call.kind.resource.group_resource, name) from None
        raise conflict(call.kind.resource.group_resource, name)

    async def patch(self, call: Call, patch_type: str, patch: Any) -> Answer:
        """Patch with a decoded document."""
        for _ in range(PATCH_TRIES):
            entry = self.find(call)
            current = self.served(call, await self.shown(call, entry))
            patched = self.semantics.patch(call.kind, patch_type, current, patch)
            if not isinstance(patched, dict):
                raise BadRequest("the patch replaces the whole object by something that is no object")
            self.accept(call, patched)
            if patched["metadata"].get("name", call.name) != call.name:
                raise BadRequest("the name of the object may not be changed by a patch")
            pinned = str(patched["metadata"].get("resourceVersion") or entry.rv)
            if pinned != str(entry.rv):
                raise conflict(call.kind.resource.group_resource, call.name)
            try:
                return await self.replace(call, entry, patched)
            except Stale:
                continue
            except Missing:
                break
        if self.store.get(self.key(call)) is None:
            raise not_found(call.kind.resource.group_resource, call.name)
        raise conflict(call.kind.resource.group_resource, call.name)

    async def change(self, call: Call, edit: Callable[[Object], None]) -> Entry:
        """Edit the stored object by the server's own hand (binding, finalize, scale), with retries."""
        for _ in range(PATCH_TRIES):
            entry = self.find(call)
            old = await self.conversions.content(call.kind, entry)
            new = deep_copy(old)
            edit(new)
            if call.info.subresource == "scale":
                if strategies.is_bumped(call.kind, new, old):
                    new["metadata"]["generation"] = int(old["metadata"].get("generation", 0)) + 1
                stored = new["metadata"].pop("managedFields", None)
                old["metadata"].pop("managedFields", None)
                _set_managed(new, self.owners.of_update(call, new, old, stored=stored))
            self.semantics.validate_update(call.kind, new, old, call.info.subresource)
            if call.options.is_dry_run:
                return Entry(entry.key, entry.uid, entry.crv, entry.rv, encode(new))
            try:
                return await self._store_update(call, entry, new)
            except (Stale, Missing):
                continue
        raise conflict(call.kind.resource.group_resource, call.name)

    async def delete(self, call: Call, options: DeleteOptions) -> Answer:
        """Delete one object, at once or by steps."""
        for _ in range(PATCH_TRIES):
            entry = self.find(call)
            try:
                return await self._delete(call, entry, options)
            except Missing:
                raise not_found(call.kind.resource.group_resource, call.name) from None
            except Stale:
                continue
        raise conflict(call.kind.resource.group_resource, call.name)

    async def delete_collection(self, call: Call, listing: ListOptions, options: DeleteOptions) -> ListAnswer:
        """Delete every object that the list shows; answers what it found."""
        found = await self.list(call, listing)
        for entry in found.entries:
            try:
                newest = self.store.get(entry.key)
                if newest is not None and newest.uid == entry.uid:
                    await self._delete(call, newest, options)
            except (Missing, NotFound):
                continue
            except Stale:
                newest = self.store.get(entry.key)
                if newest is not None and newest.uid == entry.uid:
                    await self._delete(call, newest, options)
        return found

    async def create_as(self, call: Call, obj: Object, name: str, *, managed: Managed | None = None) -> Answer:
        """Create an accepted object under a name.

        Args:
            managed: its ``managedFields`` when the caller has them; else the call's manager owns every field.
        """
        kind = call.kind
        key = self.key(call, name)
        meta = obj["metadata"]
        meta["name"] = name
        if key.ns:
            meta["namespace"] = key.ns
        obj = views.to_stored(kind, obj)
        self.semantics.default(kind, obj)
        if managed is None:
            meta.pop("managedFields", None)
            managed = self.owners.of_create(call, obj)
        request = self._request(call, "create", key, obj)
        await self._admission.mutate(request)
        obj = request.obj
        meta = obj["metadata"]
        existing = self.store.get(key)
        if existing is not None:
            raise already_exists(kind.resource.group_resource, name)
        meta.pop("resourceVersion", None)
        meta["uid"] = str(uuid.uuid4())
        meta["creationTimestamp"] = self.now_text()
        strategies.prepare_create(kind, obj)
        _set_managed(obj, managed)
        hook = self.before_store.get(kind.storage)
        if hook is not None:
            await hook(call, obj, None)
        self.semantics.validate_create(kind, obj)
        async with self._admission.admitted(request):
            if call.options.is_dry_run:
                return Answer(201, Entry(key, meta["uid"], 0, 0, encode(obj)))
            try:
                entry = await self.store.create(key, await self.conversions.to_store(kind, obj))
                return Answer(201, _as_written(kind, entry, obj))
            except Exists:
                raise already_exists(kind.resource.group_resource, name) from None

    async def replace(self, call: Call, entry: Entry, obj: Object, *, managed: Managed | None = None) -> Answer:
        """Make an accepted object the next state of an entry, or its status.

        Args:
            managed: its ``managedFields`` when the caller has them; else the call's manager owns what changes.

        Raises:
            Stale, Missing: the entry is not the newest state.
        """
        kind, subresource = call.kind, call.info.subresource
        old = await self.conversions.content(kind, entry)
        stored, sent = old["metadata"].pop("managedFields", None), obj["metadata"].pop("managedFields", None)
        self._check_uid(call, obj, entry)
        obj.pop("kind", None)
        obj.pop("apiVersion", None)
        obj = views.to_stored(kind, obj)
        self.semantics.default(kind, obj)
        obj["metadata"].pop("resourceVersion", None)
        request = self._request(call, "update", entry.key, obj, old)
        await self._admission.mutate(request)
        obj = request.obj
        if subresource in strategies.PARTS:
            obj = strategies.prepare_part(kind, subresource, obj, old)
        else:
            strategies.prepare_update(kind, obj, old)
        if managed is None:
            managed = self.owners.of_update(call, obj, old, stored=stored, sent=sent)
        request.obj = obj
        hook = self.before_store.get(kind.storage)
        if hook is not None and not subresource:
            await hook(call, obj, old)
        self.semantics.validate_update(kind, obj, old, subresource)
        _set_managed(obj, managed)
        async with self._admission.admitted(request):
            if call.options.is_dry_run:
                return Answer(200, Entry(entry.key, entry.uid, entry.crv, entry.rv, encode(obj)))
            return Answer(200, await self._store_update(call, entry, obj))

    async def admit_part(self, call: Call, obj: Object, *, old: Object | None = None) -> Object:
        """Let admission judge what is sent to a subresource with a form of its own: a Scale, a Binding, an Eviction.

        Returns:
            What mutating webhooks made of it.
        """
        sub = call.kind.subresource(call.info.subresource)
        if sub is None or not sub.kind:
            return obj
        obj.setdefault("metadata", {})
        key = self.key(call)
        request = self._request(call, "create" if old is None else "update", key, obj, old)
        request.subresource, request.own = sub.name, (sub.group, sub.version or "v1", sub.kind)
        await self._admission.mutate(request)
        async with self._admission.admitted(request):
            return request.obj

    @staticmethod
    def _request(call: Call, operation: str, key: Key, obj: Object, old: Object | None = None) -> AdmissionRequest:
        subresource = call.info.subresource if operation == "update" else ""
        return AdmissionRequest(
            call.user,
            call.kind,
            operation,
            subresource,
            key.ns,
            key.name,
            obj,
            old,
            is_dry_run=call.options.is_dry_run,
            warnings=call.warnings,
            annotations=call.annotations,
            options=_options(call, operation),
        )

    async def _store_update(self, call: Call, entry: Entry, obj: Object) -> Entry:
        """Store, or remove when this write took the last thing that held a deleted object back."""
        meta, shown = obj["metadata"], obj
        obj = await self.conversions.to_store(call.kind, obj)
        if (
            meta.get("deletionTimestamp")
            and not meta.get("deletionGracePeriodSeconds")
            and not strategies.holds_back(call.kind, obj)
        ):
            return _as_written(call.kind, await self.store.delete(entry.key, obj, expect_rv=entry.rv), shown)
        return _as_written(call.kind, await self.store.update(entry.key, obj, expect_rv=entry.rv), shown)

    async def _delete(self, call: Call, entry: Entry, options: DeleteOptions) -> Answer:
        self._check_preconditions(call, entry, options)
        request = self._request(call, "delete", entry.key, await self.conversions.content(call.kind, entry))
        request.is_dry_run = options.is_dry_run
        await self._admission.mutate(request)
        async with self._admission.admitted(request):
            answer = await self._end(call, entry, options)
        if answer.entry is None:
            return answer
        return Answer(answer.status, await self.shown(call, answer.entry))

    async def _end(self, call: Call, entry: Entry, options: DeleteOptions) -> Answer:
        kind, obj = call.kind, entry.content()
        is_pod = kind.storage == "pods"
        grace_s = strategies.pod_grace_s(obj, options.grace_period_s) if is_pod else 0
        was_deleting = bool(obj["metadata"].get("deletionTimestamp"))
        if was_deleting:
            changed = self._shorten(obj, grace_s) if is_pod else False
        else:
            self._set_propagation(obj, options)
            changed = True
            if is_pod or strategies.holds_back(kind, obj):
                strategies.mark_deleting(kind, obj, timestamp=self.now_text(after_s=grace_s), grace_s=grace_s)
        left_s = int(obj["metadata"].get("deletionGracePeriodSeconds") or 0)
        must_wait = strategies.holds_back(kind, obj) or (is_pod and left_s > 0)
        if options.is_dry_run:
            return self._deleted(call, Entry(entry.key, entry.uid, entry.crv, entry.rv, encode(obj)), must_wait)
        if not must_wait:
            return self._deleted(call, await self.store.delete(entry.key, obj, expect_rv=entry.rv), False)
        if changed:
            entry = await self.store.update(entry.key, obj, expect_rv=entry.rv)
        return self._deleted(call, entry, True)

    def _shorten(self, obj: Object, grace_s: int) -> bool:
        """A later delete may only bring the end nearer."""
        meta = obj["metadata"]
        before = int(meta.get("deletionGracePeriodSeconds") or 0)
        if grace_s >= before:
            return False
        end = datetime.datetime.fromisoformat(meta["deletionTimestamp"]).timestamp() - before + grace_s
        meta["deletionTimestamp"] = self.now_text(after_s=max(0.0, end - self._clock.now_s()))
        meta["deletionGracePeriodSeconds"] = grace_s
        return True

    @staticmethod
    def _set_propagation(obj: Object, options: DeleteOptions) -> None:
        finalizers = [
            name for name in obj["metadata"].get("finalizers") or () if name not in ("orphan", "foregroundDeletion")
        ]
        if options.propagation is None:
            return
        if options.propagation == "Orphan":
            finalizers.append("orphan")
        elif options.propagation == "Foreground":
            finalizers.append("foregroundDeletion")
        if finalizers:
            obj["metadata"]["finalizers"] = finalizers
        else:
            obj["metadata"].pop("finalizers", None)

    @staticmethod
    def _deleted(call: Call, entry: Entry, is_kept: bool) -> Answer:
        if is_kept or call.kind.returns_deleted:
            return Answer(200, entry)
        return Answer(200, obj=strategies.success(call.kind, entry.key.name, entry.uid))

    def accept(self, call: Call, obj: Object) -> None:
        """The rules of every body: kind, version, namespace, unknown and double fields."""
        resource = call.kind.resource
        kind, version = obj.get("kind") or resource.kind, obj.get("apiVersion") or resource.api_version
        if kind != resource.kind or version != resource.api_version:
            raise BadRequest(
                f'no kind "{kind}" is registered for version "{version}"; '
                f"this path takes {resource.kind} of {resource.api_version}"
            )
        meta = obj.get("metadata")
        if meta is None:
            meta = obj["metadata"] = {}
        if not isinstance(meta, dict):
            raise BadRequest(f"{kind} in version {version!r}: metadata must be an object")
        namespace = meta.get("namespace")
        if namespace and namespace != call.namespace:
            raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")
        if call.kind.resource.namespaced:
            meta["namespace"] = call.namespace
        self._check_fields(call, obj)

    def _check_fields(self, call: Call, obj: Object) -> None:
        resource = call.kind.resource
        unknown = self.semantics.prune(call.kind, obj)
        validation = call.options.field_validation
        if validation == "Ignore":
            return
        texts = [f'unknown field "{path}"' for path in unknown]
        texts += [f'duplicate field "{path}"' for path in call.duplicates]
        if texts and validation == "Strict":
            raise BadRequest(
                f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
                "strict decoding error: " + ", ".join(texts)
            )
        call.warnings += [text for text in texts if text not in call.warnings]

    def _check_uid(self, call: Call, obj: Object, entry: Entry) -> None:
        uid = obj["metadata"].get("uid")
        if uid and uid != entry.uid:
            raise conflict(
                call.kind.resource.group_resource,
                entry.key.name,
                f"Precondition failed: UID in precondition: {uid}, UID in object meta: {entry.uid}",
            )

    def _check_preconditions(self, call: Call, entry: Entry, options: DeleteOptions) -> None:
        resource = call.kind.resource
        kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
        if options.uid and options.uid != entry.uid:
            raise _precondition(kind, entry.key.name, "UID", options.uid, entry.uid)
        if options.resource_version and options.resource_version != str(entry.rv):
            raise _precondition(kind, entry.key.name, "ResourceVersion", options.resource_version, str(entry.rv))

    def _expired(self, start: str) -> Gone:
        if not start:
            return Gone("The resourceVersion for the provided list is too old.")
        return ExpiredPage(_EXPIRED_PAGE, token=encode_continue(-1, start))

    def _generated(self, base: str) -> str:
        return base[:LONGEST_BASE] + self.letters(GENERATED_LETTERS)

    @staticmethod
    def _kind_name(call: Call) -> str:
        resource = call.kind.resource
        return f"{resource.kind}.{resource.group}" if resource.group else resource.kind

    @staticmethod
    def _cause(call: Call, name: str, reason: str, field: str, text: str) -> dict[str, Any]:
        details: dict[str, Any] = {"name": name, "group": call.kind.resource.group, "kind": call.kind.resource.kind}
        details["causes"] = [{"reason": reason, "message": text, "field": field}]
        return {key: value for key, value in details.items() if value}


def _options(call: Call, operation: str) -> Object:
    """The options of a write, as webhooks see them."""
    found: Object = {"kind": f"{operation.capitalize()}Options", "apiVersion": "meta.k8s.io/v1"}
    if operation != "delete" and call.options.field_manager:
        found["fieldManager"] = call.options.field_manager
    if call.options.is_dry_run:
        found["dryRun"] = ["All"]
    return found


def _as_written(kind: Kind, entry: Entry, obj: Object) -> Entry:
    """The entry of a write in the version of the call, which may not be the one that is stored."""
    if kind.custom is None or kind.custom.conversion is None:
        return entry
    return Entry(entry.key, entry.uid, entry.crv, entry.rv, encode(obj))


class ExpiredPage(Gone):
    """410 for a page, with a token that goes on from the newest state."""

    def __init__(self, message: str, *, token: str) -> None:
        super().__init__(message)
        self.token = token

    def to_status(self) -> dict[str, Any]:
        status = super().to_status()
        status["metadata"] = {"continue": self.token}
        return status


def _set_managed(obj: Object, managed: Managed) -> None:
    if managed:
        obj["metadata"]["managedFields"] = list(managed)
    else:
        obj["metadata"].pop("managedFields", None)


def _precondition(kind: str, name: str, what: str, wanted: str, found: str) -> Conflict:
    return conflict(
        kind,
        name,
        f"the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). "
        "The object might have been deleted and then recreated",
    )
