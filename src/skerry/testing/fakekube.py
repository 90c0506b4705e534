"""``KubeApi`` in memory, for tests of parts that need a cluster but not an API server.

Keeps revisions, uids, preconditions, label and field equality, watches with bookmarks, graceful pod deletion and
status subresources. No schema, no defaults, no admission. A strategic patch merges lists of objects by ``type`` or
``name``, which is right for conditions, containers and their statuses, and for nothing else.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from skerry.api.gvk import PODS, Object, Resource
from skerry.api.status import Gone, already_exists, conflict, not_found
from skerry.base import json
from skerry.kube.ports import ObjectList, PatchType, WatchEvent

Key = tuple[str, str]
Change = tuple[int, str, str, Object]


class FakeKubeApi:
    """Objects of one cluster in dictionaries.

    Args:
        on_call: told of every call as ``(verb, resource, name)`` before it is done; may raise an ``ApiError``.
    """

    def __init__(self, *, on_call: Callable[[str, Resource, str], None] | None = None) -> None:
        self._on_call = on_call or (lambda verb, resource, name: None)
        self._objects: dict[str, dict[Key, Object]] = {}
        self._log: list[Change] = []
        self._revisions = itertools.count(1)
        self._revision = 0
        self._oldest = 0
        self._changed = asyncio.Event()

    async def get(
        self, resource: Resource, name: str, *, namespace: str | None = None, subresource: str | None = None
    ) -> Object:
        self._on_call("get", resource, name)
        return self._one(resource, namespace, name)

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
    ) -> ObjectList:
        self._on_call("list", resource, "")
        found = self._objects.get(resource.group_resource, {}).values()
        items = [o for o in found if _matches(o, namespace, label_selector, field_selector)]
        return ObjectList(items, str(self._revision))

    async def watch(
        self,
        resource: Resource,
        *,
        resource_version: str,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        timeout_s: float | None = None,
    ) -> AsyncIterator[WatchEvent]:
        self._on_call("watch", resource, "")
        position = int(resource_version or 0)
        if position < self._oldest:
            raise Gone(f"too old resource version: {position} ({self._oldest})")
        while True:
            changed = self._changed
            for revision, kind, type_, obj in list(self._log):
                if revision <= position:
                    continue
                position = revision
                if kind == resource.group_resource and _matches(obj, namespace, label_selector, field_selector):
                    yield WatchEvent(type_, obj)  # type: ignore[arg-type]
            if position < self._revision:
                continue
            try:
                async with asyncio.timeout(timeout_s):
                    await changed.wait()
            except TimeoutError:
                return

    async def create(
        self,
        resource: Resource,
        obj: Object,
        *,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
    ) -> Object:
        self._on_call("create", resource, name or obj.get("metadata", {}).get("name", ""))
        if subresource == "token":
            self._one(resource, namespace, name or "")
            return obj | {"status": {"token": f"token-of-{name}", "expirationTimestamp": "2100-01-01T00:00:00Z"}}
        if subresource == "binding":
            pod = json.deep_copy(self._one(resource, namespace, name or ""))
            pod["spec"]["nodeName"] = obj["target"]["name"]
            return self._store(resource, pod, "MODIFIED")
        made: Object = json.deep_copy(obj)
        meta = made.setdefault("metadata", {})
        if resource.namespaced:
            meta["namespace"] = namespace or meta.get("namespace") or "default"
        if (meta.get("namespace", ""), meta["name"]) in self._objects.get(resource.group_resource, {}):
            raise already_exists(resource.group_resource, meta["name"])
        made |= {"kind": resource.kind, "apiVersion": resource.api_version}
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": "2026-01-01T00:00:00Z"}
        return self._store(resource, made, "ADDED")

    async def update(self, resource: Resource, obj: Object, *, subresource: str | None = None) -> Object:
        meta = obj["metadata"]
        self._on_call("update", resource, meta["name"])
        old = self._one(resource, meta.get("namespace"), meta["name"])
        if meta.get("resourceVersion") not in (None, "", old["metadata"]["resourceVersion"]):
            raise conflict(resource.group_resource, meta["name"])
        new = json.deep_copy(obj)
        if subresource == "status":
            new = json.deep_copy(old) | {"status": new.get("status")}
        new["metadata"]["uid"] = old["metadata"]["uid"]
        return self._store(resource, new | {"kind": resource.kind, "apiVersion": resource.api_version}, "MODIFIED")

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Any,
        *,
        patch_type: PatchType = "merge",
        namespace: str | None = None,
        subresource: str | None = None,
        field_manager: str = "",
    ) -> Object:
        self._on_call("patch", resource, name)
        old = self._one(resource, namespace, name)
        uid = patch.get("metadata", {}).get("uid")
        if uid and uid != old["metadata"]["uid"]:
            raise conflict(resource.group_resource, name, "the UID in the precondition differs")
        new = _merged(old, patch, by_key=patch_type == "strategic")
        if json.dumps(new, sort_keys=True) == json.dumps(old, sort_keys=True):
            return old
        return self._store(resource, new, "MODIFIED")

    async def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str | None = None,
        grace_period_s: int | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: str | None = None,
    ) -> Object:
        self._on_call("delete", resource, name)
        old = self._one(resource, namespace, name)
        if uid and old["metadata"]["uid"] != uid:
            raise conflict(resource.group_resource, name, "the UID in the precondition differs")
        if resource == PODS and grace_period_s != 0 and old.get("spec", {}).get("nodeName"):
            marked = json.deep_copy(old)
            marked["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30}
            return self._store(resource, marked, "MODIFIED")
        del self._objects[resource.group_resource][(old["metadata"].get("namespace", ""), name)]
        return self._tell(resource, json.deep_copy(old), "DELETED")

    def _one(self, resource: Resource, namespace: str | None, name: str) -> Object:
        where = (namespace or "default") if resource.namespaced else ""
        obj = self._objects.get(resource.group_resource, {}).get((where, name))
        if obj is None:
            raise not_found(resource.group_resource, name)
        return obj

    def _store(self, resource: Resource, obj: Object, type_: str) -> Object:
        stored = self._tell(resource, obj, type_)
        meta = stored["metadata"]
        self._objects.setdefault(resource.group_resource, {})[(meta.get("namespace", ""), meta["name"])] = stored
        return stored

    def _tell(self, resource: Resource, obj: Object, type_: str) -> Object:
        self._revision = next(self._revisions)
        obj = obj | {"metadata": obj["metadata"] | {"resourceVersion": str(self._revision)}}
        self._log.append((self._revision, resource.group_resource, type_, obj))
        self._changed.set()
        self._changed = asyncio.Event()
        return obj


def _matches(obj: Object, namespace: str | None, labels: str, fields: str) -> bool:
    meta = obj["metadata"]
    if namespace and meta.get("namespace") != namespace:
        return False
    found = meta.get("labels") or {}
    for term in filter(None, labels.split(",")):
        key, has_value, value = term.partition("=")
        if key not in found or (has_value and found[key] != value):
            return False
    return all(_field(obj, key) == value for key, _, value in (t.partition("=") for t in fields.split(",") if t))


def _field(obj: Object, path: str) -> Any:
    value: Any = obj
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return value


def _merged(old: Any, patch: Any, *, by_key: bool) -> Any:
    if isinstance(patch, dict):
        new = dict(old) if isinstance(old, dict) else {}
        for key, value in patch.items():
            if key.startswith("$"):
                continue
            if value is None:
                new.pop(key, None)
            else:
                new[key] = _merged(new.get(key), value, by_key=by_key)
        return new
    if by_key and isinstance(patch, list) and isinstance(old, list):
        return _merged_list(old, patch)
    return json.deep_copy(patch)


def _merged_list(old: list[Any], patch: list[Any]) -> list[Any]:
    key = next((k for k in ("type", "name") if all(isinstance(i, dict) and k in i for i in (*old, *patch))), None)
    if key is None:
        return list(patch)
    merged = {item[key]: item for item in old}
    for item in patch:
        merged[item[key]] = _merged(merged.get(item[key]), item, by_key=True)
    return list(merged.values())
