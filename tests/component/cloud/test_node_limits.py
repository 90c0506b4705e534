"""What a node with a good certificate still may not do over its link: each is refused with the reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skerry.api.gvk import EVENTS, NODES, PODS, SERVICEACCOUNTS
from skerry.apiserver.auth.authn import MASTERS, User
from skerry.apiserver.core import ApiCore
from skerry.apiserver.local import LocalKubeApi
from skerry.base import json
from skerry.kube.ports import KubeApi
from skerry.testing.hollow import HollowNode, connect
from skerry.testing.hubkit import CloudKit, cloud
from skerry.wire.kubeedge.envelope import Envelope


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[KubeApi]:
    core = ApiCore(database=tmp_path / "api.db", token_key=tmp_path / "sa.key", synchronous="NORMAL")
    await core.start()
    local = LocalKubeApi(core, user=User("cloud", (MASTERS,)))
    for namespace in ("default", "kube-system"):
        await local.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, namespace=namespace)
    yield local
    await core.aclose()


@pytest.fixture
async def kit(api: KubeApi, tmp_path: Path) -> AsyncIterator[CloudKit]:
    async with cloud(api, tmp_path) as kit:
        yield kit


@pytest.fixture
async def node(kit: CloudKit) -> AsyncIterator[HollowNode]:
    async with connect(kit.hub_url, "edge-1", kit.tls(kit.node_credential("edge-1"))) as node:
        yield node


def mirror(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "annotations": {"kubernetes.io/config.mirror": "hash"}},
        "spec": {"nodeName": "edge-1", "containers": [{"name": "c", "image": "i"}]} | spec,
    }


async def test_a_node_registers_under_its_own_name_only(node: HollowNode, api: KubeApi) -> None:
    body = {"metadata": {"generateName": "gate-", "labels": {"node-role.kubernetes.io/control-plane": "", "a": "b"}}}
    assert (await node.request("insert", "default/node/edge-1", body)).is_ok
    found = (await api.list(NODES)).items
    assert [item["metadata"]["name"] for item in found] == ["edge-1"]
    assert found[0]["metadata"]["labels"] == {"a": "b"}
    again = {"metadata": {"name": "edge-1", "labels": {"node-role.kubernetes.io/master": "", "c": "d"}}}
    await node.exchange("update", "default/node/edge-1", again)
    assert "node-role.kubernetes.io/master" not in (await api.get(NODES, "edge-1"))["metadata"]["labels"]


async def test_a_mirror_pod_opens_no_way_to_tokens(node: HollowNode, kit: CloudKit, api: KubeApi) -> None:
    assert (await node.request("insert", "kube-system/pod/fair", mirror("fair"))).is_ok
    await node.until(lambda n: "kube-system/pod/fair" in n.objects)
    order = {"spec": {"boundObjectRef": {"kind": "Pod", "name": "fair"}}}
    asked = await node.request("query", "kube-system/serviceaccounttoken/default", order)
    assert asked.status is not None and asked.status["code"] == 403


@pytest.mark.parametrize(
    "spec",
    [
        {"serviceAccountName": "default"},
        {"serviceAccount": "default"},
        {"nodeName": "edge-2"},
        {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
        {"volumes": [{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "s"}}}]},
        {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]},
        {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]},
    ],
)
async def test_mirror_pods_that_name_other_objects_are_refused(
    node: HollowNode, api: KubeApi, spec: dict[str, Any]
) -> None:
    asked = await node.request("insert", "default/pod/thief", mirror("thief", **spec))
    assert asked.status is not None and asked.status["code"] == 403
    assert "thief" in asked.status["message"] and not (await api.list(PODS)).items


async def test_a_mirror_pod_has_no_foreign_owner(node: HollowNode) -> None:
    pod = mirror("thief")
    pod["metadata"]["ownerReferences"] = [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u"}]
    asked = await node.request("insert", "default/pod/thief", pod)
    assert asked.status is not None and asked.status["code"] == 403


async def test_a_node_stays_the_reporter_of_its_events(node: HollowNode, api: KubeApi) -> None:
    involved = {"kind": "Pod", "namespace": "default", "name": "web"}
    mine = {"metadata": {"name": "e1"}, "involvedObject": involved, "reason": "R", "source": {"host": "edge-1"}}
    await node.send(Envelope("m1", "edged", "resource", "insert", "default/event/e1", mine))
    change = {"reason": "Again", "source": {"host": "edge-2"}, "reportingInstance": "edge-2"}
    patch = {"event": mine, "patchData": json.dumps(change).decode()}
    await node.send(Envelope("m2", "edged", "resource", "patch", "default/event/e1", patch))
    found: dict[str, Any] = {}
    async with asyncio.timeout(30):
        while found.get("reason") != "Again":
            await node.request("query", "default/node/edge-1")
            found = next(iter((await api.list(EVENTS)).items), {})
    assert found["source"] == {"host": "edge-1"}
    assert not found.get("reportingInstance")


async def test_a_node_cannot_write_over_events_of_others(node: HollowNode, api: KubeApi) -> None:
    involved = {"kind": "Pod", "namespace": "default", "name": "web"}
    foreign = {"metadata": {"name": "e1"}, "involvedObject": involved, "reason": "R", "source": {"host": "edge-2"}}
    await api.create(EVENTS, foreign, namespace="default")
    mine = {"metadata": {"name": "e1"}, "involvedObject": involved, "reason": "Forged", "source": {"host": "edge-1"}}
    await node.send(Envelope("m1", "edged", "resource", "insert", "default/event/e1", mine))
    patch = {"event": mine, "patchData": '{"reason": "Forged"}'}
    await node.send(Envelope("m2", "edged", "resource", "patch", "default/event/e1", patch))
    own = mine | {"metadata": {"name": "e2"}}
    await node.send(Envelope("m3", "edged", "resource", "insert", "default/event/e2", own))
    await node.send(Envelope("m4", "edged", "resource", "update", "default/event/e2", own | {"reason": "Again"}))
    reasons: dict[str, str] = {}
    async with asyncio.timeout(5):
        while reasons.get("e2") != "Again":
            await node.request("query", "default/node/edge-1")
            reasons = {item["metadata"]["name"]: item["reason"] for item in (await api.list(EVENTS)).items}
    assert reasons["e1"] == "R"
