"""A node goes over to another runtime with its pods: each runs once, on the runtime that is configured."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.parts import BUSYBOX_IMAGE, shared_containerd

from skerry.api.gvk import PODS, Object
from skerry.base import json
from skerry.testing.site import Site, pod_state, site, until

pytestmark = [pytest.mark.timeout(150), pytest.mark.xdist_group("containerd")]

_MARK = "one-of-me"


def pod() -> Object:
    script = f"trap 'exit 0' TERM; while true; do sleep 0.2; done # {_MARK}"
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "nodeName": Site.node, "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "app", "image": BUSYBOX_IMAGE, "command": ["/bin/sh", "-c", script]}],
        },
    }  # fmt: skip


async def test_there_and_back_every_pod_runs_once(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    engine = shared_containerd(request.config)
    async with site(tmp_path, runtime="process") as at:
        await at.api.create(PODS, pod(), namespace="default")
        await until(lambda: _runs_once(at, is_process=True), within_s=60)
        for runtime in ("cri", "process"):
            await at.agent.stop()
            file = at.edge_data / "edge.yaml"
            settings = {**json.loads(file.read_bytes()), "runtime": runtime, "criSocket": str(engine.socket)}
            file.write_bytes(json.dumps(settings))
            await at.agent.start()
            await until(lambda runtime=runtime: _runs_once(at, is_process=runtime == "process"), within_s=60)
            assert "runtime.changed" in at.agent.log_file.read_text()
        await at.reset()
        assert _processes() == []


def _processes() -> list[int]:
    """Of the container, whatever runs it."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"sh") and any(_MARK.encode() in word for word in words[:3]):
            found.append(int(path.name))
    return found


async def _runs_once(at: Site, *, is_process: bool) -> str:
    found = await at.api.get(PODS, "web", namespace="default")
    containers = (found.get("status") or {}).get("containerStatuses") or [{}]
    identity = str(containers[0].get("containerID") or "")
    if not containers[0].get("ready") or identity.startswith("process://") is not is_process:
        return f"{pod_state(found)}, {identity or 'no container'}"
    processes = _processes()
    spaces = {os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net") for pid in processes}
    return "" if len(processes) == 1 and spaces == {is_process} else f"processes {processes}"
