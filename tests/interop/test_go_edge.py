"""An unmodified Go edgecore on our cloud: joined with the token that our CLI prints, on a real containerd.

``SKERRY_EDGECORE`` names the program.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.component.kubectls import KUBECTLS
from tests.interop.goedge import GoEdge
from tests.interop.workload import Workload, node_is_ready
from tests.parts import BUSYBOX_IMAGE, Containerd, shared_containerd

from skerry.api.gvk import EVENTS, LEASES, NODES, OBJECTSYNCS, PODS
from skerry.testing.site import Site, until

pytestmark = [pytest.mark.interop, pytest.mark.timeout(400), pytest.mark.xdist_group("containerd")]

NODE = "go-1"
STATIC = f"""
apiVersion: v1
kind: Pod
metadata: {{name: fixed, namespace: default}}
spec:
  containers:
  - {{name: fixed, image: "{BUSYBOX_IMAGE}", imagePullPolicy: IfNotPresent, command: [sleep, "1000000"]}}
"""


@asynccontextmanager
async def go_site(tmp_path: Path, engine: Containerd) -> AsyncIterator[tuple[Site, GoEdge]]:
    """Our cloud as a process, and a Go edge that has joined it."""
    site = Site(tmp_path, runtime="cri")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(site.close)
        await site.cloud.start()
        token = await site.told("token", "create", "--node", NODE, "--data", str(tmp_path / "cloud"))
        hub, join = (site.cloud.ready["endpoints"][name].partition("://")[2] for name in ("hub", "join"))
        edge = GoEdge(tmp_path / "go", engine=engine, node=NODE, hub=hub, join=join, token=token["token"])
        stack.callback(edge.clear)
        stack.push_async_callback(edge.process.stop)
        await edge.process.start()
        await until(lambda: node_is_ready(site.api, NODE), within_s=60)
        yield site, edge


async def kubectl(site: Site, *arguments: str) -> str:
    """Run a kubectl against the cloud; its output."""
    program = KUBECTLS[max(KUBECTLS)]
    environment = {**os.environ, "KUBECONFIG": site.cloud.ready["kubeconfig"]}
    process = await asyncio.create_subprocess_exec(
        str(program), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


async def test_a_go_edge_lives_on_our_cloud(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    engine = shared_containerd(request.config)
    async with go_site(tmp_path, engine) as (site, edge):
        work = Workload(site.api, engine)
        await work.deploy(10)
        await until(lambda: work.is_right(10, word="one"), within_s=120)
        before = work.containers()

        # The cloud is killed, the configuration changes as soon as it is back: the same containers, the new word.
        await site.cloud.kill()
        await asyncio.sleep(3)  # nothing may happen now: there is nothing to wait for
        assert work.containers() == before
        await site.cloud.start()
        await work.change_config("two")
        await until(lambda: work.is_right(10, word="two"), within_s=120)
        assert work.containers() == before
        await until(lambda: node_is_ready(site.api, NODE), within_s=60)

        # edgecore itself is killed and comes back: the same containers. What they see of volumes is its own affair: its
        # kubelet unmounts what it finds at its start and mounts it anew, behind the back of a running container.
        await edge.process.kill()
        await edge.process.start()
        await work.change_config("three")

        async def is_stored() -> str:
            stored = edge.rows("configmap").get("default/configmap/settings", {})
            return "" if stored.get("data") == {"word": "three"} else f"the edge holds {stored}"

        await until(is_stored, within_s=60)
        await until(lambda: work.is_right(10), within_s=60)
        assert work.containers() == before

        # A pod is deleted: exactly this one is replaced.
        victim = sorted(c.pod for c in before)[0]
        await kubectl(site, "delete", "pod", victim, "--wait=true", "--timeout=60s")
        await until(lambda: work.is_right(10), within_s=60)
        after = work.containers()
        assert {c for c in before if c.pod != victim} <= after
        assert victim not in {c.pod for c in after}

        # A static pod is mirrored.
        (edge.directory / "manifests/fixed.yaml").write_text(STATIC)

        async def is_mirrored() -> str:
            pod = await site.api.get(PODS, f"fixed-{NODE}", namespace="default")
            return "" if (pod.get("status") or {}).get("phase") == "Running" else f"phase {pod.get('status')}"

        await until(is_mirrored, within_s=60)
        (edge.directory / "manifests/fixed.yaml").unlink()

        # Drain empties the node, uncordon fills it again.
        await kubectl(site, "drain", NODE, "--ignore-daemonsets", "--force", "--timeout=90s", "--delete-emptydir-data")
        await until(work.is_gone, within_s=60)
        assert all(not pod["spec"].get("nodeName") for pod in await work.pods())
        await kubectl(site, "uncordon", NODE)
        await until(lambda: work.is_right(10, word="three"), within_s=120)

        # What the node reports, and what we know of it.
        assert (await site.api.list(EVENTS, namespace="default")).items
        await site.api.get(LEASES, NODE, namespace="kube-node-lease")
        node = await site.api.get(NODES, NODE)
        assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")
        synced = {item["spec"]["objectName"] for item in (await site.api.list(OBJECTSYNCS)).items}
        assert {c.pod for c in work.containers()} <= synced

        await kubectl(site, "delete", "deployment", "web", "--timeout=60s")
        await until(work.is_gone, within_s=60)

        async def holds_none() -> str:
            held = set(edge.rows("pod"))
            return f"the edge still holds {held}" if held else ""

        await until(holds_none, within_s=60)
        missing = ROUTES - edge.routes()
        assert not missing, f"not exercised: {missing}; seen: {sorted(edge.routes())}"


ROUTES = frozenset(
    """
down delete configmap [edgecontroller/resource]
down delete pod [edgecontroller/resource]
down delete secret [edgecontroller/resource]
down insert configmap [edgecontroller/resource]
down insert pod [edgecontroller/resource]
down insert secret [edgecontroller/resource]
down response lease [edgecontroller/resource]
down response membership/detail [devicecontroller/twin]
down response node [edgecontroller/resource]
down response nodepatch [edgecontroller/resource]
down response pod [edgecontroller/resource]
down response podpatch [edgecontroller/resource]
down response serviceaccounttoken [edgecontroller/resource]
down update configmap [edgecontroller/resource]
down update membership/detail [devicecontroller/twin]
down update node [edgecontroller/resource]
down update pod [edgecontroller/resource]
down update secret [edgecontroller/resource]
up delete pod [edged/meta]
up get membership/detail [twin/resource]
up insert event [edged/meta]
up insert lease [edged/meta]
up insert node [edged/meta]
up insert pod [edged/meta]
up keepalive node [websocket/resource]
up patch event [edged/meta]
up patch nodepatch [edged/meta]
up patch podpatch [edged/meta]
up query lease [edged/meta]
up query serviceaccounttoken [edged/meta]
up response configmap [edgecontroller/resource]
up response node [edgecontroller/resource]
up response pod [edgecontroller/resource]
up response secret [edgecontroller/resource]
up update lease [edged/meta]
""".strip().splitlines()
)
"""Every route that this story exercises, as ``GoEdge.routes`` says it."""
