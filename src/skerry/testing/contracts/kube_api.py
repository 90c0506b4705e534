"""What every ``KubeApi`` does, for ``apiserver.local``, ``kube.http`` and the fake.

A test module subclasses ``KubeApiContract`` and provides the fixture ``api``: an identity that may do everything, on a
cluster where nothing else happens (no controllers).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from skerry.api import gvk
from skerry.api.gvk import Object
from skerry.api.status import AlreadyExists, Conflict, NotFound
from skerry.kube.ports import KubeApi, WatchEvent

SPACE = "work"


def config_map(name: str, *, labels: dict[str, str] | None = None, **data: str) -> Object:
    """A ConfigMap of the namespace that the suite works in."""
    meta: dict[str, Any] = {"name": name, "namespace": SPACE}
    if labels:
        meta["labels"] = labels
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def pod(name: str) -> Object:
    """A small pod of the namespace that the suite works in."""
    spec = {
        "automountServiceAccountToken": False,
        "containers": [{"name": "app", "image": "busybox:1"}],
        "terminationGracePeriodSeconds": 30,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": SPACE}, "spec": spec}


async def take(events: AsyncIterator[WatchEvent], count: int) -> list[WatchEvent]:
    """The next ``count`` events that are no bookmarks."""
    found: list[WatchEvent] = []
    async with asyncio.timeout(10):
        async for event in events:
            if event.type != "BOOKMARK":
                found.append(event)
            if len(found) == count:
                break
    return found


def shown(events: list[WatchEvent]) -> list[tuple[str, str]]:
    """Type and name of each event."""
    return [(event.type, event.object["metadata"]["name"]) for event in events]


class KubeApiContract:
    """The suite."""

    @pytest.fixture(autouse=True)
    async def space(self, api: KubeApi) -> None:
        """The namespace, with the account that pods need."""
        await api.create(gvk.NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}})
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": SPACE}}
        await api.create(gvk.SERVICEACCOUNTS, account)

    async def test_create_fills_in_identity(self, api: KubeApi) -> None:
        made = await api.create(gvk.CONFIGMAPS, config_map("a", x="1"))
        assert (made["kind"], made["apiVersion"], made["data"]) == ("ConfigMap", "v1", {"x": "1"})
        meta = made["metadata"]
        assert len(meta["uid"]) == 36
        assert int(meta["resourceVersion"]) > 0
        assert meta["creationTimestamp"].endswith("Z")
        assert await api.get(gvk.CONFIGMAPS, "a", namespace=SPACE) == made

    async def test_create_of_an_existing_name_is_refused(self, api: KubeApi) -> None:
        await api.create(gvk.CONFIGMAPS, config_map("a"))
        with pytest.raises(AlreadyExists):
            await api.create(gvk.CONFIGMAPS, config_map("a"))

    async def test_generated_names_differ(self, api: KubeApi) -> None:
        obj = config_map("x")
        del obj["metadata"]["name"]
        obj["metadata"]["generateName"] = "gen-"
        names = {(await api.create(gvk.CONFIGMAPS, obj))["metadata"]["name"] for _ in range(3)}
        assert len(names) == 3
        assert all(name.startswith("gen-") and len(name) == 9 for name in names)

    async def test_missing_objects_are_not_found(self, api: KubeApi) -> None:
        with pytest.raises(NotFound):
            await api.get(gvk.CONFIGMAPS, "a", namespace=SPACE)
        with pytest.raises(NotFound):
            await api.update(gvk.CONFIGMAPS, config_map("a"))
        with pytest.raises(NotFound):
            await api.patch(gvk.CONFIGMAPS, "a", {"data": {}}, namespace=SPACE)
        with pytest.raises(NotFound):
            await api.delete(gvk.CONFIGMAPS, "a", namespace=SPACE)

    async def test_update_with_a_stale_version_is_refused(self, api: KubeApi) -> None:
        first = await api.create(gvk.CONFIGMAPS, config_map("a", x="1"))
        second = await api.update(gvk.CONFIGMAPS, {**first, "data": {"x": "2"}})
        assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
        with pytest.raises(Conflict):
            await api.update(gvk.CONFIGMAPS, {**first, "data": {"x": "3"}})
        third = await api.update(gvk.CONFIGMAPS, config_map("a", x="4"))
        assert third["data"] == {"x": "4"}
        assert third["metadata"]["uid"] == first["metadata"]["uid"]

    async def test_a_write_that_changes_nothing_makes_no_revision(self, api: KubeApi) -> None:
        first = await api.create(gvk.CONFIGMAPS, config_map("a", x="1"))
        assert await api.update(gvk.CONFIGMAPS, first) == first
        assert await api.patch(gvk.CONFIGMAPS, "a", {"data": {"x": "1"}}, namespace=SPACE) == first

    async def test_merge_patch(self, api: KubeApi) -> None:
        await api.create(gvk.CONFIGMAPS, config_map("a", x="1", y="2"))
        patched = await api.patch(gvk.CONFIGMAPS, "a", {"data": {"x": None, "z": "3"}}, namespace=SPACE)
        assert patched["data"] == {"y": "2", "z": "3"}

    async def test_json_patch(self, api: KubeApi) -> None:
        await api.create(gvk.CONFIGMAPS, config_map("a", x="1"))
        steps = [{"op": "test", "path": "/data/x", "value": "1"}, {"op": "replace", "path": "/data/x", "value": "2"}]
        patched = await api.patch(gvk.CONFIGMAPS, "a", steps, patch_type="json", namespace=SPACE)
        assert patched["data"] == {"x": "2"}

    async def test_strategic_patch_merges_conditions_by_type(self, api: KubeApi) -> None:
        await api.create(gvk.PODS, pod("p"))
        for kind in ("Ready", "Initialized", "Ready"):
            patch = {"status": {"conditions": [{"type": kind, "status": "True"}]}}
            patched = await api.patch(
                gvk.PODS, "p", patch, patch_type="strategic", namespace=SPACE, subresource="status"
            )
        assert sorted(c["type"] for c in patched["status"]["conditions"]) == ["Initialized", "Ready"]

    async def test_status_is_written_through_its_subresource_only(self, api: KubeApi) -> None:
        made = await api.create(gvk.PODS, pod("p"))
        changed = {**made, "status": {"phase": "Running"}}
        done = await api.update(gvk.PODS, changed, subresource="status")
        assert done["status"]["phase"] == "Running"
        done["metadata"]["labels"] = {"a": "b"}
        again = await api.update(gvk.PODS, {**done, "status": {"phase": "Failed"}})
        assert (again["status"]["phase"], again["metadata"]["labels"]) == ("Running", {"a": "b"})

    async def test_lists_by_namespace_label_and_field(self, api: KubeApi) -> None:
        await api.create(gvk.CONFIGMAPS, config_map("a", labels={"tier": "x"}))
        await api.create(gvk.CONFIGMAPS, config_map("b", labels={"tier": "y"}))
        await api.create(gvk.CONFIGMAPS, config_map("c"))

        async def names(**selectors: Any) -> list[str]:
            found = await api.list(gvk.CONFIGMAPS, **selectors)
            assert all(item["kind"] == "ConfigMap" for item in found.items)
            return sorted(item["metadata"]["name"] for item in found.items)

        assert await names(namespace=SPACE) == ["a", "b", "c"]
        assert await names(namespace="elsewhere") == []
        assert set(await names()) >= {"a", "b", "c"}
        assert await names(namespace=SPACE, label_selector="tier=x") == ["a"]
        assert await names(namespace=SPACE, field_selector="metadata.name=c") == ["c"]

    async def test_a_watch_goes_on_where_the_list_ended(self, api: KubeApi) -> None:
        await api.create(gvk.CONFIGMAPS, config_map("before"))
        listed = await api.list(gvk.CONFIGMAPS, namespace=SPACE)
        made = await api.create(gvk.CONFIGMAPS, config_map("a", x="1"))
        await api.update(gvk.CONFIGMAPS, {**made, "data": {"x": "2"}})
        events = api.watch(gvk.CONFIGMAPS, namespace=SPACE, resource_version=listed.resource_version)
        async with aclosing(events):  # type: ignore[type-var]
            first = await take(events, 2)
            await api.delete(gvk.CONFIGMAPS, "a", namespace=SPACE)
            last = await take(events, 1)
        assert shown(first + last) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
        versions = [int(event.object["metadata"]["resourceVersion"]) for event in first + last]
        assert versions == sorted(set(versions))
        assert last[0].object["data"] == {"x": "2"}

    async def test_a_watch_with_a_selector_translates(self, api: KubeApi) -> None:
        listed = await api.list(gvk.CONFIGMAPS, namespace=SPACE)
        await api.create(gvk.CONFIGMAPS, config_map("a", labels={"in": "no"}))
        await api.patch(gvk.CONFIGMAPS, "a", {"metadata": {"labels": {"in": "yes"}}}, namespace=SPACE)
        await api.patch(gvk.CONFIGMAPS, "a", {"data": {"x": "1"}}, namespace=SPACE)
        await api.patch(gvk.CONFIGMAPS, "a", {"metadata": {"labels": {"in": "no"}}}, namespace=SPACE)
        events = api.watch(
            gvk.CONFIGMAPS, namespace=SPACE, resource_version=listed.resource_version, label_selector="in=yes"
        )
        async with aclosing(events):  # type: ignore[type-var]
            assert shown(await take(events, 3)) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]

    async def test_a_watch_ends_after_its_time(self, api: KubeApi) -> None:
        listed = await api.list(gvk.CONFIGMAPS, namespace=SPACE)
        async with asyncio.timeout(10):
            async for event in api.watch(
                gvk.CONFIGMAPS, namespace=SPACE, resource_version=listed.resource_version, timeout_s=1
            ):
                assert event.type == "BOOKMARK"

    async def test_delete_honours_preconditions(self, api: KubeApi) -> None:
        made = await api.create(gvk.CONFIGMAPS, config_map("a"))
        with pytest.raises(Conflict):
            await api.delete(gvk.CONFIGMAPS, "a", namespace=SPACE, uid="another")
        await api.delete(gvk.CONFIGMAPS, "a", namespace=SPACE, uid=made["metadata"]["uid"])
        with pytest.raises(NotFound):
            await api.get(gvk.CONFIGMAPS, "a", namespace=SPACE)

    async def test_finalizers_keep_an_object(self, api: KubeApi) -> None:
        obj = config_map("a")
        obj["metadata"]["finalizers"] = ["example.com/hold"]
        await api.create(gvk.CONFIGMAPS, obj)
        await api.delete(gvk.CONFIGMAPS, "a", namespace=SPACE)
        held = await api.get(gvk.CONFIGMAPS, "a", namespace=SPACE)
        assert held["metadata"]["deletionTimestamp"]
        await api.patch(gvk.CONFIGMAPS, "a", {"metadata": {"finalizers": None}}, namespace=SPACE)
        with pytest.raises(NotFound):
            await api.get(gvk.CONFIGMAPS, "a", namespace=SPACE)

    async def test_a_bound_pod_ends_gracefully(self, api: KubeApi) -> None:
        await api.create(gvk.PODS, pod("p"))
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": "p", "namespace": SPACE},
            "target": {"apiVersion": "v1", "kind": "Node", "name": "edge-1"},
        }
        await api.create(gvk.PODS, binding, namespace=SPACE, name="p", subresource="binding")
        bound = await api.get(gvk.PODS, "p", namespace=SPACE)
        assert bound["spec"]["nodeName"] == "edge-1"
        with pytest.raises(Conflict):
            await api.create(gvk.PODS, binding, namespace=SPACE, name="p", subresource="binding")
        await api.delete(gvk.PODS, "p", namespace=SPACE)
        ending = await api.get(gvk.PODS, "p", namespace=SPACE)
        assert ending["metadata"]["deletionGracePeriodSeconds"] == 30
        await api.delete(gvk.PODS, "p", namespace=SPACE, grace_period_s=0, uid=bound["metadata"]["uid"])
        with pytest.raises(NotFound):
            await api.get(gvk.PODS, "p", namespace=SPACE)

    async def test_an_unbound_pod_ends_at_once(self, api: KubeApi) -> None:
        await api.create(gvk.PODS, pod("p"))
        await api.delete(gvk.PODS, "p", namespace=SPACE)
        with pytest.raises(NotFound):
            await api.get(gvk.PODS, "p", namespace=SPACE)

    async def test_what_is_handed_in_is_not_changed(self, api: KubeApi) -> None:
        obj = config_map("a", x="1")
        await api.create(gvk.CONFIGMAPS, obj)
        assert obj == config_map("a", x="1")
