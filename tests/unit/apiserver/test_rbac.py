"""What rules say about requests."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.apiserver.auth.authn import User
from skerry.apiserver.auth.bootstrap_roles import cluster_role_bindings, cluster_roles
from skerry.apiserver.auth.nodes import NodeAuthorizer, references
from skerry.apiserver.auth.rbac import Attributes, Policy, aggregate, forbidden, rule_allows

BOB = User("bob", ("devs", "system:authenticated"))
RULE = {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]}


def ask(verb: str, resource: str = "", *, user: User = BOB, **more: str) -> Attributes:
    return Attributes(user, verb, resource=resource, **more)


@pytest.mark.parametrize(
    ("rule", "attributes", "allowed"),
    [
        (RULE, ask("get", "pods"), True),
        (RULE, ask("delete", "pods"), False),
        (RULE, ask("get", "pods", subresource="log"), True),
        (RULE, ask("get", "pods", subresource="exec"), False),
        (RULE, ask("get", "pods", group="apps"), False),
        ({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, ask("patch", "x", group="y", subresource="z"), True),
        ({"verbs": ["get"], "apiGroups": [""], "resources": ["*/log"]}, ask("get", "pods", subresource="log"), True),
        (RULE | {"resourceNames": ["a"]}, ask("get", "pods", name="a"), True),
        (RULE | {"resourceNames": ["a"]}, ask("get", "pods", name="b"), False),
        (RULE | {"resourceNames": ["a"]}, ask("list", "pods"), False),
        ({"verbs": ["get"], "nonResourceURLs": ["/healthz*"]}, ask("get", path="/healthz/x"), True),
        ({"verbs": ["get"], "nonResourceURLs": ["/healthz"]}, ask("get", path="/healthz/x"), False),
    ],
)
def test_rules(rule: dict[str, Any], attributes: Attributes, allowed: bool) -> None:
    assert rule_allows(rule, attributes) is allowed


def policy(*, role_bindings: list[dict[str, Any]] | None = None) -> Policy:
    roles = [{"metadata": {"name": "reader", "namespace": "a"}, "rules": [RULE]}]
    bindings = [
        {
            "metadata": {"name": "b", "namespace": "a"},
            "roleRef": {"kind": "Role", "name": "reader"},
            "subjects": [
                {"kind": "Group", "name": "devs"},
                {"kind": "ServiceAccount", "name": "robot"},
            ],
        }
    ]
    return Policy.build(
        cluster_roles=cluster_roles(),
        cluster_role_bindings=cluster_role_bindings(),
        roles=roles,
        role_bindings=role_bindings if role_bindings is not None else bindings,
    )


def test_bindings_reach_users_groups_and_accounts_in_their_namespace_only() -> None:
    rules = policy()
    robot = User("system:serviceaccount:a:robot", ())
    for user in (BOB, robot):
        assert rules.allows(ask("get", "pods", user=user, namespace="a"))
        assert not rules.allows(ask("get", "pods", user=user, namespace="b"))
        assert not rules.allows(ask("get", "pods", user=user))


def test_everybody_known_may_discover_and_nobody_else() -> None:
    rules = policy()
    assert rules.allows(ask("get", path="/apis/apps"))
    nobody = User("system:anonymous", ("system:unauthenticated",))
    assert rules.allows(ask("get", user=nobody, path="/version"))
    assert not rules.allows(ask("get", user=nobody, path="/apis"))


def test_aggregated_roles_join_the_rules_of_their_parts() -> None:
    roles = cluster_roles()
    edit = aggregate(next(role for role in roles if role["metadata"]["name"] == "edit"), roles)
    assert edit is not None
    assert any(rule_allows(rule, ask("delete", "pods")) for rule in edit)
    assert any(rule_allows(rule, ask("get", "pods", subresource="log")) for rule in edit)
    assert not any(rule_allows(rule, ask("create", "roles", group="rbac.authorization.k8s.io")) for rule in edit)


def test_nobody_covers_more_than_he_holds() -> None:
    rules = policy()
    assert rules.covers(BOB, "a", [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}])
    assert rules.covers(BOB, "a", [RULE | {"resourceNames": ["x"]}])
    assert not rules.covers(BOB, "a", [{"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods"]}])
    assert not rules.covers(BOB, "a", [{"verbs": ["get"], "apiGroups": ["*"], "resources": ["pods"]}])


def test_refusals_are_worded_as_kubectl_users_know_them() -> None:
    error = forbidden(ask("get", "pods", subresource="log", namespace="default", name="x"))
    assert error.message == (
        'pods "x" is forbidden: User "bob" cannot get resource "pods/log" in API group "" in the namespace "default"'
    )
    error = forbidden(ask("list", "deployments", group="apps"))
    assert error.message == (
        'deployments.apps is forbidden: User "bob" cannot list resource "deployments" in API group "apps" '
        "at the cluster scope"
    )
    assert forbidden(ask("get", path="/metrics")).message == 'forbidden: User "bob" cannot get path "/metrics"'


POD = {
    "metadata": {"name": "p", "namespace": "a"},
    "spec": {
        "nodeName": "edge-1",
        "serviceAccountName": "sa",
        "volumes": [
            {"name": "c", "configMap": {"name": "conf"}},
            {"name": "p", "projected": {"sources": [{"secret": {"name": "proj"}}]}},
        ],
        "containers": [{"name": "x", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "env"}}}]}],
    },
}


def test_references_of_a_pod() -> None:
    assert references(POD) == {
        ("serviceaccounts", "a", "sa"),
        ("configmaps", "a", "conf"),
        ("secrets", "a", "proj"),
        ("secrets", "a", "env"),
    }


@pytest.mark.parametrize(
    ("attributes", "allowed"),
    [
        ({"verb": "get", "resource": "secrets", "namespace": "a", "name": "env"}, True),
        ({"verb": "get", "resource": "secrets", "namespace": "a", "name": "other"}, False),
        ({"verb": "update", "resource": "nodes", "name": "edge-1"}, True),
        ({"verb": "update", "resource": "nodes", "name": "edge-2"}, False),
        ({"verb": "patch", "resource": "pods", "subresource": "status", "namespace": "a", "name": "p"}, True),
        ({"verb": "delete", "resource": "pods", "namespace": "a", "name": "other"}, False),
        ({"verb": "create", "resource": "pods", "namespace": "a"}, False),
    ],
)
def test_a_node_reaches_only_its_own(attributes: dict[str, str], allowed: bool) -> None:
    nodes = NodeAuthorizer(lambda name: [POD] if name == "edge-1" else [])
    user = User("system:node:edge-1", ("system:nodes",))
    assert nodes.allows(Attributes(user, **attributes)) is allowed
    assert not nodes.allows(Attributes(User("system:node:edge-1", ()), **attributes))
