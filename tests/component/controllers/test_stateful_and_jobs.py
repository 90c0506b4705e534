"""StatefulSets, Jobs and CronJobs against a real API server on disk."""

from __future__ import annotations

from typing import Any

from tests.component.controllers.conftest import Cluster

from skerry.api.gvk import (
    CONTROLLERREVISIONS,
    CRONJOBS,
    DAEMONSETS,
    JOBS,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    STATEFULSETS,
    Object,
)
from skerry.controllers.objects import condition_of

SPACE = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}


def stateful_set(replicas: int = 3, **spec: Any) -> Object:
    template = {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db"},
        "spec": {
            "replicas": replicas, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "template": template, "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": SPACE}], **spec,
        },
    }  # fmt: skip


def job(image: str, **spec: Any) -> Object:
    pod_spec = {"restartPolicy": "Never", "containers": [{"name": "c", "image": image}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "sum"},
        "spec": {"template": {"metadata": {"labels": {"app": "sum"}}, "spec": pod_spec}, **spec},
    }


def names(cluster: Cluster, app: str = "db") -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in cluster.pods(app))


def claims(cluster: Cluster) -> list[str]:
    return sorted(c["metadata"]["name"] for c in cluster.informers.of(PERSISTENTVOLUMECLAIMS).items())


def status(cluster: Cluster, name: str = "db") -> dict[str, Any]:
    found = cluster.informers.of(STATEFULSETS).get(name, "default")
    return (found or {}).get("status") or {}


def rolled_out(cluster: Cluster, image: str, count: int = 3) -> bool:
    now = status(cluster)
    return (
        cluster.images("db") == [image] * count
        and now.get("currentRevision") == now.get("updateRevision")
        and now.get("readyReplicas") == count
    )


async def test_pods_come_in_order_with_their_claims_and_go_from_the_top(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    came: list[str] = []
    cluster.informers.of(PODS).on_event(
        lambda kind, old, new: came.append((new or old or {})["metadata"]["name"]) if kind == "ADDED" else None
    )
    await cluster.api.create(STATEFULSETS, stateful_set(), namespace="default")
    await cluster.until(lambda: names(cluster) == ["db-0", "db-1", "db-2"])
    assert came == ["db-0", "db-1", "db-2"]
    assert claims(cluster) == ["data-db-0", "data-db-1", "data-db-2"]
    await cluster.api.patch(STATEFULSETS, "db", {"spec": {"replicas": 1}}, namespace="default")
    await cluster.until(lambda: names(cluster) == ["db-0"])
    assert claims(cluster) == ["data-db-0", "data-db-1", "data-db-2"]


async def test_a_deleted_pod_comes_back_under_its_name(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.api.create(STATEFULSETS, stateful_set(2), namespace="default")
    await cluster.until(lambda: names(cluster) == ["db-0", "db-1"])
    first = await cluster.api.get(PODS, "db-0", namespace="default")
    await cluster.api.delete(PODS, "db-0", namespace="default")
    uid = first["metadata"]["uid"]
    await cluster.until(
        lambda: names(cluster) == ["db-0", "db-1"] and uid not in {p["metadata"]["uid"] for p in cluster.pods("db")}
    )


async def test_update_history_and_undo(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.api.create(STATEFULSETS, stateful_set(), namespace="default")
    await cluster.until(lambda: rolled_out(cluster, "v1"))
    image = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "v2"}]}}}}
    await cluster.api.patch(STATEFULSETS, "db", image, patch_type="strategic", namespace="default")
    await cluster.until(lambda: rolled_out(cluster, "v2"))
    history = {item["revision"]: item for item in cluster.informers.of(CONTROLLERREVISIONS).items()}
    assert sorted(history) == [1, 2]
    await cluster.api.patch(STATEFULSETS, "db", history[1]["data"], patch_type="strategic", namespace="default")
    await cluster.until(lambda: rolled_out(cluster, "v1"))
    assert sorted(item["revision"] for item in cluster.informers.of(CONTROLLERREVISIONS).items()) == [2, 3]


async def test_a_partition_updates_only_the_upper_ordinals(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
    await cluster.api.create(STATEFULSETS, stateful_set(updateStrategy=strategy), namespace="default")
    await cluster.until(lambda: rolled_out(cluster, "v1"))
    image = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "v2"}]}}}}
    await cluster.api.patch(STATEFULSETS, "db", image, patch_type="strategic", namespace="default")
    await cluster.until(lambda: cluster.images("db") == ["v1", "v1", "v2"])
    await cluster.api.delete(PODS, "db-0", namespace="default")
    await cluster.until(lambda: cluster.images("db") == ["v1", "v1", "v2"] and status(cluster)["readyReplicas"] == 3)


async def test_claims_go_with_the_set_when_the_policy_says_so(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    policy = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    made = stateful_set(2, persistentVolumeClaimRetentionPolicy=policy, podManagementPolicy="Parallel")
    await cluster.api.create(STATEFULSETS, made, namespace="default")
    await cluster.until(lambda: len(names(cluster)) == 2)
    await cluster.api.patch(STATEFULSETS, "db", {"spec": {"replicas": 1}}, namespace="default")
    await cluster.until(lambda: claims(cluster) == ["data-db-0"])
    await cluster.api.delete(STATEFULSETS, "db", namespace="default")
    await cluster.until(lambda: claims(cluster) == [] and names(cluster) == [])


async def test_a_daemon_set_keeps_the_revision_of_a_template_that_returns(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    template = stateful_set()["spec"]["template"]
    made = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "ds"},
        "spec": {"selector": {"matchLabels": {"app": "db"}}, "template": template},
    }
    await cluster.api.create(DAEMONSETS, made, namespace="default")
    await cluster.until(lambda: cluster.images("db") == ["v1"])
    for image in ("v2", "v1"):
        patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}
        await cluster.api.patch(DAEMONSETS, "ds", patch, patch_type="strategic", namespace="default")
        await cluster.until(lambda image=image: cluster.images("db") == [image])  # type: ignore[misc]
    assert sorted(item["revision"] for item in cluster.informers.of(CONTROLLERREVISIONS).items()) == [2, 3]


def job_status(cluster: Cluster, name: str = "sum") -> dict[str, Any]:
    return (cluster.informers.of(JOBS).get(name, "default") or {}).get("status") or {}


def ended(cluster: Cluster, kind: str, name: str = "sum") -> bool:
    found = cluster.informers.of(JOBS).get(name, "default")
    return found is not None and (condition_of(found, kind) or {}).get("status") == "True"


async def test_a_job_counts_every_pod_once(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.api.create(JOBS, job("done", completions=12, parallelism=4), namespace="default")
    await cluster.until(lambda: ended(cluster, "Complete"))
    found = job_status(cluster)
    assert (found["succeeded"], found.get("failed", 0), found.get("active", 0)) == (12, 0, 0)
    pods = [p for p in cluster.informers.of(PODS).items() if p["metadata"]["labels"].get("app") == "sum"]
    assert len(pods) == 12 and not any(pod["metadata"].get("finalizers") for pod in pods)


async def test_an_indexed_job_gives_every_index_to_one_pod(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    indexed = job("done", completions=5, parallelism=2, completionMode="Indexed")
    await cluster.api.create(JOBS, indexed, namespace="default")
    await cluster.until(lambda: ended(cluster, "Complete"))
    assert job_status(cluster)["completedIndexes"] == "0-4"


async def test_a_job_that_fails_says_why_and_leaves_its_pods(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.api.create(JOBS, job("fail", backoffLimit=0), namespace="default")
    await cluster.until(lambda: ended(cluster, "Failed"))
    found = cluster.informers.of(JOBS).get("sum", "default")
    assert found is not None
    assert (condition_of(found, "Failed") or {})["reason"] == "BackoffLimitExceeded"
    assert found["status"]["failed"] == 1


async def test_an_expired_job_goes_with_its_pods(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.api.create(JOBS, job("done", ttlSecondsAfterFinished=0), namespace="default")
    await cluster.until(lambda: len(cluster.informers.of(JOBS)) == 1)
    await cluster.until(lambda: not cluster.informers.of(JOBS).items() and not cluster.pods("sum", ready=False))


async def test_a_suspended_job_runs_when_it_is_resumed(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.api.create(JOBS, job("done", suspend=True), namespace="default")
    await cluster.until(lambda: ended(cluster, "Suspended"))
    assert cluster.pods("sum", ready=False) == []
    await cluster.api.patch(JOBS, "sum", {"spec": {"suspend": False}}, namespace="default")
    await cluster.until(lambda: ended(cluster, "Complete") and not ended(cluster, "Suspended"))


async def test_deleting_a_job_lets_its_uncounted_pods_go(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.api.create(JOBS, job("v1", parallelism=2, completions=2), namespace="default")
    await cluster.until(lambda: len(cluster.pods("sum")) == 2)
    await cluster.api.delete(JOBS, "sum", namespace="default", propagation="Background")
    await cluster.until(
        lambda: not [p for p in cluster.informers.of(PODS).items() if p["metadata"]["labels"].get("app") == "sum"]
    )


async def test_a_cron_job_runs_every_second_and_keeps_its_newest_jobs(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    made = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "tick"},
        "spec": {
            "schedule": "@every 1s",
            "successfulJobsHistoryLimit": 1,
            "jobTemplate": {"spec": job("done")["spec"]},
        },
    }
    finished: set[str] = set()

    def note(kind: str, old: Object | None, new: Object | None) -> None:
        if new is not None and (condition_of(new, "Complete") or {}).get("status") == "True":
            finished.add(new["metadata"]["name"])

    cluster.informers.of(JOBS).on_event(note)
    await cluster.api.create(CRONJOBS, made, namespace="default")
    await cluster.until(lambda: bool(finished))
    found = cluster.informers.of(CRONJOBS).get("tick", "default")
    assert found is not None and found["status"]["lastScheduleTime"]
