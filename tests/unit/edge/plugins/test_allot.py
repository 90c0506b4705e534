"""Which devices a container gets."""

from __future__ import annotations

from typing import Any

from skerry.edge.plugins.allot import Ask, Pick, asks_of, pick, total_of
from skerry.edge.plugins.desk import granted
from skerry.runtime.ports import DeviceNode

GPU = "vendor.example/gpu"


def container(name: str, count: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "resources": {"limits": {GPU: str(count), "cpu": "1"}}, **more}


def test_asks_come_in_the_order_of_the_starts_and_only_plain_init_containers_lend() -> None:
    spec = {
        "initContainers": [container("init", 2), container("side", 1, restartPolicy="Always")],
        "containers": [container("app", 1), {"name": "none"}, container("zero", 0)],
    }
    found = list(asks_of({"spec": spec}, {GPU}))
    assert found == [Ask("init", GPU, 2, True), Ask("side", GPU, 1), Ask("app", GPU, 1)]
    assert list(asks_of({"spec": spec}, ())) == []


def test_the_total_counts_what_is_needed_at_one_time() -> None:
    requests = {"resources": {"requests": {GPU: "3"}}}
    assert total_of({"spec": {"initContainers": [requests], "containers": [requests]}}, {GPU}) == {GPU: 3}
    assert total_of({"spec": {"containers": [requests, requests]}}, {GPU}) == {GPU: 6}
    assert total_of({"spec": {"containers": [requests]}}, {"other.example/x"}) == {}


def test_lent_devices_are_used_again_before_free_ones() -> None:
    assert pick(Ask("app", GPU, 2), ["a", "b"], {"z"}) == Pick(2, ("z",), ("z", "a", "b"))
    assert pick(Ask("app", GPU, 1), [], {"y", "z"}) == Pick(1, ("y",), ("y",))
    assert pick(Ask("app", GPU, 3), ["a"], {"z"}) is None


def test_a_plugins_preference_counts_as_far_as_it_was_offered() -> None:
    choice = Pick(2, ("z",), ("z", "a", "b"))
    assert choice.take(["b", "elsewhere"]) == ("z", "b")
    assert choice.take(["elsewhere", "z"]) == ("z", "a")
    assert choice.take() == ("z", "a")


def test_the_answers_of_two_plugins_come_together() -> None:
    first = {
        "envs": {"A": "1", "B": "1"},
        "mounts": [{"host_path": "/lib/x", "container_path": "/x", "read_only": True}],
        "cdi_devices": [{"name": "vendor.example/gpu=0"}],
    }
    second = {"envs": {"B": "2"}, "devices": [{"host_path": "/dev/x"}], "annotations": {"note": "yes"}}
    found = granted([first, second])
    assert found.envs == {"A": "1", "B": "2"} and found.annotations == {"note": "yes"}
    assert [(str(m.host_path), m.container_path, m.read_only) for m in found.mounts] == [("/lib/x", "/x", True)]
    assert found.nodes == (DeviceNode("/dev/x", "/dev/x", ""),) and found.cdi_names == ("vendor.example/gpu=0",)
