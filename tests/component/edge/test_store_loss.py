"""The agent's database is lost: the node is told everything again and keeps its containers."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.parts import BUSYBOX_IMAGE, shared_containerd

from skerry.api.gvk import PODS, SECRETS, Object
from skerry.edge.store.db import DAMAGED, FILE, open_database
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.engine import CriRuntime
from skerry.runtime.ports import ContainerState
from skerry.testing.site import Site, site, until


def pod(name: str) -> Object:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "app",
                    "image": BUSYBOX_IMAGE,
                    "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; while true; do sleep 1; done"],
                    "volumeMounts": [{"name": "keys", "mountPath": "/keys"}],
                }
            ],
            "volumes": [{"name": "keys", "secret": {"secretName": "keys"}}],
        },
    }


@pytest.mark.timeout(150)
@pytest.mark.xdist_group("containerd")
async def test_a_deleted_store_is_filled_again_and_containers_stay(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    engine = shared_containerd(request.config)
    async with site(tmp_path, runtime="cri", cri_socket=engine.socket) as at:
        await at.api.create(SECRETS, {"metadata": {"name": "keys"}, "data": {"key": "b25l"}}, namespace="default")
        for name in ("stays", "also", "leaves"):
            await at.api.create(PODS, pod(name), namespace="default")
        await until(lambda: _all_run(at), within_s=60)
        runtime = CriRuntime(CriClient(engine.socket), node_uid=str(at.joined()["nodeUid"]))
        before = await _running(runtime)
        assert set(before) == {"stays", "also", "leaves"}
        await at.agent.kill()
        for path in at.edge_data.glob(f"{FILE}*"):
            path.unlink()
        await at.api.delete(PODS, "leaves", namespace="default", grace_period_s=0)
        await at.agent.start()
        await until(lambda: _ended(runtime, "leaves"), within_s=90)
        kept = await _running(runtime)
        assert kept == {name: before[name] for name in ("stays", "also")}
        assert "store.settled" in at.agent.log_file.read_text()
        await until(lambda: _all_run(at), within_s=30)
        await runtime.aclose()
        await at.reset()


async def _all_run(at: Site) -> str:
    pods = (await at.api.list(PODS, namespace="default")).items
    wrong = [p["metadata"]["name"] for p in pods if not _is_running(p)]
    return f"{wrong} do not run" if wrong else ""


def _is_running(found: Object) -> bool:
    containers = (found.get("status") or {}).get("containerStatuses") or [{}]
    return bool(containers[0].get("ready")) and containers[0].get("restartCount") == 0


async def _running(runtime: CriRuntime) -> dict[str, str]:
    return {
        p.name: c.id
        for p in (await runtime.observe()).values()
        for c in p.containers
        if c.state is ContainerState.RUNNING
    }


async def _ended(runtime: CriRuntime, name: str) -> str:
    return f"{name} runs" if name in await _running(runtime) else ""


async def test_a_damaged_store_is_moved_aside(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    await database.write(lambda connection: connection.execute("INSERT INTO fact VALUES ('a', 'b')"))
    database.close()
    (tmp_path / FILE).write_bytes(b"SQLite format 3\x00" + bytes(5000))
    database = open_database(tmp_path)
    assert database.read("SELECT * FROM fact") == []
    database.close()
    assert (tmp_path / DAMAGED).stat().st_size == 5016
