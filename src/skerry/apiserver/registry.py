"""The table of what is served: one row per resource, plus the rows that CRDs add and take away.

A kind is a row here plus its entry in the schema table; behaviour that a table cannot say is looked up by the row's
name in ``handlers`` and ``api.kinds``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from skerry.api.gvk import Resource
from skerry.base.values import Struct, field

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")

GROUP_ORDER = (
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "metrics.k8s.io",
)
"""Order of built-in groups in discovery; CRD groups follow by name. It is kubectl's order of preference."""


class Subresource(Struct, frozen=True):
    """One subresource: its verbs, and the kind that it takes and gives when that differs from its parent's."""

    name: str
    verbs: tuple[str, ...] = ("get", "patch", "update")
    group: str = ""
    version: str = ""
    kind: str = ""


class CustomInfo(Struct, frozen=True):
    """What a CRD's version adds to a row.

    Args:
        crd: name of the CRD.
        schema: ``openAPIV3Schema`` of this version, or None.
        printer_columns: ``additionalPrinterColumns``.
        selectable_fields: JSON paths.
        scale: the ``scale`` member of ``subresources``, or None.
        storage_version: version in which objects are stored.
        conversion: the ``webhook`` that turns versions into each other, None when they have one form.
        deprecation: warning of a version that will go, empty for none.
    """

    crd: str
    schema: dict[str, Any] | None
    printer_columns: tuple[dict[str, Any], ...] = ()
    selectable_fields: tuple[str, ...] = ()
    scale: dict[str, str] | None = None
    storage_version: str = ""
    conversion: dict[str, Any] | None = None
    deprecation: str = ""


class Kind(Struct, frozen=True):
    """A row: one resource in one version.

    Args:
        storage: group resource under which objects are stored; several rows may show the same objects.
        verbs: of the resource itself; a review has only ``create`` and is never stored.
        bumps_generation: which changes count up ``metadata.generation``: ``spec``, ``any`` (everything but metadata
            and status), or empty for kinds without generation.
        creates_on_update: PUT of a missing object creates it.
        needs_version_on_update: PUT without resourceVersion is refused.
        returns_deleted: DELETE answers the object instead of a Status.
        view: name of a conversion between the stored and the served form, empty for none.
    """

    resource: Resource
    singular: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: tuple[Subresource, ...] = ()
    storage: str = ""
    bumps_generation: str = ""
    creates_on_update: bool = False
    needs_version_on_update: bool = False
    returns_deleted: bool = False
    view: str = ""
    custom: CustomInfo | None = None

    @property
    def is_stored(self) -> bool:
        return bool(self.storage)

    @property
    def is_watchable(self) -> bool:
        """Whether its objects come and go, and can be followed."""
        return "watch" in self.verbs

    @property
    def has_status(self) -> bool:
        return self.subresource("status") is not None

    def subresource(self, name: str) -> Subresource | None:
        """The subresource of that name, or None."""
        return next((sub for sub in self.subresources if sub.name == name), None)


class Registry(Struct):
    """The rows that are served now. ``revision`` changes with every change of the table.

    Args:
        builtin: rows that are always served.
    """

    builtin: tuple[Kind, ...]
    _rows: dict[tuple[str, str, str], Kind] = field(default_factory=dict)
    _custom: dict[str, tuple[tuple[str, str, str], ...]] = field(default_factory=dict)
    revision: int = 0

    def __post_init__(self) -> None:
        for kind in self.builtin:
            self._rows[_place(kind)] = kind

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        """The row of a path, or None."""
        return self._rows.get((group, version, plural))

    def for_kind(self, group: str, version: str, kind: str) -> Kind | None:
        """The stored row of a group, version and kind, or None."""
        return next(
            (
                row
                for row in self._rows.values()
                if row.resource.kind == kind
                and row.resource.group == group
                and row.resource.version == version
                and row.is_stored
            ),
            None,
        )

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._rows.values())

    def group_versions(self) -> dict[str, list[str]]:
        """Versions by group, groups in the order of discovery, preferred version first."""
        found: dict[str, list[str]] = {group: [] for group in GROUP_ORDER}
        for group in sorted({row.resource.group for row in self._rows.values()} - set(GROUP_ORDER)):
            found[group] = []
        for row in self._rows.values():
            if row.resource.version not in found[row.resource.group]:
                found[row.resource.group].append(row.resource.version)
        return {group: sorted(versions, key=version_rank) for group, versions in found.items() if versions}

    def in_version(self, group: str, version: str) -> list[Kind]:
        """Rows of one group version, by plural name."""
        rows = [row for row in self._rows.values() if (row.resource.group, row.resource.version) == (group, version)]
        return sorted(rows, key=lambda row: row.resource.plural)

    def set_custom(self, crd: str, rows: Iterable[Kind]) -> None:
        """Serve these rows, and no others, for a CRD."""
        new = {_place(row): row for row in rows}
        old = self._custom.get(crd, ())
        if not new and not old:
            return
        if tuple(new) == old and all(self._rows.get(place) == row for place, row in new.items()):
            return
        for place in old:
            self._rows.pop(place, None)
        self._rows.update(new)
        if new:
            self._custom[crd] = tuple(new)
        else:
            self._custom.pop(crd, None)
        self.revision += 1


def _place(row: Kind) -> tuple[str, str, str]:
    return row.resource.group, row.resource.version, row.resource.plural


def version_rank(version: str) -> tuple[int, int, int, str]:
    """Sort key that puts v2 before v1 before v1beta2 before v1alpha1 before other names."""
    rest = version[1:]
    digits = len(rest) - len(rest.lstrip("0123456789"))
    if not version.startswith("v") or not digits:
        return (3, 0, 0, version)
    major = int(rest[:digits])
    for level, word in ((1, "beta"), (2, "alpha")):
        if rest[digits:].startswith(word) and rest[digits + len(word) :].isdigit():
            return (level, -major, -int(rest[digits + len(word) :]), "")
    return (0, -major, 0, "") if digits == len(rest) else (3, 0, 0, version)
