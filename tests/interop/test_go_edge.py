"""An unmodified Go edgecore on our cloud: joined with the token that our CLI prints, on a real containerd.

``SKERRY_EDGECORE`` names the program.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.component.kubectls import KUBECTLS
from tests.interop.gocloud import GoCloud, has_token
from tests.interop.goedge import GoEdge
from tests.interop.workload import Workload, node_is_ready
from tests.parts import BUSYBOX_IMAGE, Containerd, shared_containerd

from skerry.api.gvk import EVENTS, LEASES, NODES, OBJECTSYNCS, PODS, SERVICES
from skerry.base.net.listening import free_port
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
async def go_site(
    tmp_path: Path, engine: Containerd, *, options: Mapping[str, Any] | None = None
) -> AsyncIterator[tuple[Site, GoEdge]]:
    """Our cloud as a process, and a Go edge that has joined it."""
    site = Site(tmp_path, runtime="cri")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(site.close)
        await site.cloud.start()
        token = await site.told("token", "create", "--node", NODE, "--data", str(tmp_path / "cloud"))
        hub, join = (site.cloud.ready["endpoints"][name].partition("://")[2] for name in ("hub", "join"))
        edge = GoEdge(
            tmp_path / "go", engine=engine, node=NODE, hub=hub, join=join, token=token["token"], options=options
        )
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
        kept = await edge.keeps(before)
        await work.change_config("three")

        async def is_stored() -> str:
            stored = edge.rows("configmap").get("default/configmap/settings", {})
            return "" if stored.get("data") == {"word": "three"} else f"the edge holds {stored}"

        await until(is_stored, within_s=60)
        await until(lambda: work.is_right(10), within_s=60)
        assert kept <= work.containers()
        before = work.containers()

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


async def test_applications_at_a_go_edge_reach_our_cloud(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Through edgecore's MetaServer: list, get, watch, and what the cluster does not allow a node."""
    port = free_port()
    server = {"enable": True, "server": f"127.0.0.1:{port}", "dummyServer": "169.254.30.10:10550"}
    options = {"modules.metaManager.metaServer": server}
    services = f"http://127.0.0.1:{port}/api/v1/namespaces/default/services"
    async with (
        go_site(tmp_path, shared_containerd(request.config), options=options) as (site, edge),
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session,
    ):

        async def names() -> list[str]:
            async with session.get(services) as response:
                assert response.status == 200, await response.text()
                return [item["metadata"]["name"] for item in (await response.json())["items"]]

        assert "kubernetes" in await names()
        async with session.get(f"{services}/kubernetes") as response:
            assert (await response.json())["metadata"]["name"] == "kubernetes"
        async with session.get(services, params={"watch": "true", "resourceVersion": "0"}) as watch:
            assert watch.status == 200
            service = {"metadata": {"name": "added"}, "spec": {"ports": [{"port": 80}]}}
            await site.api.create(SERVICES, service, namespace="default")

            async def crosses(operation: str) -> str:
                route = f"down {operation} service [dynamiccontroller/resource]"
                return "" if route in edge.routes() else f"{route} was not seen"

            await until(lambda: crosses("insert"), within_s=30)
            await site.api.patch(SERVICES, "added", {"metadata": {"labels": {"a": "b"}}}, namespace="default")
            await until(lambda: crosses("update"), within_s=30)
            await site.api.delete(SERVICES, "added", namespace="default")
            await until(lambda: crosses("delete"), within_s=30)

        async def hung_up() -> str:
            synced = "up null watchapp/sync [metaserver/dynamiccontroller]"
            return "" if synced in edge.routes() else "the watch was not ended"

        await until(hung_up, within_s=60)
        seen = edge.routes()
        assert {"down applicationResponse Application [dynamiccontroller/resource]"} <= seen, sorted(seen)


async def test_cloudcore_takes_over_and_gives_back(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A Go cloudcore beside ours, on our API server, with our authority and cursors: the edge moves there and back."""
    engine = shared_containerd(request.config)
    async with go_site(tmp_path, engine) as (site, edge), AsyncExitStack() as stack:
        work = Workload(site.api, engine)
        await work.deploy(2)
        await until(lambda: work.is_right(2, word="one"), within_s=120)
        before = work.containers()
        kubeconfig = Path(site.cloud.ready["kubeconfig"])
        cloud = GoCloud(tmp_path / "cloudcore", kubeconfig=kubeconfig)
        stack.push_async_callback(cloud.process.stop)
        await cloud.process.start()
        await until(lambda: has_token(cloud, site.api), within_s=60)

        async def stored(word: str) -> str:
            held = edge.rows("configmap").get("default/configmap/settings", {})
            return "" if held.get("data") == {"word": word} else f"the edge holds {held}"

        home = edge.hub
        await edge.process.stop()
        edge.move(f"127.0.0.1:{cloud.hub}")
        await edge.process.start()
        kept = await edge.keeps(before)
        await work.change_config("from cloudcore")
        await until(lambda: stored("from cloudcore"), within_s=90)
        await until(lambda: work.is_right(2), within_s=90)
        assert kept <= work.containers()
        before = work.containers()

        await edge.process.stop()
        await cloud.process.stop()
        await work.change_config("ours again")
        edge.move(home)
        await edge.process.start()
        kept = await edge.keeps(before)
        await until(lambda: stored("ours again"), within_s=90)
        await until(lambda: work.is_right(2), within_s=60)
        assert kept <= work.containers()


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
