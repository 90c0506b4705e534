"""Ports of the node that lead to a pod, by the portmap plugin, in a network name space of their own."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.component.edge.desk import Desk, pod
from tests.parts import BUSYBOX_IMAGE, Containerd, PartMissing

from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.engine import CriRuntime
from skerry.runtime.cri.images import CriImages

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("containerd")]

_ASK = """
import sys, urllib.request
print(urllib.request.urlopen(f"http://{sys.argv[1]}:18080/", timeout=5).read().decode().strip())
"""


@pytest.fixture
def engine() -> Iterator[Containerd]:
    try:
        engine = Containerd(has_own_net=True)
        engine.start()
    except (PartMissing, subprocess.CalledProcessError) as exc:
        pytest.skip(f"no engine in a network name space here: {exc}")
    yield engine
    engine.close()


async def test_a_host_port_leads_to_the_pod(engine: Containerd, tmp_path: Path) -> None:
    client = CriClient(engine.socket)
    desk = Desk(tmp_path / "edge", CriRuntime(client, node_uid=str(uuid.uuid4())), CriImages(client))
    await desk.roster.start()
    container = {
        "image": BUSYBOX_IMAGE,
        "imagePullPolicy": "Never",
        "ports": [{"containerPort": 8080, "hostPort": 18080}],
    }
    script = "echo from the pod > /tmp/index.html; httpd -f -p 8080 -h /tmp"
    await desk.objects.put("default/pod/web", pod(script, container=container, terminationGracePeriodSeconds=1))
    await desk.until(lambda: "running" in desk.state())
    gateway = desk.status()["podIP"].rpartition(".")[0] + ".1"
    said = ""
    while said != "from the pod":
        try:
            said = engine.inside(sys.executable, "-c", _ASK, gateway).strip()
        except subprocess.CalledProcessError:
            continue
    await desk.roster.stop_all()
    for found in (await desk.runtime.observe()).values():
        for sandbox in found.sandboxes:
            await desk.runtime.remove_sandbox(sandbox.id)
    assert "18080" not in engine.inside(str(engine.directory / "iptables" / "iptables"), "-t", "nat", "-S")
    await desk.close()
