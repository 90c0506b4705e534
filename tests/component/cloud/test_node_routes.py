"""Messages that only some nodes send: attachments, certificate requests, whole statuses, requests of applications."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skerry.api.gvk import (
    CONFIGMAPS,
    CSRS,
    EVENTS,
    NODES,
    PODS,
    RUNTIMECLASSES,
    SERVICEACCOUNTS,
    SERVICES,
    VOLUMEATTACHMENTS,
    Object,
)
from skerry.apiserver.auth.authn import MASTERS, User
from skerry.apiserver.core import ApiCore
from skerry.apiserver.local import LocalKubeApi
from skerry.base import certificates, json, x509
from skerry.kube.ports import KubeApi
from skerry.testing.hollow import HollowNode, connect
from skerry.testing.hubkit import CloudKit, cloud
from skerry.wire.kubeedge.envelope import Envelope

Parts = tuple[CloudKit, KubeApi]


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    core = ApiCore(database=tmp_path / "api.db", token_key=tmp_path / "sa.key", synchronous="NORMAL")
    await core.start()
    api = LocalKubeApi(core, user=User("cloud", (MASTERS,)))
    await api.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, namespace="default")
    await api.create(NODES, {"metadata": {"name": "edge-1"}})

    def as_node(node: str) -> KubeApi:
        return LocalKubeApi(core, user=User(f"system:node:{node}", ("system:nodes", "system:authenticated")))

    async with cloud(api, tmp_path / "cloud", as_node=as_node) as kit:
        yield kit, api
    await core.aclose()


@pytest.fixture
async def node(parts: Parts) -> AsyncIterator[HollowNode]:
    kit, _ = parts
    tls = kit.tls(kit.node_credential("edge-1"))
    async with connect(kit.hub_url, "edge-1", tls, is_skerry=False) as node:
        yield node


def pod(name: str, *, node: str = "edge-1", config: str = "") -> Object:
    volumes = [{"name": "c", "configMap": {"name": config}}] if config else []
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": node, "containers": [{"name": "app", "image": "i"}], "volumes": volumes},
    }


def service(name: str, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"ports": [{"port": 80}]}}


async def test_attachments_to_the_node_only(parts: Parts, node: HollowNode) -> None:
    _, api = parts
    for name, to in (("mine", "edge-1"), ("theirs", "edge-2")):
        source = {"persistentVolumeName": "pv"}
        spec = {"attacher": "csi.example", "nodeName": to, "source": source}
        await api.create(VOLUMEATTACHMENTS, {"metadata": {"name": name}, "spec": spec})
    found = await node.request("query", "default/volumeattachment/mine")
    assert found.object is not None
    assert found.object["spec"]["nodeName"] == "edge-1"
    for name in ("theirs", "missing"):
        envelope = await node.exchange("query", f"default/volumeattachment/{name}")
        assert envelope.operation == "error", "a Go edge would store anything else"
        assert name in envelope.content


async def test_runtime_classes_are_told_to_nodes(parts: Parts, node: HollowNode) -> None:
    _, api = parts
    await api.create(RUNTIMECLASSES, {"metadata": {"name": "strict"}, "handler": "runc-strict"})
    found = await node.request("query", "null/runtimeclass/strict")
    assert found.object is not None and found.object["handler"] == "runc-strict"
    missing = await node.request("query", "null/runtimeclass/other")
    assert missing.status is not None and missing.status["code"] == 404


async def test_certificate_requests_are_made_as_the_node(parts: Parts, node: HollowNode) -> None:
    _, api = parts
    der, _ = x509.new_csr("system:node:edge-1", organizations=("system:nodes",))
    spec = {
        "request": base64.b64encode(certificates.to_pem("CERTIFICATE REQUEST", der)).decode(),
        "signerName": "kubernetes.io/kubelet-serving",
        "usages": ["digital signature", "server auth"],
    }
    made = await node.request("insert", "default/certificatesigningrequest/csr-1", {"metadata": {}, "spec": spec})
    assert made.is_ok, made
    assert (await api.get(CSRS, "csr-1"))["spec"]["username"] == "system:node:edge-1"
    found = await node.request("query", "default/certificatesigningrequest/csr-1")
    assert found.object is not None
    await api.create(CSRS, {"metadata": {"name": "theirs"}, "spec": spec})
    refused = await node.request("query", "default/certificatesigningrequest/theirs")
    assert refused.status is not None
    assert refused.status["code"] == 403


async def test_whole_statuses_of_old_agents(parts: Parts, node: HollowNode) -> None:
    _, api = parts
    made = await api.create(PODS, pod("web"))
    await api.create(PODS, pod("foreign", node="edge-2"))
    report = {"UID": made["metadata"]["uid"], "Name": "web", "Status": {"phase": "Running"}}
    assert (await node.request("update", "default/podstatus/web", report)).text == "OK"
    assert (await api.get(PODS, "web", namespace="default"))["status"]["phase"] == "Running"
    reports = [report | {"Status": {"phase": "Failed"}}, {"UID": "gone", "Name": "gone", "Status": {}}]
    assert (await node.request("update", "default/podstatus", reports)).text == "OK"
    assert (await api.get(PODS, "web", namespace="default"))["status"]["phase"] == "Failed"
    await node.until(lambda n: ("delete", "default/pod/gone", "") in n.log)
    refused = await node.request("update", "default/podstatus/foreign", {"Name": "foreign", "Status": {}})
    assert refused.status is not None
    status = {"UID": "", "Status": {"nodeInfo": {"architecture": "arm64"}}}
    answer = await node.exchange("update", "null/nodestatus/edge-1", status)
    assert (answer.resource, answer.content) == ("null/node/edge-1", "OK")
    assert (await api.get(NODES, "edge-1"))["status"]["nodeInfo"]["architecture"] == "arm64"
    assert (await node.request("update", "null/nodestatus/edge-2", status)).status is not None


def application(verb: str, key: str, *, option: Any = None, body: Any = None, **more: Any) -> dict[str, Any]:
    def encoded(value: Any) -> str | None:
        return None if value is None else base64.b64encode(json.dumps(value)).decode()

    return {
        "ID": f"{verb}-{key}", "Key": key, "Verb": verb, "Nodename": "somebody-else", "Option": encoded(option or {}),
        "ReqBody": encoded(body), "Subresource": "", "Status": "InApplying", **more,
    }  # fmt: skip


async def ask(node: HollowNode, asked: dict[str, Any], *, resource: str = "null") -> dict[str, Any]:
    envelope = await node.ask(Envelope("", "metaserver", "dynamiccontroller", "", resource, asked))
    assert (envelope.source, envelope.operation) == ("dynamiccontroller", "applicationResponse")
    return dict(envelope.content)


def body_of(answer: dict[str, Any]) -> Any:
    assert answer["Status"] == "Approved", answer["Reason"]
    return json.loads(base64.b64decode(answer["RespBody"])) if answer["RespBody"] else None


async def test_requests_of_applications_are_done_as_the_node(parts: Parts, node: HollowNode) -> None:
    _, api = parts
    await api.create(CONFIGMAPS, {"metadata": {"name": "named"}, "data": {"a": "1"}}, namespace="default")
    await api.create(CONFIGMAPS, {"metadata": {"name": "other"}}, namespace="default")
    await api.create(PODS, pod("web", config="named"))
    found = await ask(node, application("get", "/core/v1/configmaps/default/named"))
    assert found["Nodename"] == "edge-1"
    assert body_of(found)["data"] == {"a": "1"}
    refused = await ask(node, application("get", "/core/v1/configmaps/default/other"))
    assert (refused["Status"], refused["Error"]["ErrStatus"]["code"]) == ("Rejected", 403)
    await api.create(SERVICES, service("web"), namespace="default")
    listed = body_of(await ask(node, application("list", "/core/v1/services/default/null")))
    assert "web" in [item["metadata"]["name"] for item in listed["items"]]
    assert (listed["kind"], listed["apiVersion"]) == ("ServiceList", "v1")
    assert (await ask(node, application("list", "/core/v1/nodes/null/null")))["Status"] == "Rejected"
    patch = {
        "Name": "web", "PatchType": "application/merge-patch+json", "Subresources": ["status"],
        "Data": base64.b64encode(json.dumps({"status": {"message": "patched"}})).decode(),
    }  # fmt: skip
    patched = body_of(await ask(node, application("patch", "/core/v1/pods/default/web", option=patch)))
    assert patched["status"]["message"] == "patched"
    updated = await ask(node, application("updatestatus", "/core/v1/pods/default/web", body=patched))
    assert body_of(updated)["metadata"]["name"] == "web"
    discovery = await ask(node, application("get", "/apis"))
    assert discovery["Error"]["ErrStatus"]["code"] == 404
    unknown = await ask(node, application("dance", "/core/v1/pods/default/web"))
    assert unknown["Error"]["ErrStatus"]["code"] == 400
    option = {"gracePeriodSeconds": 0}
    assert body_of(await ask(node, application("delete", "/core/v1/pods/default/web", option=option))) is None
    assert not (await api.list(PODS, namespace="default")).items


async def test_a_watch_brings_what_matches_and_every_change(parts: Parts, node: HollowNode) -> None:
    kit, api = parts
    await api.create(SERVICES, service("a", w="1"), namespace="default")
    asked = application("watch", "/core/v1/services/default/null", option={"labelSelector": "w=1"})
    assert (await ask(node, asked))["Status"] == "Approved"
    await node.until(lambda n: "default/service/a" in n.objects)
    await api.create(SERVICES, service("b", w="1"), namespace="default")
    await api.create(SERVICES, service("c"), namespace="default")
    await node.until(lambda n: "default/service/b" in n.objects)
    await api.patch(SERVICES, "a", {"metadata": {"labels": {"x": "2"}}}, namespace="default")
    await node.until(lambda n: n.objects["default/service/a"]["metadata"]["labels"].get("x") == "2")
    await api.delete(SERVICES, "b", namespace="default")
    await node.until(lambda n: "default/service/b" not in n.objects)
    assert "default/service/c" not in node.objects
    # What changes while the node is away comes when it is back; no cursor keeps it from coming.
    held = dict(node.objects)
    await node.close()
    await node.ended.wait()
    await api.delete(SERVICES, "a", namespace="default")
    await api.create(SERVICES, service("d", w="1"), namespace="default")
    tls = kit.tls(kit.node_credential("edge-1"))
    async with connect(kit.hub_url, "edge-1", tls, is_skerry=False) as again:
        again.objects = held
        await again.until(lambda n: "default/service/d" in n.objects and "default/service/a" not in n.objects)
        # The application hangs up.
        assert await ask(again, {}, resource="watchapp/sync") == {}
        await api.patch(SERVICES, "d", {"metadata": {"labels": {"x": "2"}}}, namespace="default")
        await api.create(PODS, pod("marker"))
        await again.until(lambda n: "default/pod/marker" in n.objects)
        assert "x" not in again.objects["default/service/d"]["metadata"]["labels"]
        failed = await ask(
            again, {"w": application("watch", "/core/v1/secrets/default/null")}, resource="watchapp/sync"
        )
        assert failed["w"]["Error"]["ErrStatus"]["code"] == 403


def event(reason: str, **reporter: Any) -> Object:
    about = {"kind": "Pod", "namespace": "default", "name": "p"}
    return {"metadata": {}, "involvedObject": about, "reason": reason, "message": "m", "type": "Normal"} | reporter


async def test_a_node_writes_over_its_own_events_only(parts: Parts, node: HollowNode) -> None:
    _, api = parts
    others = {
        "nobody": {},
        "controller": {"source": {"component": "node-controller"}, "reportingComponent": "node-controller"},
        "other-host": {"source": {"host": "edge-2"}},
        "other-instance": {"reportingInstance": "scheduler-1"},
    }
    own = {"own-host": {"source": {"host": "edge-1"}}, "own-instance": {"reportingInstance": "edge-1"}, "unnamed": {}}
    for name, reporter in others.items():
        made = event("Kept", **reporter)
        made["metadata"] = {"name": name, "namespace": "default"}
        await api.create(EVENTS, made, namespace="default")
    for reason in ("First", "Second"):
        for name in others:
            await node.send(_report("insert", name, event(reason, source={"host": "edge-1"})))
            patch = {"event": event(reason), "patchData": json.dumps({"reason": reason}).decode()}
            await node.send(_report("patch", name, patch))
        for name, reporter in own.items():
            await node.send(_report("insert", name, event(reason, **reporter)))
    # Events are not answered: those that the node sent last mark the end.
    async with asyncio.timeout(20):
        while True:
            found = {o["metadata"]["name"]: o for o in (await api.list(EVENTS, namespace="default")).items}
            if all(name in found and found[name]["reason"] == "Second" for name in own):
                break
            await asyncio.sleep(0.02)
    for name in others:
        assert found[name]["reason"] == "Kept", name
    assert found["unnamed"]["source"]["host"] == "edge-1"


def _report(operation: str, name: str, content: Any) -> Envelope:
    return Envelope("", "edged", "meta", operation, f"default/event/{name}", content)
