"""Short ways to define custom resources and wait until they are served."""

from __future__ import annotations

import asyncio
from typing import Any

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def definition(schema: dict[str, Any], *, versions: list[dict[str, Any]] | None = None, **spec: Any) -> dict[str, Any]:
    """A CRD ``gizmos.q.io`` with one version, or with these."""
    one = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "gizmos.q.io"},
        "spec": {
            "group": "q.io",
            "scope": "Namespaced",
            "names": {"plural": "gizmos", "kind": "Gizmo"},
            "versions": versions or [one],
            **spec,
        },
    }


async def define(site: Any, api: Any, crd: dict[str, Any], *, is_new: bool = True) -> None:
    """Create or replace a CRD, and wait until the server serves it as it is."""
    name = crd["metadata"]["name"]
    if is_new:
        status, answer = await api.ask("POST", CRDS, crd)
        assert status == 201, answer
    else:
        _, old = await api.ask("GET", f"{CRDS}/{name}")
        crd["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        status, answer = await api.ask("PUT", f"{CRDS}/{name}", crd)
        assert status == 200, answer
    spec = crd["spec"]
    wanted = {v["name"]: v["schema"]["openAPIV3Schema"] for v in spec["versions"] if v["served"]}

    def is_served() -> bool:
        rows = [site.core.registry.find(spec["group"], version, spec["names"]["plural"]) for version in wanted]
        return all(row is not None and row.custom.schema == wanted[row.resource.version] for row in rows)

    async with asyncio.timeout(10):
        while not is_served():
            await asyncio.sleep(0.005)
