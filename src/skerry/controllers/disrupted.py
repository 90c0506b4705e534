"""Says of a pod why it is about to be deleted by the system, so that its Job can tell that from a failure of its own.

Source of behaviour: kubernetes pkg/controller/tainteviction, pkg/controller/podgc (v1.36).
"""

from __future__ import annotations

from typing import Any

from skerry.api.gvk import PODS, Object
from skerry.api.meta import rfc3339
from skerry.controllers.objects import phase_of
from skerry.kube.ports import KubeApi

CONDITION = "DisruptionTarget"


async def mark_disrupted(
    api: KubeApi, pod: Object, reason: str, message: str, *, now_s: float, fail: bool = False
) -> None:
    """Write the condition ``DisruptionTarget``.

    Args:
        api: the cluster.
        pod: about to be deleted.
        reason: such as ``DeletionByTaintManager``.
        message: for people.
        now_s: wall clock.
        fail: also end a pod that nobody will end any more: its phase becomes Failed.

    Raises:
        NotFound: the pod is gone.
    """
    condition = {
        "type": CONDITION, "status": "True", "reason": reason, "message": message, "lastTransitionTime": rfc3339(now_s),
    }  # fmt: skip
    status: dict[str, Any] = {"conditions": [condition]}
    if fail and phase_of(pod) not in ("Succeeded", "Failed"):
        status["phase"] = "Failed"
    meta = pod["metadata"]
    patch = {"metadata": {"uid": meta["uid"]}, "status": status}
    await api.patch(
        PODS, meta["name"], patch, patch_type="strategic", namespace=meta["namespace"], subresource="status"
    )
