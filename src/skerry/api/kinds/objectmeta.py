"""Rules for the metadata of every kind.

Source: apimachinery pkg/api/validation/objectmeta.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from skerry.api.field import FieldError, forbidden, invalid, required
from skerry.api.gvk import Object
from skerry.api.names import annotation_errors, label_errors, qualified_name

NameCheck = Callable[[str], list[str]]


def metadata_errors(obj: Object, check_name: NameCheck) -> Iterator[FieldError]:
    """Everything wrong with ``metadata``, the names by the grammar of the kind."""
    meta = obj.get("metadata") or {}
    name, base = meta.get("name") or "", meta.get("generateName") or ""
    if not name and not base:
        yield required("metadata.name", "name or generateName is required")
    if name:
        yield from (invalid("metadata.name", name, text) for text in check_name(name))
    yield from label_errors(meta.get("labels"), "metadata.labels")
    yield from annotation_errors(meta.get("annotations"), "metadata.annotations")
    yield from _owner_errors(meta)
    for finalizer in meta.get("finalizers") or []:
        yield from (invalid("metadata.finalizers", finalizer, text) for text in qualified_name(finalizer))


def metadata_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """What may not change: nothing is added to the finalizers of an object that is being deleted."""
    before, meta = old.get("metadata") or {}, obj.get("metadata") or {}
    if before.get("deletionTimestamp"):
        added = sorted(set(meta.get("finalizers") or []) - set(before.get("finalizers") or []))
        if added:
            names = ", ".join(f'"{name}"' for name in added)
            yield forbidden(
                "metadata.finalizers",
                "no new finalizers can be added if the object is being deleted, found new finalizers "
                f"[]string{{{names}}}",
            )


def _owner_errors(meta: dict[str, Any]) -> Iterator[FieldError]:
    controllers: list[str] = []
    for index, owner in enumerate(meta.get("ownerReferences") or []):
        for name in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(name):
                yield _owner_lack(f"metadata.ownerReferences[{index}].{name}", name)
        if owner.get("controller"):
            controllers.append(str(owner.get("name", "")))
    if len(controllers) > 1:
        yield invalid(
            "metadata.ownerReferences",
            meta["ownerReferences"],
            'Only one reference can have Controller set to true. Found "true" in references for '
            f"{controllers[0]} and {controllers[1]}",
        )


def _owner_lack(path: str, name: str) -> FieldError:
    return invalid(path, "", "version must not be empty" if name == "apiVersion" else f"{name} must not be empty")
