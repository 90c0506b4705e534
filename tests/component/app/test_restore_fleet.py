"""A cloud is lost after its backup; its nodes follow the restored one without joining again."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from skerry.api.gvk import CONFIGMAPS, NODES, PODS, SERVICEACCOUNTS, Object
from skerry.app.children import Child, process_environment
from skerry.kube import kubeconfig as credentials
from skerry.kube.http import HttpKubeApi, HttpTransport
from skerry.testing.site import until


def pod(name: str, node: str, config: str) -> Object:
    container = {
        "name": "app", "image": "any", "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; while true; do sleep 1; done"],
        "volumeMounts": [{"name": "conf", "mountPath": "/conf"}],
    }  # fmt: skip
    volumes = [{"name": "conf", "configMap": {"name": config}}]
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 2, "containers": [container], "volumes": volumes}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


HERE, THERE = "127.0.0.1", "127.0.0.2"
"""Where the first cloud is, and where the restored one will be; the first has advertised both."""


class Fleet:
    """One cloud and several agents, all processes."""

    def __init__(self, data: Path, count: int) -> None:
        self.data = data
        self.nodes = [f"edge-{number}" for number in range(count)]
        self.cloud = self._cloud(data / "old", HERE, f"{HERE},{THERE}")
        self.agents = {
            node: self._child(node, "edge", "run", "--data", str(data / node), "--stop-pods") for node in self.nodes
        }
        self._transport: HttpTransport | None = None

    @property
    def api(self) -> HttpKubeApi:
        assert self._transport is not None
        return HttpKubeApi(self._transport)

    async def start_cloud(self) -> None:
        await self.cloud.start()
        if self._transport is not None:
            await self._transport.aclose()
        self._transport = HttpTransport(credentials.find(Path(self.cloud.ready["kubeconfig"])))

    async def start(self) -> None:
        await self.start_cloud()
        token = await self.told("token", "create", "--uses", str(len(self.nodes)), "--data", str(self.data / "old"))
        for node in self.nodes:
            words = ["--token", token["token"], "--node", node, "--runtime", "process", "--no-service"]
            await self.told("join", token["join"]["address"], *words, "--data", str(self.data / node))
            await self.agents[node].start()

    async def replace_cloud(self, backup: str) -> dict[str, Any]:
        """Lose the cloud with its data; restore the backup elsewhere."""
        await self.cloud.kill()
        shutil.rmtree(self.data / "old")
        facts = await self.told("cloud", "restore", backup, "--data", str(self.data / "new"))
        self.cloud = self._cloud(self.data / "new", THERE, THERE)
        await self.start_cloud()
        return facts

    async def close(self) -> None:
        if self._transport is not None:
            await self._transport.aclose()
        await asyncio.gather(*(agent.stop() for agent in self.agents.values()))
        await self.cloud.stop()

    async def told(self, *words: str) -> dict[str, Any]:
        child = self._child(words[0], *words)
        answer = await child.start()
        assert await child.wait() == 0
        return answer

    def _cloud(self, data: Path, listen: str, advertise: str) -> Child:
        words = ["--listen", listen, "--advertise", advertise, "--ports", "any"]
        return self._child("cloud", "cloud", "run", "--data", str(data), *words)

    def _child(self, name: str, *words: str) -> Child:
        log = self.data / f"logs/{name}.log"
        return Child(name, [*words, "-o", "json"], log_file=log, environment=process_environment())

    async def differs(self) -> str:
        """What is not yet on the nodes as the cluster says it, in words."""
        pods = (await self.api.list(PODS, namespace="default")).items
        configs = {o["metadata"]["name"]: o for o in (await self.api.list(CONFIGMAPS, namespace="default")).items}
        for node in self.nodes:
            wanted = {p["metadata"]["name"]: p for p in pods if p["spec"]["nodeName"] == node}
            for name, obj in wanted.items():
                if obj.get("status", {}).get("phase") != "Running" or "deletionTimestamp" in obj["metadata"]:
                    return f"{name} on {node} is {obj.get('status', {}).get('phase')} in the cloud"
            held = {p["metadata"]["name"]: p["metadata"]["uid"] for p in await self._pods_of(node)}
            if held != {name: obj["metadata"]["uid"] for name, obj in wanted.items()}:
                return f"{node} holds {sorted(held)}, the cloud says {sorted(wanted)}"
            for name, uid in held.items():
                config = wanted[name]["spec"]["volumes"][0]["configMap"]["name"]
                files = list((self.data / node / "pods" / uid).rglob("word"))
                found = {path.read_text() for path in files}
                if found != {configs[config]["data"]["word"]}:
                    return f"{name} on {node} reads {found}, the cloud says {configs[config]['data']['word']!r}"
        return ""

    async def _pods_of(self, node: str) -> list[Object]:
        connector = aiohttp.UnixConnector(path=str(self.agents[node].ready["sockets"]["kubelet"]))
        async with aiohttp.ClientSession(connector=connector) as session, session.get("http://node/pods") as answer:
            found: list[Object] = (await answer.json())["items"]
            return found


@asynccontextmanager
async def fleet(data: Path, count: int) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        found = Fleet(data, count)
        stack.push_async_callback(found.close)
        await found.start()
        yield found


async def _lose_and_restore(data: Path, *, nodes: int, changes: int, within_s: float) -> None:
    async with fleet(data, nodes) as at:
        api = at.api

        async def has_account() -> str:
            await api.get(SERVICEACCOUNTS, "default", namespace="default")
            return ""

        await until(has_account, within_s=20)
        for node in at.nodes:
            await api.create(CONFIGMAPS, {"metadata": {"name": node}, "data": {"word": "kept"}}, namespace="default")
            for name in ("stays", "goes"):
                await api.create(PODS, pod(f"{name}-{node}", node, node), namespace="default")
        await until(at.differs, within_s=within_s)
        saved = await at.told("cloud", "backup", "--data", str(at.data / "old"), "--out", str(at.data / "safe"))

        for node in at.nodes:
            await api.delete(PODS, f"goes-{node}", namespace="default")
            await api.create(PODS, pod(f"new-{node}", node, node), namespace="default")
        for number in range(changes - 2 * nodes):
            word = {"data": {"word": f"lost {number}"}}
            await api.patch(CONFIGMAPS, at.nodes[number % nodes], word, namespace="default")
        await until(at.differs, within_s=within_s)
        identities = {node: (at.data / node / "certs").stat().st_ino for node in at.nodes}

        facts = await at.replace_cloud(saved["file"])
        assert facts["generation"] != saved["generation"]
        await until(at.differs, within_s=within_s)
        names = {p["metadata"]["name"] for p in (await at.api.list(PODS, namespace="default")).items}
        assert names == {f"{name}-{node}" for name in ("stays", "goes") for node in at.nodes}
        ready = {node["metadata"]["name"] for node in (await at.api.list(NODES)).items}
        assert ready == set(at.nodes)
        assert identities == {node: (at.data / node / "certs").stat().st_ino for node in at.nodes}
        # And life goes on: what is changed now arrives.
        await at.api.patch(CONFIGMAPS, at.nodes[0], {"data": {"word": "after"}}, namespace="default")
        await at.api.create(PODS, pod("later", at.nodes[0], at.nodes[0]), namespace="default")
        await until(at.differs, within_s=within_s)
        assert json.loads((at.data / at.nodes[0] / "node.json").read_bytes())["node"] == at.nodes[0]


@pytest.mark.timeout(120)
async def test_nodes_follow_a_restored_cloud(tmp_path: Path) -> None:
    await _lose_and_restore(tmp_path, nodes=2, changes=60, within_s=30)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_ten_nodes_follow_a_restored_cloud_after_500_changes(tmp_path: Path) -> None:
    await _lose_and_restore(tmp_path, nodes=10, changes=500, within_s=90)
