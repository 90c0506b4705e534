"""Admission webhooks: a server process of its own behind a Service, called by the API server."""

# ruff: noqa: E501 - cases stand on one line

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.component.apiserver.custom_kit import define, definition
from tests.component.apiserver.webhook_kit import Hook, running

GROUP = "/apis/admissionregistration.k8s.io/v1"
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
MERGE = "application/merge-patch+json"
RULE = {"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}


@pytest.fixture
async def hook(api: Any, tmp_path: Path) -> AsyncIterator[Hook]:
    async with running(tmp_path, api) as found:
        yield found


async def configure(api: Any, kind: str, called: str, client: dict[str, Any], /, **more: Any) -> tuple[int, Any]:
    webhook = {
        "name": f"{called}.example.com",
        "clientConfig": client,
        "rules": [RULE],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **more,
    }
    body = {"metadata": {"name": called}, "webhooks": [webhook]}
    answer: tuple[int, Any] = await api.ask("POST", f"{GROUP}/{kind}webhookconfigurations", body)
    return answer


def configmap(name: str = "c", **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


async def test_defaults_of_configurations(api: Any, hook: Hook) -> None:
    client = hook.service("/allow")
    del client["service"]["port"]
    status, made = await configure(api, "mutating", "plain", client)
    assert status == 201, made
    found = made["webhooks"][0]
    assert found["clientConfig"]["service"]["port"] == 443
    wanted = {
        "failurePolicy": "Fail", "matchPolicy": "Equivalent", "timeoutSeconds": 10, "reinvocationPolicy": "Never",
        "namespaceSelector": {}, "objectSelector": {},
    }  # fmt: skip
    assert {name: found[name] for name in wanted} == wanted
    assert found["rules"][0]["scope"] == "*"


async def test_a_webhook_denies_in_its_own_words(api: Any, hook: Hook) -> None:
    assert (await configure(api, "validating", "deny", hook.service("/deny")))[0] == 201
    status, answer = await api.ask("POST", CONFIGMAPS, configmap())
    assert (status, answer["reason"], answer["message"]) == (
        418,
        "Teapot",
        'admission webhook "deny.example.com" denied the request: not today',
    )
    assert (await api.ask("GET", f"{CONFIGMAPS}/c"))[0] == 404
    call = (await hook.calls())[-1]
    asked = call["body"]["request"]
    assert call["host"] == "hook.default.svc"
    assert call["path"] == "/deny?timeout=10s"
    assert (asked["operation"], asked["namespace"], asked["name"], asked["dryRun"]) == ("CREATE", "default", "c", False)
    assert asked["kind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert asked["resource"] == asked["requestResource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert asked["object"]["kind"] == "ConfigMap"
    assert asked["oldObject"] is None
    assert "system:masters" in asked["userInfo"]["groups"]
    assert asked["options"]["kind"] == "CreateOptions"


async def test_updates_and_deletions_show_the_old_object(api: Any, hook: Hook) -> None:
    assert (await api.ask("POST", CONFIGMAPS, configmap(a="1")))[0] == 201
    rule = RULE | {"operations": ["UPDATE", "DELETE"]}
    assert (await configure(api, "validating", "watch", hook.service("/allow"), rules=[rule]))[0] == 201
    async with api.open(
        "PATCH", f"{CONFIGMAPS}/c", json={"data": {"a": "2"}}, headers={"Content-Type": MERGE}
    ) as answer:
        assert (answer.status, answer.headers["Warning"]) == (200, '299 - "be careful"')
    assert (await api.ask("DELETE", f"{CONFIGMAPS}/c"))[0] == 200
    update, delete = [call["body"]["request"] for call in await hook.calls()]
    assert (update["object"]["data"], update["oldObject"]["data"]) == ({"a": "2"}, {"a": "1"})
    assert (delete["object"], delete["oldObject"]["data"], delete["operation"]) == (None, {"a": "2"}, "DELETE")


async def test_mutations_are_applied_in_order_and_called_again_when_asked(api: Any, hook: Hook) -> None:
    assert (await configure(api, "mutating", "a-count", hook.service("/count"), reinvocationPolicy="IfNeeded"))[
        0
    ] == 201
    assert (await configure(api, "mutating", "b-label", hook.url("/label")))[0] == 201
    status, made = await api.ask("POST", CONFIGMAPS, configmap())
    assert status == 201, made
    assert made["metadata"]["labels"] == {"count": "2", "hook": "was-here"}
    assert [call["path"].partition("?")[0] for call in await hook.calls()] == ["/count", "/label", "/count"]


async def test_what_a_webhook_puts_into_a_pod_gets_defaults(api: Any, hook: Hook) -> None:
    account = {"metadata": {"name": "default"}}
    await api.ask("POST", "/api/v1/namespaces/default/serviceaccounts", account)
    rule = RULE | {"resources": ["pods"], "operations": ["CREATE"]}
    assert (await configure(api, "mutating", "init", hook.service("/init-container"), rules=[rule]))[0] == 201
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}}
    status, made = await api.ask("POST", PODS, pod)
    assert status == 201, made
    added = made["spec"]["initContainers"][0]
    assert (added["terminationMessagePolicy"], added["imagePullPolicy"]) == ("File", "Always")
    assert added["volumeMounts"][0]["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"


async def test_failures_follow_the_policy(api: Any, hook: Hook) -> None:
    status, answer = await configure(api, "validating", "slow", hook.service("/slow"), timeoutSeconds=1)
    assert status == 201
    status, answer = await api.ask("POST", CONFIGMAPS, configmap())
    assert status == 500
    assert answer["message"] == (
        'Internal error occurred: failed calling webhook "slow.example.com": failed to call webhook: Post '
        '"https://hook.default.svc:8443/slow?timeout=1s": context deadline exceeded'
    )
    one = f"{GROUP}/validatingwebhookconfigurations/slow"
    patch = [{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]
    assert (await api.ask("PATCH", one, patch, kind="application/json-patch+json"))[0] == 200
    assert (await api.ask("POST", CONFIGMAPS, configmap()))[0] == 201


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/broken", "webhook response is missing"),
        ("/error", "the server answered 500"),
    ],
)
async def test_answers_that_are_no_reviews(api: Any, hook: Hook, path: str, text: str) -> None:
    assert (await configure(api, "mutating", "odd", hook.service(path)))[0] == 201
    status, answer = await api.ask("POST", CONFIGMAPS, configmap())
    assert (status, text in answer["message"]) == (500, True), answer
    assert (await api.ask("DELETE", f"{GROUP}/mutatingwebhookconfigurations/odd"))[0] == 200
    assert (await configure(api, "mutating", "patch", hook.service("/bad-patch")))[0] == 201
    status, answer = await api.ask("POST", CONFIGMAPS, configmap())
    assert (status, "its patch cannot be applied" in answer["message"]) == (500, True), answer


async def test_a_service_without_endpoints_fails_closed(api: Any, hook: Hook) -> None:
    slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    assert (await configure(api, "validating", "gone", hook.service("/allow")))[0] == 201
    assert (await api.ask("DELETE", f"{slices}/hook-1"))[0] == 200
    status, answer = await api.ask("POST", CONFIGMAPS, configmap())
    assert (status, 'no endpoints available for service "hook"' in answer["message"]) == (500, True)


async def test_a_wrong_authority_is_not_trusted(api: Any, hook: Hook, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    client = hook.service("/allow")
    del client["caBundle"]
    assert (await configure(api, "validating", "untrusted", client))[0] == 201
    status, answer = await api.ask("POST", CONFIGMAPS, configmap())
    assert (status, "certificate verify failed" in answer["message"]) == (500, True), answer


async def test_selectors_and_conditions_choose(api: Any, hook: Hook) -> None:
    more = {
        "objectSelector": {"matchLabels": {"hook": "please"}},
        "namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["default"]}]},
        "matchConditions": [{"name": "no-skips", "expression": "object.metadata.name != 'skip-me'"}],
    }  # fmt: skip
    assert (await configure(api, "validating", "chosen", hook.service("/deny-silently"), **more))[0] == 201
    assert (await api.ask("POST", CONFIGMAPS, configmap("plain")))[0] == 201
    skipped = {"metadata": {"name": "skip-me", "labels": {"hook": "please"}}}
    assert (await api.ask("POST", CONFIGMAPS, skipped))[0] == 201
    marked = {"metadata": {"name": "marked", "labels": {"hook": "please"}}}
    status, answer = await api.ask("POST", CONFIGMAPS, marked)
    assert (status, answer["message"]) == (
        403,
        'admission webhook "chosen.example.com" denied the request without explanation',
    )
    elsewhere = "/api/v1/namespaces/kube-system/configmaps"
    assert (await api.ask("POST", elsewhere, marked))[0] == 201


async def test_dry_runs_reach_only_hooks_without_side_effects(api: Any, hook: Hook) -> None:
    assert (await configure(api, "mutating", "label", hook.service("/label")))[0] == 201
    status, made = await api.ask("POST", f"{CONFIGMAPS}?dryRun=All", configmap())
    assert (status, made["metadata"]["labels"]) == (201, {"hook": "was-here"})
    assert (await hook.calls())[-1]["body"]["request"]["dryRun"] is True
    assert (await api.ask("GET", f"{CONFIGMAPS}/c"))[0] == 404


async def test_webhooks_cannot_touch_their_own_configurations(api: Any, hook: Hook) -> None:
    everything = RULE | {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["*"]}
    assert (await configure(api, "validating", "all", hook.service("/deny"), rules=[everything]))[0] == 201
    assert (await api.ask("POST", CONFIGMAPS, configmap()))[0] == 418
    assert (await api.ask("DELETE", f"{GROUP}/validatingwebhookconfigurations/all"))[0] == 200
    assert (await api.ask("POST", CONFIGMAPS, configmap()))[0] == 201


async def test_another_version_of_a_custom_resource_is_matched_and_pruned(site: Any, api: Any, hook: Hook) -> None:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}}}
    versions = [
        {"name": name, "served": True, "storage": name == "v2", "schema": {"openAPIV3Schema": schema}}
        for name in ("v1", "v2")
    ]
    await define(site, api, definition(schema, versions=versions))
    rule = {"operations": ["CREATE"], "apiGroups": ["q.io"], "apiVersions": ["v2"], "resources": ["gizmos"]}
    assert (await configure(api, "mutating", "odd-field", hook.service("/unknown-field"), rules=[rule]))[0] == 201
    gizmo = {"apiVersion": "q.io/v1", "kind": "Gizmo", "metadata": {"name": "g"}, "spec": {"a": "x"}}
    status, made = await api.ask("POST", "/apis/q.io/v1/namespaces/default/gizmos", gizmo)
    assert status == 201, made
    assert made["spec"] == {"a": "x"}
    asked = (await hook.calls())[-1]["body"]["request"]
    assert (asked["kind"]["version"], asked["requestKind"]["version"]) == ("v2", "v1")
    assert asked["object"]["apiVersion"] == "q.io/v2"
    exact = await configure(
        api, "validating", "exact", hook.service("/deny"), rules=[rule | {"apiVersions": ["v2"]}], matchPolicy="Exact"
    )
    assert exact[0] == 201
    gizmo["metadata"] = {"name": "h"}
    assert (await api.ask("POST", "/apis/q.io/v1/namespaces/default/gizmos", gizmo))[0] == 201


async def test_subresources_with_a_form_of_their_own_are_judged(api: Any, hook: Hook) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    deployment = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    path = "/apis/apps/v1/namespaces/default/deployments"
    assert (await api.ask("POST", path, deployment))[0] == 201
    rule = {"operations": ["UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments/scale"]}
    assert (await configure(api, "validating", "scale", hook.service("/deny"), rules=[rule]))[0] == 201
    status, answer = await api.ask("PATCH", f"{path}/d/scale", {"spec": {"replicas": 3}}, kind=MERGE)
    assert (status, "not today" in answer["message"]) == (418, True), answer
    asked = (await hook.calls())[-1]["body"]["request"]
    assert asked["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert (asked["subResource"], asked["object"]["spec"], asked["oldObject"]["spec"]) == (
        "scale",
        {"replicas": 3},
        {"replicas": 1},
    )
    assert (await api.ask("PATCH", f"{path}/d", {"spec": {"replicas": 2}}, kind=MERGE))[0] == 200
    await api.ask("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    assert (await api.ask("POST", PODS, pod))[0] == 201
    rule = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/eviction"]}
    assert (await configure(api, "validating", "evict", hook.service("/deny"), rules=[rule]))[0] == 201
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    assert (await api.ask("POST", f"{PODS}/p/eviction", eviction))[0] == 418
    assert (await api.ask("GET", f"{PODS}/p"))[0] == 200


@pytest.mark.parametrize(
    ("more", "field", "text"),
    [
        ({"sideEffects": None}, "webhooks[0].sideEffects", "must specify one of None, NoneOnDryRun"),
        ({"name": "short"}, "webhooks[0].name", "at least three segments"),
        ({"timeoutSeconds": 99}, "webhooks[0].timeoutSeconds", "between 1 and 30 seconds"),
        ({"admissionReviewVersions": ["v7"]}, "webhooks[0].admissionReviewVersions", "must include at least one of"),
        ({"clientConfig": {}}, "webhooks[0].clientConfig", "exactly one of url or service is required"),
        ({"clientConfig": {"url": "http://x/"}}, "webhooks[0].clientConfig.url", "'https' is the only allowed URL scheme"),
        ({"rules": [RULE | {"operations": ["READ"]}]}, "webhooks[0].rules[0].operations[0]", "Unsupported value"),
        (
            {"matchConditions": [{"name": "x", "expression": "nothing + 1 == 2"}]},
            "webhooks[0].matchConditions[0].expression",
            "compilation failed: ERROR: <input>:1:1: undeclared reference to 'nothing'",
        ),
        ({"matchConditions": [{"name": "x", "expression": "1"}]}, "webhooks[0].matchConditions[0].expression", "must evaluate to bool"),
    ],
)  # fmt: skip
async def test_configurations_that_cannot_work_are_refused(
    api: Any, more: dict[str, Any], field: str, text: str
) -> None:
    client = {"url": "https://127.0.0.1:1/"}
    status, answer = await configure(api, "validating", "bad", more.pop("clientConfig", client), **more)
    assert status == 422, answer
    cause = answer["details"]["causes"][0]
    assert (cause["field"], text in cause["message"]) == (field, True), cause


async def test_an_endpoint_that_no_pod_is_behind_does_not_lead_back_to_the_server(hook: Hook, api: Any) -> None:
    assert (await configure(api, "validating", "one", hook.service("/allow")))[0] == 201
    assert (await api.ask("POST", CONFIGMAPS, {"metadata": {"name": "a"}}))[0] == 201
    slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/hook-1"
    made_up = {"endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}]}
    assert (await api.ask("PATCH", slices, made_up, kind=MERGE))[0] == 200
    status, answer = await api.ask("POST", CONFIGMAPS, {"metadata": {"name": "b"}})
    assert status == 500
    assert 'no endpoints available for service "hook"' in answer["message"]
