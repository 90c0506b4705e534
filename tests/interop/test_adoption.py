"""A node of a Go edgecore is adopted, lives with our agent, and is given back: the same containers all the way.

``SKERRY_EDGECORE`` names the program; ``SKERRY_CLOUDCORE`` that of the cloud, where the cloud is taken over too.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.interop.cluster import Cluster
from tests.interop.gocloud import GoCloud, has_token
from tests.interop.goedge import GoEdge
from tests.interop.test_go_edge import NODE, go_site
from tests.interop.workload import NAME, Workload, deployment, node_is_ready
from tests.parts import Containerd, shared_containerd

from skerry.api.gvk import DEPLOYMENTS
from skerry.app.children import Child, process_environment
from skerry.runtime.cri.client import CriClient
from skerry.testing.site import Site, until

pytestmark = [pytest.mark.interop, pytest.mark.timeout(400), pytest.mark.xdist_group("containerd")]


def skerry(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "skerry.cli.main", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def agent_of(data: Path, logs: Path) -> Child:
    """Our agent on an adopted directory."""
    arguments = ["edge", "run", "--data", str(data), "-o", "json", "--log-format", "text"]
    return Child("edge", arguments, log_file=logs / "adopted.log", environment=process_environment())


@pytest.fixture
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Containerd]:
    """The tests' container engine; pods that changed hands end here, whoever had them last."""
    engine = await asyncio.to_thread(shared_containerd, request.config)
    yield engine
    client = CriClient(engine.socket)
    for item in (await client.call("ListPodSandbox", {})).get("items", []):
        for method in ("StopPodSandbox", "RemovePodSandbox"):
            await client.call_if_there(method, {"pod_sandbox_id": item["id"]})
    await client.aclose()


async def go_fleet(tmp_path: Path, engine: Containerd, stack: AsyncExitStack) -> tuple[Cluster, GoCloud, GoEdge]:
    """A cluster, a cloudcore on it, and an edgecore that has joined it and is Ready."""
    cluster = Cluster(tmp_path)
    await cluster.start(stack)
    cloud = GoCloud(tmp_path / "cloudcore", kubeconfig=cluster.kubeconfig)
    stack.push_async_callback(cloud.process.stop)
    await cloud.process.start()
    await until(lambda: has_token(cloud, cluster.api), within_s=60)
    edge = GoEdge(
        tmp_path / "go", engine=engine, node=NODE, hub=f"127.0.0.1:{cloud.hub}", join=f"127.0.0.1:{cloud.join}",
        token=await cloud.token(cluster.api),
    )  # fmt: skip
    stack.callback(edge.clear)
    stack.push_async_callback(edge.process.stop)
    await edge.process.start()
    await until(lambda: node_is_ready(cluster.api, NODE), within_s=90)
    return cluster, cloud, edge


async def ended(work: Workload) -> None:
    """Delete the Deployment, and wait until its containers are gone."""
    await work.api.delete(DEPLOYMENTS, NAME, namespace="default", propagation="Background")

    async def look() -> str:
        return f"{len(work.containers())} containers run" if work.containers() else ""

    await until(look, within_s=120)


async def test_a_go_edge_is_adopted_and_given_back(tmp_path: Path, engine: Containerd) -> None:
    data = tmp_path / "adopted"
    async with go_site(tmp_path, engine) as (site, edge), AsyncExitStack() as stack:
        work = Workload(site.api, engine)
        await work.deploy(3)
        await until(lambda: work.is_right(3, word="one"), within_s=120)
        before = work.containers()
        config = str(edge.config_file)
        tunnel = site.cloud.ready["endpoints"]["tunnel"].partition("://")[2]
        adopt = ["adopt", "--edgecore-config", config, "--tunnel", tunnel, "--data", str(data), "--no-service"]

        # While edgecore runs the node is its own.
        refused = skerry(*adopt)
        assert refused.returncode == 2
        assert f"edgecore (pid {edge.process.pid}) is running" in refused.stderr
        assert "systemctl stop edgecore" in refused.stderr
        assert not data.exists()

        await edge.process.stop()
        checked = skerry(*adopt, "--check-only", "-o", "json")
        assert checked.returncode == 0, checked.stderr
        assert json.loads(checked.stdout)["sandboxes"] == 3
        assert not data.exists()
        adopted = skerry(*adopt, "-o", "json")
        assert adopted.returncode == 0, adopted.stderr
        assert json.loads(adopted.stdout)["adopted"] is True

        agent = agent_of(data, tmp_path / "logs")
        stack.push_async_callback(agent.stop)
        await agent.start()
        await until(lambda: node_is_ready(site.api, NODE), within_s=60)
        await work.change_config("two")
        await until(lambda: work.is_right(3, word="two"), within_s=90)
        assert work.containers() == before

        # Killed and started again: still the same. One is replaced by us, and passes to edgecore with the others.
        await agent.kill()
        await agent.start()
        await until(lambda: node_is_ready(site.api, NODE), within_s=60)
        victim = sorted(c.pod for c in before)[0]
        await site.told("delete", "pod", victim, "--data", str(tmp_path / "cloud"))
        await until(lambda: work.is_right(3, word="two"), within_s=90)
        after = work.containers()
        assert {c for c in before if c.pod != victim} == {c for c in after if c in before}

        running = skerry("release", "--data", str(data), "--yes")
        assert running.returncode == 2
        assert "systemctl stop skerry-edge" in running.stderr
        await agent.stop()
        released = skerry("release", "--data", str(data), "--yes", "-o", "json")
        assert released.returncode == 0, released.stderr
        assert not (data / "node.json").exists()

        await edge.process.start()
        kept = await edge.keeps(after)
        await work.change_config("three")

        async def is_stored() -> str:
            stored = edge.rows("configmap").get("default/configmap/settings", {})
            return "" if stored.get("data") == {"word": "three"} else f"the edge holds {stored}"

        await until(is_stored, within_s=90)
        await until(lambda: node_is_ready(site.api, NODE), within_s=60)
        await until(lambda: work.is_right(3), within_s=90)
        assert kept <= work.containers()


async def test_a_node_of_ours_passes_to_edgecore(tmp_path: Path, engine: Containerd) -> None:
    """A node that was never edgecore's: release writes what an edgecore needs."""
    site = Site(tmp_path, runtime="cri", cri_socket=engine.socket)
    async with AsyncExitStack() as stack:
        await site.start(stack)
        work = Workload(site.api, engine)
        await work.deploy(2)
        await until(lambda: work.is_right(2, word="one"), within_s=120)
        before = work.containers()
        hub, join = (site.cloud.ready["endpoints"][name].partition("://")[2] for name in ("hub", "join"))
        edge = GoEdge(tmp_path / "go", engine=engine, node=site.node, hub=hub, join=join)
        stack.callback(edge.clear)
        await site.agent.stop()
        released = skerry(
            "release", "--edgecore-config", str(edge.config_file), "--data", str(site.edge_data), "--yes", "--force"
        )
        assert released.returncode == 0, released.stderr
        stack.push_async_callback(edge.process.stop)
        await edge.process.start()
        kept = await edge.keeps(before)
        await until(lambda: node_is_ready(site.api, site.node), within_s=60)
        await until(lambda: work.is_right(2), within_s=90)
        assert kept <= work.containers()
        before = work.containers()
        await work.change_config("two")

        async def is_stored() -> str:
            stored = edge.rows("configmap").get("default/configmap/settings", {})
            return "" if stored.get("data") == {"word": "two"} else f"the edge holds {stored}"

        await until(is_stored, within_s=90)
        assert work.containers() == before


async def test_the_cloud_of_a_go_edge_is_taken_over(tmp_path: Path, engine: Containerd) -> None:
    """An authority that cloudcore made, a node that joined cloudcore: our cloud goes on with both."""
    async with AsyncExitStack() as stack:
        cluster, cloud, edge = await go_fleet(tmp_path, engine, stack)
        work = Workload(cluster.api, engine)
        await work.deploy(2)
        await until(lambda: work.is_right(2, word="one"), within_s=120)
        before = work.containers()

        await cloud.process.stop()
        ours = Child(
            "cloud",
            ["cloud", "run", "--kubeconfig", str(cluster.kubeconfig), "--data", str(tmp_path / "ours"),
             "--listen", "127.0.0.1", "--ports", "any", "-o", "json", "--log-format", "text"],
            log_file=tmp_path / "logs/ours.log", environment=process_environment(),
        )  # fmt: skip
        stack.push_async_callback(ours.stop)
        await ours.start()
        hub, join, tunnel = (ours.ready["endpoints"][name].partition("://")[2] for name in ("hub", "join", "tunnel"))
        await edge.process.stop()
        data = tmp_path / "adopted"
        adopted = skerry(
            "adopt", "--edgecore-config", str(edge.config_file), "--hub", hub, "--join", join, "--tunnel", tunnel,
            "--data", str(data), "--no-service",
        )  # fmt: skip
        assert adopted.returncode == 0, adopted.stderr
        agent = agent_of(data, tmp_path / "logs")
        stack.callback(skerry, "reset", "--data", str(data), "--yes")  # ends the pods with their mounts
        stack.push_async_callback(agent.stop)
        await agent.start()
        await until(lambda: node_is_ready(cluster.api, NODE), within_s=60)
        await work.change_config("two")
        await until(lambda: work.is_right(2, word="two"), within_s=90)
        assert work.containers() == before


async def test_a_cluster_with_cloudcore_passes_to_our_api_server_and_back(tmp_path: Path, engine: Containerd) -> None:
    """Another cluster, the same authority: edgecore changes the cloud without a new join, both ways.

    Its pods end before it leaves a cluster: those that the next one does not know stay until edgecore reports them.
    """
    async with AsyncExitStack() as stack:
        cluster, cloud, edge = await go_fleet(tmp_path, engine, stack)
        old = Workload(cluster.api, engine)
        await old.deploy(1)
        await until(lambda: old.is_right(1), within_s=120)
        await ended(old)
        certificate = (tmp_path / "go/certs/server.crt").read_bytes()

        # To us.
        site = Site(tmp_path / "ours", runtime="cri")
        stack.push_async_callback(site.close)
        await site.cloud.start()
        data = str(tmp_path / "ours/cloud")
        await cloud.process.stop()
        await edge.process.stop()
        source = ["--from", str(cluster.kubeconfig), "--data", data, "-o", "json"]
        checked = skerry("cloud", "adopt", "--check-only", *source)
        assert checked.returncode == 0 and not json.loads(checked.stdout)["adopted"], checked.stderr
        own = skerry("cloud", "adopt", "--from", str(Path(data) / "admin.kubeconfig"), "--data", data)
        assert own.returncode == 2 and "of the cluster that this cloud uses" in own.stderr
        adopted = skerry("cloud", "adopt", *source)
        assert adopted.returncode == 0 and json.loads(adopted.stdout)["adopted"], adopted.stderr
        again = skerry("cloud", "adopt", *source)
        assert again.returncode == 0 and not json.loads(again.stdout)["adopted"], again.stderr
        edge.move(site.cloud.ready["endpoints"]["hub"].partition("://")[2])
        new = Workload(site.api, engine)
        await new.deploy(2)
        await edge.process.start()
        await until(lambda: node_is_ready(site.api, NODE), within_s=120)
        await until(lambda: new.is_right(2, word="one"), within_s=180)
        assert (tmp_path / "go/certs/server.crt").read_bytes() == certificate

        # And back.
        await ended(new)
        await edge.process.stop()
        target = ["--to", str(cluster.kubeconfig), "--data", data]
        released = skerry("cloud", "release", *target, "-o", "json")
        assert released.returncode == 0 and json.loads(released.stdout)["released"], released.stderr
        await site.cloud.stop()
        await cloud.process.start()
        edge.move(f"127.0.0.1:{cloud.hub}")
        await edge.process.start()
        await old.change_config("back")
        await cluster.api.create(DEPLOYMENTS, deployment(1), namespace="default")
        await until(lambda: old.is_right(1, word="back"), within_s=180)
        assert (tmp_path / "go/certs/server.crt").read_bytes() == certificate
