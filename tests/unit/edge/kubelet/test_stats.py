from collections.abc import Mapping

from skerry.edge.kubelet.stats import Filesystem, NodeUsage, Summary
from skerry.runtime.ports import ContainerState, ContainerUsage, ObservedContainer, ObservedPod, ObservedSandbox
from skerry.testing.clock import VirtualClock

SECOND_NS = 1_000_000_000


class Engine:
    """One pod with one running and one ended container."""

    def __init__(self) -> None:
        self.cpu_ns = 5 * SECOND_NS

    async def observe(self) -> Mapping[str, ObservedPod]:
        sandbox = ObservedSandbox("s", "default", "web", "u1", 0, True, 100.0)
        running = ObservedContainer("c1", "s", "app", 0, ContainerState.RUNNING, "i", "i@", started_at_s=101.0)
        ended = ObservedContainer("c0", "s", "init", 0, ContainerState.EXITED, "i", "i@")
        return {"u1": ObservedPod("u1", "default", "web", [sandbox], [running, ended])}

    async def stats(self) -> Mapping[str, ContainerUsage]:
        return {"c1": ContainerUsage("c1", self.cpu_ns, 4096, 512)}

    async def node(self) -> NodeUsage:
        disks = {"nodefs": Filesystem(30, 100), "imagefs": Filesystem(10, 50)}
        return NodeUsage(self.cpu_ns * 2, 600, 400, disks)


async def test_totals_first_and_rates_between_two_questions() -> None:
    engine, clock = Engine(), VirtualClock()
    ask = Summary("edge-1", read_node=engine.node, observe=engine.observe, stats=engine.stats, clock=clock)
    first = await ask()
    [pod] = first["pods"]
    [container] = pod["containers"]
    assert pod["podRef"] == {"name": "web", "namespace": "default", "uid": "u1"}
    assert container["name"] == "app" and container["memory"]["workingSetBytes"] == 4096
    assert container["rootfs"]["usedBytes"] == 512 and "usageNanoCores" not in container["cpu"]
    assert first["node"]["fs"]["usedBytes"] == 70 and first["node"]["runtime"]["imageFs"]["availableBytes"] == 10
    engine.cpu_ns += SECOND_NS
    await clock.advance(2)
    second = await ask()
    assert second["pods"][0]["containers"][0]["cpu"]["usageNanoCores"] == SECOND_NS // 2
    assert second["pods"][0]["cpu"]["usageNanoCores"] == SECOND_NS // 2
    node = second["node"]["cpu"]
    assert (node["usageNanoCores"], node["usageCoreNanoSeconds"]) == (SECOND_NS, 12 * SECOND_NS)
    again = await ask()
    assert again["node"]["cpu"]["usageNanoCores"] == SECOND_NS, "a question right after another"
    engine.cpu_ns = 0
    await clock.advance(2)
    assert "usageNanoCores" not in (await ask())["node"]["cpu"], "a counter that began anew"
