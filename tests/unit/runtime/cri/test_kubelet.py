"""What kubelets write on containers."""

from __future__ import annotations

from skerry.runtime.cri import kubelet


def test_the_hash_is_fnv_of_what_go_prints() -> None:
    assert kubelet.container_hash("app", "x") == "5f64cef5"
    assert kubelet.container_hash("app", "y") != kubelet.container_hash("app", "x")


def test_a_container_carries_what_a_kubelet_looks_for() -> None:
    container = {"name": "app", "image": "x", "terminationMessagePolicy": "FallbackToLogsOnError"}
    found = kubelet.labelling(container, {"terminationGracePeriodSeconds": 5}, attempt=2)
    assert found == {
        "io.kubernetes.container.hash": "5f64cef5",
        "io.kubernetes.container.restartCount": "2",
        "io.kubernetes.container.terminationMessagePath": "/dev/termination-log",
        "io.kubernetes.container.terminationMessagePolicy": "FallbackToLogsOnError",
        "io.kubernetes.pod.terminationGracePeriod": "5",
    }
    assert "io.kubernetes.pod.terminationGracePeriod" not in kubelet.labelling(container, {}, attempt=0)
