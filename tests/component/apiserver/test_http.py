"""The API server over HTTPS: what clients see on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from skerry.api.status import Unavailable
from skerry.base import json
from skerry.kube.ports import KubeletRequest

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "app", "image": "busybox"}]},
    }


async def line(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    async with asyncio.timeout(5):
        event: dict[str, Any] = json.loads(await answer.content.readline())
    return event


async def test_discovery_in_every_form(api: Any) -> None:
    status, body = await api.ask("GET", "/api")
    assert (status, body["kind"], body["versions"]) == (200, "APIVersions", ["v1"])
    status, body = await api.ask("GET", "/apis/")
    names = [group["name"] for group in body["groups"]]
    assert names[:3] == ["apiregistration.k8s.io", "apps", "events.k8s.io"]
    status, body = await api.ask("GET", "/apis/apps/v1")
    assert {"deployments", "deployments/scale", "deployments/status"} <= {r["name"] for r in body["resources"]}
    status, body = await api.ask("GET", "/apis/nope")
    assert (status, body) == (404, "404 page not found\n")
    for version in ("v2", "v2beta1"):
        accept = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList,application/json"
        async with api.open("GET", "/apis", headers={"Accept": accept}) as answer:
            assert f"v={version}" in answer.headers["Content-Type"]
            body = json.loads(await answer.read())
            etag = answer.headers["ETag"]
        assert body["apiVersion"] == f"apidiscovery.k8s.io/{version}"
        async with api.open("GET", "/apis", headers={"Accept": accept, "If-None-Match": etag}) as answer:
            assert answer.status == 304


async def test_openapi_has_what_kubectl_needs(api: Any) -> None:
    async with api.open(
        "GET", "/openapi/v2", headers={"Accept": "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"}
    ) as answer:
        assert (answer.status, await answer.read()) == (200, b"")
        assert answer.headers["Content-Type"] == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    _, index = await api.ask("GET", "/openapi/v3")
    reference = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
    status, document = await api.ask("GET", reference)
    assert status == 200
    patch = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert "fieldValidation" in {parameter["name"] for parameter in patch["parameters"]}
    schemas = document["components"]["schemas"]
    text = json.dumps(document).decode()
    wanted = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert wanted <= set(schemas)


async def test_errors_are_worded_as_kubernetes_words_them(api: Any) -> None:
    status, body = await api.ask("GET", f"{CONFIGMAPS}/x")
    assert (status, body["message"]) == (404, 'configmaps "x" not found')
    assert body["details"] == {"name": "x", "kind": "configmaps"}
    status, body = await api.ask("POST", "/api/v1/namespaces/nons/configmaps", config_map("a"))
    assert (status, body["message"]) == (404, 'namespaces "nons" not found')
    status, body = await api.ask("GET", "/api/v1/foos")
    assert (status, body["message"]) == (404, "the server could not find the requested resource")
    status, body = await api.ask("DELETE", "/api/v1/namespaces/default")
    assert (status, body["message"]) == (
        403, 'namespaces "default" is forbidden: this namespace may not be deleted',
    )  # fmt: skip
    status, body = await api.ask("POST", CONFIGMAPS, b"{")
    assert (status, body["reason"]) == (400, "BadRequest")
    status, body = await api.ask("POST", CONFIGMAPS, config_map("a"), kind="text/plain")
    assert (status, body["reason"]) == (415, "UnsupportedMediaType")
    status, body = await api.ask("GET", CONFIGMAPS, Accept="text/html")
    assert (status, body["reason"]) == (406, "NotAcceptable")
    status, body = await api.ask("POST", CONFIGMAPS, config_map("A_b"))
    assert (status, body["reason"], body["details"]["causes"][0]["field"]) == (422, "Invalid", "metadata.name")
    status, body = await api.ask(
        "POST", CONFIGMAPS, {**config_map("a"), "metadata": {"name": "a", "resourceVersion": "1"}}
    )
    assert (status, body["message"]) == (500, "resourceVersion should not be set on objects to be created")
    status, body = await api.ask("PUT", f"{CONFIGMAPS}/a", config_map("b"))
    assert (status, body["message"]) == (
        400, "the name of the object (b) does not match the name on the URL (a)",
    )  # fmt: skip


async def test_a_body_over_three_mebibytes_is_refused(api: Any) -> None:
    status, body = await api.ask("POST", CONFIGMAPS, b" " * (3 * 1024 * 1024 + 1))
    assert (status, body["reason"]) == (413, "RequestEntityTooLarge")


async def test_deep_and_aliased_bodies_are_refused(api: Any) -> None:
    status, body = await api.ask("POST", CONFIGMAPS, b'{"a":' * 100_000 + b"1" + b"}" * 100_000)
    assert (status, body["reason"]) == (400, "BadRequest")
    bomb = b"a: &a [x, x]\n" + b"".join(b"b%d: *a\n" % index for index in range(200))
    status, body = await api.ask("POST", CONFIGMAPS, bomb, kind="application/yaml")
    assert (status, "aliases" in body["message"]) == (400, True)


async def test_unknown_and_double_fields(api: Any) -> None:
    text = b'{"kind":"ConfigMap","metadata":{"name":"a"},"data":{"x":"1","x":"2"},"bogus":1}'
    async with api.open(
        "POST", f"{CONFIGMAPS}?fieldValidation=Warn", data=text, headers={"Content-Type": "application/json"}
    ) as answer:
        assert answer.status == 201
        assert answer.headers.getall("Warning") == [
            '299 - "unknown field \\"bogus\\""',
            '299 - "duplicate field \\"data.x\\""',
        ]
        made = json.loads(await answer.read())
    assert "bogus" not in made
    assert made["data"] == {"x": "2"}
    status, body = await api.ask("POST", f"{CONFIGMAPS}?fieldValidation=Strict", text)
    assert (status, body["message"]) == (
        400,
        'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: '
        'unknown field "bogus", duplicate field "data.x"',
    )


async def test_dry_runs_leave_nothing(api: Any) -> None:
    status, made = await api.ask("POST", f"{CONFIGMAPS}?dryRun=All", config_map("a"))
    assert status == 201
    assert made["metadata"]["uid"]
    assert "resourceVersion" not in made["metadata"]
    assert (await api.ask("GET", f"{CONFIGMAPS}/a"))[0] == 404
    status, body = await api.ask("POST", f"{CONFIGMAPS}?dryRun=Yes", config_map("a"))
    assert (status, body["reason"]) == (422, "Invalid")


async def test_yaml_and_protobuf_bodies(api: Any) -> None:
    status, made = await api.ask(
        "POST", CONFIGMAPS, b"kind: ConfigMap\nmetadata: {name: y}\ndata: {k: v}\n", kind="application/yaml"
    )
    assert (status, made["data"]) == (201, {"k": "v"})
    meta, entry = b"\x0a\x01p", b"\x0a\x01k\x12\x01v"
    raw = b"\x0a" + bytes([len(meta)]) + meta + b"\x12" + bytes([len(entry)]) + entry
    type_meta = b"\x0a\x02v1\x12\x09ConfigMap"
    unknown = b"\x0a" + bytes([len(type_meta)]) + type_meta + b"\x12" + bytes([len(raw)]) + raw
    status, made = await api.ask("POST", CONFIGMAPS, b"k8s\0" + unknown, kind="application/vnd.kubernetes.protobuf")
    assert (status, made["metadata"]["name"], made["data"]) == (201, "p", {"k": "v"})
    status, body = await api.ask("POST", CONFIGMAPS, b"k8s\0\xff\xff", kind="application/vnd.kubernetes.protobuf")
    assert (status, body["reason"]) == (400, "BadRequest")


async def test_pages_show_one_state(api: Any) -> None:
    for name in "abcde":
        await api.ask("POST", CONFIGMAPS, config_map(name))
    _, first = await api.ask("GET", f"{CONFIGMAPS}?limit=2")
    assert [item["metadata"]["name"] for item in first["items"]] == ["a", "b"]
    assert first["metadata"]["remainingItemCount"] == 3
    assert "kind" not in first["items"][0]
    await api.ask("DELETE", f"{CONFIGMAPS}/c")
    await api.ask("POST", CONFIGMAPS, config_map("bb"))
    token = first["metadata"]["continue"]
    _, second = await api.ask("GET", f"{CONFIGMAPS}?limit=10&continue={token}")
    assert [item["metadata"]["name"] for item in second["items"]] == ["c", "d", "e"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    status, body = await api.ask("GET", f"{CONFIGMAPS}?limit=10&continue=x")
    assert (status, body["message"]) == (400, "continue key is not valid")


async def test_watch_sends_states_then_changes_and_the_initial_end(api: Any) -> None:
    await api.ask("POST", CONFIGMAPS, config_map("a"))
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with api.open("GET", f"{CONFIGMAPS}?{query}") as answer:
        assert answer.headers["Content-Type"] == "application/json"
        assert (await line(answer))["object"]["metadata"]["name"] == "a"
        end = await line(answer)
        assert end["type"] == "BOOKMARK"
        assert end["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        await api.ask("POST", CONFIGMAPS, config_map("b"))
        event = await line(answer)
        assert (event["type"], event["object"]["kind"], event["object"]["metadata"]["name"]) == (
            "ADDED", "ConfigMap", "b",
        )  # fmt: skip


async def test_watch_ends_after_its_time_with_a_bookmark(api: Any) -> None:
    async with api.open(
        "GET", f"{CONFIGMAPS}?watch=1&timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion=1"
    ) as answer:
        text = await asyncio.wait_for(answer.content.read(), 5)
    kinds = [json.loads(part)["type"] for part in text.splitlines()]
    assert kinds[-1:] == ["BOOKMARK"]


async def test_a_watch_of_the_past_beyond_memory_ends_with_410(site: Any, api: Any) -> None:
    site.core.store.collection("configmaps").ring.floor_rv = 50
    async with api.open("GET", f"{CONFIGMAPS}?watch=1&resourceVersion=5") as answer:
        text = await answer.text()
    event = json.loads(text)
    status = event.get("object", event)
    assert (status["reason"], status["code"]) == ("Expired", 410)


async def test_metadata_and_table_forms(api: Any) -> None:
    await api.ask("POST", CONFIGMAPS, config_map("a", k="v"))
    accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    _, body = await api.ask("GET", CONFIGMAPS, Accept=accept)
    assert body["kind"] == "PartialObjectMetadataList"
    assert set(body["items"][0]) == {"kind", "apiVersion", "metadata"}
    _, table = await api.ask("GET", CONFIGMAPS, Accept=TABLE)
    assert table["kind"] == "Table"
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    assert len(table["rows"][0]["cells"]) == len(table["columnDefinitions"])
    async with api.open("GET", f"{CONFIGMAPS}?watch=1&resourceVersion=0", headers={"Accept": TABLE}) as answer:
        assert (await line(answer))["object"]["columnDefinitions"]
        await api.ask("POST", CONFIGMAPS, config_map("b"))
        assert (await line(answer))["object"]["columnDefinitions"] is None


async def test_pods_get_their_token_and_tolerations(api: Any) -> None:
    status, body = await api.ask("POST", PODS, pod("early"))
    assert (status, 'serviceaccount "default" not found' in body["message"]) == (403, True)
    await api.ask("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    asked = pod("p")
    asked["spec"]["containers"][0]["resources"] = {"limits": {"cpu": 3}}
    status, made = await api.ask("POST", PODS, asked)
    assert status == 201
    spec = made["spec"]
    assert spec["containers"][0]["resources"] == {"limits": {"cpu": "3"}, "requests": {"cpu": "3"}}
    assert spec["volumes"][0]["name"].startswith("kube-api-access-")
    assert spec["containers"][0]["volumeMounts"][0]["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    keys = [toleration["key"] for toleration in spec["tolerations"]]
    assert keys == [
        "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable", "node-role.kubernetes.io/edge",
    ]  # fmt: skip
    assert (made["status"]["phase"], made["metadata"]["generation"], spec["priority"]) == ("Pending", 1, 0)


async def test_service_addresses_are_unique_and_kept(api: Any) -> None:
    path = "/api/v1/namespaces/default/services"
    found = set()
    for number in range(5):
        service = {"metadata": {"name": f"s{number}"}, "spec": {"ports": [{"port": 80}], "type": "NodePort"}}
        status, made = await api.ask("POST", path, service)
        assert status == 201
        found.add((made["spec"]["clusterIP"], made["spec"]["ports"][0]["nodePort"]))
    assert len({address for address, _ in found}) == len({port for _, port in found}) == 5
    made["spec"].pop("clusterIP")
    made["spec"].pop("clusterIPs")
    _, updated = await api.ask("PUT", f"{path}/s4", made)
    assert (updated["spec"]["clusterIP"], updated["spec"]["ports"][0]["nodePort"]) in found
    taken = {"metadata": {"name": "x"}, "spec": {"clusterIP": updated["spec"]["clusterIP"], "ports": [{"port": 1}]}}
    status, body = await api.ask("POST", path, taken)
    assert (status, "already allocated" in body["message"]) == (422, True)
    _, kubernetes = await api.ask("GET", f"{path}/kubernetes")
    assert kubernetes["spec"]["clusterIP"] == "10.96.0.1"


async def test_namespaces_end_when_their_finalizer_goes(api: Any) -> None:
    await api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": "gone"}})
    status, ending = await api.ask("DELETE", "/api/v1/namespaces/gone")
    assert (status, ending["status"]["phase"]) == (200, "Terminating")
    status, body = await api.ask("POST", "/api/v1/namespaces/gone/configmaps", config_map("a"))
    assert (status, body["details"]["causes"][0]["reason"]) == (403, "NamespaceTerminating")
    ending["spec"]["finalizers"] = []
    status, _ = await api.ask("PUT", "/api/v1/namespaces/gone/finalize", ending)
    assert status == 200
    assert (await api.ask("GET", "/api/v1/namespaces/gone"))[0] == 404


async def test_scale_through_its_subresource(api: Any) -> None:
    path = "/apis/apps/v1/namespaces/default/deployments"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]}
    deployment = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    await api.ask("POST", path, deployment)
    _, scale = await api.ask("GET", f"{path}/d/scale")
    assert (scale["kind"], scale["spec"]["replicas"], scale["status"]["selector"]) == ("Scale", 1, "a=b")
    _, scale = await api.ask("PATCH", f"{path}/d/scale", {"spec": {"replicas": 4}}, kind="application/merge-patch+json")
    assert scale["spec"]["replicas"] == 4
    _, made = await api.ask("GET", f"{path}/d")
    assert (made["spec"]["replicas"], made["metadata"]["generation"]) == (4, 2)


@pytest.mark.parametrize("kind", ["application/merge-patch+json", "application/apply-patch+yaml"])
@pytest.mark.parametrize("part", ["spec", "metadata"])
async def test_a_scale_of_another_shape_is_refused(api: Any, kind: str, part: str) -> None:
    path = "/apis/apps/v1/namespaces/default/deployments"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]}
    deployment = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    await api.ask("POST", path, deployment)
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, part: "wrong"}
    status, answer = await api.ask("PATCH", f"{path}/d/scale?fieldManager=m&dryRun=All", scale, kind=kind)
    assert status in (400, 422), answer
    assert "object" in answer["message"]


async def test_events_have_two_views(api: Any) -> None:
    event = {
        "metadata": {"name": "e"},
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        "note": "hello",
        "reason": "Said",
        "type": "Normal",
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "test",
        "reportingInstance": "t-1",
        "action": "Say",
    }
    status, made = await api.ask("POST", "/apis/events.k8s.io/v1/namespaces/default/events", event)
    assert (status, made["note"]) == (201, "hello")
    _, core = await api.ask("GET", "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dp")
    assert [(item["message"], item["involvedObject"]["name"]) for item in core["items"]] == [("hello", "p")]


class Nodes:
    """A ``NodeConnector`` with one node."""

    def __init__(self) -> None:
        self.asked: list[KubeletRequest] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.more = asyncio.Event()
        self.left = asyncio.Event()

    @asynccontextmanager
    async def request(self, node: str, request: KubeletRequest) -> Any:
        if node != "edge-1":
            raise Unavailable(f"node {node} has no tunnel")
        self.asked.append(request)
        try:
            yield self
        finally:
            self.left.set()

    async def body(self) -> Any:
        yield b"one\n"
        await self.more.wait()
        yield b"two\n"

    def upgrade(self, node: str, request: KubeletRequest) -> Any:
        raise Unavailable("no upgrades here")


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


async def bound_pod(api: Any, name: str, node: str) -> None:
    await api.ask("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    await api.ask("POST", PODS, pod(name))
    binding = {"metadata": {"name": name}, "target": {"kind": "Node", "name": node}}
    assert (await api.ask("POST", f"{PODS}/{name}/binding", binding))[0] == 201


async def test_logs_flow_from_the_node(serve: Any, client: Callable[..., Any], nodes: Nodes) -> None:
    api = client(await serve(nodes=nodes))
    await bound_pod(api, "p", "edge-1")
    async with api.open("GET", f"{PODS}/p/log?follow=true&tailLines=5") as answer:
        assert (answer.status, answer.content_type) == (200, "text/plain")
        assert await asyncio.wait_for(answer.content.readline(), 5) == b"one\n"
        nodes.more.set()
        assert await asyncio.wait_for(answer.content.readline(), 5) == b"two\n"
    asked = nodes.asked[0]
    assert (asked.path, asked.query) == ("/containerLogs/default/p/app", "follow=true&tailLines=5")
    status, body = await api.ask("GET", f"{PODS}/p/log?container=zz")
    assert (status, body["message"]) == (400, "container zz is not valid for pod p")


async def test_an_idle_log_ends_on_the_node_when_its_reader_leaves(
    serve: Any, client: Callable[..., Any], nodes: Nodes
) -> None:
    api = client(await serve(nodes=nodes))
    await bound_pod(api, "p", "edge-1")
    async with api.open("GET", f"{PODS}/p/log?follow=true") as answer:
        assert await asyncio.wait_for(answer.content.readline(), 5) == b"one\n"
        assert not nodes.left.is_set()
        answer.close()
    await asyncio.wait_for(nodes.left.wait(), 5)


async def test_logs_of_an_offline_node_say_which_and_what_to_do(
    serve: Any, client: Callable[..., Any], nodes: Nodes
) -> None:
    api = client(await serve(nodes=nodes))
    node = {
        "metadata": {"name": "edge-2"},
        "status": {
            "conditions": [{"type": "Ready", "status": "Unknown", "lastTransitionTime": "2026-01-01T00:00:00Z"}]
        },
    }
    assert (await api.ask("POST", "/api/v1/nodes", node))[0] == 201
    await bound_pod(api, "p", "edge-2")
    status, body = await api.ask("GET", f"{PODS}/p/log")
    assert status == 503
    for part in ('node "edge-2" is offline', "since 2026-01-01T00:00:00Z", "try again"):
        assert part in body["message"]


async def test_users_are_who_their_certificates_and_tokens_say(
    api: Any, as_user: Callable[..., Any], site: Any
) -> None:
    bob = as_user("bob", "devs")
    status, body = await bob.ask("GET", "/api/v1/namespaces/default/pods/x")
    assert (status, body["message"]) == (
        403,
        'pods "x" is forbidden: User "bob" cannot get resource "pods" in API group "" in the namespace "default"',
    )
    review = {"kind": "SelfSubjectReview"}
    _, who = await bob.ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    assert who["status"]["userInfo"]["groups"] == ["devs", "system:authenticated"]
    await api.ask("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "robot"}})
    _, made = await api.ask("POST", "/api/v1/namespaces/default/serviceaccounts/robot/token", {})
    token = made["status"]["token"]
    _, checked = await api.ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token}})
    assert checked["status"]["user"]["username"] == "system:serviceaccount:default:robot"
    _, checked = await api.ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token + "x"}})
    assert checked["status"] == {"user": {}, "error": "invalid bearer token"}
    await api.ask("DELETE", "/api/v1/namespaces/default/serviceaccounts/robot")
    _, checked = await api.ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token}})
    assert "authenticated" not in checked["status"]


async def test_nobody_gives_away_what_he_does_not_hold(api: Any, as_user: Callable[..., Any]) -> None:
    group = "rbac.authorization.k8s.io"
    rules = [{"verbs": ["*"], "apiGroups": [group], "resources": ["roles"]}]
    roles = f"/apis/{group}/v1/namespaces/default/roles"
    await api.ask("POST", roles, {"metadata": {"name": "roler"}, "rules": rules})
    binding = {
        "metadata": {"name": "roler"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "roler"},
        "subjects": [{"kind": "User", "name": "bob", "apiGroup": group}],
    }
    await api.ask("POST", f"/apis/{group}/v1/namespaces/default/rolebindings", binding)
    bob = as_user("bob")
    # verbs "*" on roles hold "escalate" too, so take it away
    rules[0]["verbs"] = ["create", "get"]
    await api.ask("PUT", f"{roles}/roler", {"metadata": {"name": "roler"}, "rules": rules})
    secret_rule = [{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]
    status, body = await bob.ask("POST", roles, {"metadata": {"name": "thief"}, "rules": secret_rule})
    assert (status, "not currently held" in body["message"]) == (403, True)
    assert (await bob.ask("POST", roles, {"metadata": {"name": "fair"}, "rules": rules}))[0] == 201
