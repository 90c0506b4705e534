"""JSON patches whose ``copy`` operations would grow an object beyond all bounds.

Sixty operations that copy an object into itself make 2^60 objects of it. As ``AccumulatedCopySizeLimit`` of Kubernetes:
staging/src/k8s.io/apiserver/pkg/endpoints/handlers/patch.go (v1.36).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from skerry.api.patch import json_patch
from skerry.api.status import TooLargeBody
from skerry.base import json

MAX_OBJECT_BYTES = 3 * 1024 * 1024
MAX_COPIED_BYTES = 32 * 1024 * 1024


def bounded_json_patch(obj: Any, operations: Any) -> Any:
    """As ``json_patch``, in steps that end after each ``copy``: no step can more than double the object.

    Raises:
        TooLargeBody: the object grows over ``MAX_OBJECT_BYTES``, or all its states over ``MAX_COPIED_BYTES``.
        ApiError: as ``json_patch``.
    """
    if not isinstance(operations, list):
        return json_patch(obj, operations)
    ends = [at + 1 for at, each in enumerate(operations) if isinstance(each, dict) and each.get("op") == "copy"]
    copied_bytes = 0
    for start, end in pairwise([0, *ends]):
        obj = json_patch(obj, operations[start:end])
        size_bytes = len(json.dumps(obj))
        copied_bytes += size_bytes
        if size_bytes > MAX_OBJECT_BYTES or copied_bytes > MAX_COPIED_BYTES:
            raise TooLargeBody(
                f"unable to apply the JSON patch: its copy operations make the object larger than {MAX_OBJECT_BYTES} "
                f"bytes, or copy more than {MAX_COPIED_BYTES} bytes in all",
            )
    return json_patch(obj, operations[ends[-1] if ends else 0 :])
