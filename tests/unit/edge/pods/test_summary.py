from typing import Any

import pytest

from skerry.edge.pods.summary import summary

HELD = {"reason": "CreateContainerConfigError", "message": 'secret "keys"\nis not on this node'}


def found(status: dict[str, Any]) -> dict[str, Any]:
    return summary({"metadata": {"namespace": "a", "name": "web"}, "spec": {"containers": [{}, {}]}, "status": status})


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({}, ""),
        ({"containerStatuses": [{"state": {"running": {}}}]}, ""),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}, ""),
        ({"containerStatuses": [{"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}, ""),
        ({"containerStatuses": [{"state": {"running": {}}}, {"state": {"waiting": HELD}}]},
         'CreateContainerConfigError: secret "keys" is not on this node'),
        ({"containerStatuses": [{"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}, "OOMKilled"),
        ({"initContainerStatuses": [{"state": {"waiting": {"reason": "ErrImageNeverPull"}}}],
          "containerStatuses": [{"state": {"waiting": {"reason": "PodInitializing"}}}]}, "ErrImageNeverPull"),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating", "message": "no network"}}}]},
         "ContainerCreating: no network"),
        ({"reason": "Evicted", "message": "low on memory"}, "Evicted: low on memory"),
    ],
)  # fmt: skip
def test_what_is_amiss_is_one_line(status: dict[str, Any], why: str) -> None:
    assert found(status)["why"] == why


def test_a_message_without_end_is_cut() -> None:
    status = {
        "containerStatuses": [{"state": {"waiting": {"reason": "Bad", "message": "x" * 10_000}}, "restartCount": 3}]
    }
    assert len(found(status)["why"]) == 300 and found(status)["restarts"] == 3
