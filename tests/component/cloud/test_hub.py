"""Hub, sync and join over real TLS WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skerry.api.gvk import (
    CLUSTEROBJECTSYNCS,
    CONFIGMAPS,
    EVENTS,
    NAMESPACES,
    NODES,
    OBJECTSYNCS,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    SERVICEACCOUNTS,
    Object,
)
from skerry.api.meta import STORE_GENERATION
from skerry.api.status import AlreadyExists
from skerry.apiserver.auth.authn import MASTERS, User
from skerry.apiserver.core import ApiCore
from skerry.apiserver.local import LocalKubeApi
from skerry.cloud.hub.listener import HubLimits
from skerry.cloud.hub.ports import NodeName
from skerry.kube.ports import KubeApi
from skerry.testing.fakekube import FakeKubeApi
from skerry.testing.hollow import HollowNode, Refusal, connect
from skerry.testing.hubkit import CloudKit, cloud
from skerry.testing.site import until
from skerry.wire.kubeedge.envelope import Envelope

NODE: dict[str, Any] = {
    "metadata": {
        "name": "edge-1",
        "creationTimestamp": None,
        "labels": {"kubernetes.io/hostname": "edge-1", "site": "a", "node-role.kubernetes.io/edge": ""},
    },
    "status": {"conditions": [{"type": "Ready", "status": "False"}]},
}


@pytest.fixture(params=["fake", "server"])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KubeApi]:
    if request.param == "fake":
        yield FakeKubeApi()
        return
    core = ApiCore(database=tmp_path / "api.db", token_key=tmp_path / "sa.key", synchronous="NORMAL")
    await core.start()
    local = LocalKubeApi(core, user=User("cloud", (MASTERS,)))
    await local.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, namespace="default")
    yield local
    await core.aclose()


@pytest.fixture
async def kit(api: KubeApi, tmp_path: Path) -> AsyncIterator[CloudKit]:
    async with cloud(api, tmp_path) as kit:
        yield kit


def pod(name: str, *, node: str = "edge-1", config: str = "") -> Object:
    volumes = [{"name": "c", "configMap": {"name": config}}] if config else []
    return {
        "metadata": {"name": name, "namespace": "default", "managedFields": [{"manager": "x"}]},
        "spec": {"nodeName": node, "containers": [{"name": "app", "image": "i"}], "volumes": volumes},
    }


def config(name: str, value: str) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}, "data": {"key": value}}


def claim(name: str) -> Object:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeName": f"pv-{name}"}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


def volume(claim_name: str) -> Object:
    bound = {"namespace": "default", "name": claim_name}
    spec = {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data"},
        "claimRef": bound,
    }  # fmt: skip
    return {"metadata": {"name": f"pv-{claim_name}"}, "spec": spec}


def holds(*keys: str) -> Any:
    return lambda node: set(keys) <= set(node.objects)


async def test_a_node_joins_registers_and_runs_a_pod(kit: CloudKit, api: KubeApi) -> None:
    await api.create(CONFIGMAPS, config("cm", "1"))
    tls = kit.tls(await kit.join("edge-1"))
    async with connect(kit.hub_url, "edge-1", tls) as node:
        registered = await node.request("insert", "null/node/edge-1", NODE)
        assert registered.is_ok and registered.object is not None
        assert registered.object["metadata"]["labels"]["kubernetes.io/hostname"] == "edge-1"
        await node.until(holds("null/node/edge-1"))
        made = await api.create(PODS, pod("web", config="cm"))
        await node.until(holds("default/pod/web", "default/configmap/cm"))
        order = [resource for _, resource, _ in node.log if resource.startswith("default/")]
        assert order == ["default/configmap/cm", "default/pod/web"]
        assert node.objects["default/pod/web"]["kind"] == "Pod"
        assert "managedFields" not in node.objects["default/pod/web"]["metadata"]
        status = {"metadata": {"uid": made["metadata"]["uid"]}, "status": {"phase": "Running"}}
        patched = await node.request("patch", "default/podpatch/web", status)
        assert patched.object is not None and patched.object["status"]["phase"] == "Running"
        await api.patch(CONFIGMAPS, "cm", {"data": {"key": "2"}}, namespace="default")
        await node.until(lambda n: n.objects["default/configmap/cm"]["data"]["key"] == "2")
        assert len([1 for _, resource, _ in node.log if resource == "default/pod/web"]) == 1, "its own echo was sent"
        await api.delete(PODS, "web", namespace="default")
        await node.until(lambda n: "deletionTimestamp" in n.objects["default/pod/web"]["metadata"])
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": made["metadata"]["uid"]}}
        assert (await node.request("delete", "default/pod/web", options)).text == "OK"
        await node.until(lambda n: "default/pod/web" not in n.objects and "default/configmap/cm" not in n.objects)


async def test_after_a_reconnect_only_the_difference_is_sent(kit: CloudKit, api: KubeApi) -> None:
    for name in ("same", "changed", "removed"):
        await api.create(PODS, pod(name))
    tls = kit.tls(kit.node_credential("edge-1"))
    async with connect(kit.hub_url, "edge-1", tls) as node:
        await node.until(holds("default/pod/same", "default/pod/changed", "default/pod/removed"))
    await kit.record.flush()
    assert len((await api.list(OBJECTSYNCS)).items) == 3
    await api.patch(PODS, "changed", {"metadata": {"labels": {"a": "b"}}}, namespace="default")
    await api.delete(PODS, "removed", namespace="default", grace_period_s=0)
    await api.create(PODS, pod("new"))
    async with connect(kit.hub_url, "edge-1", tls) as node:
        await node.until(lambda n: len(n.log) >= 3)
        assert sorted((operation, resource) for operation, resource, _ in node.log) == [
            ("delete", "default/pod/removed"),
            ("insert", "default/pod/changed"),
            ("insert", "default/pod/new"),
        ]
    await kit.record.flush()
    names = {sync["spec"]["objectName"] for sync in (await api.list(OBJECTSYNCS)).items}
    assert names == {"same", "changed", "new"}


async def test_cursors_survive_a_restart_of_the_cloud(api: KubeApi, tmp_path: Path) -> None:
    await api.create(NODES, {"metadata": {"name": "edge-1"}})
    await api.create(PODS, pod("web"))
    async with cloud(api, tmp_path) as first:
        credential = await first.join("edge-1")
        async with connect(first.hub_url, "edge-1", first.tls(credential)) as node:
            await node.until(holds("default/pod/web", "null/node/edge-1"))
        await first.record.flush()
    assert len((await api.list(CLUSTEROBJECTSYNCS)).items) == 1
    await api.create(PODS, pod("late"))
    async with cloud(api, tmp_path) as second:
        async with connect(second.hub_url, "edge-1", second.tls(credential)) as node:
            await node.until(holds("default/pod/late"))
            assert [resource for _, resource, _ in node.log] == ["default/pod/late"]


async def test_a_node_that_lost_its_store_gets_everything_again(kit: CloudKit, api: KubeApi) -> None:
    await api.create(NODES, {"metadata": {"name": "edge-1"}})
    await api.create(PODS, pod("web"))
    async with connect(kit.hub_url, "edge-1", kit.tls(kit.node_credential("edge-1"))) as node:
        await node.until(holds("default/pod/web"))
        outcome = await node.request("insert", "null/node/edge-1", NODE)
        assert outcome.status is not None and outcome.status["reason"] == "AlreadyExists"
        await node.until(lambda n: [r for _, r, _ in n.log].count("default/pod/web") == 2)
        assert [r for _, r, _ in node.log].count("null/node/edge-1") == 2


async def test_a_delivery_without_an_acknowledgement_is_sent_again_after_reconnect(kit: CloudKit, api: KubeApi) -> None:
    await api.create(PODS, pod("web"))
    tls = kit.tls(kit.node_credential("edge-1"))
    async with connect(kit.hub_url, "edge-1", tls, acks=False) as node:
        await node.until(lambda n: len(n.copies) == 1)
        link = kit.hub.connected()[0]
        assert (link.node, link.waiting, link.is_skerry) == ("edge-1", 1, True)
    async with connect(kit.hub_url, "edge-1", tls) as node:
        await node.until(holds("default/pod/web"))


async def test_a_node_sees_and_writes_only_its_own(kit: CloudKit, api: KubeApi) -> None:
    await api.create(NODES, {"metadata": {"name": "edge-2"}})
    await api.create(PODS, pod("foreign", node="edge-2", config="theirs"))
    await api.create(PODS, pod("mine", config="ours"))
    for name in ("theirs", "ours", "nobodys"):
        await api.create(CONFIGMAPS, config(name, "1"))
    for name in ("theirs", "ours"):
        await api.create(PERSISTENTVOLUMECLAIMS, claim(name))
        await api.create(PERSISTENTVOLUMES, volume(name))
    mounting = pod("mounting", config="ours")
    mounting["spec"]["volumes"].append({"name": "data", "persistentVolumeClaim": {"claimName": "ours"}})
    await api.create(PODS, mounting)
    async with connect(kit.hub_url, "edge-1", kit.tls(kit.node_credential("edge-1"))) as node:
        await node.until(holds("default/pod/mounting"))
        for key in ("default/persistentvolumeclaim/ours", "default/persistentvolume/pv-ours"):
            assert (await node.request("query", key)).is_ok, key
        await node.until(holds("default/pod/mine", "default/configmap/ours"))
        for operation, resource, content in [
            ("query", "default/configmap/theirs", None),
            ("query", "default/configmap/nobodys", None),
            ("query", "default/secret/nobodys", None),
            ("query", "default/serviceaccounttoken/default", {"spec": {"boundObjectRef": {"name": "foreign"}}}),
            ("patch", "default/podpatch/foreign", {"status": {"phase": "Failed"}}),
            ("delete", "default/pod/foreign", {}),
            ("patch", "null/nodepatch/edge-2", {"status": {"phase": "x"}}),
            ("insert", "null/node/edge-2", {"metadata": {"name": "edge-2"}}),
            ("insert", "null/node/edge-1", {"metadata": {"name": "edge-2"}}),
            ("update", "kube-node-lease/lease/edge-2", {"metadata": {"name": "edge-2"}}),
            ("query", "kube-node-lease/lease/edge-2", None),
            ("query", "default/persistentvolumeclaim/theirs", None),
            ("query", "default/persistentvolume/pv-theirs", None),
            ("insert", "default/pod/static", pod("static", node="edge-2")),
        ]:
            outcome = await node.request(operation, resource, content)
            assert outcome.status is not None, resource
            assert outcome.status["code"] == 403, (resource, outcome.status)
        assert (await node.request("query", "default/configmap/ours")).is_ok
        missing = await node.request("query", "default/configmap/missing")
        assert missing.status is not None and missing.status["code"] == 403
        assert not [key for key in node.objects if "foreign" in key or "theirs" in key]
    assert (await api.get(PODS, "foreign", namespace="default"))["spec"]["nodeName"] == "edge-2"


async def test_a_missing_config_is_told_in_the_form_that_each_agent_understands(kit: CloudKit, api: KubeApi) -> None:
    optional = pod("optional")
    optional["spec"]["volumes"] = [{"name": "o", "secret": {"secretName": "maybe", "optional": True}}]
    await api.create(PODS, optional)
    await api.create(PODS, pod("web", config="absent"))
    tls = kit.tls(kit.node_credential("edge-1"))
    async with connect(kit.hub_url, "edge-1", tls, is_skerry=True) as node:
        await node.until(holds("default/pod/web"))
        outcome = await node.request("query", "default/configmap/absent")
        assert outcome.status is not None and outcome.status["code"] == 404
    async with connect(kit.hub_url, "edge-1", tls, is_skerry=False) as node:
        reply = await node.exchange("query", "default/configmap/absent")
        assert (reply.operation, type(reply.content)) == ("error", str)
        reply = await node.exchange("query", "default/secret/maybe")
        assert reply.content == {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "maybe", "namespace": "default"},
        }


async def test_leases_events_and_tokens(kit: CloudKit, api: KubeApi) -> None:
    with contextlib.suppress(AlreadyExists):
        await api.create(SERVICEACCOUNTS, {"metadata": {"name": "default", "namespace": "default"}})
    made = await api.create(PODS, pod("web"))
    lease = {"metadata": {"name": "edge-1", "namespace": "kube-node-lease"}, "spec": {"holderIdentity": "edge-1"}}
    async with connect(kit.hub_url, "edge-1", kit.tls(kit.node_credential("edge-1"))) as node:
        await node.until(holds("default/pod/web"))
        missing = await node.request("query", "kube-node-lease/lease/edge-1")
        assert missing.status is not None and missing.status["code"] == 404
        first = await node.request("insert", "kube-node-lease/lease/edge-1", lease)
        assert first.object is not None
        renewed = first.object | {"spec": {"holderIdentity": "edge-1", "leaseDurationSeconds": 40}}
        assert (await node.request("update", "kube-node-lease/lease/edge-1", renewed)).is_ok
        stale = await node.request("update", "kube-node-lease/lease/edge-1", first.object)
        assert stale.status is not None and stale.status["reason"] == "Conflict"
        bound = {"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": made["metadata"]["uid"]}
        asked = {"spec": {"audiences": None, "expirationSeconds": 3607, "boundObjectRef": bound}}
        token = await node.request("query", "default/serviceaccounttoken/default", asked)
        assert token.object is not None and token.object["status"]["token"]
        assert (await node.request("query", "k8s/ca.crt")).text == "PEM"
        event = {"metadata": {"name": "e", "namespace": "default"}, "reason": "Started", "count": 1}
        await _fire(node, "insert", "default/event/e", event)
        await _fire(node, "patch", "default/event/e", {"event": event, "patchData": '{"count":2}'})
        await _fire(node, "patch", "default/event/f", {"event": event, "patchData": '{"count":2}'})
        page = await api.list(EVENTS, namespace="default")
        counts = {found["metadata"]["name"]: found["count"] for found in page.items}
        async with asyncio.timeout(10):
            changes = api.watch(EVENTS, resource_version=page.resource_version, namespace="default")
            while counts != {"e": 2, "f": 1}:
                change = await anext(changes)
                if change.type != "BOOKMARK":
                    counts[change.object["metadata"]["name"]] = change.object["count"]


async def _fire(node: HollowNode, operation: str, resource: str, content: Object) -> None:
    await node.send(Envelope("", "edged", "meta", operation, resource, content))


async def test_every_question_is_answered(kit: CloudKit) -> None:
    async with connect(kit.hub_url, "edge-1", kit.tls(kit.node_credential("edge-1"))) as node:
        for operation, resource, content in [
            ("query", "default/unicorn/x", None),
            ("frobnicate", "default/pod/web", None),
            ("query", "nonsense", None),
            ("patch", "null/nodepatch/edge-1", "not json"),
            ("insert", "null/node/edge-1", 7),
            ("insert", "null/node/edge-1", {"metadata": "x"}),
            ("query", "a/configmap/b/c", None),
            ("query", "default/serviceaccounttoken/default", "{broken"),
        ]:
            outcome = await node.request(operation, resource, content)
            assert not outcome.is_ok, (operation, resource)


async def test_a_deleted_node_loses_its_session(kit: CloudKit, api: KubeApi) -> None:
    await api.create(NODES, {"metadata": {"name": "edge-1"}})
    async with connect(kit.hub_url, "edge-1", kit.tls(kit.node_credential("edge-1"))) as node:
        await node.until(holds("null/node/edge-1"))
        await api.delete(NODES, "edge-1")
        await node.until(lambda n: n.ended.is_set())
        assert node.close_code == 1001


async def test_of_two_living_connections_the_newer_is_refused(kit: CloudKit, api: KubeApi) -> None:
    await api.create(NODES, {"metadata": {"name": "edge-1"}})
    tls = kit.tls(kit.node_credential("edge-1"))
    async with connect(kit.hub_url, "edge-1", tls) as first:
        await first.until(holds("null/node/edge-1"))
        with pytest.raises(Refusal) as caught:
            async with connect(kit.hub_url, "edge-1", tls):
                pass
        assert caught.value.status == 409
        assert not first.ended.is_set()
        conditions = {x["type"]: x for x in (await api.get(NODES, "edge-1"))["status"]["conditions"]}
        assert conditions["IdentityClash"]["status"] == "True"
    assert kit.hub.refusals.count == 2
    async with connect(kit.hub_url, "edge-1", tls) as again:
        await again.request("query", "null/node/edge-1")
        conditions = {x["type"]: x for x in (await api.get(NODES, "edge-1"))["status"]["conditions"]}
        assert conditions["IdentityClash"]["status"] == "False"


async def test_a_newer_connection_replaces_a_dead_one(kit: CloudKit) -> None:
    tls = kit.tls(kit.node_credential("edge-1"))
    async with connect(kit.hub_url, "edge-1", tls, autoping=False) as dead:
        async with connect(kit.hub_url, "edge-1", tls) as alive:
            assert not (await alive.request("query", "default/configmap/x")).is_ok
            await dead.until(lambda n: n.ended.is_set())
        assert kit.hub.refusals.count == 0


async def test_an_idle_session_has_no_task_but_its_reader_and_still_delivers(kit: CloudKit, api: KubeApi) -> None:
    async def busy() -> str:
        return ", ".join(task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("hub-edge-1/"))

    tls = kit.tls(kit.node_credential("edge-1"))
    async with connect(kit.hub_url, "edge-1", tls) as node:
        for name in ("a", "b"):
            await api.create(PODS, pod(name))
            await node.until(holds(f"default/pod/{name}"))
            await until(busy, within_s=30)


def report(**holdings: list[str]) -> Envelope:
    """What an agent of ours says it holds; ``default__pod__a`` stands for ``default/pod/a``."""
    content = {path.replace("__", "/"): entry for path, entry in holdings.items()}
    return Envelope("", "edged", "resource", "report", "skerry/holdings", content)


async def test_a_node_that_tells_what_it_holds_gets_the_difference(kit: CloudKit, api: KubeApi) -> None:
    made = {name: await api.create(PODS, pod(name)) for name in ("same", "old", "lost")}
    tls = kit.tls(kit.node_credential("edge-1"))
    async with connect(kit.hub_url, "edge-1", tls, headers={"Skerry-Store": "-"}) as node:
        await node.send(report())
        await node.until(holds("default/pod/same", "default/pod/old", "default/pod/lost"))
    uids = {name: obj["metadata"]["uid"] for name, obj in made.items()}
    same = made["same"]["metadata"]["resourceVersion"]
    # The record says that it holds all three, but it lost one, holds an older one, and one that the cloud never knew.
    async with connect(kit.hub_url, "edge-1", tls, headers={"Skerry-Store": "-"}) as node:
        told = report(
            default__pod__same=[uids["same"], same], default__pod__old=[uids["old"], "1"],
            default__pod__foreign=["another-uid", "7"],
        )  # fmt: skip
        await node.send(told)
        await node.until(lambda n: len(n.log) >= 3)
        assert sorted((operation, resource) for operation, resource, _ in node.log) == [
            ("delete", "default/pod/foreign"),
            ("insert", "default/pod/lost"),
            ("insert", "default/pod/old"),
        ]
        # It registers again, as at every beginning of a session: nothing is sent twice for that.
        await node.request("insert", "null/node/edge-1", NODE)
        await node.until(holds("null/node/edge-1"))
        await node.request("insert", "null/node/edge-1", NODE)
        await api.create(PODS, pod("next"))
        await node.until(holds("default/pod/next"))
        assert [resource for _, resource, _ in node.log[3:] if "/pod/" in resource] == ["default/pod/next"]


async def test_a_node_that_owes_its_holdings_is_asked_for_them(tmp_path: Path, api: KubeApi) -> None:
    made = await api.create(PODS, pod("web"))
    async with cloud(api, tmp_path / "cloud", hub_limits=HubLimits(holdings_within_s=0.2)) as kit:
        tls = kit.tls(kit.node_credential("edge-1"))
        async with connect(kit.hub_url, "edge-1", tls, headers={"Skerry-Store": "-"}) as node:
            asked = ("query", "skerry/holdings")
            await node.until(lambda n: asked in [(other.operation, other.resource) for other in n.others])
            told = report(
                default__pod__web=[made["metadata"]["uid"], made["metadata"]["resourceVersion"]],
                default__pod__foreign=["another-uid", "7"],
            )  # fmt: skip
            await node.send(told)
            await node.until(lambda n: [entry[:2] for entry in n.log] == [("delete", "default/pod/foreign")])


async def test_a_change_that_concerns_no_node_is_not_sent_after_an_outage(kit: CloudKit, api: KubeApi) -> None:
    await api.create(PODS, pod("web"))
    tls = kit.tls(kit.node_credential("edge-1"))
    async with connect(kit.hub_url, "edge-1", tls) as node:
        await node.until(holds("default/pod/web"))
    # While the node is away, somebody writes its pod's status, as a controller does with pods of a silent node.
    status = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    await api.patch(PODS, "web", status, namespace="default", subresource="status")
    await api.create(PODS, pod("marker"))
    async with connect(kit.hub_url, "edge-1", tls) as node:
        await node.until(holds("default/pod/marker"))
        assert [resource for _, resource, _ in node.log] == ["default/pod/marker"]


async def test_a_status_of_a_node_that_says_what_it_holds_costs_no_cursor(kit: CloudKit, api: KubeApi) -> None:
    made = await api.create(PODS, pod("web"))
    uid, version = made["metadata"]["uid"], made["metadata"]["resourceVersion"]
    tls, headers = kit.tls(kit.node_credential("edge-1")), {"Skerry-Store": "-"}

    async def not_written() -> str:
        await kit.record.flush()
        found = {sync["metadata"]["name"]: sync.get("status") for sync in (await api.list(OBJECTSYNCS)).items}
        return "" if found.get(f"edge-1.{uid}") == {"objectResourceVersion": version} else f"{version}: {found}"

    async with connect(kit.hub_url, "edge-1", tls, headers=headers) as node:
        await node.send(report())
        await node.until(holds("default/pod/web"))
        await until(not_written, within_s=30)
        status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        await api.patch(PODS, "web", status, namespace="default", subresource="status")
        await api.create(PODS, pod("marker"))
        await node.until(holds("default/pod/marker"))
    await until(not_written, within_s=30)
    marker = node.objects["default/pod/marker"]["metadata"]
    async with connect(kit.hub_url, "edge-1", tls, headers=headers) as node:
        held = [marker["uid"], marker["resourceVersion"]]
        await node.send(report(default__pod__web=[uid, version], default__pod__marker=held))
        await api.create(PODS, pod("late"))
        await node.until(holds("default/pod/late"))
        assert [resource for _, resource, _ in node.log] == ["default/pod/late"]


async def test_cursors_of_another_history_of_the_store_prove_nothing(api: KubeApi, tmp_path: Path) -> None:
    if isinstance(api, FakeKubeApi):
        await api.create(NAMESPACES, {"metadata": {"name": "kube-system"}})
    async with cloud(api, tmp_path) as kit:
        for name in ("kept", "gone"):
            await api.create(PODS, pod(name))
        tls = kit.tls(kit.node_credential("edge-1"))
        async with connect(kit.hub_url, "edge-1", tls, is_skerry=False) as node:
            await node.until(holds("default/pod/kept", "default/pod/gone"))
        await kit.record.flush()
    await api.delete(PODS, "gone", namespace="default", grace_period_s=0)
    history = {"metadata": {"annotations": {STORE_GENERATION: "restored"}}}
    await api.patch(NAMESPACES, "kube-system", history)
    async with cloud(api, tmp_path) as kit, connect(kit.hub_url, "edge-1", tls, is_skerry=False) as node:
        await node.until(lambda n: len(n.log) >= 2)
        assert sorted((operation, resource) for operation, resource, _ in node.log) == [
            ("delete", "default/pod/gone"),
            ("insert", "default/pod/kept"),
        ]

        async def is_recorded() -> str:
            await kit.record.flush()
            found = [sync["status"]["objectResourceVersion"] for sync in (await api.list(OBJECTSYNCS)).items]
            return "" if len(found) == 1 and int(found[0]) > 0 else f"cursors {found}"

        await until(is_recorded, within_s=5)


async def test_a_go_node_that_moves_between_replicas_gets_each_change_once_and_nothing_stale(
    api: KubeApi, tmp_path: Path
) -> None:
    """A, B, A. What happened while it was at B, or between, is what A then sends, and no more."""

    async def recorded(names: set[str]) -> None:
        async def look() -> str:
            found = {sync["spec"]["objectName"] for sync in (await api.list(OBJECTSYNCS)).items}
            return "" if found == names else f"cursors of {found}"

        await until(look, within_s=30)

    async with cloud(api, tmp_path, has_replicas=True) as a, cloud(api, tmp_path, has_replicas=True) as b:
        for name in ("same", "changed", "removed"):
            await api.create(PODS, pod(name))
        tls = a.tls(a.node_credential("edge-1"))
        async with connect(a.hub_url, "edge-1", tls, is_skerry=False) as node:
            await node.until(holds("default/pod/same", "default/pod/changed", "default/pod/removed"))
        await recorded({"same", "changed", "removed"})

        async with connect(b.hub_url, "edge-1", tls, is_skerry=False) as node:
            await api.patch(PODS, "changed", {"metadata": {"labels": {"at": "b"}}}, namespace="default")
            await api.create(PODS, pod("passing"))
            await api.delete(PODS, "removed", namespace="default", grace_period_s=0)
            await node.until(lambda n: len(n.log) >= 3)
            assert {resource for _, resource, _ in node.log} == {
                "default/pod/changed", "default/pod/passing", "default/pod/removed",
            }  # fmt: skip
        await recorded({"same", "changed", "passing"})
        changed = await api.get(PODS, "changed", namespace="default")
        versions: dict[str, str] = {}

        async def is_written() -> str:
            """The last flush is through: its writes come in any order."""
            for sync in (await api.list(OBJECTSYNCS)).items:
                versions[sync["spec"]["objectName"]] = (sync.get("status") or {}).get("objectResourceVersion", "")
            is_new = versions["changed"] == changed["metadata"]["resourceVersion"] and all(versions.values())
            return "" if is_new else f"written is {versions}"

        await until(is_written, within_s=30)

        async def has_heard() -> str:
            held = await a.record.load(NodeName("edge-1"))
            found = {entry.name: entry.resource_version for entry in held.values()}
            return "" if found == versions else f"A knows {found}, written is {versions}"

        await until(has_heard, within_s=30)

        # Nobody serves the node now: what B alone has sent is deleted, and something comes.
        await api.delete(PODS, "passing", namespace="default", grace_period_s=0)
        await api.create(PODS, pod("last"))
        async with connect(a.hub_url, "edge-1", tls, is_skerry=False) as node:
            await node.until(lambda n: len(n.log) >= 2)
            await api.create(PODS, pod("end"))
            await node.until(holds("default/pod/end"))
            assert sorted((operation, resource) for operation, resource, _ in node.log) == [
                ("delete", "default/pod/passing"),
                ("insert", "default/pod/end"),
                ("insert", "default/pod/last"),
            ]


@pytest.mark.parametrize("acks", [True, False], ids=["acknowledged", "acknowledgement lost"])
async def test_a_go_node_that_moves_to_another_replica_at_once_is_rid_of_what_only_the_first_one_knew(
    api: KubeApi, tmp_path: Path, acks: bool
) -> None:
    """Nobody waits until a cursor is written: the pod is deleted and the node at the other replica at once."""
    async with cloud(api, tmp_path, has_replicas=True) as a, cloud(api, tmp_path, has_replicas=True) as b:
        tls = a.tls(a.node_credential("edge-1"))
        for turn, replica in enumerate((a, b, a)):
            name = f"pod-{turn}"
            await api.create(PODS, pod(name))
            async with connect(replica.hub_url, "edge-1", tls, is_skerry=False, acks=acks) as node:
                await node.until(lambda n: n.copies or n.log)
            await api.delete(PODS, name, namespace="default", grace_period_s=0)
            other = b if replica is a else a
            async with connect(other.hub_url, "edge-1", tls, is_skerry=False) as node:
                await node.until(lambda n, name=name: ("delete", f"default/pod/{name}", "") in n.log)  # type: ignore[misc]


async def test_a_hub_that_stops_writes_what_nodes_have_acknowledged(api: KubeApi, tmp_path: Path) -> None:
    async with cloud(api, tmp_path) as kit:
        await api.create(PODS, pod("web"))
        tls = kit.tls(kit.node_credential("edge-1"))
        async with connect(kit.hub_url, "edge-1", tls, is_skerry=False) as node:
            await node.until(holds("default/pod/web"))
            await node.request("query", "null/node/edge-1")  # behind the acknowledgement
    made = await api.get(PODS, "web", namespace="default")
    found = [sync["status"]["objectResourceVersion"] for sync in (await api.list(OBJECTSYNCS)).items]
    assert found == [made["metadata"]["resourceVersion"]]


async def test_a_node_that_reports_a_pod_which_nobody_knows_is_told_to_remove_it(kit: CloudKit, api: KubeApi) -> None:
    await api.create(PODS, pod("known"))
    async with connect(kit.hub_url, "edge-1", kit.tls(kit.node_credential("edge-1")), is_skerry=False) as node:
        await node.until(holds("default/pod/known"))
        for name in ("orphan", "known"):
            status = {"metadata": {"uid": "of another one"}, "status": {"phase": "Running"}}
            assert not (await node.request("patch", f"default/podpatch/{name}", status)).is_ok
        await node.until(lambda n: ("delete", "default/pod/orphan", "") in n.log)
        await api.patch(PODS, "known", {"metadata": {"labels": {"a": "b"}}}, namespace="default")
        await node.until(lambda n: "labels" in n.objects["default/pod/known"]["metadata"])
        assert [resource for operation, resource, _ in node.log if operation == "delete"] == ["default/pod/orphan"]


async def test_what_another_replica_writes_late_is_held_against_what_the_connected_node_should_have(
    api: KubeApi, tmp_path: Path
) -> None:
    async with cloud(api, tmp_path, has_replicas=True) as kit:
        await api.create(PODS, pod("known"))
        tls = kit.tls(kit.node_credential("edge-1"))
        async with connect(kit.hub_url, "edge-1", tls, is_skerry=False) as node:
            await node.until(holds("default/pod/known"))
            for name in ("late", "later"):
                spec = {"objectAPIVersion": "v1", "objectKind": "Pod", "objectName": name}
                await api.create(
                    OBJECTSYNCS, {"metadata": {"name": f"edge-1.{name}"}, "spec": spec}, namespace="default"
                )
            await node.until(lambda n: len(n.log) >= 3)
            assert {(operation, path) for operation, path, _ in node.log if operation == "delete"} == {
                ("delete", "default/pod/late"), ("delete", "default/pod/later"),
            }  # fmt: skip

        async def is_recorded() -> str:
            found = {sync["spec"]["objectName"] for sync in (await api.list(OBJECTSYNCS)).items}
            return "" if found == {"known"} else f"cursors of {found}"

        await until(is_recorded, within_s=15)
