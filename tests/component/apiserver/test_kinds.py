"""Every built-in kind over HTTP: created with the least that its rules ask for, listed as a table, deleted."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from skerry.api import gvk
from skerry.api.gvk import Resource
from skerry.base import certificates, x509

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
TEMPLATE = {
    "metadata": {"labels": {"app": "a"}},
    "spec": {"containers": [{"name": "c", "image": "busybox:1"}]},
}
JOB_TEMPLATE = {"spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}
SELECTOR = {"matchLabels": {"app": "a"}}
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}

LEAST: list[tuple[Resource, dict[str, Any]]] = [
    (gvk.STATEFULSETS, {"spec": {"serviceName": "s", "selector": SELECTOR, "template": TEMPLATE}}),
    (gvk.REPLICATIONCONTROLLERS, {"spec": {"template": TEMPLATE}}),
    (gvk.PODTEMPLATES, {"template": TEMPLATE}),
    (gvk.JOBS, {"spec": {"template": JOB_TEMPLATE}}),
    (gvk.CRONJOBS, {"spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": JOB_TEMPLATE}}}}),
    (gvk.HPAS, {"spec": {"scaleTargetRef": TARGET, "maxReplicas": 3}}),
    (gvk.HPAS_V1, {"spec": {"scaleTargetRef": TARGET, "maxReplicas": 3, "targetCPUUtilizationPercentage": 70}}),
    (gvk.PDBS, {"spec": {"minAvailable": 1, "selector": SELECTOR}}),
    (gvk.LIMITRANGES, {"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}}),
    (gvk.RESOURCEQUOTAS, {"spec": {"hard": {"pods": "5"}}}),
    (gvk.INGRESSES, {"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}}),
    (gvk.INGRESSCLASSES, {"spec": {"controller": "example.com/c"}}),
    (gvk.NETWORKPOLICIES, {"spec": {"podSelector": {}}}),
    (gvk.SERVICECIDRS, {"spec": {"cidrs": ["10.2.0.0/16"]}}),
    (gvk.STORAGECLASSES, {"provisioner": "example.com/p"}),
    (gvk.CSIDRIVERS, {"spec": {}}),
    (gvk.CSINODES, {"spec": {"drivers": []}}),
    (gvk.CSISTORAGECAPACITIES, {"storageClassName": "a"}),
    (gvk.VOLUMEATTACHMENTS, {"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "p"}}}),
    (gvk.VOLUMEATTRIBUTESCLASSES, {"driverName": "a", "parameters": {"a": "b"}}),
    (gvk.VALIDATINGWEBHOOKS, {}),
    (gvk.MUTATINGWEBHOOKS, {}),
    (gvk.RUNTIMECLASSES, {"handler": "runc"}),
    (gvk.FLOWSCHEMAS, {"spec": {"priorityLevelConfiguration": {"name": "p"}}}),
    (gvk.PRIORITYLEVELS, {"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}}),
    (gvk.DEVICECLASSES, {"spec": {}}),
    (gvk.RESOURCECLAIMS, {"spec": {}}),
    (gvk.RESOURCECLAIMTEMPLATES, {"spec": {"spec": {}}}),
    (gvk.RESOURCESLICES, {"spec": {"driver": "d", "nodeName": "n", "pool": {"name": "p", "resourceSliceCount": 1}}}),
]


@pytest.mark.parametrize(("resource", "content"), LEAST, ids=lambda value: getattr(value, "api_version", "") and f"{value.group_resource}-{value.version}")  # noqa: E501  # fmt: skip
async def test_each_kind_is_created_listed_and_deleted(api: Any, resource: Resource, content: dict[str, Any]) -> None:
    place = resource.path("default")
    body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": "a"}, **content}
    status, made = await api.ask("POST", place, body)
    assert status == 201, made
    assert made["metadata"]["uid"] and made["apiVersion"] == resource.api_version
    status, table = await api.ask("GET", place, Accept=TABLE)
    row = next(row for row in table["rows"] if row["cells"][0].split()[0] == "a")
    assert len(row["cells"]) == len(table["columnDefinitions"])
    again = {**made, "metadata": {**made["metadata"], "labels": {"seen": "yes"}}}
    status, changed = await api.ask("PUT", f"{place}/a", again)
    assert (status, changed["metadata"].get("labels", {}).get("seen")) == (200, "yes"), changed
    status, _ = await api.ask("DELETE", f"{place}/a")
    assert status == 200
    assert (await api.ask("GET", f"{place}/a"))[0] == 404


async def test_defaults_are_those_of_kubernetes(api: Any) -> None:
    _, job = await api.ask("POST", gvk.JOBS.path("default"), {"metadata": {"name": "j"}, "spec": {"template": JOB_TEMPLATE}})  # noqa: E501  # fmt: skip
    spec, uid = job["spec"], job["metadata"]["uid"]
    assert (spec["completions"], spec["parallelism"], spec["backoffLimit"]) == (1, 1, 6)
    assert spec["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert spec["template"]["metadata"]["labels"]["job-name"] == "j"
    _, controller = await api.ask(
        "POST", gvk.REPLICATIONCONTROLLERS.path("default"), {"metadata": {"name": "r"}, "spec": {"template": TEMPLATE}}
    )
    assert (controller["spec"]["selector"], controller["metadata"]["labels"]) == ({"app": "a"}, {"app": "a"})
    _, limits = await api.ask("POST", gvk.LIMITRANGES.path("default"), {
        "metadata": {"name": "l"},
        "spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1"}}]},
    })  # fmt: skip
    assert limits["spec"]["limits"][0]["defaultRequest"] == {"cpu": "2"}
    status, refused = await api.ask("POST", gvk.CRONJOBS.path("default"), {
        "metadata": {"name": "c"}, "spec": {"schedule": "* *", "jobTemplate": {"spec": {"template": JOB_TEMPLATE}}},
    })  # fmt: skip
    assert (status, refused["details"]["causes"][0]["field"]) == (422, "spec.schedule")


async def test_both_versions_show_one_autoscaler(api: Any) -> None:
    body = {"metadata": {"name": "h"}, "spec": {"scaleTargetRef": TARGET, "maxReplicas": 3, "targetCPUUtilizationPercentage": 55}}  # noqa: E501  # fmt: skip
    assert (await api.ask("POST", gvk.HPAS_V1.path("default"), body))[0] == 201
    _, newer = await api.ask("GET", gvk.HPAS.path("default", "h"))
    assert newer["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 55
    newer["spec"]["metrics"].append(
        {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}}
    )
    assert (await api.ask("PUT", gvk.HPAS.path("default", "h"), newer))[0] == 200
    _, older = await api.ask("GET", gvk.HPAS_V1.path("default", "h"))
    assert older["spec"]["targetCPUUtilizationPercentage"] == 55
    assert "memory" in older["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"]
    assert (await api.ask("PUT", gvk.HPAS_V1.path("default", "h"), older))[0] == 200
    _, newest = await api.ask("GET", gvk.HPAS.path("default", "h"))
    assert [m["resource"]["name"] for m in newest["spec"]["metrics"]] == ["cpu", "memory"]
    assert "annotations" not in newest["metadata"]


async def _running_pod(api: Any, name: str) -> dict[str, Any]:
    place = gvk.PODS.path("default")
    assert (await api.ask("POST", gvk.SERVICEACCOUNTS.path("default"), {"metadata": {"name": "default"}}))[0] in (201, 409)  # noqa: E501  # fmt: skip
    body = {"metadata": {"name": name, "labels": {"app": "a"}}, "spec": TEMPLATE["spec"]}
    status, pod = await api.ask("POST", place, body)
    assert status == 201, pod
    status, pod = await api.ask("PATCH", f"{place}/{name}/status", {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}, kind="application/merge-patch+json")  # noqa: E501  # fmt: skip
    assert status == 200, pod
    found: dict[str, Any] = pod
    return found


async def test_an_eviction_asks_the_budget(api: Any) -> None:
    await _running_pod(api, "p")
    await _running_pod(api, "q")
    budgets = gvk.PDBS.path("default")
    await api.ask("POST", budgets, {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": SELECTOR}})
    evict = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    status, refused = await api.ask("POST", gvk.PODS.path("default", "p", "eviction"), evict)
    assert (status, refused["details"]["causes"][0]["reason"]) == (429, "DisruptionBudget")
    counted = {"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1}}
    await api.ask("PATCH", f"{budgets}/b/status", counted, kind="application/merge-patch+json")
    status, _ = await api.ask("POST", gvk.PODS.path("default", "p", "eviction") + "?dryRun=All", evict)
    assert status == 201
    assert (await api.ask("POST", gvk.PODS.path("default", "p", "eviction"), evict))[0] == 201
    assert (await api.ask("GET", gvk.PODS.path("default", "p")))[0] == 404
    _, budget = await api.ask("GET", f"{budgets}/b")
    assert (budget["status"]["disruptionsAllowed"], list(budget["status"]["disruptedPods"])) == (0, ["p"])
    status, refused = await api.ask("POST", gvk.PODS.path("default", "q", "eviction"), {**evict, "metadata": {"name": "q"}})  # noqa: E501  # fmt: skip
    assert (status, refused["message"]) == (429, "Cannot evict pod as it would violate the pod's disruption budget.")


async def test_parts_of_a_running_pod(api: Any) -> None:
    await _running_pod(api, "p")
    place = gvk.PODS.path("default", "p")
    debugger = {"name": "debug", "image": "busybox"}
    patch = {"spec": {"ephemeralContainers": [debugger]}}
    kind = "application/strategic-merge-patch+json"
    status, pod = await api.ask("PATCH", f"{place}/ephemeralcontainers", patch, kind=kind)
    assert (status, pod["spec"]["ephemeralContainers"][0]["name"], pod["metadata"]["generation"]) == (200, "debug", 2)
    patch = {"spec": {"ephemeralContainers": [{**debugger, "image": "other"}]}}
    assert (await api.ask("PATCH", f"{place}/ephemeralcontainers", patch, kind=kind))[0] == 422
    patch = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "200m"}}}]}}
    status, pod = await api.ask("PATCH", f"{place}/resize", patch, kind=kind)
    assert (status, pod["spec"]["containers"][0]["resources"]) == (200, {"requests": {"cpu": "200m"}})
    patch = {"spec": {"containers": [{"name": "c", "image": "evil"}]}}
    _, pod = await api.ask("PATCH", f"{place}/resize", patch, kind=kind)
    assert pod["spec"]["containers"][0]["image"] == "busybox:1"
    assert (await api.ask("PATCH", place, {"spec": {"ephemeralContainers": []}}, kind="application/merge-patch+json"))[0] == 422  # noqa: E501  # fmt: skip


async def test_a_certificate_request_says_who_made_it(api: Any, as_user: Callable[..., Any]) -> None:
    request_der, _ = x509.new_csr("jane")
    body = {
        "metadata": {"name": "jane"},
        "spec": {
            "request": base64.b64encode(certificates.to_pem("CERTIFICATE REQUEST", request_der)).decode(),
            "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"],
            "username": "system:admin", "groups": ["system:masters"],
        },
    }  # fmt: skip
    status, made = await api.ask("POST", gvk.CSRS.path(), body)
    assert (status, made["spec"]["username"]) == (201, "skerry-admin"), made
    decision = {"type": "Approved", "status": "True", "reason": "Test", "message": ""}
    status, _ = await api.ask("PUT", gvk.CSRS.path(name="jane", subresource="status"), {**made, "status": {"conditions": [decision]}})  # noqa: E501  # fmt: skip
    assert status == 200
    _, seen = await api.ask("GET", gvk.CSRS.path(name="jane"))
    assert not seen["status"].get("conditions")
    made = {**seen, "status": {"conditions": [decision], "certificate": "aGk="}}
    status, seen = await api.ask("PUT", gvk.CSRS.path(name="jane", subresource="approval"), made)
    assert (status, seen["status"]["conditions"][0]["type"]) == (200, "Approved")
    assert "certificate" not in seen["status"]


async def test_reviews_have_no_table(api: Any) -> None:
    review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    place = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert (await api.ask("POST", place, review, Accept=TABLE))[0] == 406
    assert (await api.ask("POST", place, review, Accept=f"{TABLE},application/json"))[0] == 201


async def test_component_statuses(api: Any) -> None:
    _, table = await api.ask("GET", "/api/v1/componentstatuses", Accept=TABLE)
    assert ["scheduler", "Healthy", "ok", ""] in [row["cells"] for row in table["rows"]]
    status, one = await api.ask("GET", "/api/v1/componentstatuses/scheduler")
    assert (status, one["kind"]) == (200, "ComponentStatus")
    assert (await api.ask("GET", "/api/v1/componentstatuses/x"))[0] == 404
