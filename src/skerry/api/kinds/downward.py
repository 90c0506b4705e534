"""What containers may be told of their own pod: what ``fieldRef`` and ``resourceFieldRef`` may name.

Source: kubernetes pkg/apis/core/{pods/helpers,validation/validation}.go (v1.36).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from skerry.api.field import FieldError, invalid, not_supported, required
from skerry.api.kinds.filling import fill
from skerry.api.names import qualified_name

_ANY = (
    "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName",
    "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs",
    "status.phase", "status.podIP", "status.podIPs",
)  # fmt: skip
ENV_FIELDS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP",
    "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
"""Fields that a variable may name."""
FILE_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
"""Fields that a file may name."""
_RESOURCES = tuple(
    f"{member}.{name}" for member in ("limits", "requests") for name in ("cpu", "ephemeral-storage", "memory")
)
_PAGES = ("limits.hugepages-", "requests.hugepages-")
_SUBSCRIPT = re.compile(r"([^\[\]]+)\['([^\[\]']*)'\]\Z")


def default_reference(source: dict[str, Any]) -> None:
    """Fill what an omitted field of a ``fieldRef`` or ``resourceFieldRef`` in here becomes."""
    if source.get("fieldRef") is not None:
        fill(source["fieldRef"], "apiVersion", "v1")
    if source.get("resourceFieldRef") is not None:
        fill(source["resourceFieldRef"], "divisor", "0")


def field_errors(ref: Mapping[str, Any], path: str, allowed: Sequence[str]) -> Iterator[FieldError]:
    """What is wrong with a ``fieldRef``.

    Args:
        allowed: ``ENV_FIELDS`` or ``FILE_FIELDS``.
    """
    field, version = str(ref.get("fieldPath") or ""), str(ref.get("apiVersion") or "")
    if not version:
        yield required(f"{path}.apiVersion")
    elif not field:
        yield required(f"{path}.fieldPath")
    elif version != "v1":
        yield invalid(f"{path}.fieldPath", field, f"error converting fieldPath: unsupported pod version: {version}")
    elif (found := _SUBSCRIPT.match(field)) is not None:
        if found[1] not in ("metadata.annotations", "metadata.labels"):
            text = f"error converting fieldPath: field label does not support subscript: {field}"
            yield invalid(f"{path}.fieldPath", field, text)
            return
        key = found[2].lower() if found[1] == "metadata.annotations" else found[2]
        yield from (invalid(path, found[2], text) for text in qualified_name(key))
    elif field not in _ANY:
        yield invalid(f"{path}.fieldPath", field, f"error converting fieldPath: field label not supported: {field}")
    elif field not in allowed:
        yield not_supported(f"{path}.fieldPath", field, allowed)


def resource_errors(ref: Mapping[str, Any], path: str, *, is_file: bool) -> Iterator[FieldError]:
    """What is wrong with a ``resourceFieldRef``."""
    name = str(ref.get("resource") or "")
    if is_file and not ref.get("containerName"):
        yield required(f"{path}.containerName")
    elif not name:
        yield required(f"{path}.resource")
    elif name not in _RESOURCES and not name.startswith(_PAGES):
        yield not_supported(f"{path}.resource", name, _RESOURCES)
