"""``metav1.Status`` and the errors that it stands for.

    ApiError
    ├── BadRequest 400        ├── Invalid 422
    ├── Unauthorized 401      ├── TooManyRequests 429 (Retryable)
    ├── Forbidden 403         ├── InternalError 500
    ├── NotFound 404          ├── ServerTimeout 504 (Retryable)
    ├── MethodNotAllowed 405  ├── Unavailable 503 (Retryable)
    ├── NotAcceptable 406     ├── UnsupportedMediaType 415
    ├── AlreadyExists 409     ├── TooLargeBody 413
    ├── Conflict 409          └── Gone 410

Texts are wire facts: kubectl prints them and upstream's tests compare some of them.
"""

from __future__ import annotations

from typing import Any

from skerry.base.errors import Retryable, SkerryError


class ApiError(SkerryError):
    """An answer other than success.

    Args:
        message: text for people, as Kubernetes words it.
        details: ``name``, ``group``, ``kind``, ``uid``, ``causes``, ``retryAfterSeconds`` where they apply.
    """

    code: int = 500
    reason: str = "InternalError"

    def __init__(self, message: str, *, details: dict[str, Any] | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.message = message
        self.details = details

    def to_status(self) -> dict[str, Any]:
        """The ``metav1.Status`` that crosses the wire."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if not self.reason:
            del status["reason"]
        if self.details is not None:
            status["details"] = self.details
        return status


class BadRequest(ApiError):
    code, reason = 400, "BadRequest"


class Unauthorized(ApiError):
    code, reason = 401, "Unauthorized"


class Forbidden(ApiError):
    code, reason = 403, "Forbidden"


class NotFound(ApiError):
    code, reason = 404, "NotFound"


class MethodNotAllowed(ApiError):
    code, reason = 405, "MethodNotAllowed"


class NotAcceptable(ApiError):
    code, reason = 406, "NotAcceptable"


class AlreadyExists(ApiError):
    code, reason = 409, "AlreadyExists"


class Conflict(ApiError):
    code, reason = 409, "Conflict"


class Gone(ApiError):
    code, reason = 410, "Expired"


class TooLargeBody(ApiError):
    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(ApiError):
    code, reason = 415, "UnsupportedMediaType"


class Invalid(ApiError):
    code, reason = 422, "Invalid"


class TooManyRequests(ApiError, Retryable):
    code, reason = 429, "TooManyRequests"


class InternalError(ApiError):
    code, reason = 500, "InternalError"


class Unavailable(ApiError, Retryable):
    code, reason = 503, "ServiceUnavailable"


class ServerTimeout(ApiError, Retryable):
    code, reason = 504, "Timeout"


_BY_REASON: dict[str, type[ApiError]] = {
    cls.reason: cls
    for cls in (
        BadRequest, Unauthorized, Forbidden, NotFound, MethodNotAllowed, NotAcceptable, AlreadyExists, Conflict,
        Gone, TooLargeBody, UnsupportedMediaType, Invalid, TooManyRequests, InternalError, Unavailable, ServerTimeout,
    )
}  # fmt: skip
_BY_REASON["Gone"] = Gone
_BY_CODE: dict[int, type[ApiError]] = {cls.code: cls for cls in _BY_REASON.values() if cls is not AlreadyExists}


def from_status(status: dict[str, Any], *, code: int = 500) -> ApiError:
    """The error that a Status stands for.

    Args:
        status: decoded ``metav1.Status``; members may be missing.
        code: HTTP status, used when the Status names none.
    """
    number = int(status.get("code") or code)
    cls = _BY_REASON.get(status.get("reason") or "") or _BY_CODE.get(number, ApiError)
    error = cls(status.get("message") or f"status {number}", details=status.get("details"))
    error.code = number
    error.reason = status.get("reason") or error.reason
    return error


def not_found(group_resource: str, name: str) -> NotFound:
    """404 for one object."""
    return NotFound(f'{group_resource} "{name}" not found', details=_details(group_resource, name))


def already_exists(group_resource: str, name: str) -> AlreadyExists:
    """409 for a create."""
    return AlreadyExists(f'{group_resource} "{name}" already exists', details=_details(group_resource, name))


def conflict(group_resource: str, name: str, why: str = "") -> Conflict:
    """409 for a stale or unmet precondition."""
    why = why or ("the object has been modified; please apply your changes to the latest version and try again")
    return Conflict(
        f'Operation cannot be fulfilled on {group_resource} "{name}": {why}', details=_details(group_resource, name)
    )


def _details(group_resource: str, name: str) -> dict[str, Any]:
    plural, _, group = group_resource.partition(".")
    details: dict[str, Any] = {"name": name, "kind": plural}
    if group:
        details["group"] = group
    return details
