"""Server-side apply over HTTP, as Helm, Flux and client-go's apply configurations use it."""

from __future__ import annotations

from typing import Any

from skerry.base import json

MAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
APPLY = "application/apply-patch+yaml"


def config(name: str = "conf", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(**spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template, **spec},
    }


def managers(obj: dict[str, Any]) -> list[tuple[str, str, str]]:
    entries = obj["metadata"].get("managedFields", [])
    return [(entry["manager"], entry["operation"], entry.get("subresource", "")) for entry in entries]


async def apply(api: Any, path: str, obj: dict[str, Any], manager: str, **more: str) -> tuple[int, Any]:
    query = "&".join(f"{name}={value}" for name, value in {"fieldManager": manager, **more}.items())
    status, body = await api.ask("PATCH", f"{path}/{obj['metadata']['name']}?{query}", obj, kind=APPLY)
    return status, body


async def test_apply_creates_changes_and_prunes(api: Any) -> None:
    status, made = await apply(api, MAPS, config(a="1", b="2"), "helm")
    assert (status, made["data"], managers(made)) == (201, {"a": "1", "b": "2"}, [("helm", "Apply", "")])
    status, same = await apply(api, MAPS, config(a="1", b="2"), "helm")
    assert (status, same) == (200, made)
    status, less = await apply(api, MAPS, config(a="3"), "helm")
    assert (status, less["data"]) == (200, {"a": "3"})
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: conf}\ndata: {y: aml}\n"
    status, yaml = await api.ask("PATCH", f"{MAPS}/conf?fieldManager=helm", text, kind=APPLY)
    assert (status, yaml["data"]) == (200, {"y": "aml"})


async def test_conflicts_and_force(api: Any) -> None:
    await api.ask("POST", f"{MAPS}?fieldManager=hand", config(a="1", b="2"))
    status, refused = await apply(api, MAPS, config(a="9"), "helm")
    assert (status, refused["reason"]) == (409, "Conflict")
    assert refused["message"] == 'Apply failed with 1 conflict: conflict with "hand" using v1: .data.a'
    assert refused["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "hand" using v1', "field": ".data.a"}
    ]
    _, unchanged = await api.ask("GET", f"{MAPS}/conf")
    assert unchanged["data"] == {"a": "1", "b": "2"}
    status, dry = await apply(api, MAPS, config(a="9"), "helm", force="true", dryRun="All")
    assert (status, dry["data"]["a"]) == (200, "9")
    assert await api.ask("GET", f"{MAPS}/conf") == (200, unchanged)
    status, forced = await apply(api, MAPS, config(a="9"), "helm", force="true")
    assert (status, forced["data"]) == (200, {"a": "9", "b": "2"})
    assert managers(forced) == [("helm", "Apply", ""), ("hand", "Update", "")]


async def test_requests_that_are_wrong(api: Any) -> None:
    status, body = await api.ask("PATCH", f"{MAPS}/conf", config(), kind=APPLY)
    assert (status, body["details"]["causes"][0]["field"]) == (422, "fieldManager")
    status, body = await apply(api, MAPS, config() | {"apiVersion": "v2"}, "m")
    assert (status, body["message"]) == (
        400, "Incorrect version specified in apply patch. Specified patch version: v2, expected: v1",
    )  # fmt: skip
    owned = config()
    owned["metadata"]["managedFields"] = []
    assert (await apply(api, MAPS, owned, "m"))[1]["message"] == "metadata.managedFields must be nil"
    status, body = await apply(api, MAPS, config() | {"bogus": 1}, "m", fieldValidation="Strict")
    assert (status, body["message"]) == (
        500, "failed to create typed patch object (default/conf; v1, Kind=ConfigMap): "
        ".bogus: field not declared in schema",
    )  # fmt: skip
    named = config() | {"metadata": {"name": "conf", "uid": "11111111-1111-1111-1111-111111111111"}}
    status, body = await apply(api, MAPS, named, "m")
    assert (status, "uid mismatch" in body["message"]) == (409, True)
    await apply(api, MAPS, config(), "m")
    stale = config() | {"metadata": {"name": "conf", "resourceVersion": "1"}}
    assert (await apply(api, MAPS, stale, "m"))[0] == 409
    status, body = await api.ask("PATCH", f"{MAPS}/conf?force=true", {}, kind="application/merge-patch+json")
    assert (status, body["details"]["causes"][0]["field"]) == (422, "force")
    twice = deployment()
    twice["spec"]["template"]["spec"]["containers"] *= 2
    status, body = await apply(api, DEPLOYMENTS, twice, "m")
    assert (status, body["message"]) == (
        500, "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): "
        '.spec.template.spec.containers: duplicate entries for key [name="c"]',
    )  # fmt: skip


async def test_every_write_is_tracked_for_its_manager(api: Any) -> None:
    await api.ask("POST", f"{DEPLOYMENTS}?fieldManager=creator", deployment(replicas=1))
    await api.ask(
        "PATCH", f"{DEPLOYMENTS}/web?fieldManager=labeler", {"metadata": {"labels": {"a": "b"}}},
        kind="application/merge-patch+json",
    )  # fmt: skip
    await api.ask(
        "PATCH", f"{DEPLOYMENTS}/web/status?fieldManager=loop", {"status": {"replicas": 1}},
        kind="application/merge-patch+json",
    )  # fmt: skip
    await api.ask(
        "PATCH", f"{DEPLOYMENTS}/web/scale?fieldManager=scaler", {"spec": {"replicas": 4}},
        kind="application/merge-patch+json",
    )  # fmt: skip
    _, found = await api.ask("GET", f"{DEPLOYMENTS}/web")
    assert sorted(managers(found)) == [
        ("creator", "Update", ""),
        ("labeler", "Update", ""),
        ("loop", "Update", "status"),
        ("scaler", "Update", "scale"),
    ]
    owned = {entry["manager"]: entry["fieldsV1"] for entry in found["metadata"]["managedFields"]}
    assert owned["scaler"] == {"f:spec": {"f:replicas": {}}}
    assert "f:replicas" not in owned["creator"]["f:spec"]
    assert owned["loop"] == {"f:status": {"f:replicas": {}}}
    status, refused = await apply(api, DEPLOYMENTS, deployment(replicas=1), "helm")
    assert (status, refused["details"]["causes"][0]["message"]) == (
        409, 'conflict with "scaler" with subresource "scale" using apps/v1',
    )  # fmt: skip
    status, _ = await apply(api, DEPLOYMENTS, deployment(), "helm")
    assert status == 200


async def test_scale_and_status_can_be_applied(api: Any) -> None:
    await apply(api, DEPLOYMENTS, deployment(), "helm")
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 3}}
    status, answer = await api.ask("PATCH", f"{DEPLOYMENTS}/web/scale?fieldManager=hpa&force=true", scale, kind=APPLY)
    assert (status, answer["kind"], answer["spec"]["replicas"]) == (200, "Scale", 3)
    state = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "status": {"replicas": 2}}
    status, answer = await api.ask("PATCH", f"{DEPLOYMENTS}/web/status?fieldManager=loop", state, kind=APPLY)
    assert (status, answer["status"]["replicas"], answer["spec"]["replicas"]) == (200, 2, 3)
    assert ("hpa", "Apply", "scale") in managers(answer)
    assert ("loop", "Apply", "status") in managers(answer)
    assert (await api.ask("PATCH", f"{DEPLOYMENTS}/no/status?fieldManager=x",
                          {**state, "metadata": {"name": "no"}}, kind=APPLY))[0] == 404  # fmt: skip


async def test_custom_resources_are_applied_by_their_own_schema(api: Any) -> None:
    models = "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devicemodels"

    def model(*properties: dict[str, Any]) -> dict[str, Any]:
        spec = {"protocol": "modbus", "properties": list(properties)}
        return {
            "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceModel", "metadata": {"name": "m"}, "spec": spec,
        }  # fmt: skip

    heat = {"name": "heat", "type": "INT", "accessMode": "ReadOnly"}
    status, made = await apply(api, models, model(heat), "one")
    assert (status, managers(made)) == (201, [("one", "Apply", "")])
    status, refused = await apply(api, models, model({**heat, "type": "FLOAT"}), "two")
    assert (status, refused["details"]["causes"][0]["field"]) == (409, ".spec.properties")


async def test_clients_can_rewrite_the_entries(api: Any) -> None:
    """kubectl turns the entries of client-side apply into applied ones with a JSON patch."""
    await api.ask("POST", f"{MAPS}?fieldManager=kubectl-client-side-apply", config(a="1"))
    _, found = await api.ask("GET", f"{MAPS}/conf")
    entry = {**found["metadata"]["managedFields"][0], "manager": "kubectl", "operation": "Apply"}
    patch = [
        {"op": "replace", "path": "/metadata/managedFields", "value": [entry]},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": found["metadata"]["resourceVersion"]},
    ]
    status, changed = await api.ask("PATCH", f"{MAPS}/conf", patch, kind="application/json-patch+json")
    assert (status, managers(changed)) == (200, [("kubectl", "Apply", "")])
    patch = [{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]
    status, reset = await api.ask("PATCH", f"{MAPS}/conf", patch, kind="application/json-patch+json")
    assert (status, managers(reset)) == (200, [])


async def test_apply_needs_the_right_to_create_what_is_missing(api: Any, as_user: Any) -> None:
    role = {
        "metadata": {"name": "patcher"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch", "get"]}],
    }
    await api.ask("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles", role)
    binding = {
        "metadata": {"name": "patcher"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "patcher"},
        "subjects": [{"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    await api.ask("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings", binding)
    bob = as_user("bob")
    status, body = await apply(bob, MAPS, config(a="1"), "m")
    assert (status, "cannot create" in body["message"]) == (403, True)
    await api.ask("POST", MAPS, config(b="2"))
    assert (await apply(bob, MAPS, config(a="1"), "m"))[0] == 200


async def test_ownership_survives_a_restart_and_costs_no_revision_when_nothing_changes(api: Any, site: Any) -> None:
    _, made = await apply(api, MAPS, config(a="1"), "helm")
    revision = made["metadata"]["resourceVersion"]
    for _ in range(2):
        status, again = await apply(api, MAPS, config(a="1"), "helm")
        assert (status, again["metadata"]["resourceVersion"]) == (200, revision)
    _, put = await api.ask("PUT", f"{MAPS}/conf", json.loads(json.dumps(again)))
    assert put["metadata"]["resourceVersion"] == revision
