"""Pods of a silent node say since when what is shown of them is old."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skerry.api.gvk import LEASES, NODES, PODS, SERVICEACCOUNTS, Object
from skerry.apiserver.auth.authn import MASTERS, User
from skerry.apiserver.core import ApiCore
from skerry.apiserver.local import LocalKubeApi
from skerry.base.aio.supervise import Supervisor
from skerry.cloud.sync.silence import CONDITION, EDGE_LABEL, SilentNodes, silence_patch
from skerry.kube.informer import InformerSet
from skerry.kube.ports import KubeApi
from skerry.testing.site import until


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[KubeApi]:
    core = ApiCore(database=tmp_path / "api.db", token_key=tmp_path / "sa.key", synchronous="NORMAL")
    await core.start()
    local = LocalKubeApi(core, user=User("cloud", (MASTERS,)))
    await local.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, namespace="default")
    yield local
    await core.aclose()


async def add_node(api: KubeApi, name: str, **labels: str) -> None:
    await api.create(NODES, {"metadata": {"name": name, "labels": labels}})
    spec = {"holderIdentity": name, "renewTime": "2026-01-02T03:04:05.000000Z"}
    await api.create(LEASES, {"metadata": {"name": name}, "spec": spec}, namespace="kube-node-lease")
    pod = {
        "metadata": {"name": f"on-{name}"},
        "spec": {"nodeName": name, "containers": [{"name": "c", "image": "i"}]},
    }
    await api.create(PODS, pod, namespace="default")
    await set_ready(api, name, "True")
    ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    await api.patch(PODS, f"on-{name}", ready, namespace="default", patch_type="strategic", subresource="status")


async def set_ready(api: KubeApi, name: str, status: str) -> None:
    patch = {"status": {"conditions": [{"type": "Ready", "status": status}]}}
    await api.patch(NODES, name, patch, patch_type="strategic", subresource="status")


async def conditions(api: KubeApi, name: str) -> dict[str, dict[str, Any]]:
    pod: Object = await api.get(PODS, f"on-{name}", namespace="default")
    return {c["type"]: c for c in pod["status"].get("conditions", [])}


async def test_pods_of_a_silent_edge_node_are_marked_until_it_is_back(api: KubeApi) -> None:
    await add_node(api, "gate-1", **{EDGE_LABEL: ""})
    await add_node(api, "server-1")
    informers = InformerSet(api)
    work = SilentNodes(api, informers)
    async with Supervisor("test") as supervisor:
        supervisor.keep("informers", informers.run)
        supervisor.keep("silence", work.run)
        for node in ("gate-1", "server-1"):
            await set_ready(api, node, "Unknown")

        async def is_marked() -> str:
            return "" if CONDITION in await conditions(api, "gate-1") else "not marked"

        await until(is_marked, within_s=10)
        found = await conditions(api, "gate-1")
        assert found[CONDITION]["status"] == "True"
        assert "last heard at 2026-01-02T03:04:05" in found[CONDITION]["message"]
        assert found["Ready"]["status"] == "True", "the status that the pod had was changed"
        await set_ready(api, "gate-1", "True")

        async def is_clear() -> str:
            return "still marked" if CONDITION in await conditions(api, "gate-1") else ""

        await until(is_clear, within_s=10)
        assert "Ready" in await conditions(api, "gate-1")
        assert CONDITION not in await conditions(api, "server-1")


def test_nothing_is_written_twice() -> None:
    marked = {"status": {"conditions": [{"type": CONDITION, "status": "True"}]}}
    assert silence_patch(marked, silent_since="t", node="n", now="t") is None
    assert silence_patch({}, silent_since=None, node="n", now="t") is None
    never = silence_patch({}, silent_since="", node="n", now="t")
    assert never is not None and "has never been heard" in never["status"]["conditions"][0]["message"]
