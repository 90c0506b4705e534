"""Events about the node itself, in the words that `kubectl describe node` shows.

What was told of the conditions is remembered over restarts of the agent, so that only changes are told.
Source: kubernetes pkg/kubelet/{kubelet.go,kubelet_node_status.go,nodestatus/setters.go} (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from skerry.base import json
from skerry.base.aio.clock import Clock
from skerry.base.errors import StoreError
from skerry.base.obs.log import get_log
from skerry.edge.sync.events import EventRecorder, Outbox

log = get_log(__name__)

_MEMORY_S = 3600.0
_BOOT, _CONDITIONS = "boot", "conditions"
_UNKNOWN = "Unknown"
_REASONS = {
    "MemoryPressure": ("NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
    "DiskPressure": ("NodeHasDiskPressure", "NodeHasNoDiskPressure"),
    "PIDPressure": ("NodeHasInsufficientPID", "NodeHasSufficientPID"),
    "Ready": ("NodeReady", "NodeNotReady"),
}


class Facts(Protocol):
    """What outlives the agent: ``edge.store.objects.EdgeObjects``."""

    def fact(self, name: str) -> str:
        """Empty when unknown."""

    async def remember(self, name: str, value: str) -> None:
        """Keep a fact. Raises ``StoreError``."""


class NodeEvents:
    """Tells the cloud what happens to the node. An event that cannot be stored is dropped, and logged."""

    def __init__(self, outbox: Outbox, *, node: str, facts: Facts, clock: Clock) -> None:
        self._recorder = EventRecorder(outbox, node=node, clock=clock, memory_s=_MEMORY_S)
        self._node = node
        self._facts = facts
        self._told: dict[str, str] = _statuses(facts.fact(_CONDITIONS))

    async def tell(self, reason: str, message: str, *, warning: bool = False, identity: str = "") -> bool:
        """One event; whether it is kept. See ``EventRecorder.tell``."""
        about = {"kind": "Node", "apiVersion": "v1", "name": self._node, "uid": self._node}
        try:
            await self._recorder.tell(about, reason, message, warning=warning, identity=identity)
        except StoreError as exc:
            log.warning("event.lost", reason=reason, why=str(exc))
            return False
        return True

    async def started(self, boot_id: str) -> None:
        """The agent has started, on a machine that may have been booted since it last ran."""
        await self.tell("Starting", "Starting the edge agent.")
        before = self._facts.fact(_BOOT)
        if before and boot_id and before != boot_id:
            text = f"Node {self._node} has been rebooted, boot id: {boot_id}"
            await self.tell("Rebooted", text, warning=True)
        if boot_id and before != boot_id:
            await self._remember(_BOOT, boot_id)

    async def conditions(self, found: Sequence[Mapping[str, Any]]) -> None:
        """Tell what of the conditions has changed since it was last told."""
        for reason, evidence in changes(self._told, found):
            text = f"Node {self._node} status is now: {reason}"
            await self.tell(reason, f"{text}: {evidence}" if evidence else text, identity=reason)
        now = {str(item["type"]): str(item["status"]) for item in found}
        if now != self._told:
            self._told = now
            await self._remember(_CONDITIONS, json.dumps(now).decode())

    def seen(self, found: Iterable[Mapping[str, Any]]) -> None:
        """What the cloud has: conditions that it gave up on (``Unknown``) are told again."""
        for item in found:
            if item.get("status") == _UNKNOWN:
                self._told.pop(str(item.get("type")), None)

    async def _remember(self, name: str, value: str) -> None:
        try:
            await self._facts.remember(name, value)
        except StoreError as exc:  # after the next start it is told once more
            log.debug("event.not_remembered", fact=name, why=str(exc))


def changes(told: Mapping[str, str], found: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(reason, evidence) of every condition whose status is another than was told; evidence only of bad news. Pure."""
    news = []
    for item in found:
        reasons = _REASONS.get(str(item["type"]))
        if reasons is None or told.get(str(item["type"])) == item["status"]:
            continue
        holds = item["status"] == "True"
        is_bad = holds is (item["type"] != "Ready")
        news.append((reasons[0] if holds else reasons[1], str(item.get("message") or "") if is_bad else ""))
    return news


def _statuses(text: str) -> dict[str, str]:
    try:
        found = json.loads(text.encode()) if text else {}
    except json.JsonError:
        return {}
    return {str(kind): str(status) for kind, status in found.items()} if isinstance(found, dict) else {}
