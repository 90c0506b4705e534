"""The cloud over HTTPS beside a cluster of somebody else, with exactly the rights of ``deploy/static/rbac.yaml``.

The cluster is our own API server in a process of its own; two replicas of the cloud run beside it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from skerry.api.gvk import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    CONFIGMAPS,
    ENROLMENTS,
    EVENTS,
    LEASES,
    NODES,
    OBJECTSYNCS,
    PODS,
    ROLEBINDINGS,
    ROLES,
    SERVICEACCOUNTS,
    Resource,
)
from skerry.api.status import AlreadyExists, NotFound, Unauthorized
from skerry.app.children import Child, ChildFailed, process_environment
from skerry.base import certificates, json, yaml
from skerry.cloud.join.ca import ca_certificate
from skerry.kube import kubeconfig
from skerry.kube.http import HttpKubeApi, HttpTransport
from skerry.testing.hollow import Refusal, client_tls, connect, enrol
from skerry.testing.site import until
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import peers
from skerry.wire.kubeedge.envelope import Envelope

RBAC = Path(__file__).parents[3] / "deploy/static/rbac.yaml"
KINDS: dict[str, Resource] = {
    resource.kind: resource for resource in (SERVICEACCOUNTS, CLUSTERROLES, CLUSTERROLEBINDINGS, ROLES, ROLEBINDINGS)
}


class Beside:
    """A cluster and how to start clouds beside it."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self.server = self._child("server", ["--data", str(folder / "server")])

    def _child(self, name: str, more: list[str]) -> Child:
        order = ["cloud", "run", "--listen", "127.0.0.1", "--ports", "any", "-o", "json", "--log-format", "json", *more]
        return Child(name, order, log_file=self.folder / f"{name}.log", environment=process_environment())

    async def start(self) -> None:
        await self.server.start()
        self._stack.push_async_callback(self.server.stop)
        self.admin_file = Path(self.server.ready["kubeconfig"])
        transport = HttpTransport(kubeconfig.load(self.admin_file))
        self._stack.push_async_callback(transport.aclose)
        self.api = HttpKubeApi(transport)
        for document in yaml.load_all(RBAC.read_bytes()):
            if (resource := KINDS.get(document["kind"])) is not None:
                namespace = document["metadata"].get("namespace")
                try:
                    await self.api.create(resource, document, namespace=namespace)
                except AlreadyExists:
                    continue
        spec = {"spec": {"expirationSeconds": 3600, "audiences": []}}
        made = await self.api.create(
            SERVICEACCOUNTS, spec, namespace="kubeedge", name="skerry-cloud", subresource="token"
        )
        admin = yaml.load(self.admin_file.read_bytes())
        admin["users"][0]["user"] = {"token": made["status"]["token"]}
        self.limited_file = self.folder / "limited.kubeconfig"
        self.limited_file.write_text(yaml.dump(admin))

    async def cloud(self, name: str) -> Child:
        """One more replica, with the limited rights."""
        more = ["--data", str(self.folder / name), "--kubeconfig", str(self.limited_file)]
        child = self._child(name, more)
        await child.start()
        self._stack.push_async_callback(child.stop)
        return child


@pytest.fixture
async def beside(tmp_path: Path) -> AsyncIterator[Beside]:
    async with AsyncExitStack() as stack:
        found = Beside(tmp_path, stack)
        await found.start()
        yield found


def forbidden(log: Path) -> list[str]:
    """Log lines about rights that were lacking."""
    return [line for line in log.read_text().splitlines() if "forbidden" in line.lower()]


@pytest.mark.timeout(90)
async def test_join_pods_status_and_revocation_over_two_replicas_with_the_shipped_rights(
    beside: Beside, tmp_path: Path
) -> None:
    one, two = await beside.cloud("one"), await beside.cloud("two")
    assert "api" not in one.ready["endpoints"] and one.ready["cluster"].startswith("https://127.0.0.1:")
    ca_der = await ca_certificate(beside.api)
    token = await _told(beside, "token", "create", "--node", "edge-1")
    credential = await enrol(one.ready["endpoints"]["join"], token["token"], "edge-1", ca_der=ca_der, folder=tmp_path)
    tls = client_tls(tmp_path, credential, certificates.to_pem("CERTIFICATE", ca_der))
    await beside.api.create(CONFIGMAPS, {"metadata": {"name": "cm"}, "data": {"k": "1"}}, namespace="default")
    for replica in (one, two):
        async with connect(replica.ready["endpoints"]["hub"], "edge-1", tls, features=peers.FEATURES) as node:
            if replica is one:
                made = {"metadata": {"name": "edge-1", "labels": {"a": "b"}}, "status": {"phase": "Running"}}
                assert (await node.request("insert", "null/node/edge-1", made)).is_ok
            name = f"web-{replica.name}"
            volumes = [{"name": "c", "configMap": {"name": "cm"}}]
            container = {"name": "a", "image": "i"}
            spec = {"nodeName": "edge-1", "containers": [container], "volumes": volumes}
            await beside.api.create(PODS, {"metadata": {"name": name}, "spec": spec}, namespace="default")
            await node.until(lambda n, name=name: f"default/pod/{name}" in n.objects, timeout_s=15)  # type: ignore[misc]
            assert replica is two or "default/configmap/cm" in node.objects
            patch = json.dumps({"status": {"phase": "Running"}}).decode()
            assert (await node.request("patch", f"default/podpatch/{name}", patch)).is_ok
            assert (await node.request("patch", "null/nodepatch/edge-1", patch)).is_ok
            spec = {"spec": {"expirationSeconds": 3600, "boundObjectRef": await _reference(beside, name)}}
            assert (await node.request("query", "default/serviceaccounttoken/default", spec)).is_ok
            event = {"metadata": {"name": f"e-{name}", "namespace": "default"}, "reason": "Started",
                     "involvedObject": {"kind": "Pod", "name": name, "namespace": "default"}}  # fmt: skip
            await node.send(Envelope("", c.SOURCE_EDGED, c.GROUP_META, c.OP_INSERT, f"default/event/e-{name}", event))

            await until(lambda name=name: _reported(beside, name), within_s=10)  # type: ignore[misc]
            assert (await node.request("delete", f"default/pod/{name}", {})).is_ok
            assert (await beside.api.get(NODES, "edge-1"))["metadata"]["labels"]["a"] == "b"
    async with connect(two.ready["endpoints"]["hub"], "edge-1", tls) as node:
        await node.request("query", "null/node/edge-1")
        await beside.api.patch(ENROLMENTS, "edge-1", {"spec": {"revoked": True}})
        async with asyncio.timeout(5):
            await node.until(lambda n: n.ended.is_set())
    for replica in (one, two):
        with pytest.raises(Refusal):
            async with connect(replica.ready["endpoints"]["hub"], "edge-1", tls):
                pass
        assert forbidden(tmp_path / f"{replica.name}.log") == []


async def test_missing_rights_are_named_with_the_remedy(beside: Beside) -> None:
    await beside.api.delete(CLUSTERROLEBINDINGS, "skerry-cloud")
    with pytest.raises(ChildFailed) as caught:
        await beside.cloud("three")
    assert "exit code 2" in str(caught.value) and "deploy/static/rbac.yaml" in caught.value.hint


async def _reported(beside: Beside, name: str) -> str:
    """What has not arrived yet of lease, event and cursor."""
    leases = (await beside.api.list(LEASES, namespace="kube-node-lease")).items
    events = (await beside.api.list(EVENTS, namespace="default")).items
    reported = f"e-{name}" in {event["metadata"]["name"] for event in events}
    cursors = (await beside.api.list(OBJECTSYNCS, namespace="default")).items
    missing = {"lease": not leases, "event": not reported, "cursor": not cursors}
    return " ".join(what for what, is_missing in missing.items() if is_missing)


async def _reference(beside: Beside, name: str) -> dict[str, Any]:
    pod = await beside.api.get(PODS, name, namespace="default")
    return {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": pod["metadata"]["uid"]}


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_one_replica_does_what_one_does_for_all_and_another_follows_when_it_is_killed(beside: Beside) -> None:
    one = await beside.cloud("one")
    first = await _leader(beside, not_this="")
    two = await beside.cloud("two")
    assert await _leader(beside, not_this="") == first
    await one.kill()
    second = await _leader(beside, not_this=first)
    assert second != first

    labels = {"node-role.kubernetes.io/edge": ""}
    await beside.api.create(NODES, {"metadata": {"name": "quiet", "labels": labels}})
    unknown = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
    await beside.api.patch(NODES, "quiet", {"status": {"conditions": [unknown]}}, subresource="status")
    spec = {"nodeName": "quiet", "containers": [{"name": "a", "image": "i"}]}
    await beside.api.create(PODS, {"metadata": {"name": "held"}, "spec": spec}, namespace="default")

    async def is_marked() -> str:
        held = await beside.api.get(PODS, "held", namespace="default")
        found = [item["type"] for item in (held.get("status") or {}).get("conditions") or ()]
        return "" if "skerry.dev/NodeSilent" in found else f"conditions {found}"

    await until(is_marked, within_s=60)
    assert not forbidden(two.log_file)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_node_says_whether_it_has_a_link_and_to_which_replica(beside: Beside, tmp_path: Path) -> None:
    one, two = await beside.cloud("one"), await beside.cloud("two")
    ca_der = await ca_certificate(beside.api)
    token = await _told(beside, "token", "create", "--node", "edge-1")
    credential = await enrol(one.ready["endpoints"]["join"], token["token"], "edge-1", ca_der=ca_der, folder=tmp_path)
    tls = client_tls(tmp_path, credential, certificates.to_pem("CERTIFICATE", ca_der))
    await beside.api.create(NODES, {"metadata": {"name": "edge-1"}})

    async def said(status: str, end: str) -> str:
        conditions = ((await beside.api.get(NODES, "edge-1")).get("status") or {}).get("conditions") or ()
        found = next((c for c in conditions if c["type"] == "CloudLink"), {"status": "", "message": ""})
        return "" if found["status"] == status and found["message"].endswith(end) else f"CloudLink is {found}"

    for replica in (one, two):
        port = replica.ready["endpoints"]["hub"].rpartition(":")[2]
        async with connect(replica.ready["endpoints"]["hub"], "edge-1", tls, features=peers.FEATURES):
            await until(lambda port=port: said("True", f":{port}"), within_s=60)  # type: ignore[misc]
    await until(lambda: said("False", "Z"), within_s=60)
    shown = await _told(beside, "node", "show", "edge-1")
    assert shown["link"]["status"] == "False" and shown["link"]["message"].startswith("last heard at 20")
    for replica in (one, two):
        assert forbidden(replica.log_file) == []


@pytest.mark.timeout(90)
async def test_a_pods_service_account_is_used_and_its_token_read_again_when_it_is_renewed(
    beside: Beside, tmp_path: Path
) -> None:
    admin = kubeconfig.load(beside.admin_file)
    mounted = tmp_path / "serviceaccount"
    mounted.mkdir()
    (mounted / "ca.crt").write_text(admin.ca_pem)
    (mounted / "namespace").write_text("kubeedge")
    (mounted / "token").write_text(await _account_token(beside))
    host, _, port = admin.server.removeprefix("https://").partition(":")
    found = kubeconfig.in_cluster({"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}, root=mounted)
    assert (found.server, found.namespace) == (admin.server, "kubeedge")
    transport = HttpTransport(found)
    try:
        api = HttpKubeApi(transport)
        assert (await api.list(NODES)).resource_version
        (mounted / "token").write_text("worn out")
        with pytest.raises(Unauthorized):
            await api.list(NODES)
        renewed = mounted / "token.new"
        renewed.write_text(await _account_token(beside))
        renewed.replace(mounted / "token")  # as a kubelet does it
        assert (await api.list(NODES)).resource_version
    finally:
        await transport.aclose()


async def _account_token(beside: Beside) -> str:
    spec = {"spec": {"expirationSeconds": 600, "audiences": []}}
    made = await beside.api.create(
        SERVICEACCOUNTS, spec, namespace="kubeedge", name="skerry-cloud", subresource="token"
    )
    return str(made["status"]["token"])


async def _leader(beside: Beside, *, not_this: str) -> str:
    """Who holds the Lease, once somebody else than ``not_this`` does."""
    holder = ""

    async def look() -> str:
        nonlocal holder
        try:
            lease = await beside.api.get(LEASES, "skerry-cloud-leader", namespace="kubeedge")
        except NotFound:
            return "there is no Lease"
        holder = lease["spec"]["holderIdentity"]
        return "" if holder not in ("", not_this) else f"held by {holder!r}"

    await until(look, within_s=60)
    return holder


async def _told(beside: Beside, *order: str) -> dict[str, Any]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "skerry.cli.main", *order, "--kubeconfig", str(beside.admin_file), "-o", "json",
        stdout=asyncio.subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip
    out, _ = await child.communicate()
    found: dict[str, Any] = json.loads(out)
    return found
