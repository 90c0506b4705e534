"""``KubeApi`` inside the process: the same core as the HTTPS door, as one given user."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

from skerry.api.gvk import Object, Resource
from skerry.apiserver.auth.authn import User
from skerry.apiserver.calls import Answer, Call
from skerry.apiserver.core import ApiCore
from skerry.apiserver.handlers.bodies import DeleteOptions
from skerry.apiserver.handlers.lists import ListOptions
from skerry.apiserver.handlers.watch import Step
from skerry.apiserver.request_info import WriteOptions, parse
from skerry.apiserver.store.entry import Entry
from skerry.apiserver.views import to_served
from skerry.base.json import deep_copy
from skerry.kube.ports import KubeApi, ObjectList, PatchType, WatchEvent


class LocalKubeApi(KubeApi):
    """Objects of an ``ApiCore``.

    Args:
        core: started by the caller.
        user: on whose behalf; authorization applies.
    """

    def __init__(self, core: ApiCore, *, user: User) -> None:
        self._core = core
        self._user = user

    async def get(
        self, resource: Resource, name: str, *, namespace: str | None = None, subresource: str | None = None
    ) -> Object:
        call = self._call("GET", resource, namespace, name, subresource)
        return self._object(call, await self._core.get(call))

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
        call = self._call("GET", resource, namespace, None, None, {"fieldSelector": field_selector})
        options = ListOptions(
            label_selector=label_selector, field_selector=field_selector, limit=limit, continue_token=continue_token
        )
        page = await self._core.list(call, options)
        return ObjectList([self._served(call, entry) for entry in page.entries], str(page.rv), page.continue_token)

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
        query = {"watch": "1", "fieldSelector": field_selector}
        call = self._call("GET", resource, namespace, None, None, query)
        options = ListOptions(
            label_selector=label_selector,
            field_selector=field_selector,
            resource_version=resource_version,
            timeout_s=timeout_s,
            wants_bookmarks=True,
        )
        watch = self._core.watch(call, options)
        try:
            async for batch in watch:
                for step in batch:
                    yield WatchEvent(step.type, self._of_step(call, step))
        finally:
            watch.close()

    async def create(
        self,
        resource: Resource,
        obj: Object,
        *,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
    ) -> Object:
        where = namespace or (obj.get("metadata") or {}).get("namespace")
        call = self._call("POST", resource, where, name if subresource else None, subresource)
        return self._object(call, await self._core.create(call, deep_copy(obj)))

    async def update(self, resource: Resource, obj: Object, *, subresource: str | None = None) -> Object:
        meta = obj["metadata"]
        call = self._call("PUT", resource, meta.get("namespace"), meta["name"], subresource)
        return self._object(call, await self._core.update(call, deep_copy(obj)))

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
        call = self._call("PATCH", resource, namespace, name, subresource, {}, field_manager)
        return self._object(call, await self._core.patch(call, patch_type, patch))

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
        call = self._call("DELETE", resource, namespace, name, None)
        options = DeleteOptions(grace_period_s, uid, resource_version, propagation)
        return self._object(call, await self._core.delete(call, options))

    def _call(
        self,
        method: str,
        resource: Resource,
        namespace: str | None,
        name: str | None,
        subresource: str | None,
        query: dict[str, str] | None = None,
        field_manager: str = "",
    ) -> Call:
        raw = urlencode({key: value for key, value in (query or {}).items() if value})
        info = parse(method, resource.path(namespace, name, subresource), raw)
        options = WriteOptions(
            field_manager=field_manager or self._user.name.rpartition(":")[2], field_validation="Ignore"
        )
        return self._core.call(self._user, info, options)

    def _object(self, call: Call, answer: Answer) -> Object:
        if answer.entry is not None:
            return self._served(call, answer.entry)
        assert answer.obj is not None
        return answer.obj

    def _served(self, call: Call, entry: Entry) -> Object:
        resource = call.kind.resource
        obj = to_served(call.kind, entry.object(kind=resource.kind, api_version=resource.api_version))
        self._core.semantics.default_read(call.kind, obj)
        return obj

    def _of_step(self, call: Call, step: Step) -> Object:
        resource = call.kind.resource
        if step.entry is None:
            return {
                "kind": resource.kind,
                "apiVersion": resource.api_version,
                "metadata": {"resourceVersion": str(step.rv)},
            }
        obj = self._served(call, step.entry)
        obj["metadata"]["resourceVersion"] = str(step.rv)
        return obj
