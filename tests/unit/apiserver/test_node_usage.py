"""What is read from a node's summary."""

from __future__ import annotations

from skerry.apiserver.node_usage import Usage, read_summary

MEMORY = {"workingSetBytes": 1024}


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
