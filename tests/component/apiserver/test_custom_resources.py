"""Custom resources from their definition to their end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from skerry.apiserver.store.ring import RingReader

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GIZMOS = "/apis/q.io/v1/namespaces/default/gizmos"


def crd(**version: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["color"],
                "properties": {
                    "color": {"type": "string", "enum": ["red", "blue"]},
                    "replicas": {"type": "integer", "maximum": 5, "default": 2},
                    "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                    "code": {"type": "string", "pattern": "^[a-z]+$"},
                },
            },
            "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
        },
    }
    return {
        "metadata": {"name": "gizmos.q.io"},
        "spec": {
            "group": "q.io",
            "scope": "Namespaced",
            "names": {"plural": "gizmos", "kind": "Gizmo", "shortNames": ["gz"]},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {
                        "status": {},
                        "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
                    },
                    "additionalPrinterColumns": [{"name": "Color", "type": "string", "jsonPath": ".spec.color"}],
                    "selectableFields": [{"jsonPath": ".spec.color"}],
                    **version,
                },
                {
                    "name": "v1beta1",
                    "served": True,
                    "storage": False,
                    "schema": {"openAPIV3Schema": schema},
                },
            ],
        },
    }


def gizmo(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "q.io/v1", "kind": "Gizmo", "metadata": {"name": name}, "spec": {"color": "red", **spec}}


async def reach(reader: RingReader, holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await reader.get()


async def install(site: Any, api: Any) -> None:
    collection = site.core.store.collection("customresourcedefinitions.apiextensions.k8s.io")
    reader = collection.reader()
    status, made = await api.ask("POST", CRDS, crd())
    assert status == 201, made
    assert made["spec"]["names"]["singular"] == "gizmo"
    await reach(reader, lambda: b'"Established"' in collection.get("", "gizmos.q.io").body)
    assert site.core.registry.find("q.io", "v1", "gizmos") is not None  # whoever has read Established finds it served


async def test_a_definition_whose_version_has_no_name_is_refused(api: Any) -> None:
    nameless = crd()
    del nameless["spec"]["versions"][0]["name"]
    status, answer = await api.ask("POST", CRDS, nameless)
    assert status == 422
    assert "spec.versions[0].name" in answer["message"]


async def test_a_definition_is_served_validated_and_pruned(site: Any, api: Any) -> None:
    await install(site, api)
    _, made = await api.ask("GET", f"{CRDS}/gizmos.q.io")
    assert {c["type"]: c["status"] for c in made["status"]["conditions"]} == {
        "NamesAccepted": "True", "Established": "True",
    }  # fmt: skip
    assert made["status"]["storedVersions"] == ["v1"]
    status, made = await api.ask("POST", GIZMOS, gizmo("a", bogus=1))
    assert (status, made["spec"]) == (201, {"color": "red", "replicas": 2})
    assert (made["kind"], made["apiVersion"], made["metadata"]["generation"]) == ("Gizmo", "q.io/v1", 1)
    status, body = await api.ask("POST", f"{GIZMOS}?fieldValidation=Strict", gizmo("b", bogus=1))
    assert (status, 'unknown field "spec.bogus"' in body["message"]) == (400, True)
    for spec, text in (
        ({"color": "green"}, 'spec.color: Unsupported value: "green": supported values: "red", "blue"'),
        ({"replicas": 9}, "spec.replicas: Invalid value: 9: spec.replicas in body should be less than or equal to 5"),
        ({"tags": ["a", "a"]}, 'spec.tags[1]: Duplicate value: "a"'),
        ({"code": "A1"}, "spec.code"),
    ):
        status, body = await api.ask("POST", GIZMOS, gizmo("c", **spec))
        assert (status, text in body["message"]) == (422, True), body["message"]


async def test_versions_show_the_same_objects(site: Any, api: Any) -> None:
    await install(site, api)
    await api.ask("POST", GIZMOS, gizmo("a"))
    _, other = await api.ask("GET", "/apis/q.io/v1beta1/namespaces/default/gizmos/a")
    assert (other["apiVersion"], other["spec"]["color"]) == ("q.io/v1beta1", "red")


async def test_status_and_scale_of_custom_resources(site: Any, api: Any) -> None:
    await install(site, api)
    _, made = await api.ask("POST", GIZMOS, {**gizmo("a"), "status": {"replicas": 7}})
    assert "status" not in made
    _, done = await api.ask("PUT", f"{GIZMOS}/a/status", {**made, "spec": {"color": "blue"}, "status": {"replicas": 1}})
    assert (done["status"], done["spec"]["color"], done["metadata"]["generation"]) == ({"replicas": 1}, "red", 1)
    merge = "application/merge-patch+json"
    _, scale = await api.ask("PATCH", f"{GIZMOS}/a/scale", {"spec": {"replicas": 4}}, kind=merge)
    assert (scale["spec"], scale["status"]) == ({"replicas": 4}, {"replicas": 1})
    _, after = await api.ask("GET", f"{GIZMOS}/a")
    assert (after["spec"]["replicas"], after["metadata"]["generation"]) == (4, 2)
    smp = "application/strategic-merge-patch+json"
    assert (await api.ask("PATCH", f"{GIZMOS}/a", {}, kind=smp))[0] == 415
    status, body = await api.ask("PUT", f"{GIZMOS}/a", gizmo("a"))
    assert (status, "must be specified for an update" in body["message"]) == (422, True)


async def test_columns_and_selectable_fields(site: Any, api: Any) -> None:
    await install(site, api)
    await api.ask("POST", GIZMOS, gizmo("a"))
    await api.ask("POST", GIZMOS, gizmo("b", color="blue"))
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    _, table = await api.ask("GET", f"{GIZMOS}?fieldSelector=spec.color%3Dblue", Accept=accept)
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Color"]
    assert [row["cells"] for row in table["rows"]] == [["b", "blue"]]
    status, body = await api.ask("GET", f"{GIZMOS}?fieldSelector=spec.code%3Dx")
    assert (status, body["message"]) == (400, "field label not supported: spec.code")


async def test_the_end_of_a_definition_takes_its_objects_along(site: Any, api: Any) -> None:
    await install(site, api)
    await api.ask("POST", GIZMOS, gizmo("a"))
    held = gizmo("held")
    held["metadata"]["finalizers"] = ["q.io/hold"]
    await api.ask("POST", GIZMOS, held)
    collection = site.core.store.collection("customresourcedefinitions.apiextensions.k8s.io")
    reader = collection.reader()
    gizmos = site.core.store.collection("gizmos.q.io")
    gone = gizmos.reader()
    status, _ = await api.ask("DELETE", f"{CRDS}/gizmos.q.io")
    assert status == 200
    await reach(gone, lambda: gizmos.get("default", "a") is None)
    assert collection.get("", "gizmos.q.io") is not None
    merge = "application/merge-patch+json"
    await api.ask("PATCH", f"{GIZMOS}/held", {"metadata": {"finalizers": None}}, kind=merge)
    await reach(reader, lambda: collection.get("", "gizmos.q.io") is None)
    async with asyncio.timeout(5):
        while site.core.registry.find("q.io", "v1", "gizmos") is not None:
            await asyncio.sleep(0)
    assert (await api.ask("GET", GIZMOS))[0] == 404
    _, groups = await api.ask("GET", "/apis")
    assert "q.io" not in {group["name"] for group in groups["groups"]}


async def test_conflicting_names_are_not_served(site: Any, api: Any) -> None:
    await install(site, api)
    rival = crd()
    rival["metadata"]["name"] = "gizmoz.q.io"
    rival["spec"]["names"] = {"plural": "gizmoz", "singular": "gizmozz", "kind": "Gizmo"}
    collection = site.core.store.collection("customresourcedefinitions.apiextensions.k8s.io")
    reader = collection.reader()
    assert (await api.ask("POST", CRDS, rival))[0] == 201
    await reach(reader, lambda: b"KindConflict" in collection.get("", "gizmoz.q.io").body)
    assert (await api.ask("GET", "/apis/q.io/v1/gizmoz"))[0] == 404


async def test_custom_resources_are_served_again_after_a_restart(serve: Any, site: Any, api: Any, client: Any) -> None:
    await install(site, api)
    await api.ask("POST", GIZMOS, gizmo("a"))
    await site.server.aclose()
    await site.core.aclose()
    again = client(await serve())
    status, found = await again.ask("GET", f"{GIZMOS}/a")
    assert (status, found["spec"]["replicas"]) == (200, 2)
