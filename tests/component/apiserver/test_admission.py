"""What is put into objects and refused, over HTTPS."""

# ruff: noqa: E501 - texts of the wire stand on one line

from __future__ import annotations

from typing import Any

PODS = "/api/v1/namespaces/{}/pods"
NAMESPACES = "/api/v1/namespaces"


def pod(name: str = "p", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "busybox:1"}], **spec}}


async def namespace(api: Any, name: str, **labels: str) -> None:
    """A namespace with the account that a controller would make."""
    body = {"metadata": {"name": name, "labels": {f"pod-security.kubernetes.io/{k}": v for k, v in labels.items()}}}
    status, answer = await api.ask("POST", NAMESPACES, body)
    assert status == 201, answer
    status, answer = await api.ask("POST", f"{NAMESPACES}/{name}/serviceaccounts", {"metadata": {"name": "default"}})
    assert status == 201, answer


async def warnings(api: Any, method: str, path: str, body: Any, **headers: str) -> tuple[int, list[str]]:
    headers.setdefault("Content-Type", "application/json")
    async with api.open(method, path, json=body, headers=headers) as answer:
        await answer.read()
        return answer.status, answer.headers.getall("Warning", [])


async def test_levels_are_enforced_told_and_refused_when_unreadable(api: Any) -> None:
    await namespace(api, "strict", enforce="baseline", warn="restricted")
    status, answer = await api.ask("POST", PODS.format("strict"), pod(hostNetwork=True))
    assert status == 403
    assert answer["message"] == (
        'pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)'
    )
    status, told = await warnings(api, "POST", PODS.format("strict"), pod())
    assert status == 201
    assert told[0].startswith(
        '299 - "would violate PodSecurity \\"restricted:latest\\": allowPrivilegeEscalation != false'
    )
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod(hostPID=True)["spec"]}
    deployment = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    status, told = await warnings(api, "POST", "/apis/apps/v1/namespaces/strict/deployments", deployment)
    assert (status, len(told)) == (201, 1)
    assert "host namespaces (hostPID=true)" in told[0]
    bad = {"metadata": {"name": "bad", "labels": {"pod-security.kubernetes.io/enforce": "none"}}}
    status, answer = await api.ask("POST", NAMESPACES, bad)
    assert (status, answer["details"]["causes"][0]["field"]) == (
        422,
        "metadata.labels[pod-security.kubernetes.io/enforce]",
    )


async def test_raising_a_level_names_the_pods_that_break_it(api: Any) -> None:
    await namespace(api, "loose")
    for name in ("a", "b"):
        assert (await api.ask("POST", PODS.format("loose"), pod(name, hostNetwork=True)))[0] == 201
    patch = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}
    status, told = await warnings(
        api, "PATCH", f"{NAMESPACES}/loose", patch, **{"Content-Type": "application/merge-patch+json"}
    )
    assert status == 200
    assert told == [
        '299 - "existing pods in namespace \\"loose\\" violate the new PodSecurity enforce level \\"baseline:latest\\""',
        '299 - "a (and 1 other pod): host namespaces"',
    ]


async def test_priorities_are_resolved_and_only_one_is_the_default(api: Any) -> None:
    await namespace(api, "pri")
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    first = {"metadata": {"name": "high"}, "value": 100, "globalDefault": True, "preemptionPolicy": "Never"}
    assert (await api.ask("POST", classes, first))[0] == 201
    status, answer = await api.ask("POST", classes, {"metadata": {"name": "two"}, "value": 1, "globalDefault": True})
    assert status == 403
    assert answer["message"].endswith("PriorityClass high is already marked as default. Only one default can exist")
    status, made = await api.ask("POST", PODS.format("pri"), pod())
    spec = made["spec"]
    assert (spec["priorityClassName"], spec["priority"], spec["preemptionPolicy"]) == ("high", 100, "Never")
    status, made = await api.ask("POST", PODS.format("pri"), pod("crit", priorityClassName="system-node-critical"))
    assert (status, made["spec"]["priority"]) == (201, 2_000_001_000)


async def test_a_plain_pod_may_run_on_edge_nodes(api: Any) -> None:
    await namespace(api, "edge")
    status, made = await api.ask("POST", PODS.format("edge"), pod())
    assert status == 201
    edge = [t for t in made["spec"]["tolerations"] if t["key"] == "node-role.kubernetes.io/edge"]
    assert edge == [{"key": "node-role.kubernetes.io/edge", "operator": "Exists"}]
    own = {"key": "node-role.kubernetes.io/edge", "operator": "Exists", "effect": "NoSchedule"}
    status, made = await api.ask("POST", PODS.format("edge"), pod("own", tolerations=[own]))
    assert [t for t in made["spec"]["tolerations"] if t["key"] == own["key"]] == [own]


async def test_fields_that_nothing_enforces_are_told(api: Any) -> None:
    await namespace(api, "told")
    path = "/api/v1/namespaces/told/services"
    service = {
        "metadata": {"name": "s"},
        "spec": {"sessionAffinity": "ClientIP", "type": "LoadBalancer", "ports": [{"port": 80}]},
    }
    status, told = await warnings(api, "POST", path, service)
    assert status == 201
    assert [text.split(":")[0] for text in told] == ['299 - "spec.type', '299 - "spec.sessionAffinity']
    patch = {"metadata": {"labels": {"a": "b"}}}
    kind = {"Content-Type": "application/merge-patch+json"}
    status, told = await warnings(api, "PATCH", f"{path}/s", patch, **kind)
    assert (status, told) == (200, [])


async def test_a_node_changes_nothing_but_its_own(site: Any, api: Any, as_user: Any) -> None:
    node = {"metadata": {"name": "edge-1", "labels": {"kubernetes.io/hostname": "edge-1"}}}
    as_node = as_user("system:node:edge-1", "system:nodes")
    status, answer = await as_node.ask("POST", "/api/v1/nodes", {"metadata": {"name": "edge-2"}})
    assert status == 403, answer
    labelled = {"metadata": {"name": "edge-1", "labels": {"node-restriction.kubernetes.io/zone": "secure"}}}
    status, answer = await as_node.ask("POST", "/api/v1/nodes", labelled)
    assert status == 403
    assert "is not allowed to set the following labels: node-restriction.kubernetes.io/zone" in answer["message"]
    assert (await as_node.ask("POST", "/api/v1/nodes", node))[0] == 201
    merge = "application/merge-patch+json"
    status, answer = await as_node.ask("PATCH", "/api/v1/nodes/edge-1", {"spec": {"taints": []}}, kind=merge)
    assert (status, answer["message"]) == (
        403,
        'nodes "edge-1" is forbidden: node "edge-1" is not allowed to modify taints',
    )
    own = {"metadata": {"labels": {"example.com/rack": "7"}}}
    assert (await as_node.ask("PATCH", "/api/v1/nodes/edge-1", own, kind=merge))[0] == 200
    status, answer = await as_node.ask(
        "PATCH", "/api/v1/nodes/edge-1", {"metadata": {"labels": {"node-role.kubernetes.io/master": ""}}}, kind=merge
    )
    assert status == 403
