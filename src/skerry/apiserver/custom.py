"""Custom resources: from stored CRDs to rows of the registry, their conditions, and their end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from skerry.api.gvk import CRDS, Object, Resource
from skerry.api.status import ApiError
from skerry.apiserver.auth.authn import MASTERS, User
from skerry.apiserver.calls import Call
from skerry.apiserver.handlers.bodies import DeleteOptions
from skerry.apiserver.handlers.crud import Objects
from skerry.apiserver.handlers.lists import ListOptions
from skerry.apiserver.registry import CustomInfo, Kind, Registry, Subresource
from skerry.apiserver.request_info import parse
from skerry.apiserver.store.entry import Entry
from skerry.base.aio.fanout import SlowReader
from skerry.base.aio.supervise import Supervisor
from skerry.base.obs.log import get_log

log = get_log(__name__)

CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
_SYSTEM = User("system:apiserver", (MASTERS,))


class CustomResources:
    """Keeps the registry equal to the CRDs, and the CRDs' conditions true.

    Args:
        objects: the core; CRDs are read and written through it.
        registry: gets the rows.
    """

    def __init__(self, *, objects: Objects, registry: Registry) -> None:
        self._objects = objects
        self._registry = registry
        self._supervisor = Supervisor("apiserver-crds")
        crds = registry.find(CRDS.group, CRDS.version, CRDS.plural)
        assert crds is not None
        self._crds = crds

    async def start(self) -> None:
        """Serve what is stored, then follow changes."""
        reader = self._objects.store.collection(self._crds.storage).reader()
        for entry in list(self._objects.store.collection(self._crds.storage).entries()):
            await self._settle(entry)
        reader.close()
        self._supervisor.keep("follow", self._follow)

    async def aclose(self) -> None:
        """Stop following."""
        await self._supervisor.aclose()

    async def _follow(self) -> None:
        collection = self._objects.store.collection(self._crds.storage)
        reader = collection.reader()
        for entry in list(collection.entries()):
            await self._settle(entry)
        try:
            async for event in reader:
                if event.op == "DELETED":
                    self._drop(event.entry.key.name)
                else:
                    newest = collection.get("", event.entry.key.name)
                    if newest is not None:
                        await self._settle(newest)
        except SlowReader:
            log.warning("crds.behind")
        finally:
            reader.close()

    def _drop(self, name: str) -> None:
        for row in [row for row in self._registry if row.custom is not None and row.custom.crd == name]:
            self._objects.semantics.forget(row)
        self._registry.set_custom(name, ())

    async def _settle(self, entry: Entry) -> None:
        """Bring conditions and rows in line with one CRD."""
        crd = entry.content()
        name = entry.key.name
        try:
            if crd["metadata"].get("deletionTimestamp"):
                await self._finish(crd)
                return
            status = next_status(crd, self._taken(name), now_text=self._objects.now_text())
            self._serve(name, crd, status)  # first: whoever reads Established must not meet a 404
            if status != crd.get("status") or CLEANUP not in (crd["metadata"].get("finalizers") or ()):
                await self._objects.change(self._call(name), lambda stored: _set_status(stored, status))
        except ApiError as exc:
            log.warning("crds.not_settled", crd=name, error=str(exc))

    def _serve(self, name: str, crd: Object, status: dict[str, Any]) -> None:
        rows = rows_of(crd) if _is_true(status, "Established") else []
        if rows == [row for row in self._registry if row.custom is not None and row.custom.crd == name]:
            return
        self._drop(name)
        self._registry.set_custom(name, rows)

    async def _finish(self, crd: Object) -> None:
        """Remove every object of an ending CRD, then let the CRD go."""
        name = crd["metadata"]["name"]
        if CLEANUP not in (crd["metadata"].get("finalizers") or ()):
            return
        row = next((row for row in self._registry if row.custom is not None and row.custom.crd == name), None)
        collection = self._objects.store.collection(storage_of(crd))
        if row is not None:
            resource = row.resource
            call = Call(_SYSTEM, parse("DELETE", resource.path()), row)
            await self._objects.delete_collection(call, ListOptions(), DeleteOptions())
        if len(collection):
            self._supervisor.detach(
                f"empty-{name}", self._wait_empty(name, collection.reader(), lambda: len(collection))
            )
            return
        await self._objects.change(self._call(name), _let_go)

    async def _wait_empty(self, name: str, reader: Any, count: Callable[[], int]) -> None:
        """Objects with finalizers end later."""
        try:
            while count():
                await reader.get()
        except (SlowReader, StopAsyncIteration):
            return
        finally:
            reader.close()
        await self._objects.change(self._call(name), _let_go)

    def _taken(self, name: str) -> set[tuple[str, str]]:
        """Names that other rows of the group use, as ``(group, name)``."""
        taken: set[tuple[str, str]] = set()
        for row in self._registry:
            if row.custom is None or row.custom.crd != name:
                kind = row.resource.kind
                words = (row.resource.plural, row.singular, *row.short_names, kind, f"{kind}List")
                taken |= {(row.resource.group, word) for word in words}
        return taken

    def _call(self, name: str) -> Call:
        info = parse("PATCH", f"{CRDS.path(name=name)}/status")
        return Call(_SYSTEM, info, self._crds)


def storage_of(crd: Object) -> str:
    """Where the objects of a CRD are stored."""
    return str(crd["metadata"]["name"])


def next_status(crd: Object, taken: Iterable[tuple[str, str]], *, now_text: str) -> dict[str, Any]:
    """Status of a CRD: accepted names and the conditions NamesAccepted and Established (pure)."""
    spec, status = crd["spec"], dict(crd.get("status") or {})
    names = {key: value for key, value in spec["names"].items() if value}
    group = spec["group"]
    used = set(taken)
    wanted = [(key, names[key]) for key in ("plural", "singular", "kind", "listKind") if key in names]
    wanted[2:2] = [("shortNames", word) for word in names.get("shortNames") or ()]
    clash = next(((key, word) for key, word in wanted if (group, word) in used), None)
    if clash is None:
        status["acceptedNames"] = names
        accepted = ("True", "NoConflicts", "no conflicts found")
        established = ("True", "InitialNamesAccepted", "the initial names have been accepted")
    else:
        accepted = ("False", f"{clash[0][0].upper()}{clash[0][1:]}Conflict", f'"{clash[1]}" is already in use')
        established = ("False", "NotAccepted", "not all names are accepted")
        if _is_true(status, "Established"):  # what is served stays served, under the names that it has
            established = ("True", "InitialNamesAccepted", "the initial names have been accepted")
    conditions = list(status.get("conditions") or ())
    for type_, state in (("NamesAccepted", accepted), ("Established", established)):
        conditions = _with_condition(conditions, type_, *state, now_text=now_text)
    status["conditions"] = conditions
    status.setdefault("storedVersions", [v["name"] for v in spec["versions"] if v.get("storage")])
    return status


def rows_of(crd: Object) -> list[Kind]:
    """Registry rows of a CRD, one per served version (pure)."""
    spec = crd["spec"]
    names = spec["names"]
    return [
        _row(crd, version, Resource(spec["group"], version["name"], names["plural"], names["kind"],
                                    spec.get("scope") != "Cluster"))
        for version in spec["versions"]
        if version.get("served")
    ]  # fmt: skip


def _row(crd: Object, version: dict[str, Any], resource: Resource) -> Kind:
    names = crd["spec"]["names"]
    subresources = version.get("subresources") or {}
    conversion = crd["spec"].get("conversion") or {}
    found = []
    if "scale" in subresources:
        found.append(Subresource("scale", group="autoscaling", version="v1", kind="Scale"))
    if "status" in subresources:
        found.append(Subresource("status"))
    return Kind(
        resource=resource,
        singular=names.get("singular") or resource.kind.lower(),
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=tuple(found),
        storage=storage_of(crd),
        bumps_generation="any",
        needs_version_on_update=True,
        custom=CustomInfo(
            crd=crd["metadata"]["name"],
            schema=(version.get("schema") or {}).get("openAPIV3Schema"),
            printer_columns=tuple(version.get("additionalPrinterColumns") or ()),
            selectable_fields=tuple(item["jsonPath"] for item in version.get("selectableFields") or ()),
            scale=subresources.get("scale"),
            storage_version=next((v["name"] for v in crd["spec"]["versions"] if v.get("storage")), ""),
            conversion=conversion.get("webhook") if conversion.get("strategy") == "Webhook" else None,
            deprecation=_deprecation(version, resource),
        ),
    )


def _deprecation(version: dict[str, Any], resource: Resource) -> str:
    if not version.get("deprecated"):
        return ""
    return str(version.get("deprecationWarning") or f"{resource.api_version} {resource.kind} is deprecated")


def _with_condition(
    conditions: list[dict[str, Any]], type_: str, status: str, reason: str, message: str, *, now_text: str
) -> list[dict[str, Any]]:
    new = {"type": type_, "status": status, "lastTransitionTime": now_text, "reason": reason, "message": message}
    for index, old in enumerate(conditions):
        if old.get("type") == type_:
            if old.get("status") == status:
                new["lastTransitionTime"] = old.get("lastTransitionTime", now_text)
            return [*conditions[:index], new, *conditions[index + 1 :]]
    return [*conditions, new]


def _set_status(stored: Object, status: dict[str, Any]) -> None:
    stored["status"] = status
    finalizers = stored["metadata"].setdefault("finalizers", [])
    if CLEANUP not in finalizers:
        finalizers.append(CLEANUP)


def _let_go(stored: Object) -> None:
    meta = stored["metadata"]
    meta["finalizers"] = [name for name in meta.get("finalizers") or () if name != CLEANUP]
    if not meta["finalizers"]:
        del meta["finalizers"]


def _is_true(status: dict[str, Any], type_: str) -> bool:
    return any(c.get("type") == type_ and c.get("status") == "True" for c in status.get("conditions") or ())
