"""``skerry adopt`` and ``release`` on a real containerd with a recorded database; edgecore itself is in interop."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.edgecoredb import edgecore_database
from tests.parts import BUSYBOX_IMAGE, Containerd, shared_containerd

from skerry.api.config.edge import EdgeConfig
from skerry.app.runtimes import open_runtime
from skerry.base import certificates, x509
from skerry.cli.main import main
from skerry.edge.store import edgecore
from skerry.runtime.cri.client import CriClient
from skerry.runtime.ports import ObservedPod

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("containerd")]


@dataclass
class Edge:
    """A machine that edgecore has left: its files, its pods on the engine, and where ours go."""

    directory: Path
    engine: Containerd
    pods: dict[str, dict[str, Any]]
    sandboxes: dict[str, str]

    @property
    def config(self) -> Path:
        return self.directory / "edgecore.yaml"

    @property
    def data(self) -> Path:
        return self.directory / "skerry"

    def volume(self, uid: str) -> Path:
        return self.directory / "kubelet/pods" / uid / "volumes/kubernetes.io~empty-dir/scratch"

    def adopt(self, *more: str) -> int:
        return main(["adopt", "--edgecore-config", str(self.config), "--data", str(self.data), "--no-service", *more])

    async def observed(self) -> dict[str, ObservedPod]:
        joined = json.loads((self.data / "node.json").read_bytes())
        runtime = await open_runtime(EdgeConfig(data=self.data, runtime="cri"), joined)
        try:
            return await runtime.pods.observe()
        finally:
            await runtime.pods.aclose()


async def kubelet_pod(client: CriClient, pod: dict[str, Any], logs: Path) -> tuple[str, str]:
    """A running pod as a kubelet would have made it; ids of sandbox and container."""
    meta = pod["metadata"]
    labels = {
        "io.kubernetes.pod.name": meta["name"], "io.kubernetes.pod.namespace": meta["namespace"],
        "io.kubernetes.pod.uid": meta["uid"],
    }  # fmt: skip
    sandbox = {
        "metadata": {"name": meta["name"], "uid": meta["uid"], "namespace": meta["namespace"], "attempt": 0},
        "log_directory": str(logs / meta["uid"]), "labels": labels,
        "linux": {"security_context": {"namespace_options": {"network": 2, "pid": 1}}},
    }  # fmt: skip
    (logs / meta["uid"] / "app").mkdir(parents=True)
    sandbox_id = (await client.call("RunPodSandbox", {"config": sandbox}, timeout_s=60))["pod_sandbox_id"]
    container = {
        "metadata": {"name": "app", "attempt": 0},
        "image": {"image": BUSYBOX_IMAGE, "user_specified_image": BUSYBOX_IMAGE},
        "command": ["/bin/sh", "-c", "echo hello; sleep 1000000"],
        "labels": {**labels, "io.kubernetes.container.name": "app"}, "log_path": "app/0.log",
        "linux": {"security_context": {"namespace_options": {"network": 2, "pid": 1}}},
    }  # fmt: skip
    request = {"pod_sandbox_id": sandbox_id, "config": container, "sandbox_config": sandbox}
    container_id = (await client.call("CreateContainer", request, timeout_s=60))["container_id"]
    await client.call("StartContainer", {"container_id": container_id}, timeout_s=60)
    return sandbox_id, container_id


def pod_of(name: str) -> dict[str, Any]:
    return {
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "default", "uid": str(uuid.uuid4()), "resourceVersion": "5"},
        "spec": {
            "nodeName": "go-1", "containers": [{"name": "app", "image": BUSYBOX_IMAGE}],
            "volumes": [{"name": "scratch", "emptyDir": {}}],
        },
    }  # fmt: skip


@pytest.fixture
async def edge(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Edge]:
    """Two pods of the node and one that belongs to somebody else."""
    engine = shared_containerd(request.config)
    client = CriClient(engine.socket)
    pods = {name: pod_of(name) for name in ("one", "two", "foreign")}
    ids = {name: await kubelet_pod(client, pod, tmp_path / "logs") for name, pod in pods.items()}
    at = Edge(tmp_path, engine, pods, {name: sandbox for name, (sandbox, _) in ids.items()})
    for name in ("one", "two"):
        volume = at.volume(pods[name]["metadata"]["uid"])
        volume.mkdir(parents=True)
        (volume / "file").write_text(name)
    now_s = time.time()
    ca = x509.new_ca("KubeEdge", now_s=now_s)
    node = x509.issue_client(ca, "system:node:go-1", organizations=("system:nodes",), now_s=now_s)
    (tmp_path / "ca.crt").write_bytes(ca.cert_pem)
    certificates.save(node, tmp_path / "node.crt", tmp_path / "node.key")
    edgecore_database(tmp_path / "edgecore.db", {f"default/pod/{name}": pods[name] for name in ("one", "two")})
    at.config.write_text(json.dumps(_config(tmp_path, engine)))
    yield at
    for sandbox in at.sandboxes.values():
        await client.call_if_there("StopPodSandbox", {"pod_sandbox_id": sandbox}, timeout_s=60)
        await client.call_if_there("RemovePodSandbox", {"pod_sandbox_id": sandbox}, timeout_s=60)
    await client.aclose()


def _config(at: Path, engine: Containerd) -> dict[str, Any]:
    return {
        "apiVersion": "edgecore.config.kubeedge.io/v1alpha2", "kind": "EdgeCore",
        "database": {"dataSource": f"{at}/edgecore.db"},
        "modules": {
            "edgeHub": {
                "httpServer": "https://cloud.example:10002", "tlsCaFile": f"{at}/ca.crt",
                "tlsCertFile": f"{at}/node.crt", "tlsPrivateKeyFile": f"{at}/node.key",
                "websocket": {"server": "cloud.example:10000"},
            },
            "edged": {
                "hostnameOverride": "go-1", "rootDirectory": f"{at}/kubelet",
                "tailoredKubeletConfig": {"containerRuntimeEndpoint": f"unix://{engine.socket}"},
            },
        },
    }  # fmt: skip


async def run(edge: Edge, *more: str) -> int:
    """``main`` runs a loop of its own."""
    return await asyncio.to_thread(edge.adopt, *more)


async def test_exactly_the_nodes_own_pods_are_adopted_and_given_back(
    edge: Edge, capsys: pytest.CaptureFixture[str]
) -> None:
    uid = edge.pods["one"]["metadata"]["uid"]
    inode = edge.volume(uid).stat().st_ino
    assert await run(edge, "--check-only") == 0
    assert not edge.data.exists()
    assert await run(edge) == 0
    assert capsys.readouterr().out.count("2 running pods") == 1
    found = await edge.observed()
    assert {pod.name: pod.sandboxes[0].id for pod in found.values()} == {
        name: edge.sandboxes[name] for name in ("one", "two")
    }
    container = found[uid].containers[0]
    assert container.image == BUSYBOX_IMAGE
    assert container.log_path == edge.directory / "logs" / uid / "app/0.log"
    assert (edge.data / "pods" / uid / "volumes/scratch").stat().st_ino == inode
    assert not edge.volume(uid).exists()
    joined = json.loads((edge.data / "node.json").read_bytes())
    assert (joined["node"], joined["hubs"]) == ("go-1", [["cloud.example", 10000]])
    assert joined["tunnels"] == [["cloud.example", 10004]]
    assert (edge.data / "certs/node.key").stat().st_mode & 0o777 == 0o600
    assert await run(edge) == 2
    assert "belongs to a node already" in capsys.readouterr().err

    release = ["release", "--data", str(edge.data), "--yes"]
    assert await asyncio.to_thread(main, [*release, "--check-only"]) == 0
    assert (edge.data / "node.json").exists()
    assert await asyncio.to_thread(main, release) == 0
    assert edge.volume(uid).stat().st_ino == inode
    assert set(edgecore.read_objects(edge.directory / "edgecore.db")) == {"default/pod/one", "default/pod/two"}
    assert not edge.data.exists(), list(edge.data.rglob("*"))


async def test_a_failure_on_the_way_leaves_edgecores_node_as_it_was(
    edge: Edge, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (edge.pods[name]["metadata"]["uid"] for name in ("one", "two"))
    (edge.data / "pods").mkdir(parents=True)
    (edge.data / "pods" / two).write_text("in the way")
    assert await run(edge) == 1
    assert "everything was undone" in capsys.readouterr().err
    assert (edge.volume(one) / "file").read_text() == "one"
    assert (edge.volume(two) / "file").read_text() == "two"
    assert [path.name for path in edge.data.iterdir()] == ["pods"]
    (edge.data / "pods" / two).unlink()
    assert await run(edge) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda edge: (edge.directory / "node.key").unlink(), "node.key is missing"),
        (lambda edge: (edge.directory / "node.key").write_text("no key"), "cannot be used"),
        (lambda edge: (edge.directory / "edgecore.db").unlink(), "edgecore.db does not exist"),
        (
            lambda edge: edge.config.write_text(edge.config.read_text().replace('"go-1"', '"go-2"')),
            "is of system:node:go-1, not of node go-2",
        ),
        (lambda edge: edge.config.unlink(), "cannot read"),
    ],
    ids=["no-key", "bad-key", "no-database", "other-node", "no-config"],
)
async def test_what_stands_against_it_is_said_before_anything_changes(
    edge: Edge, capsys: pytest.CaptureFixture[str], change: Any, words: str
) -> None:
    change(edge)
    assert await run(edge) in (1, 2)
    assert words in capsys.readouterr().err
    assert not edge.data.exists()
