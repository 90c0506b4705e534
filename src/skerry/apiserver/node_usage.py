"""What nodes and their containers use, asked of the nodes' kubelet interfaces when somebody wants to know.

Nothing is asked on a timer: links to edge nodes are slow and paid for. An answer is good for ``FRESH_S``. A rate is the
mean since the question before; where that was long ago or never, the node is asked twice, ``PAUSE_S`` apart. Bounds:
``AT_ONCE`` nodes are asked at a time, an answer has ``MOST_BYTES`` at most and comes within ``PATIENCE_S``; a node that
does not answer has no usage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakValueDictionary

from skerry.api.status import ApiError, Unavailable
from skerry.base import json
from skerry.base.aio.clock import Clock
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.kube.ports import KubeletRequest, NodeConnector

FRESH_S = 10.0
PAUSE_S = 1.0
RECENT_S = 60.0
PATIENCE_S = 10.0
AT_ONCE = 32
MOST_BYTES = 8 * 1024 * 1024
_QUESTION = KubeletRequest("GET", "/stats/summary", "only_cpu_and_memory=true")

log = get_log(__name__)


class Usage(Struct, frozen=True):
    """A mean rate in cores × 10⁻⁹, and memory in bytes without what can be had back."""

    cpu_nanocores: int
    memory_bytes: int


class NodeUsage(Struct, frozen=True):
    """One answer of a node.

    Args:
        at_s: when it came (epoch).
        window_s: time over which the rates are means.
        node: of the machine.
        pods: uid → container → usage.
    """

    at_s: float
    window_s: float
    node: Usage | None
    pods: Mapping[str, Mapping[str, Usage]]


class NodeUsages:
    """Asks nodes.

    Args:
        nodes: reaches them; None when there is no way to them.
        clock: time source.
    """

    def __init__(self, nodes: NodeConnector | None, *, clock: Clock) -> None:
        self._nodes = nodes
        self._clock = clock
        self._known: dict[str, NodeUsage] = {}
        self._doors: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # for as long as somebody asks
        self._room = asyncio.Semaphore(AT_ONCE)

    async def of(self, names: Iterable[str]) -> dict[str, NodeUsage]:
        """What these nodes use; those that do not answer are left out."""
        wanted = sorted(set(names))
        found = await asyncio.gather(*(self._one(name) for name in wanted))
        self._forget()
        return {name: usage for name, usage in zip(wanted, found, strict=True) if usage is not None}

    async def _one(self, name: str) -> NodeUsage | None:
        door = self._doors.setdefault(name, asyncio.Lock())
        async with door:
            known, now_s = self._known.get(name), self._clock.now_s()
            if known is not None and 0 <= now_s - known.at_s < FRESH_S:
                return known
            try:
                async with self._room:
                    usage = await self._ask(name, known)
            except (ApiError, json.JsonError, KeyError, TypeError, ValueError, AttributeError) as exc:
                log.info("usage.unknown", node=name, error=str(exc)[:200])
                return None
            self._known[name] = usage
            return usage

    async def _ask(self, name: str, before: NodeUsage | None) -> NodeUsage:
        since_s = self._clock.now_s() - before.at_s if before is not None else RECENT_S + 1
        document = await self._document(name)
        if since_s > RECENT_S or not _is_complete(document):
            await self._clock.sleep(PAUSE_S)
            document, since_s = await self._document(name), PAUSE_S
        return read_summary(document, at_s=self._clock.now_s(), window_s=since_s)

    async def _document(self, name: str) -> dict[str, Any]:
        if self._nodes is None:
            raise Unavailable(f'there is no way to node "{name}"')
        data = bytearray()
        try:
            async with asyncio.timeout(PATIENCE_S), self._nodes.request(name, _QUESTION) as answer:
                async for piece in answer.body():
                    data += piece
                    if len(data) > MOST_BYTES:
                        raise Unavailable(f'node "{name}" answered with more than {MOST_BYTES} bytes')
                if answer.status != 200:
                    raise Unavailable(f'node "{name}" answered {answer.status} to /stats/summary')
        except TimeoutError as exc:
            raise Unavailable(f'node "{name}" did not answer within {PATIENCE_S:g} s') from exc
        document: dict[str, Any] = json.loads(bytes(data))
        return document

    def _forget(self) -> None:
        """Nodes that nobody asks for any more."""
        old_s = self._clock.now_s() - 10 * RECENT_S
        for name in [name for name, usage in self._known.items() if usage.at_s < old_s]:
            del self._known[name]


def read_summary(document: Mapping[str, Any], *, at_s: float, window_s: float) -> NodeUsage:
    """The usage that a ``/stats/summary`` tells. A container without a rate yet is left out, with its pod.

    Args:
        document: ``{"node": {"cpu": {"usageNanoCores"}, "memory": {"workingSetBytes"}}, "pods": [{"podRef": {"uid"},
            "containers": [{"name", "cpu", "memory"}]}]}``.
        at_s, window_s: see ``NodeUsage``.

    Source: kubernetes staging/src/k8s.io/kubelet/pkg/apis/stats/v1alpha1/types.go (v1.36).
    """
    pods = {}
    for pod in document.get("pods") or ():
        containers = {item["name"]: _usage(item) for item in pod.get("containers") or ()}
        known = {name: usage for name, usage in containers.items() if usage is not None}
        if known and len(known) == len(containers):
            pods[pod["podRef"]["uid"]] = known
    return NodeUsage(at_s, window_s, _usage(document.get("node") or {}), pods)


def _usage(item: Mapping[str, Any]) -> Usage | None:
    cpu = (item.get("cpu") or {}).get("usageNanoCores")
    memory = (item.get("memory") or {}).get("workingSetBytes")
    return None if cpu is None or memory is None else Usage(int(cpu), int(memory))


def _is_complete(document: Mapping[str, Any]) -> bool:
    """Whether every rate is there."""
    items = [document.get("node") or {}]
    items += [container for pod in document.get("pods") or () for container in pod.get("containers") or ()]
    return all(_usage(item) is not None for item in items)
