"""Ranges of nodes and mirrored Endpoints against a real API server on disk."""

from __future__ import annotations

from tests.component.controllers.conftest import Cluster

from skerry.api.gvk import ENDPOINTS, ENDPOINTSLICES, NODES, SERVICES, Object
from skerry.controllers.node_ttl import TTL_NOTE


async def test_every_node_gets_a_range_of_its_own(cluster: Cluster) -> None:
    for number in range(5):
        await cluster.add_node(f"n{number}")
    nodes = cluster.informers.of(NODES)

    def ranges() -> set[str]:
        return {node["spec"].get("podCIDR", "") for node in nodes.items()}

    await cluster.until(lambda: ranges() == {f"10.244.{number}.0/24" for number in range(5)})
    await cluster.until(
        lambda: all(node["metadata"].get("annotations", {}).get(TTL_NOTE) == "0" for node in nodes.items())
    )
    await cluster.api.delete(NODES, "n2")
    await cluster.add_node("new")
    await cluster.until(lambda: ranges() == {f"10.244.{number}.0/24" for number in range(5)})


async def test_nodes_beyond_the_last_range_wait_until_another_goes(cluster: Cluster) -> None:
    for number in range(258):
        await cluster.api.create(NODES, {"metadata": {"name": f"n{number}"}})
    nodes = cluster.informers.of(NODES)

    def without() -> list[str]:
        return sorted(node["metadata"]["name"] for node in nodes.items() if not node["spec"].get("podCIDR"))

    await cluster.until(lambda: len(nodes) == 258 and len(without()) == 2)
    first, last = without()
    await cluster.api.delete(NODES, "n7")
    await cluster.until(lambda: len(nodes) == 257 and len(without()) == 1)
    assert without() in ([first], [last])
    await cluster.api.delete(NODES, "n8")
    await cluster.until(lambda: without() == [])


async def test_endpoints_written_by_hand_are_mirrored(cluster: Cluster) -> None:
    service: Object = {"metadata": {"name": "outside"}, "spec": {"ports": [{"port": 80}]}}
    await cluster.api.create(SERVICES, service, namespace="default")
    by_hand: Object = {
        "metadata": {"name": "outside"},
        "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 8080}]}],
    }
    await cluster.api.create(ENDPOINTS, by_hand, namespace="default")
    slices = cluster.informers.of(ENDPOINTSLICES)

    def addresses() -> list[str]:
        found = [s for s in slices.items() if s["metadata"]["labels"].get("kubernetes.io/service-name") == "outside"]
        return sorted(address for piece in found for entry in piece["endpoints"] for address in entry["addresses"])

    await cluster.until(lambda: addresses() == ["192.0.2.1"])
    by_hand["subsets"][0]["addresses"] = [{"ip": "192.0.2.2"}, {"ip": "192.0.2.3"}]
    live = await cluster.api.get(ENDPOINTS, "outside", namespace="default")
    await cluster.api.update(ENDPOINTS, {**live, "subsets": by_hand["subsets"]})
    await cluster.until(lambda: addresses() == ["192.0.2.2", "192.0.2.3"])
    await cluster.api.delete(ENDPOINTS, "outside", namespace="default")
    await cluster.until(lambda: addresses() == [])
