"""On the node itself, with the cloud gone: status, pods, logs, restart, and images from an archive."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.parts import BUSYBOX_IMAGE, busybox_program, image_archive, shared_containerd, unpack

from skerry.api.gvk import PODS
from skerry.base import json
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.images import CriImages
from skerry.testing.site import Site, site, until

pytestmark = [pytest.mark.timeout(150), pytest.mark.xdist_group("containerd")]


async def skerry(at: Site, *arguments: str, path: str = "") -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "skerry.cli.main", *arguments, "--data", str(at.edge_data),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PATH": f"{path}:{os.environ['PATH']}"},
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def result(at: Site, *arguments: str, **more: Any) -> Any:
    code, out, err = await skerry(at, *arguments, "-o", "json", **more)
    assert code == 0, err
    return json.loads(out)


async def test_everything_works_on_site_with_the_cloud_gone(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    engine = shared_containerd(request.config)
    async with site(tmp_path, runtime="cri", cri_socket=engine.socket) as at:
        script = "trap 'exit 0' TERM; echo started; while true; do sleep 0.2; done"
        container = {"name": "app", "image": BUSYBOX_IMAGE, "command": ["/bin/sh", "-c", script]}
        await at.api.create(
            PODS, {"metadata": {"name": "web"}, "spec": {"containers": [container]}}, namespace="default"
        )
        await until(lambda: _state(at, "Running", restarts=0), within_s=60)
        await at.cloud.kill()
        await until(lambda: _offline(at), within_s=60)
        _, text, _ = await skerry(at, "edge", "status")
        assert "OFFLINE for" in text and "reports wait to be sent" in text and "1 pods on the cri runtime" in text
        assert await skerry(at, "edge", "logs", "web") == (0, "started\n", "")
        assert (await result(at, "edge", "restart", "default/web"))["ended"] == ["app"]
        await until(lambda: _state(at, "Running", restarts=1), within_s=60)
        assert await skerry(at, "edge", "logs", "default/web", "--previous") == (0, "started\n", "")
        code, _, err = await skerry(at, "edge", "logs", "nobody")
        assert code == 1 and "default/web" in err
        await _load(at, engine.socket, tmp_path)
        await at.reset()


async def _load(at: Site, socket: Path, directory: Path) -> None:
    archive, name = directory / "image.tar", "skerry.test/by-hand:1"
    archive.write_bytes(image_archive(name, busybox_program(), ["/bin/sh", "-c", "true"]))
    programs = str(unpack("containerd") / "usr/bin")
    assert (await result(at, "image", "load", str(archive), path=programs))["loaded"] == [name]
    client = CriClient(socket)
    images = CriImages(client)
    assert await images.is_present(name)
    await images.remove(await images.resolve(name))
    await client.aclose()
    archive.write_bytes(b"no archive")
    code, _, err = await skerry(at, "image", "load", str(archive), path=programs)
    assert code == 2 and "no image archive" in err


async def _state(at: Site, phase: str, *, restarts: int) -> str:
    [found] = (await result(at, "edge", "pods"))["items"] or [{"phase": "", "restarts": -1, "ready": 0}]
    is_right = (found["phase"], found["restarts"], found["ready"]) == (phase, restarts, 1)
    return "" if is_right else f"the pod is {found}"


async def _offline(at: Site) -> str:
    return "still connected" if (await result(at, "edge", "status"))["link_up"] else ""
