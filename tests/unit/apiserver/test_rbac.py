"""What rules say about requests."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.api import gvk
from skerry.api.kinds.access import aggregated_rules
from skerry.api.kinds.rules import Rules
from skerry.apiserver.auth.authn import User
from skerry.apiserver.auth.bootstrap_policy import bootstrap_policy, node_rules
from skerry.apiserver.auth.nodes import NodeAuthorizer, references
from skerry.apiserver.auth.rbac import Attributes, Policy, forbidden, rule_allows

CLUSTER_ROLES = [obj for resource, obj in bootstrap_policy() if resource == gvk.CLUSTERROLES]
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
        cluster_roles=CLUSTER_ROLES,
        cluster_role_bindings=[obj for resource, obj in bootstrap_policy() if resource == gvk.CLUSTERROLEBINDINGS],
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
    edit, admin = (
        next(role for role in CLUSTER_ROLES if role["metadata"]["name"] == name) for name in ("edit", "admin")
    )
    for role in (edit, admin):
        assert aggregated_rules(role, CLUSTER_ROLES) == role["rules"]
        assert any(rule_allows(rule, ask("delete", "pods")) for rule in role["rules"])
        assert any(rule_allows(rule, ask("get", "pods", subresource="log")) for rule in role["rules"])
    grant = ask("create", "roles", group="rbac.authorization.k8s.io")
    assert [any(rule_allows(rule, grant) for rule in role["rules"]) for role in (edit, admin)] == [False, True]


def test_the_policy_is_upstreams() -> None:
    names = {role["metadata"]["name"] for role in CLUSTER_ROLES}
    assert {"admin", "edit", "view", "cluster-admin", "system:node", "system:kube-scheduler"} <= names
    assert len([name for name in names if name.startswith("system:controller:")]) == 38
    reader = next(o for r, o in bootstrap_policy() if r == gvk.ROLEBINDINGS and "authentication-reader" in o["metadata"]["name"])  # noqa: E501  # fmt: skip
    assert [subject["kind"] for subject in reader["subjects"]] == ["User", "User"]
    for resource, obj in bootstrap_policy():
        table = Rules()
        table.default(resource.group, resource.kind, obj)
        assert table.validate_create(resource.group, resource.kind, obj) == []
    assert node_rules()


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
            {"name": "d", "persistentVolumeClaim": {"claimName": "claim"}},
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


def seen(verb: str, resource: str, name: str = "", namespace: str = "a", **more: str) -> dict[str, str]:
    return {"verb": verb, "resource": resource, "name": name, "namespace": namespace, **more}


NEIGHBOURS: dict[tuple[str, str, str], dict[str, Any]] = {
    ("pods", "a", "p"): POD,
    ("pods", "a", "other"): {"metadata": {"name": "other", "namespace": "a"}, "spec": {"nodeName": "edge-2"}},
    ("persistentvolumeclaims", "a", "claim"): {"spec": {"volumeName": "volume"}},
    ("persistentvolumes", "", "volume"): {
        "spec": {"csi": {"nodeStageSecretRef": {"name": "stage", "namespace": "b"}}, "claimRef": {"namespace": "a"}}
    },
}


MIRROR_POD = {
    "metadata": {"name": "db", "namespace": "a", "annotations": {"kubernetes.io/config.mirror": "hash"}},
    "spec": {
        "nodeName": "edge-1",
        "serviceAccountName": "theirs",
        "volumes": [{"name": "data", "ephemeral": {}}, {"name": "s", "secret": {"secretName": "theirs"}}],
        "resourceClaims": [{"name": "gpu", "resourceClaimName": "theirs"}],
    },
}


class Store:
    def pods_of(self, node: str) -> list[Any]:
        return [POD, MIRROR_POD] if node == "edge-1" else []

    def find(self, gr: str, namespace: str, name: str) -> Any:
        return NEIGHBOURS.get((gr, namespace, name))


LEASE = {"group": "coordination.k8s.io"}


@pytest.mark.parametrize(
    ("attributes", "allowed"),
    [
        (seen("get", "secrets", "env"), True),
        (seen("get", "secrets", "other"), False),
        (seen("list", "secrets"), False),
        (seen("get", "secrets", "stage", "b"), True),
        (seen("get", "secrets", "stage", "a"), False),
        (seen("get", "persistentvolumeclaims", "claim"), True),
        (seen("get", "persistentvolumeclaims", "x"), False),
        (seen("get", "persistentvolumes", "volume", ""), True),
        (seen("get", "persistentvolumes", "x", ""), False),
        (seen("get", "persistentvolumeclaims", "db-data"), False),
        (seen("get", "secrets", "theirs"), False),
        (seen("get", "resourceclaims", "theirs", group="resource.k8s.io"), False),
        (seen("create", "serviceaccounts", "theirs", subresource="token"), False),
        (seen("get", "serviceaccounts", "sa"), True),
        (seen("create", "serviceaccounts", "sa", subresource="token"), True),
        (seen("create", "serviceaccounts", "other", subresource="token"), False),
        (seen("update", "nodes", "edge-1", ""), True),
        (seen("update", "nodes", "edge-2", ""), False),
        (seen("get", "nodes", "edge-2", ""), False),
        (seen("list", "nodes", "", ""), False),
        (seen("watch", "nodes", "edge-1", ""), True),
        (seen("delete", "nodes", "edge-1", ""), False),
        (seen("get", "pods", "p"), True),
        (seen("get", "pods", "other"), False),
        (seen("list", "pods", "", ""), False),
        (seen("list", "pods", "", "", field_selector="spec.nodeName=edge-1"), True),
        (seen("watch", "pods", "", "", field_selector="status.phase!=Failed,spec.nodeName==edge-1"), True),
        (seen("watch", "pods", "", "", field_selector="spec.nodeName=edge-2"), False),
        (seen("list", "pods", "", "", field_selector=r"status.phase!=x\,spec.nodeName=edge-1"), False),
        (seen("list", "pods", "", "", field_selector=r"status.phase!=x\,spec.nodeName\=edge-1"), False),
        (seen("patch", "pods", "p", subresource="status"), True),
        (seen("patch", "pods", "other", subresource="status"), False),
        (seen("create", "pods", "p", subresource="exec"), False),
        (seen("delete", "pods", "other"), False),
        (seen("deletecollection", "pods"), False),
        (seen("update", "leases", "edge-1", "kube-node-lease", **LEASE), True),
        (seen("update", "leases", "edge-2", "kube-node-lease", **LEASE), False),
        (seen("update", "leases", "edge-1", "kube-system", **LEASE), False),
        (seen("list", "services", "", ""), True),
        (seen("create", "events"), True),
        (seen("create", "certificatesigningrequests", "", "", group="certificates.k8s.io"), True),
        (seen("create", "clusterrolebindings", "", "", group="rbac.authorization.k8s.io"), False),
    ],
)
def test_a_node_reaches_only_its_own(attributes: dict[str, str], allowed: bool) -> None:
    nodes = NodeAuthorizer(Store())
    user = User("system:node:edge-1", ("system:nodes",))
    assert nodes.allows(Attributes(user, **attributes)) is allowed
    assert not nodes.allows(Attributes(User("system:node:edge-1", ()), **attributes))
