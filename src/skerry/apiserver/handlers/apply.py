"""The apply verb: a configuration becomes part of an object, or the object itself, with field ownership.

Conflicts, merging and pruning are decided in ``api.apply``; here are the rules of the request, creation, and retries.
"""

from __future__ import annotations

from collections.abc import Callable

from skerry.api.gvk import Object
from skerry.api.status import AlreadyExists, BadRequest, InternalError, Invalid, conflict, not_found
from skerry.apiserver.calls import Answer, Call
from skerry.apiserver.handlers.crud import PATCH_TRIES, Objects
from skerry.apiserver.request_info import invalid_options
from skerry.apiserver.store.log import Missing, Stale
from skerry.base.json import deep_copy


class Applies:
    """Applies configurations.

    Args:
        objects: the core.
        require_create: raises ``Forbidden`` when the call's user may not create what is not there.
    """

    def __init__(self, objects: Objects, *, require_create: Callable[[Call], None]) -> None:
        self._objects = objects
        self._require_create = require_create

    async def apply(self, call: Call, config: Object) -> Answer:
        """Apply a configuration as it was sent.

        Raises:
            ApplyConflict: other managers own what would change.
            BadRequest, Invalid: the configuration or the options are wrong.
        """
        self._check(call, config)
        self._check_declared(call, config)
        self._objects.accept(call, config)
        return await self.apply_accepted(call, config)

    async def apply_accepted(self, call: Call, config: Object) -> Answer:
        """Apply a configuration that follows the schema."""
        kind = call.kind
        config.pop("kind", None)
        config.pop("apiVersion", None)
        pinned = config["metadata"].pop("resourceVersion", None)
        for _ in range(PATCH_TRIES):
            entry = self._objects.store.get(self._objects.key(call))
            if entry is None:
                if call.info.subresource:
                    raise not_found(kind.resource.group_resource, call.name)
                try:
                    return await self._create(call, deep_copy(config))
                except AlreadyExists:
                    continue
            if pinned and str(pinned) != str(entry.rv):
                raise conflict(kind.resource.group_resource, call.name)
            live = self._objects.served(call, await self._objects.shown(call, entry))
            for name in ("kind", "apiVersion"):
                live.pop(name, None)
            live["metadata"].pop("resourceVersion", None)
            stored = live["metadata"].pop("managedFields", None)
            applied = self._objects.owners.apply(call, live, config, stored=stored)
            try:
                return await self._objects.replace(call, entry, deep_copy(applied.obj), managed=applied.managed)
            except (Stale, Missing):
                continue
        raise conflict(kind.resource.group_resource, call.name)

    async def _create(self, call: Call, config: Object) -> Answer:
        self._require_create(call)
        uid = config["metadata"].get("uid")
        if uid:
            raise conflict(
                call.kind.resource.group_resource,
                call.name,
                f"uid mismatch: the provided object specified uid {uid}, and no existing object was found",
            )
        managed = self._objects.owners.apply(call, {}, config, stored=[]).managed
        return await self._objects.create_as(call, config, call.name, managed=managed)

    def _check_declared(self, call: Call, config: Object) -> None:
        """Nobody can own a field that the schema does not have, whatever ``fieldValidation`` says.

        Raises:
            InternalError: the configuration has one.
        """
        if config.get("metadata") is None:
            config["metadata"] = {}
        unknown = self._objects.semantics.prune(call.kind, config)
        if not unknown:
            return
        resource = call.kind.resource
        texts = [f".{path}: field not declared in schema" for path in unknown]
        shown = texts[0] if len(texts) == 1 else "errors:\n  " + "\n  ".join(texts)
        raise InternalError(
            f"failed to create typed patch object ({call.namespace}/{call.name}; {resource.api_version}, "
            f"Kind={resource.kind}): {shown}"
        )

    @staticmethod
    def _check(call: Call, config: Object) -> None:
        resource = call.kind.resource
        if not call.options.names_manager:
            text = "Required value: is required for apply patch"
            raise invalid_options("PatchOptions", "fieldManager", text, "FieldValueRequired")
        version = config.get("apiVersion")
        if version is None or config.get("kind") is None:
            raise BadRequest("error decoding YAML: an applied configuration must have apiVersion and kind")
        if version != resource.api_version:
            raise BadRequest(
                "Incorrect version specified in apply patch. "
                f"Specified patch version: {version}, expected: {resource.api_version}"
            )
        meta = config.get("metadata") or {}
        if not isinstance(meta, dict):
            raise BadRequest("metadata of an applied configuration must be an object")
        if meta.get("managedFields") is not None:
            raise BadRequest("metadata.managedFields must be nil")
        name = meta.get("name")
        if name and name != call.name:
            raise BadRequest(f"the name of the object ({name}) does not match the name on the URL ({call.name})")


def refuse_force(call: Call, patch_type: str) -> None:
    """``force`` belongs to apply alone.

    Raises:
        Invalid: it stands with another patch.
    """
    if call.options.force and patch_type != "apply":
        error: Invalid = invalid_options(
            "PatchOptions", "force", "Forbidden: may not be specified for non-apply patch", "FieldValueForbidden"
        )
        raise error
