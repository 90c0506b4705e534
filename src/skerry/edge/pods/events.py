"""Events about pods and their containers."""

from __future__ import annotations

from skerry.api.gvk import Object
from skerry.base.aio.clock import Clock
from skerry.edge.pods.ports import Outbox
from skerry.edge.sync.events import EventRecorder


class PodEvents:
    """Tells the cloud what happens to pods; see ``EventRecorder`` for how often."""

    def __init__(self, outbox: Outbox, *, node: str, clock: Clock) -> None:
        self._recorder = EventRecorder(outbox, node=node, clock=clock)

    async def tell(self, pod: Object, reason: str, message: str, *, container: str = "", warning: bool = False) -> None:
        """One event about ``pod``, or about one of its containers. Raises ``StoreError``."""
        metadata = pod.get("metadata") or {}
        about = {
            "kind": "Pod",
            "apiVersion": "v1",
            "namespace": str(metadata.get("namespace") or "default"),
            "name": metadata.get("name"),
            "uid": metadata.get("uid"),
        }
        if container:
            about["fieldPath"] = f"spec.{_list_of(pod, container)}{{{container}}}"
        await self._recorder.tell(about, reason, message, warning=warning)


def _list_of(pod: Object, container: str) -> str:
    for kind in ("initContainers", "ephemeralContainers"):
        if any(each.get("name") == container for each in (pod.get("spec") or {}).get(kind) or []):
            return kind
    return "containers"
