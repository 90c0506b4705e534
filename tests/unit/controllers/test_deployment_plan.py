"""Roll-out decisions, step by step, with ReplicaSets that obey."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.api.gvk import Object
from skerry.controllers.deployments.plan import (
    DESIRED,
    HISTORY,
    MAXIMUM,
    REVISION,
    Annotate,
    ChangeSet,
    CreateSet,
    DeleteSet,
    SetStatus,
    fenceposts,
    plan,
)
from skerry.controllers.templates import same_template, template_hash

NOW_S = 1_750_000_000.0


def deployment(replicas: int = 3, image: str = "a", **spec: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "d", "uid": "D", "generation": 1},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(image),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            **spec,
        },
    }


def template(image: str) -> Object:
    return {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }


class World:
    """A Deployment with ReplicaSets whose pods become ready when the test says so."""

    def __init__(self, deployment: Object) -> None:
        self.deployment = deployment
        self.sets: dict[str, Object] = {}
        self.now_s = NOW_S
        self.events: list[str] = []
        self.old_pods_count = 0
        self.most_pods = 0
        self.least_available = 0

    def step(self) -> list[object]:
        decided = plan(self.deployment, list(self.sets.values()), old_pods_count=self.old_pods_count, now_s=self.now_s)
        for action in decided.actions:
            self._do(action)
        self.now_s += 1
        self.again_s = decided.again_s
        return list(decided.actions)

    def _do(self, action: object) -> None:
        match action:
            case CreateSet():
                rs = action.replica_set
                rs["metadata"] |= {"uid": rs["metadata"]["name"], "resourceVersion": "1", "generation": 1}
                rs["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:{len(self.sets):02d}Z"
                self.sets[rs["metadata"]["name"]] = rs
            case ChangeSet():
                rs = self.sets[action.name]
                rs["spec"]["replicas"] = action.replicas
                rs["metadata"].setdefault("annotations", {}).update(action.annotations)
                if action.event:
                    self.events.append(action.event)
            case DeleteSet():
                del self.sets[action.name]
            case Annotate():
                self.deployment["metadata"].setdefault("annotations", {}).update(action.annotations)
            case SetStatus():
                self.deployment["status"] = action.status

    def pods_obey(self, *, ready: bool = True) -> None:
        for rs in self.sets.values():
            count = rs["spec"]["replicas"]
            before = (rs.get("status") or {}).get("availableReplicas", 0)
            available = count if ready else min(before, count)
            rs["status"] = {"replicas": count, "readyReplicas": available, "availableReplicas": available}
            rs["status"]["observedGeneration"] = rs["metadata"]["generation"]
        total = sum(rs["spec"]["replicas"] for rs in self.sets.values())
        self.most_pods = max(self.most_pods, total)
        self.least_available = min(self.least_available, sum(_available(rs) for rs in self.sets.values()))

    def settle(self) -> None:
        for _ in range(60):
            if not self.step():
                return
            self.pods_obey()
        raise AssertionError("the plan never comes to rest")

    def roll(self, image: str) -> None:
        self.deployment["spec"]["template"] = template(image)
        self.deployment["metadata"]["generation"] += 1

    def sizes(self) -> dict[str, int]:
        return {
            rs["spec"]["template"]["spec"]["containers"][0]["image"]: rs["spec"]["replicas"]
            for rs in self.sets.values()
        }

    def condition(self, kind: str) -> tuple[str, str]:
        found = next(c for c in self.deployment["status"]["conditions"] if c["type"] == kind)
        return found["status"], found["reason"]


def _available(rs: Object) -> int:
    return int((rs.get("status") or {}).get("availableReplicas", 0))


def test_a_new_deployment_gets_its_set_at_full_size() -> None:
    world = World(deployment())
    world.settle()
    assert world.sizes() == {"a": 3}
    (rs,) = world.sets.values()
    name = rs["metadata"]["name"]
    assert name == f"web-{template_hash(template('a'))}"
    assert rs["metadata"]["annotations"] == {REVISION: "1", DESIRED: "3", MAXIMUM: "4"}
    assert rs["spec"]["selector"]["matchLabels"]["pod-template-hash"] == name[4:]
    assert rs["spec"]["template"]["metadata"]["labels"]["pod-template-hash"] == name[4:]
    assert world.deployment["metadata"]["annotations"] == {REVISION: "1"}
    status = world.deployment["status"]
    assert {k: v for k, v in status.items() if k != "conditions"} == {
        "observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3,
    }  # fmt: skip
    assert world.condition("Progressing") == ("True", "NewReplicaSetAvailable")
    assert world.condition("Available") == ("True", "MinimumReplicasAvailable")


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (3, "25%", "25%", (1, 0)),
        (10, "25%", "25%", (3, 2)),
        (4, 0, 0, (0, 1)),
        (10, 2, "30%", (2, 3)),
        (2, 0, 5, (0, 2)),
        (1, None, None, (1, 0)),
    ],
)
def test_fenceposts(replicas: int, surge: Any, unavailable: Any, expected: tuple[int, int]) -> None:
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    assert fenceposts(deployment(replicas, strategy={"rollingUpdate": rolling})) == expected


@pytest.mark.parametrize("replicas", [1, 2, 3, 4, 10, 17])
@pytest.mark.parametrize("limits", [(1, 0), (0, 1), ("25%", "25%"), (5, 5), ("100%", 0), (0, "50%")])
def test_a_roll_out_stays_within_its_fenceposts(replicas: int, limits: tuple[Any, Any]) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": limits[0], "maxUnavailable": limits[1]}}
    world = World(deployment(replicas, strategy=strategy))
    world.settle()
    surge, unavailable = fenceposts(world.deployment)
    world.most_pods, world.least_available = 0, replicas
    world.roll("b")
    world.settle()
    assert world.sizes() == {"a": 0, "b": replicas}
    assert world.most_pods <= replicas + surge
    assert world.least_available >= replicas - unavailable
    assert world.deployment["status"]["updatedReplicas"] == replicas
    assert world.deployment["metadata"]["annotations"][REVISION] == "2"


def test_a_roll_out_that_never_gets_ready_stops_and_then_times_out() -> None:
    world = World(deployment(4))
    world.settle()
    world.roll("broken")
    for _ in range(20):
        world.step()
        world.pods_obey(ready=False)
    assert world.sizes() == {"a": 3, "broken": 2}
    assert world.condition("Progressing")[0] == "True"
    assert world.again_s is not None and world.again_s <= 601
    world.now_s += 700
    world.step()
    assert world.condition("Progressing") == ("False", "ProgressDeadlineExceeded")
    assert world.step() == []


def test_a_rollback_takes_the_old_set_again_with_a_new_revision() -> None:
    world = World(deployment())
    world.settle()
    world.roll("b")
    world.settle()
    world.roll("a")
    world.settle()
    assert world.sizes() == {"a": 3, "b": 0}
    old = world.sets[f"web-{template_hash(template('a'))}"]["metadata"]["annotations"]
    assert old[REVISION] == "3" and old[HISTORY] == "1"
    assert world.deployment["metadata"]["annotations"][REVISION] == "3"


def test_unhealthy_old_pods_go_first() -> None:
    world = World(deployment(4))
    world.step()
    world.pods_obey(ready=False)
    world.step()
    world.roll("b")
    world.step()
    world.step()
    assert world.sizes()["a"] < 4


def test_recreate_waits_until_the_last_old_pod_is_gone() -> None:
    world = World(deployment(strategy={"type": "Recreate"}))
    world.settle()
    world.roll("b")
    world.old_pods_count = 3
    world.settle()
    assert world.sizes() == {"a": 0}
    world.old_pods_count = 0
    world.settle()
    assert world.sizes() == {"a": 0, "b": 3}


def test_scaling_without_a_roll_out() -> None:
    world = World(deployment())
    world.settle()
    for count in (7, 0, 2):
        world.deployment["spec"]["replicas"] = count
        world.settle()
        assert world.sizes() == {"a": count}
    assert world.events == [
        f"Scaled {how} replica set web-{template_hash(template('a'))} from {a} to {b}"
        for how, a, b in (("up", 3, 7), ("down", 7, 0), ("up", 0, 2))
    ]


def test_scaling_during_a_stuck_roll_out_is_shared_in_proportion() -> None:
    world = World(deployment(10))
    world.settle()
    world.roll("b")
    for _ in range(10):
        world.step()
        world.pods_obey(ready=False)
    assert world.sizes() == {"a": 8, "b": 5}
    world.deployment["spec"]["replicas"] = 20
    world.step()
    sizes = world.sizes()
    assert sum(sizes.values()) == 25
    assert sizes == {"a": 15, "b": 10}


def test_a_paused_deployment_scales_but_does_not_roll() -> None:
    world = World(deployment())
    world.settle()
    world.deployment["spec"]["paused"] = True
    world.roll("b")
    world.deployment["spec"]["replicas"] = 5
    world.settle()
    assert world.sizes() == {"a": 5}
    assert world.condition("Progressing") == ("Unknown", "DeploymentPaused")
    world.deployment["spec"]["paused"] = False
    world.settle()
    assert world.sizes() == {"a": 0, "b": 5}


def test_history_beyond_the_limit_is_removed_oldest_first() -> None:
    world = World(deployment(revisionHistoryLimit=1))
    for image in "abcd":
        world.roll(image)
        world.settle()
    assert world.sizes() == {"c": 0, "d": 3}


def test_a_deployment_being_deleted_only_reports() -> None:
    world = World(deployment())
    world.settle()
    world.deployment["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world.roll("b")
    assert all(isinstance(action, SetStatus) for action in world.step())
    assert world.sizes() == {"a": 3}


def test_annotations_follow_the_deployment_but_not_kubectls() -> None:
    world = World(deployment())
    world.deployment["metadata"]["annotations"] = {
        "kubernetes.io/change-cause": "first",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
    }
    world.settle()
    (rs,) = world.sets.values()
    assert rs["metadata"]["annotations"]["kubernetes.io/change-cause"] == "first"
    assert "kubectl.kubernetes.io/last-applied-configuration" not in rs["metadata"]["annotations"]


def test_a_failure_of_the_set_is_shown() -> None:
    world = World(deployment())
    world.settle()
    (rs,) = world.sets.values()
    rs["status"]["conditions"] = [
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}
    ]
    world.step()
    assert world.condition("ReplicaFailure") == ("True", "FailedCreate")
    assert world.step() == []
    del rs["status"]["conditions"]
    world.step()
    assert "ReplicaFailure" not in {c["type"] for c in world.deployment["status"]["conditions"]}


def test_templates_are_compared_without_the_hash_label() -> None:
    hashed = {
        "metadata": {"labels": {"app": "web", "pod-template-hash": "x"}, "creationTimestamp": None},
        "spec": template("a")["spec"],
    }
    assert same_template(hashed, template("a"))
    assert not same_template(hashed, template("b"))


def test_collisions_change_the_hash() -> None:
    assert template_hash({"a": 1}) != template_hash({"a": 1}, 1)
    assert template_hash({"a": 1, "b": 2}) == template_hash({"b": 2, "a": 1})
