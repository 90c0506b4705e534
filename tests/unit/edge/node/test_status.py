from typing import Any

import pytest

from skerry.base.errors import ConfigError
from skerry.edge.node.status import Machine, Vitals, new_node, node_images, status, taint
from skerry.runtime.ports import StoredImage

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"


def machine(**more: Any) -> Machine:
    facts = {
        "name": "edge-1", "architecture": "arm64", "kernel": "6", "os_image": "Debian",
        "machine_id": "m", "boot_id": "b", "kubelet_version": "v1", "capacity": {"cpu": "2", "pods": "110"},
        "allocatable": {"cpu": "1500m", "pods": "110"},
    }  # fmt: skip
    return Machine(**(facts | more))


def conditions(vitals: Vitals, known: dict[str, Any] | None = None, now: str = NOW) -> dict[str, Any]:
    return {item["type"]: item for item in status(machine(), vitals, now, known or {})["conditions"]}


def test_a_new_node_has_labels_taints_and_amounts() -> None:
    node = new_node(
        machine(labels={"site": "a"}, taints=[taint("edge=yes:NoSchedule")]), Vitals("192.0.2.1", "c://1"), NOW
    )
    assert node["metadata"]["labels"]["kubernetes.io/arch"] == "arm64" and node["metadata"]["labels"]["site"] == "a"
    assert node["spec"]["taints"] == [{"key": "edge", "value": "yes", "effect": "NoSchedule"}]
    assert node["status"]["capacity"]["cpu"] == "2" and node["status"]["allocatable"]["cpu"] == "1500m"
    assert node["status"]["addresses"][0] == {"type": "InternalIP", "address": "192.0.2.1"}


def test_only_healthy_devices_are_allocatable() -> None:
    found = status(machine(), Vitals("a", "c", extended={"vendor.com/gpu": (3, 2)}), NOW, {})
    assert (found["capacity"]["vendor.com/gpu"], found["allocatable"]["vendor.com/gpu"]) == ("3", "2")


def test_a_pressure_tells_its_evidence_and_keeps_its_time() -> None:
    first = conditions(Vitals("a", "c", pressures={"DiskPressure": "nodefs.available is 1Mi"}))
    assert first["DiskPressure"]["status"] == "True" and "1Mi" in first["DiskPressure"]["message"]
    assert first["MemoryPressure"]["status"] == first["PIDPressure"]["status"] == "False"
    second = conditions(Vitals("a", "c", pressures={"DiskPressure": "now 2Mi"}), first, LATER)
    assert second["DiskPressure"]["lastTransitionTime"] == NOW
    assert conditions(Vitals("a", "c"), second, LATER)["DiskPressure"]["lastTransitionTime"] == LATER


def test_an_engine_that_is_away_makes_the_node_not_ready() -> None:
    ready = conditions(Vitals("a", "", runtime_message="no engine"))["Ready"]
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", "ContainerRuntimeNotReady", "no engine")


def test_images_are_the_largest_with_names() -> None:
    images = [StoredImage(f"i{n}", (f"r:{n}",), (f"r@{n}",), n) for n in range(60)] + [StoredImage("x", (), (), 999)]
    found = node_images(images)
    assert len(found) == 50 and found[0] == {"names": ["r@59", "r:59"], "sizeBytes": 59}


@pytest.mark.parametrize("text", ["edge", "edge=yes", "edge:Sometimes", ":NoSchedule"])
def test_what_is_no_taint_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="taint"):
        taint(text)
