"""Contents of answers: success, and each of the forms in which an error travels.

=====================================  ====================================================
content                                meaning
=====================================  ====================================================
object                                 the object that was asked for
``{"Object": …, "Err": null}``         a write that succeeded
``{"Object": …, "Err": {…}}``          a write that failed; ``Err`` is ``{"ErrStatus": …}`` or ``{}``
``{"ErrStatus": {…}}``                 a query that failed
``"OK"``                               done, nothing to show
any text, operation ``error``          failed, in words
=====================================  ====================================================

A Status is a plain ``metav1.Status`` dict here; ``api.status.from_status`` makes the exception of it.

Source: kubeedge cloud/pkg/edgecontroller/controller/upstream.go, edge/pkg/metamanager/process.go:isObjectResp,
edge/pkg/metamanager/client (v1.23).
"""

from __future__ import annotations

from typing import Any

from skerry.base import json
from skerry.base.values import Struct
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge.envelope import Envelope


class Outcome(Struct, frozen=True):
    """What an answer says.

    Args:
        object: the object, where there is one.
        status: ``metav1.Status`` of the failure; None after a success.
        text: the content where it is bare text, such as ``OK`` or a PEM certificate.
    """

    object: dict[str, Any] | None = None
    status: dict[str, Any] | None = None
    text: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether the request succeeded."""
        return self.status is None


def read(envelope: Envelope) -> Outcome:
    """Read an answer of any form; never fails."""
    content = unwrapped(envelope.content)
    if envelope.operation == c.OP_ERROR:
        return Outcome(status=_failure(content if isinstance(content, str) else ""))
    if isinstance(content, str):
        return Outcome(text=content)
    if not isinstance(content, dict):
        return Outcome()
    if set(content) == {"ErrStatus"}:
        return Outcome(status=_status(content))
    if set(content) == {"Object", "Err"}:
        return _written(content)
    return Outcome(object=content)


def unwrapped(content: Any) -> Any:
    """The value of a content: upstream sends an object, or a string that holds the object's JSON, alike."""
    if isinstance(content, str) and content[:1] in ("{", "["):
        try:
            return json.loads(content)
        except json.JsonError:
            return content
    return content


def success(obj: dict[str, Any] | None) -> dict[str, Any]:
    """Content of a write that succeeded."""
    return {"Object": obj, "Err": None}


def failed_write(status: dict[str, Any], obj: dict[str, Any] | None = None) -> dict[str, Any]:
    """Content of a write that failed; ``obj`` is what was submitted, or None."""
    return {"Object": obj, "Err": failed_query(status)}


def failed_query(status: dict[str, Any]) -> dict[str, Any]:
    """Content of a query that failed. Upstream leaves ``kind`` and ``apiVersion`` of the Status out."""
    return {"ErrStatus": {key: value for key, value in status.items() if key not in ("kind", "apiVersion")}}


def _written(content: dict[str, Any]) -> Outcome:
    obj, error = content["Object"], content["Err"]
    obj = obj if isinstance(obj, dict) else None
    if error is None:
        return Outcome(object=obj)
    return Outcome(object=obj, status=_status(error) if isinstance(error, dict) else _failure(str(error)))


def _status(error: dict[str, Any]) -> dict[str, Any]:
    status = error.get("ErrStatus")
    return status if isinstance(status, dict) and status else _failure("")


def _failure(text: str) -> dict[str, Any]:
    return {
        "metadata": {},
        "status": "Failure",
        "message": text or "the cloud reported an error without words",
        "reason": "InternalError",
        "code": 500,
    }
