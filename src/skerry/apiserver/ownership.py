"""Field ownership in the write path: which part of a write its manager owns, and the apply verb on one object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skerry.api.apply.managed import Applied, Writer, apply_config, base_entries, track_create, track_update
from skerry.api.apply.typed import NotTyped
from skerry.api.gvk import Object
from skerry.api.status import InternalError
from skerry.apiserver.calls import Call
from skerry.apiserver.semantics import Semantics

_KEEPS_STATUS_ON_CREATE = ("nodes",)


class FieldOwners:
    """Makes the ``managedFields`` of writes.

    Args:
        semantics: schemas.
        now_text: time of entries.
    """

    def __init__(self, *, semantics: Semantics, now_text: Callable[[], str]) -> None:
        self._semantics = semantics
        self._now_text = now_text

    def of_create(self, call: Call, obj: Object) -> list[Object]:
        """Entries of a new object."""
        kind = call.kind
        drops_status = kind.has_status and kind.resource.plural not in _KEEPS_STATUS_ON_CREATE
        return track_create(
            obj,
            self._semantics.schema(kind),
            writer(call, "Update"),
            now=self._now_text(),
            hidden=("status",) if drops_status else (),
        )

    def of_update(self, call: Call, new: Object, old: Object, *, stored: Any, sent: Any = None) -> list[Object]:
        """Entries after an update.

        Args:
            new, old: the states, without ``managedFields``.
            stored, sent: ``managedFields`` of the store, and of the body.
        """
        entries = base_entries(sent, stored, is_subresource=bool(call.info.subresource))
        return track_update(
            old,
            new,
            self._semantics.schema(call.kind),
            writer(call, "Update"),
            entries=entries,
            now=self._now_text(),
            hidden=_hidden(call, new),
        )

    def apply(self, call: Call, live: Object, config: Object, *, stored: Any) -> Applied:
        """What a configuration makes of an object; ``{}`` for one that is not there.

        Raises:
            ApplyConflict: others own what would change.
        """
        try:
            return apply_config(
                live,
                config,
                self._semantics.schema(call.kind),
                writer(call, "Apply"),
                entries=stored if isinstance(stored, list) else [],
                now=self._now_text(),
                force=call.options.force,
                hidden=_hidden(call, config),
            )
        except NotTyped as exc:
            resource = call.kind.resource
            raise InternalError(
                f"failed to create typed patch object ({call.namespace}/{call.name}; {resource.api_version}, "
                f"Kind={resource.kind}): {exc}"
            ) from exc


def writer(call: Call, operation: str) -> Writer:
    """The identity of a call's entry."""
    return Writer(
        call.options.field_manager or "unknown", operation, call.kind.resource.api_version, call.info.subresource
    )


def _hidden(call: Call, obj: Object) -> tuple[str, ...]:
    """Members that a write to this path leaves alone."""
    if call.info.subresource == "status":
        return tuple(name for name in obj if name not in ("metadata", "status"))
    return ("status",) if call.kind.has_status and not call.info.subresource else ()
