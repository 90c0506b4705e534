"""Validating and mutating admission policies, over HTTPS."""

# ruff: noqa: E501 - expressions stand on one line

from __future__ import annotations

from typing import Any

import pytest

GROUP = "/apis/admissionregistration.k8s.io/v1"
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
MERGE = "application/merge-patch+json"


def rule(group: str, *resources: str) -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": list(resources),
    }


async def policy(
    api: Any, *validations: dict[str, Any], on: dict[str, Any], actions: tuple[str, ...] = ("Deny",), **spec: Any
) -> Any:
    binding_spec = spec.pop("binding", {})
    body = {
        "metadata": {"name": "p"},
        "spec": {"matchConstraints": {"resourceRules": [on]}, "validations": list(validations), **spec},
    }
    status, made = await api.ask("POST", f"{GROUP}/validatingadmissionpolicies", body)
    assert status == 201, made
    binding = {
        "metadata": {"name": "b"},
        "spec": {"policyName": "p", "validationActions": list(actions), **binding_spec},
    }
    status, answer = await api.ask("POST", f"{GROUP}/validatingadmissionpolicybindings", binding)
    assert status == 201, answer
    return made


def configmap(name: str = "c", /, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


def deployment(name: str = "d", replicas: int = 1) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}}
    return {
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": template},
    }


async def test_a_policy_with_variables_denies(api: Any) -> None:
    variables = [
        {"name": "replicas", "expression": "object.spec.replicas"},
        {"name": "isOdd", "expression": "variables.replicas % 2 == 1"},
        {"name": "never", "expression": "object.spec.nothing.at.all"},
    ]
    validation = {
        "expression": "variables.isOdd",
        "messageExpression": "'replicas must be odd, not ' + string(variables.replicas)",
    }
    made = await policy(api, validation, on=rule("apps", "deployments"), variables=variables)
    assert made["spec"]["failurePolicy"] == "Fail"
    assert made["status"]["observedGeneration"] == 1
    assert (await api.ask("POST", DEPLOYMENTS, deployment("odd", 3)))[0] == 201
    status, answer = await api.ask("POST", DEPLOYMENTS, deployment("even", 2))
    assert (status, answer["reason"]) == (422, "Invalid")
    assert answer["message"] == (
        "deployments.apps \"even\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: "
        "replicas must be odd, not 2"
    )


@pytest.mark.parametrize(
    ("reason", "code"), [("Forbidden", 403), ("Unauthorized", 401), ("RequestEntityTooLarge", 413), ("Invalid", 422)]
)
async def test_reasons_have_their_codes(api: Any, reason: str, code: int) -> None:
    validation = {"expression": "!has(object.data.bad)", "message": "no", "reason": reason}
    await policy(api, validation, on=rule("", "configmaps"))
    status, answer = await api.ask("POST", CONFIGMAPS, configmap(bad="x"))
    assert (status, answer["reason"]) == (code, reason)


async def test_failures_warn_where_they_do_not_deny(api: Any) -> None:
    await policy(api, {"expression": "size(object.data) < 2"}, on=rule("", "configmaps"), actions=("Warn", "Audit"))
    async with api.open("POST", CONFIGMAPS, json=configmap(a="1", b="2")) as answer:
        assert answer.status == 201
        assert answer.headers["Warning"] == (
            "299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': failed expression: "
            'size(object.data) < 2"'
        )


async def test_who_asks_and_what_he_may_are_known(api: Any) -> None:
    validations = (
        {"expression": "request.operation == 'CREATE' && request.userInfo.groups.exists(g, g == 'system:masters')"},
        {
            "expression": "authorizer.group('apps').resource('deployments').namespace('default').check('delete').allowed()"
        },
        {
            "expression": "authorizer.requestResource.check('create').allowed() && authorizer.path('/healthz').check('get').allowed()"
        },
        {
            "expression": "!authorizer.serviceAccount('default', 'none').group('').resource('secrets').check('create').allowed()"
        },
        {"expression": "namespaceObject.metadata.name == 'default' && oldObject == null"},
    )
    await policy(api, *validations, on=rule("", "configmaps"))
    status, answer = await api.ask("POST", CONFIGMAPS, configmap())
    assert status == 201, answer


async def test_parameters_come_from_objects(api: Any) -> None:
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    ref = {"name": "limits", "namespace": "kube-system", "parameterNotFoundAction": "Deny"}
    await policy(
        api,
        {"expression": "object.spec.replicas <= int(params.data.most)", "message": "too many"},
        on=rule("apps", "deployments"),
        paramKind=kind,
        binding={"paramRef": ref},
    )
    status, answer = await api.ask("POST", DEPLOYMENTS, deployment())
    assert (status, "no params found for policy binding" in answer["message"]) == (422, True), answer
    assert (await api.ask("POST", "/api/v1/namespaces/kube-system/configmaps", configmap("limits", most="2")))[0] == 201
    assert (await api.ask("POST", DEPLOYMENTS, deployment("a", 2)))[0] == 201
    status, answer = await api.ask("POST", DEPLOYMENTS, deployment("b", 3))
    assert (status, answer["message"].endswith("too many")) == (422, True)


async def test_conditions_and_broken_expressions(api: Any) -> None:
    await policy(
        api,
        {"expression": "object.data.missing == 'x'"},
        on=rule("", "configmaps"),
        matchConditions=[{"name": "not-me", "expression": "object.metadata.name != 'skip'"}],
    )
    assert (await api.ask("POST", CONFIGMAPS, configmap("skip")))[0] == 201
    status, answer = await api.ask("POST", CONFIGMAPS, configmap("other", a="b"))
    assert (status, "resulted in error: no such key: missing" in answer["message"]) == (422, True), answer
    one = f"{GROUP}/validatingadmissionpolicies/p"
    assert (await api.ask("PATCH", one, {"spec": {"failurePolicy": "Ignore"}}, kind=MERGE))[0] == 200
    assert (await api.ask("POST", CONFIGMAPS, configmap("other", a="b")))[0] == 201


async def test_types_are_checked_for_the_status(api: Any) -> None:
    body = {
        "metadata": {"name": "p"},
        "spec": {
            "matchConstraints": {"resourceRules": [rule("apps", "deployments")]},
            "validations": [{"expression": "object.spec.replicas > '1'"}, {"expression": "object.spec.replicaz > 1"}],
        },
    }
    status, made = await api.ask("POST", f"{GROUP}/validatingadmissionpolicies", body)
    assert status == 201, made
    warnings = made["status"]["typeChecking"]["expressionWarnings"]
    assert [w["fieldRef"] for w in warnings] == ["spec.validations[0].expression", "spec.validations[1].expression"]
    assert warnings[0]["warning"].startswith(
        "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload"
    )
    assert "undefined field 'replicaz'" in warnings[1]["warning"]


@pytest.mark.parametrize(
    ("spec", "field", "text"),
    [
        ({"validations": [{"expression": "object.x +"}]}, "spec.validations[0].expression", "compilation failed"),
        (
            {"validations": [{"expression": "params.x"}]},
            "spec.validations[0].expression",
            "undeclared reference to 'params'",
        ),
        ({"validations": [{"expression": "variables.x"}]}, "spec.validations[0].expression", "undefined field 'x'"),
        ({"validations": []}, "spec.validations", "must contain at least one item"),
        ({"variables": [{"name": "a-b", "expression": "1"}]}, "spec.variables[0].name", "not a valid CEL identifier"),
        ({"matchConstraints": {"resourceRules": []}}, "spec.matchConstraints.resourceRules", "Required value"),
    ],
)
async def test_policies_that_cannot_run_are_refused(api: Any, spec: dict[str, Any], field: str, text: str) -> None:
    body = {
        "metadata": {"name": "p"},
        "spec": {
            "matchConstraints": {"resourceRules": [rule("", "configmaps")]},
            "validations": [{"expression": "true"}],
            **spec,
        },
    }
    status, answer = await api.ask("POST", f"{GROUP}/validatingadmissionpolicies", body)
    assert status == 422, answer
    cause = answer["details"]["causes"][0]
    assert (cause["field"], text in cause["message"]) == (field, True), cause


async def mutating(api: Any, *mutations: dict[str, Any], on: dict[str, Any], **spec: Any) -> None:
    body = {
        "metadata": {"name": "m"},
        "spec": {
            "matchConstraints": {"resourceRules": [on]},
            "mutations": list(mutations),
            "reinvocationPolicy": "Never",
            **spec,
        },
    }
    status, answer = await api.ask("POST", f"{GROUP}/mutatingadmissionpolicies", body)
    assert status == 201, answer
    binding = {"metadata": {"name": "mb"}, "spec": {"policyName": "m"}}
    status, answer = await api.ask("POST", f"{GROUP}/mutatingadmissionpolicybindings", binding)
    assert status == 201, answer


async def test_a_mutating_policy_applies_a_configuration(api: Any) -> None:
    expression = """Object{
      metadata: Object.metadata{annotations: {"policy": "was-here"}},
      spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{
        containers: [Object.spec.template.spec.containers{name: "side", image: "sidecar:1"}]}}}}"""
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}
    await mutating(api, mutation, on=rule("apps", "deployments"))
    status, made = await api.ask("POST", DEPLOYMENTS, deployment())
    assert status == 201, made
    assert made["metadata"]["annotations"]["policy"] == "was-here"
    containers = made["spec"]["template"]["spec"]["containers"]
    assert [(c["name"], c["imagePullPolicy"]) for c in containers] == [("c", "Always"), ("side", "IfNotPresent")]


async def test_a_mutating_policy_patches(api: Any) -> None:
    expression = """[
      JSONPatch{op: "test", path: "/data/a", value: "1"},
      JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("example.com/x"), value: object.data.a + "2"}]"""
    mutation = {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}
    await mutating(api, mutation, on=rule("", "configmaps"))
    status, answer = await api.ask("POST", CONFIGMAPS, {"metadata": {"name": "c", "labels": {}}, "data": {"a": "1"}})
    assert status == 201, answer
    assert answer["metadata"]["labels"] == {"example.com/x": "12"}
    status, answer = await api.ask("POST", CONFIGMAPS, {"metadata": {"name": "d"}, "data": {"a": "3"}})
    assert (status, "MutatingAdmissionPolicy 'm' with binding 'mb' denied request" in answer["message"]) == (403, True)
