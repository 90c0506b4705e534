"""What any node may rely on in a hub, on KubeEdge's plain wire: for our hub and for a Go cloudcore.

A test module subclasses ``CloudEndContract`` and provides the fixture ``end``.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from skerry.api.gvk import CONFIGMAPS, NODES, PODS, Object
from skerry.kube.ports import KubeApi
from skerry.testing.hollow import HollowNode

FIRST, SECOND, NEW = "edge-1", "edge-2", "edge-3"
"""Only ``NEW`` has no Node object before the suite begins, where the hub under test needs one."""


class CloudEnd(Protocol):
    """The hub under test."""

    api: KubeApi
    """The cluster behind it; it has the namespace ``default`` and runs no controllers that would touch pods."""

    def connect(self, node: str, *, acks: bool = True) -> AbstractAsyncContextManager[HollowNode]:
        """A node of that name with a certificate of the hub's authority."""


def pod(name: str, *, node: str, config: str = "") -> Object:
    """A pod that needs no service account."""
    volumes = [{"name": "c", "configMap": {"name": config}}] if config else []
    spec: dict[str, Any] = {
        "nodeName": node, "automountServiceAccountToken": False, "volumes": volumes,
        "containers": [{"name": "app", "image": "i"}], "terminationGracePeriodSeconds": 30,
    }  # fmt: skip
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


def node_object(name: str) -> Object:
    """What an edge registers."""
    labels = {"kubernetes.io/hostname": name, "node-role.kubernetes.io/edge": ""}
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


class CloudEndContract:
    """The suite."""

    async def test_a_node_registers_and_reads_itself(self, end: CloudEnd) -> None:
        async with end.connect(NEW) as node:
            made = await node.request("insert", f"default/node/{NEW}", node_object(NEW))
            assert made.is_ok
            found = await node.request("query", f"default/node/{NEW}")
            assert found.object is not None
            assert found.object["metadata"]["labels"]["kubernetes.io/hostname"] == NEW
        assert (await end.api.get(NODES, NEW))["metadata"]["name"] == NEW

    async def test_a_node_gets_its_pods_and_what_they_name_and_nothing_else(self, end: CloudEnd) -> None:
        await end.api.create(CONFIGMAPS, {"metadata": {"name": "cm"}, "data": {"k": "1"}}, namespace="default")
        await end.api.create(CONFIGMAPS, {"metadata": {"name": "other"}, "data": {"k": "1"}}, namespace="default")
        async with end.connect(FIRST) as first, end.connect(SECOND) as second:
            await end.api.create(PODS, pod("web", node=FIRST, config="cm"), namespace="default")
            await end.api.create(PODS, pod("far", node=SECOND), namespace="default")
            await first.until(lambda node: "default/pod/web" in node.objects)
            await second.until(lambda node: "default/pod/far" in node.objects)
            found = await first.request("query", "default/configmap/cm")
            assert found.object is not None and found.object["data"] == {"k": "1"}
            assert not {"default/pod/far", "default/configmap/other"} & set(first.objects)
            assert not {"default/pod/web", "default/configmap/cm"} & set(second.objects)

    async def test_changes_and_removals_follow(self, end: CloudEnd) -> None:
        await end.api.create(CONFIGMAPS, {"metadata": {"name": "cm"}, "data": {"k": "1"}}, namespace="default")
        await end.api.create(PODS, pod("web", node=FIRST, config="cm"), namespace="default")
        async with end.connect(FIRST) as node:
            await node.until(lambda n: "default/pod/web" in n.objects)
            assert (await node.request("query", "default/configmap/cm")).is_ok
            for number in range(2, 30):
                await end.api.patch(CONFIGMAPS, "cm", {"data": {"k": str(number)}}, namespace="default")
            await node.until(lambda n: n.objects["default/configmap/cm"]["data"]["k"] == "29")
            await end.api.delete(PODS, "web", namespace="default", grace_period_s=0)
            await node.until(lambda n: "default/pod/web" not in n.objects)

    async def test_status_goes_up(self, end: CloudEnd) -> None:
        made = await end.api.create(PODS, pod("web", node=FIRST), namespace="default")
        async with end.connect(FIRST) as node:
            await node.until(lambda n: "default/pod/web" in n.objects)
            patch = {"metadata": {"uid": made["metadata"]["uid"]}, "status": {"phase": "Running"}}
            assert (await node.request("patch", "default/podpatch/web", patch)).is_ok
        found = await end.api.get(PODS, "web", namespace="default")
        assert found["status"]["phase"] == "Running"

    async def test_a_node_that_comes_back_is_brought_up_to_date(self, end: CloudEnd) -> None:
        for name in ("same", "changed", "removed"):
            await end.api.create(PODS, pod(name, node=FIRST), namespace="default")
        names = {f"default/pod/{name}" for name in ("same", "changed", "removed")}
        async with end.connect(FIRST) as node:
            await node.until(lambda n: names <= set(n.objects))
            held = dict(node.objects)
        await end.api.patch(PODS, "changed", {"metadata": {"labels": {"a": "b"}}}, namespace="default")
        await end.api.delete(PODS, "removed", namespace="default", grace_period_s=0)
        await end.api.create(PODS, pod("new", node=FIRST), namespace="default")
        async with end.connect(FIRST) as node:
            node.objects.update(held)
            await node.until(
                lambda n: (
                    "default/pod/new" in n.objects
                    and "default/pod/removed" not in n.objects
                    and n.objects["default/pod/changed"]["metadata"].get("labels") == {"a": "b"}
                ),
                timeout_s=15,
            )
            assert "default/pod/same" in node.objects

    async def test_what_is_not_acknowledged_comes_again(self, end: CloudEnd) -> None:
        await end.api.create(PODS, pod("web", node=FIRST), namespace="default")
        async with end.connect(FIRST, acks=False) as node:
            await node.until(lambda n: len(n.copies) > len(set(n.copies)), timeout_s=15)
        async with end.connect(FIRST) as node:
            await node.until(lambda n: "default/pod/web" in n.objects)


class StrictCloudContract(CloudEndContract):
    """What our hub does beyond KubeEdge's: what pods name comes unasked, no question stays without an answer."""

    async def test_what_pods_name_comes_before_them(self, end: CloudEnd) -> None:
        await end.api.create(CONFIGMAPS, {"metadata": {"name": "cm"}, "data": {"k": "1"}}, namespace="default")
        await end.api.create(PODS, pod("web", node=FIRST, config="cm"), namespace="default")
        async with end.connect(FIRST) as node:
            await node.until(lambda n: {"default/pod/web", "default/configmap/cm"} <= set(n.objects))
            order = [resource for _, resource, _ in node.log]
            assert order.index("default/configmap/cm") < order.index("default/pod/web")

    async def test_every_question_is_answered(self, end: CloudEnd) -> None:
        async with end.connect(FIRST) as node:
            assert not (await node.request("query", "default/nosuchtype/a")).is_ok
            assert not (await node.request("dance", "default/pod/a")).is_ok
            assert not (await node.request("query", "default/configmap/absent")).is_ok

    async def test_a_node_reads_nothing_that_its_pods_do_not_name(self, end: CloudEnd) -> None:
        await end.api.create(CONFIGMAPS, {"metadata": {"name": "other"}, "data": {"k": "1"}}, namespace="default")
        await end.api.create(PODS, pod("far", node=SECOND), namespace="default")
        async with end.connect(FIRST) as node:
            for resource in ("default/configmap/other", f"default/node/{SECOND}", "default/pod/far"):
                found = await node.request("query", resource)
                assert not found.is_ok, resource
