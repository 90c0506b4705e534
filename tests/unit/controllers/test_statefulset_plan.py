"""Which pods a StatefulSet makes and deletes next, in which order, and what its status says."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.api.gvk import Object
from skerry.api.meta import rfc3339
from skerry.controllers.revisions import Revision
from skerry.controllers.statefulsets.claims import wanted_claims, wanted_owners
from skerry.controllers.statefulsets.plan import is_member, ordinal_of, plan, stateful_pod, status_of

NOW_S = 1_750_000_000.0
TEMPLATE = {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}}
OLD = Revision("db-old", "old", TEMPLATE, 1)
NEW = Revision("db-new", "new", TEMPLATE, 2)
GONE = "2026-01-01T00:00:00Z"


def db(**spec: Any) -> Object:
    return {
        "metadata": {"name": "db", "namespace": "d", "uid": "S", "generation": 3},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "db"}},
            "serviceName": "peers",
            "template": TEMPLATE,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            **spec,
        },
    }


def pod(
    ordinal: int, revision: str = "db-new", *, ready: bool = True, ready_s: float = 100, phase: str = "Running",
    **meta: Any,
) -> Object:  # fmt: skip
    name = f"db-{ordinal}"
    labels = {"app": "db", "controller-revision-hash": revision, "statefulset.kubernetes.io/pod-name": name}
    ready_at = rfc3339(NOW_S - ready_s)
    conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": ready_at}]
    return {
        "metadata": {"name": name, "namespace": "d", "uid": name, "labels": labels, **meta},
        "spec": {},
        "status": {"phase": phase, "conditions": conditions},
    }


def step(stateful_set: Object, *pods: Object) -> tuple[list[str], list[str]]:
    decided = plan(stateful_set, pods, current=OLD, update=NEW, now_s=NOW_S)
    return names(decided.create), names(decided.delete)


def names(pods: list[Object]) -> list[str]:
    return [p["metadata"]["name"] for p in pods]


@pytest.mark.parametrize(
    ("name", "ordinal"),
    [("db-0", 0), ("db-12", 12), ("db-01", None), ("db-", None), ("db-x", None), ("other-1", None), ("db-a-1", None)],
)
def test_only_the_names_that_a_set_gives_have_an_ordinal(name: str, ordinal: int | None) -> None:
    assert ordinal_of("db", name) == ordinal
    assert is_member(db(), {"metadata": {"name": name}}) == (ordinal is not None)


def test_pods_come_one_after_the_other() -> None:
    assert step(db()) == (["db-0"], [])
    assert step(db(), pod(0, ready=False)) == ([], [])
    assert step(db(), pod(0)) == (["db-1"], [])
    assert step(db(), pod(0), pod(1), pod(2)) == ([], [])


def test_a_pod_must_stay_ready_before_the_next_comes() -> None:
    waiting = db(minReadySeconds=30)
    decided = plan(waiting, [pod(0, ready_s=10)], current=NEW, update=NEW, now_s=NOW_S)
    assert (decided.create, decided.again_s) == ([], 20.0)
    assert step(waiting, pod(0, ready_s=30)) == (["db-1"], [])


def test_parallel_makes_and_deletes_all_at_once() -> None:
    parallel = db(podManagementPolicy="Parallel")
    assert step(parallel, pod(1, ready=False)) == (["db-0", "db-2"], [])
    assert step({**parallel, "spec": {**parallel["spec"], "replicas": 0}}, pod(0), pod(1)) == ([], ["db-1", "db-0"])


def test_ordinals_may_start_elsewhere() -> None:
    assert step(db(ordinals={"start": 5}, replicas=2)) == (["db-5"], [])
    assert step(db(ordinals={"start": 5}, replicas=1), pod(0), pod(5)) == ([], ["db-0"])


def test_scaling_down_goes_from_the_top_and_waits() -> None:
    assert step(db(replicas=1), pod(0), pod(1), pod(2)) == ([], ["db-2"])
    assert step(db(replicas=1), pod(0), pod(1), pod(2, deletionTimestamp=GONE)) == ([], [])
    assert step(db(replicas=1), pod(0, ready=False), pod(1)) == ([], [])
    assert step(db(replicas=1), pod(0), pod(1, ready=False)) == ([], ["db-1"])  # the weak one itself may go
    assert step(db(replicas=1), pod(0), pod(1, ready=False), pod(2)) == ([], ["db-2"])


def test_ended_pods_are_replaced_under_the_same_name() -> None:
    assert step(db(), pod(0), pod(1, phase="Failed", ready=False)) == ([], ["db-1"])
    assert step(db(), pod(0, phase="Succeeded", ready=False)) == ([], ["db-0"])
    assert step(db(), pod(0, phase="Failed", ready=False, deletionTimestamp=GONE)) == ([], [])


def test_an_update_rolls_from_the_top_one_by_one() -> None:
    assert step(db(), *(pod(n, "db-old") for n in range(3))) == ([], ["db-2"])
    assert step(db(), pod(0, "db-old"), pod(1, "db-old"), pod(2, ready=False)) == ([], [])
    assert step(db(), pod(0, "db-old"), pod(1, "db-old"), pod(2)) == ([], ["db-1"])


def test_a_partition_holds_the_lower_ordinals_back() -> None:
    half = db(updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 2}})
    assert step(half, *(pod(n, "db-old") for n in range(3))) == ([], ["db-2"])
    assert step(half, pod(0, "db-old"), pod(1, "db-old"), pod(2)) == ([], [])
    made = plan(half, [], current=OLD, update=NEW, now_s=NOW_S).create[0]
    assert made["metadata"]["labels"]["controller-revision-hash"] == "db-old"


def test_max_unavailable_is_a_budget() -> None:
    two = db(replicas=4, updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "50%"}})
    assert step(two, *(pod(n, "db-old") for n in range(4))) == ([], ["db-3", "db-2"])


def test_a_broken_parallel_rollout_heals_when_the_template_is_mended() -> None:
    parallel = db(podManagementPolicy="Parallel")
    assert step(parallel, pod(0, "db-old"), pod(1, "db-old"), pod(2, "db-old", ready=False)) == ([], ["db-2"])


def test_on_delete_updates_nothing_by_itself() -> None:
    manual = db(updateStrategy={"type": "OnDelete"})
    assert step(manual, *(pod(n, "db-old") for n in range(3))) == ([], [])
    assert step(manual, pod(1, "db-old"), pod(2, "db-old")) == (["db-0"], [])


def test_a_set_being_deleted_does_nothing() -> None:
    dying = db()
    dying["metadata"]["deletionTimestamp"] = GONE
    assert step(dying, pod(0)) == ([], [])


def test_a_lost_name_label_is_put_back() -> None:
    bare = pod(0)
    del bare["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"]
    assert names(plan(db(), [bare], current=NEW, update=NEW, now_s=NOW_S).relabel) == ["db-0"]


def test_a_pod_has_its_name_host_name_and_claims() -> None:
    data = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    made = stateful_pod(db(volumeClaimTemplates=[data]), 2, NEW)
    assert made["metadata"]["name"] == "db-2" and "generateName" not in made["metadata"]
    assert made["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "2"
    assert (made["spec"]["hostname"], made["spec"]["subdomain"]) == ("db-2", "peers")
    assert made["spec"]["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-2"}}]


def test_a_finished_update_makes_its_revision_the_current_one() -> None:
    half = [pod(0, "db-old"), pod(1), pod(2)]
    status = status_of(db(), half, current=OLD, update=NEW, now_s=NOW_S)
    assert (status["currentRevision"], status["currentReplicas"], status["updatedReplicas"]) == ("db-old", 1, 2)
    done = status_of(db(), [pod(n) for n in range(3)], current=OLD, update=NEW, now_s=NOW_S)
    assert (done["currentRevision"], done["currentReplicas"], done["updateRevision"]) == ("db-new", 3, "db-new")
    assert (done["replicas"], done["readyReplicas"], done["availableReplicas"]) == (3, 3, 3)


CLAIMED = [{"metadata": {"name": "data", "labels": {"x": "y"}}, "spec": {"accessModes": ["ReadWriteOnce"]}}]


@pytest.mark.parametrize(
    ("deleted", "scaled", "ordinal", "owners"),
    [
        ("Retain", "Retain", 0, []),
        ("Delete", "Retain", 0, ["S"]),
        ("Retain", "Delete", 0, []),
        ("Retain", "Delete", 7, ["db-7"]),
        ("Delete", "Delete", 0, ["S"]),
        ("Delete", "Delete", 7, ["db-7"]),
    ],
)
def test_claims_are_owned_as_the_retention_policy_says(
    deleted: str, scaled: str, ordinal: int, owners: list[str]
) -> None:
    policy = {"whenDeleted": deleted, "whenScaled": scaled}
    stateful_set = db(volumeClaimTemplates=CLAIMED, persistentVolumeClaimRetentionPolicy=policy)
    claim = wanted_claims(stateful_set, ordinal)[0]
    assert claim["metadata"]["name"] == f"data-db-{ordinal}"
    assert claim["metadata"]["labels"] == {"x": "y", "app": "db"}
    assert [owner["uid"] for owner in wanted_owners(claim, stateful_set, pod(ordinal))] == owners


def test_a_claim_of_an_older_set_of_the_same_name_is_not_touched() -> None:
    stateful_set = db(volumeClaimTemplates=CLAIMED, persistentVolumeClaimRetentionPolicy={"whenDeleted": "Delete"})
    claim = wanted_claims(stateful_set, 0)[0]
    claim["metadata"]["ownerReferences"][0]["uid"] = "older"
    assert wanted_owners(claim, stateful_set, pod(0)) == claim["metadata"]["ownerReferences"]
