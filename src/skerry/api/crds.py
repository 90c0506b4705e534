"""CustomResourceDefinition manifests of KubeEdge's kinds and of our own, rendered from their fields in ``kinds``."""

from __future__ import annotations

from typing import Any

from skerry.api.gvk import Object
from skerry.api.kinds import devices, edgeapps, enrolments, operations, policy, reliablesyncs, router
from skerry.api.kinds.fields import CustomKind, CustomVersion, schema_of


def custom_kinds() -> tuple[CustomKind, ...]:
    """KubeEdge's thirteen kinds and our own, by group and name."""
    kinds = (
        *devices.KINDS,
        *edgeapps.KINDS,
        *operations.KINDS,
        *policy.KINDS,
        *reliablesyncs.KINDS,
        *router.KINDS,
        *enrolments.KINDS,
    )
    return tuple(sorted(kinds, key=lambda kind: (kind.group, kind.plural)))


def crd_manifests() -> list[Object]:
    """All manifests, complete and defaulted, ready to be created."""
    return [crd_manifest(kind) for kind in custom_kinds()]


def crd_manifest(kind: CustomKind) -> Object:
    """The manifest of one kind."""
    names: dict[str, Any] = {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": kind.kind.lower(),
    }
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "conversion": {"strategy": "None"},
            "group": kind.group,
            "names": names,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [_version(version, is_stored=version is kind.versions[0]) for version in kind.versions],
        },
    }


def _version(version: CustomVersion, *, is_stored: bool) -> dict[str, Any]:
    rendered: dict[str, Any] = {
        "name": version.name,
        "schema": {"openAPIV3Schema": schema_of(version.fields)},
        "served": True,
        "storage": is_stored,
    }
    if version.has_status_subresource:
        rendered["subresources"] = {"status": {}}
    if version.columns:
        rendered["additionalPrinterColumns"] = [
            {"name": column.name, "type": column.type, "jsonPath": column.path} for column in version.columns
        ]
    return rendered
