"""What is read from a node's summary, and how often a node is asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from skerry.api.status import Unavailable
from skerry.apiserver.node_usage import NodeUsages, Usage, read_summary
from skerry.base.aio.clock import SystemClock
from skerry.kube.ports import ByteStream, KubeletRequest, KubeletResponse

MEMORY = {"workingSetBytes": 1024}


class _Away:
    """Nodes that do not answer, some sooner than others; counts who asks one of them at the same time."""

    def __init__(self) -> None:
        self.asked = 0
        self.asking: Counter[str] = Counter()
        self.most = 0

    @asynccontextmanager
    async def request(self, node: str, request: KubeletRequest) -> AsyncIterator[KubeletResponse]:
        self.asked += 1
        self.asking[node] += 1
        self.most = max(self.most, self.asking[node])
        for _ in range(int(node)):
            await asyncio.sleep(0)
        self.asking[node] -= 1
        raise Unavailable(f"{node} does not answer {request.path}")
        yield

    def upgrade(self, node: str, request: KubeletRequest) -> AbstractAsyncContextManager[ByteStream]:
        raise NotImplementedError


async def test_a_node_is_asked_by_one_at_a_time_also_when_it_does_not_answer() -> None:
    away = _Away()
    usages = NodeUsages(away, clock=SystemClock())

    async def ask(node: int) -> None:
        for _ in range(50):
            assert await usages.of([str(node)]) == {}

    await asyncio.gather(*(ask(node) for node in range(8) for _ in range(3)))
    assert away.asked == 8 * 3 * 50
    assert away.most == 1


def test_a_summary_becomes_usage_and_a_container_without_a_rate_leaves_its_pod_out() -> None:
    known = {"name": "a", "cpu": {"usageNanoCores": 7}, "memory": MEMORY}
    fresh = {"name": "b", "cpu": {"usageCoreNanoSeconds": 9}, "memory": MEMORY}
    document = {
        "node": {"cpu": {"usageNanoCores": 5}, "memory": MEMORY},
        "pods": [
            {"podRef": {"uid": "u1"}, "containers": [known]},
            {"podRef": {"uid": "u2"}, "containers": [known, fresh]},
            {"podRef": {"uid": "u3"}},
        ],
    }
    found = read_summary(document, at_s=1.0, window_s=2.0)
    assert found.node == Usage(5, 1024)
    assert found.pods == {"u1": {"a": Usage(7, 1024)}}
    assert read_summary({}, at_s=1.0, window_s=2.0).node is None
