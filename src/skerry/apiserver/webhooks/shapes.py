"""Between the server's form of an object and the one that a hook sees: the hook may ask for another version.

Source: kubernetes apiserver/pkg/admission/conversion.go (v1.36).
"""

from __future__ import annotations

from skerry.api.gvk import Object
from skerry.api.status import BadRequest
from skerry.apiserver import views
from skerry.apiserver.registry import Kind
from skerry.apiserver.semantics import Semantics
from skerry.apiserver.webhooks.conversion import Conversions
from skerry.base.json import deep_copy


class Shapes:
    """Shows objects to hooks, and accepts what they made of them.

    Args:
        semantics: schemas and defaults.
        conversions: between the versions of custom resources.
    """

    def __init__(self, semantics: Semantics, conversions: Conversions) -> None:
        self._semantics = semantics
        self._conversions = conversions

    async def show(self, kind: Kind, row: Kind, obj: Object) -> Object:
        """An object of ``kind``, as stored, as the row ``row`` of the same objects shows it."""
        resource = row.resource
        shown: Object = {"kind": resource.kind, "apiVersion": resource.api_version}
        shown.update(views.to_served(row, deep_copy(await self._conversions.row(kind, row, obj))))
        shown["apiVersion"], shown["kind"] = resource.api_version, resource.kind
        return shown

    async def accept(self, row: Kind, kind: Kind, obj: Object) -> Object:
        """What a hook made of an object that ``row`` showed, as ``kind`` stores it.

        Raises:
            BadRequest: it is no object of that kind any more.
        """
        resource = row.resource
        if (obj.get("apiVersion"), obj.get("kind")) != (resource.api_version, resource.kind):
            raise BadRequest(f"apiVersion and kind must stay {resource.api_version}, {resource.kind}")
        if not isinstance(obj.get("metadata"), dict):
            raise BadRequest("metadata must be an object")
        self._semantics.prune(row, obj)
        obj.pop("kind", None)
        obj.pop("apiVersion", None)
        stored = await self._conversions.row(row, kind, views.to_stored(row, obj))
        self._semantics.default(kind, stored)
        return stored
