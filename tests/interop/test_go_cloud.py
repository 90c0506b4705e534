"""Our agent on an unmodified Go cloudcore, over a real Kubernetes API server, on a real containerd.

``SKERRY_CLOUDCORE``, ``SKERRY_KUBE_APISERVER``, ``SKERRY_KUBE_CONTROLLER_MANAGER`` and ``SKERRY_KUBE_SCHEDULER`` name
the programs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.component.kubectls import KUBECTLS
from tests.interop.cluster import Cluster
from tests.interop.gocloud import GoCloud, has_token
from tests.interop.workload import Workload, node_is_ready
from tests.parts import BUSYBOX_IMAGE, OTHER_HANDLER, Containerd, shared_containerd

from skerry.api.gvk import EVENTS, LEASES, NODES, OBJECTSYNCS, PODS, RUNTIMECLASSES, Object
from skerry.kube.ports import KubeApi
from skerry.testing.site import Site, pod_state, until

pytestmark = [pytest.mark.interop, pytest.mark.timeout(400), pytest.mark.xdist_group("containerd")]


@dataclass(frozen=True, slots=True)
class GoSite:
    """A cluster, its cloudcore, and our agent."""

    cluster: Cluster
    cloud: GoCloud
    site: Site

    async def kubectl(self, *arguments: str) -> str:
        """Run a kubectl against the cluster; its output."""
        environment = {**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig)}
        process = await asyncio.create_subprocess_exec(
            str(KUBECTLS[max(KUBECTLS)]), *arguments, env=environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        return out.decode()


@asynccontextmanager
async def go_site(tmp_path: Path, engine: Containerd, *, authorization: bool) -> AsyncIterator[GoSite]:
    """Everything running, and the agent's node Ready."""
    async with AsyncExitStack() as stack:
        cluster = Cluster(tmp_path)
        await cluster.start(stack)
        cloud = GoCloud(tmp_path / "cloudcore", kubeconfig=cluster.kubeconfig, authorization=authorization)
        stack.push_async_callback(cloud.process.stop)
        await cloud.process.start()
        await until(lambda: has_token(cloud, cluster.api), within_s=60)
        site = Site(tmp_path, runtime="cri")
        stack.push_async_callback(site.agent.stop)
        await site.told(
            "join", f"127.0.0.1:{cloud.join}", "--token", await cloud.token(cluster.api), "--node", site.node,
            "--hub", f"127.0.0.1:{cloud.hub}", "--runtime", "cri", "--cri-socket", str(engine.socket),
            "--data", str(site.edge_data), "--no-service",
        )  # fmt: skip
        await site.agent.start()
        stack.push_async_callback(site.reset)
        await until(lambda: node_is_ready(cluster.api, site.node), within_s=60)
        yield GoSite(cluster, cloud, site)


@pytest.mark.parametrize("authorization", [False, True], ids=["open", "authorized"])
async def test_our_agent_lives_on_a_go_cloud(
    tmp_path: Path, request: pytest.FixtureRequest, authorization: bool
) -> None:
    engine = shared_containerd(request.config)
    async with go_site(tmp_path, engine, authorization=authorization) as at:
        api, node = at.cluster.api, at.site.node
        work = Workload(api, engine)
        await work.deploy(10)
        await until(lambda: work.is_right(10, word="one"), within_s=120)
        before = work.containers()

        # cloudcore is killed; the configuration changes meanwhile; it comes back: the same containers, the new word.
        await at.cloud.process.kill()
        await work.change_config("two")
        assert work.containers() == before
        await at.cloud.process.start()
        await until(lambda: work.is_right(10, word="two"), within_s=90)
        assert work.containers() == before

        # The agent is killed and comes back: the same containers.
        await at.site.agent.kill()
        await work.change_config("three")
        await at.site.agent.start()
        await until(lambda: work.is_right(10, word="three"), within_s=60)
        assert work.containers() == before

        # A pod is deleted: exactly this one is replaced.
        victim = sorted(c.pod for c in before)[0]
        await at.kubectl("delete", "pod", victim, "--wait=true", "--timeout=60s")
        await until(lambda: work.is_right(10, word="three"), within_s=60)
        after = work.containers()
        assert {c for c in before if c.pod != victim} <= after
        assert victim not in {c.pod for c in after}

        # Drain empties the node, uncordon fills it again.
        await at.kubectl("drain", node, "--ignore-daemonsets", "--force", "--timeout=90s", "--delete-emptydir-data")
        await until(work.is_gone, within_s=60)
        await at.kubectl("uncordon", node)
        await until(lambda: work.is_right(10, word="three"), within_s=120)

        # cloudcore tells its nodes neither their labels nor RuntimeClasses: a pod that needs both runs all the same.
        await at.kubectl("label", "node", node, "disk=ssd")
        await api.create(RUNTIMECLASSES, {"metadata": {"name": OTHER_HANDLER}, "handler": "runc"})
        await api.create(PODS, _choosy(), namespace="default")
        await until(lambda: _runs(api, "choosy"), within_s=60)
        await at.kubectl("delete", "pod", "choosy", "--wait=true", "--timeout=60s")

        # What the node reports, and what cloudcore knows of it.
        if not authorization:  # cloudcore's authorizer denies every event
            assert (await api.list(EVENTS, namespace="default")).items
        await api.get(LEASES, node, namespace="kube-node-lease")
        assert (await api.get(NODES, node))["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")
        synced = {item["spec"]["objectName"] for item in (await api.list(OBJECTSYNCS)).items}
        assert {c.pod for c in work.containers()} <= synced

        await at.kubectl("delete", "deployment", "web", "--timeout=60s")
        await until(work.is_gone, within_s=60)
        await at.site.agent.stop()


def _choosy() -> Object:
    """A pod of a RuntimeClass for nodes with a disk of some kind."""
    term = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    container = {"name": "app", "image": BUSYBOX_IMAGE, "imagePullPolicy": "Never", "command": ["sleep", "300"]}
    spec = {
        "affinity": {"nodeAffinity": required},
        "automountServiceAccountToken": False,
        "containers": [container],
        "runtimeClassName": OTHER_HANDLER,
        "terminationGracePeriodSeconds": 1,
        "tolerations": [{"operator": "Exists"}],
    }
    return {"metadata": {"name": "choosy", "namespace": "default"}, "spec": spec}


async def _runs(api: KubeApi, name: str) -> str:
    pod = await api.get(PODS, name, namespace="default")
    return "" if (pod.get("status") or {}).get("phase") == "Running" else pod_state(pod)
