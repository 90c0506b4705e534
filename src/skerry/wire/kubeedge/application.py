"""The Application envelope: a Kubernetes request of a MetaServer at the edge, and in the same object the answer.

======================  =====================================================================
member                  meaning
======================  =====================================================================
``ID``                  SHA-256 (hex) of node, key, verb, option, body, subresource; names a watch
``Key``                 ``/<group>/<version>/<resource>/<namespace>/<name>``; ``core`` for the empty
                        group, ``null`` for no namespace or name; or a path such as ``/version``
``Verb``                get list watch create delete update updatestatus patch
``Nodename``            never believed
``Option``              base64 of JSON: the options of that verb; for patch ``{"Name", "PatchType",
                        "Data" (base64), "Options", "Subresources"}``
``ReqBody, RespBody``   base64 of JSON, or null
``Subresource``         such as ``status``
``Status``              ``Approved`` or ``Rejected`` in an answer
``Reason, Error``       text; ``{"ErrStatus": metav1.Status}``
``Timestamp``           not used
======================  =====================================================================

Source: kubeedge pkg/metaserver/application.go, pkg/metaserver/util.go:ParseKey (v1.23).
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from skerry.base import json
from skerry.base.values import Struct
from skerry.wire.errors import Malformed

APPROVED = "Approved"
REJECTED = "Rejected"
OP_ANSWER = "applicationResponse"
RESOURCE_ANSWER = "ignore/Application/ignore"
PATCH_TYPES = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}
_PATHS = frozenset({"api", "apis", "version", "healthz", "livez", "readyz", "openapi"})
_KEY_PARTS = 5


class Key(Struct, frozen=True):
    """What an Application is about. ``path`` is set, and all else empty, for a pass-through path."""

    group: str = ""
    version: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


class Application(Struct, frozen=True):
    """A request.

    Args:
        id: names a watch; empty in no request of a Go edge.
        verb: as it came.
        key: what it is about.
        option: decoded; an empty dict when there is none.
        body: decoded; None when there is none.
        subresource: such as ``status``; empty for the object itself.
        raw: the envelope as it came, for the answer.
    """

    id: str
    verb: str
    key: Key
    option: dict[str, Any]
    body: Any
    subresource: str
    raw: dict[str, Any]


def read(content: Any) -> Application:
    """Read a request.

    Raises:
        Malformed: a member is missing or of another form.
    """
    if not isinstance(content, dict):
        raise Malformed("an Application is not an object")
    option = _decoded(content, "Option")
    if option is not None and not isinstance(option, dict):
        raise Malformed("Option of an Application is not an object")
    return Application(
        id=_text(content, "ID"),
        verb=_text(content, "Verb"),
        key=parse_key(_text(content, "Key")),
        option=option or {},
        body=_decoded(content, "ReqBody"),
        subresource=_text(content, "Subresource"),
        raw=content,
    )


def parse_key(text: str) -> Key:
    """Split a key.

    Raises:
        Malformed: it is neither a path nor five parts.
    """
    parts = text.strip("/").split("/")
    if parts[0] in _PATHS:
        return Key(path="/" + "/".join(parts))
    if len(parts) != _KEY_PARTS or not all(part.isprintable() and part for part in parts):
        raise Malformed(f"key {text[:120]!r} of an Application has not five parts")
    group, version, resource, namespace, name = parts
    return Key(
        group="" if group == "core" else group,
        version=version,
        resource=resource,
        namespace="" if namespace == "null" else namespace,
        name="" if name == "null" else name,
    )


def approved(application: Application, node: str, body: Any = None) -> dict[str, Any]:
    """The answer with a result."""
    encoded = None if body is None else base64.b64encode(json.dumps(body)).decode()
    return application.raw | {"Nodename": node, "Status": APPROVED, "Reason": "", "RespBody": encoded}


def rejected(application: Application, node: str, status: dict[str, Any]) -> dict[str, Any]:
    """The answer with an error, a ``metav1.Status``."""
    return application.raw | {
        "Nodename": node,
        "Status": REJECTED,
        "Reason": str(status.get("message") or ""),
        "RespBody": None,
        "Error": {"ErrStatus": status},
    }


def patch_of(application: Application) -> tuple[str, str, Any, list[str]]:
    """Name, type (``json``, ``merge``, ``strategic``, ``apply``), document and subresources of a patch.

    Raises:
        Malformed: the option has another form.
    """
    option = application.option
    kind = PATCH_TYPES.get(_text(option, "PatchType"))
    subresources = option.get("Subresources") or []
    if kind is None or not isinstance(subresources, list) or not all(isinstance(s, str) for s in subresources):
        raise Malformed(f"patch of type {_text(option, 'PatchType')[:80]!r} is not known")
    return _text(option, "Name"), kind, _decoded(option, "Data"), subresources


def _text(part: dict[str, Any], name: str) -> str:
    value = part.get(name, "")
    if not isinstance(value, str):
        raise Malformed(f"{name} of an Application is not a string")
    return value


def _decoded(part: dict[str, Any], name: str) -> Any:
    value = part.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise Malformed(f"{name} of an Application is not base64")
    try:
        data = base64.b64decode(value, validate=True)
        return json.loads(data) if data else None
    except (binascii.Error, ValueError, json.JsonError) as exc:
        raise Malformed(f"{name} of an Application is not base64 of JSON") from exc
