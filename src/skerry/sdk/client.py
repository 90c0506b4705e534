"""A small client for people and scripts: find a kind by any of its names, show, apply, delete, read logs.

    client = Client(transport, namespace="default")
    pods = await client.resolve("po")
    table = await client.table(pods)

The transport comes from outside (``skerry.kube.http.HttpTransport`` over a kubeconfig).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Literal
from urllib.parse import quote

from skerry.api.gvk import PODS, Object, Resource
from skerry.api.status import AlreadyExists, ApiError, NotFound
from skerry.base import json
from skerry.base.errors import ConfigError
from skerry.base.values import Struct, replace
from skerry.kube import requests
from skerry.kube.requests import Request, Response, Transport

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
Validation = Literal["Strict", "Warn", "Ignore"]
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


class Found(Struct, frozen=True):
    """A served kind and every word that means it."""

    resource: Resource
    words: frozenset[str]
    categories: frozenset[str]
    verbs: frozenset[str]


class Client:
    """One cluster, as one identity.

    Args:
        transport: carries requests.
        namespace: used where none is given.

    Attributes:
        warnings: what the server warned of so far; the caller may empty it.
    """

    def __init__(self, transport: Transport, *, namespace: str = "default") -> None:
        self._transport = transport
        self.namespace = namespace
        self.warnings: list[str] = []
        self._known: list[Found] = []

    async def discover(self) -> list[Found]:
        """Every kind that the server serves, in its order of preference; asked once."""
        if not self._known:
            self._known = await self._core_kinds() + await self._group_kinds()
        return self._known

    async def resolve(self, word: str) -> Resource:
        """The resource that a word means.

        Args:
            word: plural, singular, kind, short name, or ``plural.group`` or ``plural.version.group``; any case.

        Raises:
            ConfigError: the server knows no such kind.
        """
        plain, _, group = word.lower().partition(".")
        for found in await self.discover():
            resource = found.resource
            fits = not group or group in (resource.group, f"{resource.version}.{resource.group}".rstrip("."))
            if plain in found.words and fits:
                return resource
        raise ConfigError(
            f'the server doesn\'t have a resource type "{word}"', hint="`kubectl api-resources` lists what it has"
        )

    async def resource_of(self, obj: Mapping[str, Any]) -> Resource:
        """The resource that an object's ``apiVersion`` and ``kind`` mean.

        Raises:
            ConfigError: they are missing, or the server knows no such kind.
        """
        version, kind = obj.get("apiVersion"), obj.get("kind")
        for found in await self.discover():
            if (found.resource.api_version, found.resource.kind) == (version, kind):
                return found.resource
        raise ConfigError(
            f'no matches for kind "{kind}" in version "{version}"', hint="apply the CRD first, or correct the manifest"
        )

    async def get(self, resource: Resource, name: str, *, namespace: str | None = None) -> Object:
        """One object."""
        return await self._ask(requests.get(resource, name, self._space(resource, namespace), None))

    async def list_objects(
        self, resource: Resource, *, namespace: str | None = None, label_selector: str = "", everywhere: bool = False
    ) -> list[Object]:
        """Objects of a namespace, or of all."""
        space = None if everywhere else self._space(resource, namespace)
        request = requests.list_(resource, namespace=space, label_selector=label_selector)
        return requests.list_of(resource, await self._transport.send(request)).items

    async def table(
        self,
        resource: Resource,
        name: str = "",
        *,
        namespace: str | None = None,
        label_selector: str = "",
        everywhere: bool = False,
    ) -> Object:
        """The ``meta.k8s.io/v1 Table`` that the server makes of one object or a collection."""
        space = None if everywhere else self._space(resource, namespace)
        query = () if name else (("labelSelector", label_selector),)
        return await self._ask(Request("GET", resource.path(space, name or None), query, accept=TABLE))

    async def apply(self, manifest: Object, *, validation: Validation = "Strict") -> tuple[Object, str]:
        """Create the object, or bring the stored one to what the manifest says.

        Members that the manifest no longer has are removed; what others set is left alone.

        Args:
            validation: what becomes of members that the kind does not have: an error, a warning, or nothing.

        Raises:
            BadRequest: there are such, and ``validation`` is Strict.

        Returns:
            The object and one of ``created``, ``configured``, ``unchanged``.
        """
        resource = await self.resource_of(manifest)
        space = self._space(resource, (manifest.get("metadata") or {}).get("namespace"))
        wanted = json.deep_copy(manifest)
        notes = wanted.setdefault("metadata", {}).setdefault("annotations", {})
        notes.pop(LAST_APPLIED, None)
        notes[LAST_APPLIED] = json.dumps(_without_empty_notes(wanted)).decode() + "\n"
        name = wanted["metadata"].get("name") or ""
        try:
            live = await self._ask(requests.get(resource, name, space, None))
        except NotFound:
            return await self._create(resource, wanted, space, validation), "created"
        patch = three_way_patch(_last_applied(live), wanted, live)
        if not patch:
            return live, "unchanged"
        request = requests.patch(
            resource, name, patch, patch_type="merge", namespace=space, subresource=None, field_manager="skerry"
        )
        return await self._ask(_validated(request, validation)), "configured"

    async def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str | None = None,
        grace_period_s: int | None = None,
        propagation: str = "Background",
    ) -> Object:
        """Delete one object."""
        request = requests.delete(
            resource,
            name,
            namespace=self._space(resource, namespace),
            grace_period_s=grace_period_s,
            uid=None,
            resource_version=None,
            propagation=propagation,
        )
        return await self._ask(request)

    async def logs(
        self,
        pod: str,
        *,
        namespace: str | None = None,
        container: str = "",
        follow: bool = False,
        previous: bool = False,
        tail_lines: int | None = None,
        since_s: int | None = None,
        timestamps: bool = False,
    ) -> AsyncIterator[bytes]:
        """The log of a container, piece by piece as it comes; endless with ``follow``.

        Raises:
            ApiError: there is no such pod or log, or the node cannot be reached.
        """
        query = (
            ("container", container),
            ("follow", "true" if follow else ""),
            ("previous", "true" if previous else ""),
            ("tailLines", "" if tail_lines is None else str(tail_lines)),
            ("sinceSeconds", "" if since_s is None else str(since_s)),
            ("timestamps", "true" if timestamps else ""),
        )
        request = Request("GET", PODS.path(self._space(PODS, namespace), pod, "log"), query, accept="*/*")
        async with self._transport.stream(request, read_s=0 if follow else None) as stream:
            if stream.status != 200:
                raise requests.error_of(Response(stream.status, await stream.read()))
            async with aclosing(stream.chunks()) as chunks:  # type: ignore[type-var]
                async for chunk in chunks:
                    yield chunk

    # -- inside

    def _space(self, resource: Resource, namespace: str | None) -> str | None:
        return (namespace or self.namespace) if resource.namespaced else None

    async def _ask(self, request: Request) -> Object:
        answer = await self._transport.send(request)
        self.warnings += answer.warning_texts()
        return requests.object_of(answer)

    async def _create(self, resource: Resource, obj: Object, space: str | None, validation: Validation) -> Object:
        request = requests.create(resource, obj, namespace=space, name=None, subresource=None)
        try:
            return await self._ask(_validated(request, validation))
        except AlreadyExists as exc:
            raise ApiError(f"{exc.message}; somebody made it meanwhile", hint="apply again") from exc

    async def _core_kinds(self) -> list[Found]:
        answer = await self._ask(Request("GET", "/api", accept=DISCOVERY))
        if answer.get("kind") == "APIGroupDiscoveryList":
            return list(_aggregated(answer))
        return await self._version_kinds("", "v1", "/api/v1")

    async def _group_kinds(self) -> list[Found]:
        answer = await self._ask(Request("GET", "/apis", accept=DISCOVERY))
        if answer.get("kind") == "APIGroupDiscoveryList":
            return list(_aggregated(answer))
        found = []
        for group in answer.get("groups") or ():
            for version in group["versions"]:
                path = f"/apis/{quote(version['groupVersion'])}"
                found += await self._version_kinds(group["name"], version["version"], path)
        return found

    async def _version_kinds(self, group: str, version: str, path: str) -> list[Found]:
        answer = await self._ask(Request("GET", path))
        rows = [row for row in answer.get("resources") or () if "/" not in row["name"]]
        return [
            _found(group, version, row["name"], row["kind"], row["namespaced"], row.get("singularName"), row)
            for row in rows
        ]


def _aggregated(answer: Object) -> Iterable[Found]:
    for group in answer.get("items") or ():
        name = (group.get("metadata") or {}).get("name") or ""
        for version in group.get("versions") or ():
            for row in version.get("resources") or ():
                kind = (row.get("responseKind") or {}).get("kind") or ""
                is_namespaced = row.get("scope") == "Namespaced"
                singular = row.get("singularResource")
                yield _found(name, version["version"], row["resource"], kind, is_namespaced, singular, row)


def _found(
    group: str,
    version: str,
    plural: str,
    kind: str,
    is_namespaced: bool,
    singular: str | None,
    row: Mapping[str, Any],
) -> Found:
    words = {plural, kind.lower(), singular or "", *(row.get("shortNames") or ())} - {""}
    return Found(
        Resource(group, version, plural, kind, is_namespaced),
        frozenset(words),
        frozenset(row.get("categories") or ()),
        frozenset(row.get("verbs") or ()),
    )


def three_way_patch(last: Mapping[str, Any], wanted: Mapping[str, Any], live: Mapping[str, Any]) -> dict[str, Any]:
    """A merge patch that takes ``live`` to ``wanted``: what only ``last`` has is removed, what only ``live`` has stays.

    Lists are replaced as a whole.
    """
    patch: dict[str, Any] = {key: None for key in last if key not in wanted and key in live}
    for key, value in wanted.items():
        there = live.get(key)
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            before = last.get(key)
            inner = three_way_patch(before if isinstance(before, Mapping) else {}, value, there)
            if inner:
                patch[key] = inner
        elif value is not None and value != there:
            patch[key] = value
    return patch


def _last_applied(live: Object) -> Mapping[str, Any]:
    text = (live["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    try:
        found = json.loads(text) if text else {}
    except json.JsonError:
        return {}
    return found if isinstance(found, dict) else {}


def _without_empty_notes(obj: Object) -> Object:
    if obj["metadata"].get("annotations"):
        return obj
    return {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key != "annotations"}}


def _validated(request: Request, validation: Validation) -> Request:
    return replace(request, query=(*request.query, ("fieldValidation", validation)))
