"""A static pod runs without a cloud, is seen in the cluster, and survives what is done to its mirror there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skerry.api.gvk import PODS
from skerry.api.status import NotFound
from skerry.testing.site import Site, site, until

MANIFEST = """
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: app, image: any, command: [/bin/sh, -c, "trap 'exit 0' TERM; while true; do sleep 0.2; done"]}
"""


@pytest.mark.timeout(150)
async def test_a_static_pod_and_its_mirror(tmp_path: Path) -> None:
    async with site(tmp_path, runtime="process") as at:
        file = at.edge_data / "static-pods/web.yaml"
        file.parent.mkdir()
        os.mkfifo(file.with_name("pipe.yaml"))  # nobody writes it
        file.with_name("endless.json").symlink_to("/dev/zero")
        file.write_text(MANIFEST)
        await until(lambda: _mirror(at), within_s=60)
        first = await _id(at)
        at.cut()
        await at.agent.kill()
        await at.agent.start()
        at.mend()
        await at.api.delete(PODS, "web-edge-1", namespace="default")
        await until(lambda: _mirror(at, not_uid=first[0]), within_s=60)
        assert (await _id(at))[1] == first[1], "the container was restarted"
        file.unlink()
        await until(lambda: _gone(at), within_s=60)
        await at.reset()


async def _mirror(at: Site, *, not_uid: str = "") -> str:
    pod = await at.api.get(PODS, "web-edge-1", namespace="default")
    status = pod.get("status") or {}
    is_right = status.get("phase") == "Running" and pod["metadata"]["uid"] != not_uid
    return "" if is_right else f"{pod['metadata']['uid']} is {status}"


async def _id(at: Site) -> tuple[str, str]:
    pod = await at.api.get(PODS, "web-edge-1", namespace="default")
    return pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["containerID"]


async def _gone(at: Site) -> str:
    try:
        await at.api.get(PODS, "web-edge-1", namespace="default")
    except NotFound:
        left = list((at.edge_data / "pods").iterdir())
        return f"left: {left}" if left else ""
    return "the mirror is there"
