"""What a kubelet writes on its containers and looks for on those that it finds. Pure.

Our containers carry the same, so that a kubelet that gets the node (back) keeps them running instead of replacing them.

Source: kubelet pkg/kubelet/kuberuntime/labels.go, pkg/kubelet/container/helpers.go:HashContainer (1.32).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from skerry.base import json

HASH: Final = "io.kubernetes.container.hash"
_OFFSET, _PRIME = 0x811C9DC5, 0x01000193
_LAST_WORDS: Final = "/dev/termination-log"


def labelling(container: Mapping[str, Any], pod_spec: Mapping[str, Any], *, attempt: int) -> dict[str, str]:
    """A container's annotations as a kubelet would write them.

    Args:
        container: its part of the PodSpec.
        attempt: 0 for the first, +1 for each restart.
    """
    prefix = "io.kubernetes.container"
    found = {
        HASH: container_hash(str(container.get("name") or ""), str(container.get("image") or "")),
        f"{prefix}.restartCount": str(attempt),
        f"{prefix}.terminationMessagePath": str(container.get("terminationMessagePath") or _LAST_WORDS),
        f"{prefix}.terminationMessagePolicy": str(container.get("terminationMessagePolicy") or "File"),
    }
    if (grace_s := pod_spec.get("terminationGracePeriodSeconds")) is not None:
        found["io.kubernetes.pod.terminationGracePeriod"] = str(grace_s)
    return found


def container_hash(name: str, image: str) -> str:
    """A kubelet replaces a container whose hash is not the one of its definition: FNV-1a (32 bit), in hexadecimal.

    Of the definition it takes name and image, as JSON; of that, what Go prints of its bytes: ``([]uint8)[123 34 …]``.
    """
    body = json.dumps({"image": image, "name": name})
    value = _OFFSET
    for byte in f"([]uint8)[{' '.join(map(str, body))}]".encode():
        value = ((value ^ byte) * _PRIME) & 0xFFFFFFFF
    return f"{value:x}"
