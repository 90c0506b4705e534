"""What is served, told to clients: discovery in its old and aggregated forms, and OpenAPI.

Documents are made from the registry and the schema table, and kept until the registry changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from skerry.apiserver.handlers.openapi import document
from skerry.apiserver.registry import Kind, Registry, Subresource
from skerry.apiserver.semantics import Semantics
from skerry.base import json
from skerry.base.values import Struct, field

_V2 = "application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
OPENAPI_V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


class Document(Struct, frozen=True):
    """A finished answer."""

    body: bytes
    content_type: str = "application/json"
    etag: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class _Cache(Struct):
    revision: int = -1
    documents: dict[tuple[str, ...], Document] = field(default_factory=dict)


class Discovery:
    """Discovery and OpenAPI documents.

    Args:
        registry: what is served.
        semantics: schemas.
        version: what ``/version`` answers.
    """

    def __init__(self, *, registry: Registry, semantics: Semantics, version: dict[str, str]) -> None:
        self._registry = registry
        self._semantics = semantics
        self._cache = _Cache()
        self.version = version

    def answer(self, path: str, *, accept: str, address: str) -> Document | None:
        """The document of a path; None when there is none.

        Args:
            path: without a trailing slash.
            accept: the Accept header.
            address: ``host:port`` of this server as the client reached it.
        """
        if self._cache.revision != self._registry.revision:
            self._cache = _Cache(self._registry.revision)
        parts = tuple(part for part in path.split("/") if part)
        form = _aggregated_form(accept) if parts in (("api",), ("apis",)) else ""
        place = (*parts, "?", form, address if parts == ("api",) else "", accept if parts == ("openapi", "v2") else "")
        found = self._cache.documents.get(place)
        if found is None:
            found = self._make(parts, form, accept, address)
            if found is not None:
                self._cache.documents[place] = found
        return found

    def openapi_hash(self, group_version: str) -> str:
        """The hash in the address of an OpenAPI document."""
        revision = self._registry.revision if self._is_custom(group_version) else 0
        text = f"{group_version} {self.version['gitVersion']} {revision}"
        return hashlib.sha256(text.encode()).hexdigest().upper()

    def _is_custom(self, group_version: str) -> bool:
        group, _, version = group_version.removeprefix("apis/").rpartition("/")
        return any(row.custom is not None for row in self._registry.in_version(group, version))

    def _make(self, parts: tuple[str, ...], form: str, accept: str, address: str) -> Document | None:
        match parts:
            case ():
                return _plain({"paths": self._paths()})
            case ("version",):
                return _plain(self.version)
            case ("api",):
                return self._aggregated([""], form) if form else _plain(_api_versions(address))
            case ("apis",):
                groups = [group for group in self._registry.group_versions() if group]
                return self._aggregated(groups, form) if form else _plain(self._group_list(groups))
            case ("apis", group) if group in self._registry.group_versions():
                return _plain({"kind": "APIGroup", "apiVersion": "v1", **self._group(group)})
            case ("api", version) if rows := self._registry.in_version("", version):
                return _plain(_resource_list(version, rows))
            case ("apis", group, version) if rows := self._registry.in_version(group, version):
                return _plain(_resource_list(f"{group}/{version}", rows))
            case ("openapi", "v2"):
                return self._openapi_v2(accept)
            case ("openapi", "v3"):
                return _plain({"paths": {gv: self._reference(gv) for gv in self._group_versions()}})
            case ("openapi", "v3", *rest) if "/".join(rest) in self._group_versions():
                return self._openapi_v3("/".join(rest))
        return None

    def _paths(self) -> list[str]:
        paths = ["/api", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
        return sorted([*paths, *(f"/{gv}" for gv in self._group_versions())])

    def _group_versions(self) -> list[str]:
        found = []
        for group, versions in self._registry.group_versions().items():
            found += [f"apis/{group}/{version}" if group else f"api/{version}" for version in versions]
        return found

    def _group(self, group: str) -> dict[str, Any]:
        versions = [
            {"groupVersion": f"{group}/{version}", "version": version}
            for version in self._registry.group_versions()[group]
        ]
        return {"name": group, "versions": versions, "preferredVersion": versions[0]}

    def _group_list(self, groups: Iterable[str]) -> dict[str, Any]:
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [self._group(group) for group in groups]}

    def _aggregated(self, groups: Iterable[str], form: str) -> Document:
        versions = self._registry.group_versions()
        items = [
            {
                "metadata": {"name": group} if group else {},
                "versions": [
                    {
                        "version": version,
                        "resources": [_discovered(row) for row in self._registry.in_version(group, version)],
                        "freshness": "Current",
                    }
                    for version in versions[group]
                ],
            }
            for group in groups
        ]
        body = json.dumps(
            {
                "kind": "APIGroupDiscoveryList",
                "apiVersion": f"apidiscovery.k8s.io/{form}",
                "metadata": {},
                "items": items,
            }
        )
        etag = f'"{hashlib.sha256(body).hexdigest().upper()}"'
        headers = (("Vary", "Accept"), ("Cache-Control", "public"))
        return Document(body, _V2.format(version=form), etag, headers)

    def _reference(self, group_version: str) -> dict[str, str]:
        return {"serverRelativeURL": f"/openapi/v3/{group_version}?hash={self.openapi_hash(group_version)}"}

    def _openapi_v2(self, accept: str) -> Document:
        if "proto" in accept:
            return Document(b"", OPENAPI_V2_PROTOBUF)
        definitions: dict[str, Any] = {}
        for group, versions in self._registry.group_versions().items():
            for version in versions:
                rows = self._registry.in_version(group, version)
                made = document(group, version, rows, self._semantics, is_v2=True)
                definitions.update(made["components"]["schemas"])
        text = json.dumps(
            {"swagger": "2.0", "info": {"title": "Kubernetes", "version": self.version["gitVersion"]}, "paths": {}}
            | {"definitions": definitions}
        )
        return Document(text.replace(b"#/components/schemas/", b"#/definitions/"))

    def _openapi_v3(self, group_version: str) -> Document:
        group, _, version = group_version.partition("/")[2].rpartition("/")
        made = document(group, version, self._registry.in_version(group, version), self._semantics)
        made["info"] = {"title": "Kubernetes", "version": self.version["gitVersion"]}
        return Document(json.dumps(made), etag=f'"{self.openapi_hash(group_version)}"')


def _plain(value: Any) -> Document:
    return Document(json.dumps(value))


def _aggregated_form(accept: str) -> str:
    """``v2``, ``v2beta1`` or empty: the first aggregated form that the client takes."""
    for part in accept.split(","):
        parameters = {item.strip() for item in part.split(";")[1:]}
        if "as=APIGroupDiscoveryList" in parameters:
            for version in ("v2", "v2beta1"):
                if f"v={version}" in parameters:
                    return version
    return ""


def _api_versions(address: str) -> dict[str, Any]:
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def _resource_list(group_version: str, rows: Iterable[Kind]) -> dict[str, Any]:
    resources: list[dict[str, Any]] = []
    for row in rows:
        resources.append(_listed(row))
        resources += [_listed_subresource(row, sub) for sub in row.subresources]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


def _listed(row: Kind) -> dict[str, Any]:
    resource = row.resource
    found: dict[str, Any] = {
        "name": resource.plural,
        "singularName": row.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(row.verbs),
    }
    if row.short_names:
        found["shortNames"] = list(row.short_names)
    if row.categories:
        found["categories"] = list(row.categories)
    if row.is_stored:
        text = f"{resource.group}/{resource.version}/{resource.kind}"
        found["storageVersionHash"] = hashlib.sha256(text.encode()).hexdigest()[:11] + "="
    return found


def _listed_subresource(row: Kind, sub: Subresource) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": f"{row.resource.plural}/{sub.name}",
        "singularName": "",
        "namespaced": row.resource.namespaced,
        "kind": sub.kind or row.resource.kind,
        "verbs": list(sub.verbs),
    }
    if sub.version:
        found |= {"group": sub.group, "version": sub.version}
    return found


def _discovered(row: Kind) -> dict[str, Any]:
    resource = row.resource
    found: dict[str, Any] = {
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": row.singular,
        "verbs": list(row.verbs),
    }
    if row.short_names:
        found["shortNames"] = list(row.short_names)
    if row.categories:
        found["categories"] = list(row.categories)
    if row.subresources:
        found["subresources"] = [
            {
                "subresource": sub.name,
                "responseKind": {
                    "group": sub.group if sub.version else resource.group,
                    "version": sub.version or resource.version,
                    "kind": sub.kind or resource.kind,
                },
                "verbs": list(sub.verbs),
            }
            for sub in row.subresources
        ]
    return found
