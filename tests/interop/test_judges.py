"""Unmodified kube-controller-manager, kube-scheduler and Go cloudcore on the embedded API server.

``SKERRY_KUBE_CONTROLLER_MANAGER``, ``SKERRY_KUBE_SCHEDULER`` and ``SKERRY_CLOUDCORE`` name the programs.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.interop.gocloud import GoCloud, has_token
from tests.interop.judges import Bench, failing_informers

from skerry.api import gvk
from skerry.api.gvk import Object
from skerry.api.status import NotFound
from skerry.kube.ports import KubeApi
from skerry.testing.site import until

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

SETTLED_S = 20.0
"""How long a program may go on to ask for what it is refused, so that a late refusal is seen, too."""


def deployment(name: str, replicas: int) -> Object:
    container = {"name": "c", "image": "registry.example/nothing:1", "ports": [{"containerPort": 80}]}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}},
        },
    }  # fmt: skip


async def lack(api: KubeApi, name: str, replicas: int) -> str:
    """What the Deployment lacks, in words."""
    found = await api.get(gvk.DEPLOYMENTS, name, namespace="default")
    ready = (found.get("status") or {}).get("availableReplicas", 0)
    return "" if ready == replicas else f"{ready} of {replicas} replicas"


async def gone(api: KubeApi, resource: gvk.Resource, name: str, **more: Any) -> str:
    """Why the object is still there, in words."""
    try:
        await api.get(resource, name, **more)
    except NotFound:
        return ""
    return f"{name} is still there"


async def test_controller_manager_and_scheduler_run_the_cluster(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        bench = Bench(tmp_path, controllers="-*")
        await bench.start(stack)
        controllers = await bench.run(stack, bench.controller_manager())
        scheduler = await bench.run(stack, bench.scheduler())
        await bench.run(stack, bench.hollow_nodes(2))
        api = bench.api

        async def account() -> str:
            await api.get(gvk.SERVICEACCOUNTS, "default", namespace="default")
            return ""

        await until(account, within_s=60)
        await api.create(gvk.DEPLOYMENTS, deployment("web", 3))
        await until(lambda: lack(api, "web", 3), within_s=60)
        await api.delete(gvk.DEPLOYMENTS, "web", namespace="default", propagation="Foreground")
        await until(lambda: gone(api, gvk.DEPLOYMENTS, "web", namespace="default"), within_s=60)
        await api.create(gvk.NAMESPACES, {"metadata": {"name": "short"}})
        await until(lambda: _account_in(api, "short"), within_s=30)
        await api.delete(gvk.NAMESPACES, "short")
        await until(lambda: gone(api, gvk.NAMESPACES, "short"), within_s=60)
        await asyncio.sleep(SETTLED_S)
        assert controllers.is_running and scheduler.is_running
        for program in (controllers, scheduler):
            assert failing_informers(program.log_file.read_text(errors="replace")) == []


async def _account_in(api: KubeApi, namespace: str) -> str:
    await api.get(gvk.SERVICEACCOUNTS, "default", namespace=namespace)
    return ""


async def test_go_cloudcore_runs_on_it(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        bench = Bench(tmp_path)
        await bench.start(stack)
        cloudcore = GoCloud(tmp_path / "go", kubeconfig=bench.kubeconfig)
        await bench.run(stack, cloudcore.process)
        await until(lambda: has_token(cloudcore, bench.api), within_s=60)
        await bench.run(stack, bench.hollow_nodes(1))
        await bench.api.create(gvk.DEPLOYMENTS, deployment("web", 1))
        await until(lambda: lack(bench.api, "web", 1), within_s=60)
        await asyncio.sleep(SETTLED_S)
        assert cloudcore.process.is_running, cloudcore.process.tail()
        assert failing_informers(cloudcore.process.log_file.read_text(errors="replace")) == []
