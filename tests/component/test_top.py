"""Who uses what: ``kubectl top`` and an autoscaler, on a real node with real processes."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from tests.component.kubectls import KUBECTLS, USUAL

from skerry.api.gvk import DEPLOYMENTS, HPAS, PODS, Object
from skerry.testing.site import Site, site, until

pytestmark = pytest.mark.timeout(150)

BUSY = "while :; do i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; sleep 0.05; done"


def deployment() -> Object:
    container = {
        "name": "app", "image": "label", "command": ["/bin/sh", "-c", BUSY],
        "resources": {"requests": {"cpu": "2m", "memory": "1Mi"}},
    }  # fmt: skip
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    return {
        "metadata": {"name": "busy"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "busy"}},
            "template": {"metadata": {"labels": {"app": "busy"}}, "spec": spec},
        },
    }


def autoscaler() -> Object:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "busy"}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
    metrics = [{"type": "Resource", "resource": cpu}]
    return {"metadata": {"name": "busy"}, "spec": {"scaleTargetRef": target, "maxReplicas": 2, "metrics": metrics}}


async def top(at: Site, home: Path, *words: str) -> str:
    """What ``kubectl top`` prints."""
    process = await asyncio.create_subprocess_exec(
        KUBECTLS[USUAL[-1]], "top", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={"KUBECONFIG": str(at.cloud.ready["kubeconfig"]), "HOME": str(home)},
    )  # fmt: skip
    output, _ = await process.communicate()
    return output.decode()


async def test_kubectl_top_tells_what_is_used_and_an_autoscaler_follows_it(tmp_path: Path) -> None:
    if USUAL[-1] not in KUBECTLS:
        pytest.skip(f"no kubectl {USUAL[-1]} here")
    async with site(tmp_path / "site", runtime="process") as at:
        await at.api.create(DEPLOYMENTS, deployment(), namespace="default")

        async def ready(count: int) -> str:
            found = await at.api.get(DEPLOYMENTS, "busy", namespace="default")
            is_there = (found.get("status") or {}).get("readyReplicas", 0) == count
            return "" if is_there else f"{found.get('status')}"

        await until(lambda: ready(1), within_s=60)

        async def shown() -> str:
            told = await top(at, tmp_path, "pods", "--containers", "-l", "app=busy", "--no-headers")
            return "" if re.search(r"^busy-\S+ +app +[1-9]\d*m +\d+Mi", told, re.M) else told

        await until(shown, within_s=60)
        assert re.search(r"^edge-1 +\d+m +\d+% +\d+Mi +\d+%", await top(at, tmp_path, "nodes"), re.M)
        [pod] = (await at.api.list(PODS, namespace="default")).items
        assert pod["metadata"]["name"] in await top(at, tmp_path, "pod", pod["metadata"]["name"])
        assert "not found" in await top(at, tmp_path, "pod", "nobody")
        await at.api.create(HPAS, autoscaler(), namespace="default")
        await until(lambda: ready(2), within_s=90)
        scaled = await at.api.get(HPAS, "busy", namespace="default")
        assert scaled["status"]["desiredReplicas"] == 2
        assert scaled["status"]["currentMetrics"][0]["resource"]["current"]["averageUtilization"] > 50
        await at.api.delete(DEPLOYMENTS, "busy", namespace="default")
        await until(at.no_pods, within_s=60)
