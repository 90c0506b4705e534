"""Field errors: what is wrong with one field of an object, worded as Kubernetes words it.

Here: the error value, its constructors and the ``Invalid`` answer made of them. Not here: any rule.

Source: apimachinery pkg/util/validation/field/errors.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from skerry.api.status import Invalid
from skerry.base.json import dumps
from skerry.base.values import Struct

_TEXTS = {
    "FieldValueRequired": "Required value",
    "FieldValueInvalid": "Invalid value",
    "FieldValueTypeInvalid": "Invalid value",
    "FieldValueDuplicate": "Duplicate value",
    "FieldValueNotSupported": "Unsupported value",
    "FieldValueForbidden": "Forbidden",
    "FieldValueTooLong": "Too long",
    "FieldValueTooMany": "Too many",
    "FieldValueNotFound": "Not found",
}


class FieldError(Struct, frozen=True):
    """One cause of an ``Invalid`` answer.

    Args:
        field: path such as ``spec.containers[0].name``.
        reason: ``FieldValueRequired`` and its siblings.
        message: text without the path, such as ``Required value: must not be empty``.
    """

    field: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"

    def to_cause(self) -> dict[str, str]:
        """The entry of ``details.causes``."""
        return {"reason": self.reason, "message": self.message, "field": self.field}


def show(value: Any) -> str:
    """A value as the texts show it: strings quoted, numbers bare, everything else as JSON."""
    if value is None:
        return '"null"'
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return dumps(value).decode()


def required(field: str, detail: str = "") -> FieldError:
    """A value must be given."""
    return FieldError(field, "FieldValueRequired", _text("Required value", detail))


def invalid(field: str, value: Any, detail: str) -> FieldError:
    """The value breaks a rule."""
    return FieldError(field, "FieldValueInvalid", _text(f"Invalid value: {show(value)}", detail))


def type_invalid(field: str, value: Any, detail: str) -> FieldError:
    """The value has the wrong JSON type."""
    return FieldError(field, "FieldValueTypeInvalid", _text(f"Invalid value: {show(value)}", detail))


def duplicate(field: str, value: Any) -> FieldError:
    """The value stands there twice."""
    return FieldError(field, "FieldValueDuplicate", f"Duplicate value: {show(value)}")


def not_supported(field: str, value: Any, allowed: Sequence[Any]) -> FieldError:
    """The value is none of a fixed set."""
    words = ", ".join(show(item) for item in allowed)
    return FieldError(field, "FieldValueNotSupported", f"Unsupported value: {show(value)}: supported values: {words}")


def forbidden(field: str, detail: str) -> FieldError:
    """The field may not be set, or not be changed."""
    return FieldError(field, "FieldValueForbidden", _text("Forbidden", detail))


def too_long(field: str, limit: int) -> FieldError:
    """More than ``limit`` bytes."""
    return FieldError(field, "FieldValueTooLong", f"Too long: may not be more than {limit} bytes")


def too_many(field: str, count: int, limit: int) -> FieldError:
    """More than ``limit`` items."""
    return FieldError(field, "FieldValueTooMany", f"Too many: {count}: must have at most {limit} items")


def not_found(field: str, value: Any) -> FieldError:
    """A name that refers to nothing."""
    return FieldError(field, "FieldValueNotFound", f"Not found: {show(value)}")


def invalid_object(kind: str, group: str, name: str, errors: Iterable[FieldError]) -> Invalid:
    """The 422 answer for a broken object.

    Args:
        kind: such as ``Deployment``.
        group: API group, empty for core.
        name: of the object, empty when it has none.
        errors: at least one.
    """
    causes = list(dict.fromkeys(errors))
    texts = [str(error) for error in causes]
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    qualified = f"{kind}.{group}" if group else kind
    details: dict[str, Any] = {"name": name} if name else {}
    if group:
        details["group"] = group
    details["kind"] = kind
    details["causes"] = [error.to_cause() for error in causes]
    return Invalid(f'{qualified} "{name}" is invalid: {text}', details=details)


def _text(head: str, detail: str) -> str:
    return f"{head}: {detail}" if detail else head
