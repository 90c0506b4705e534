"""What every pair of peers must run: a Deployment that reads a ConfigMap, a Secret and a projected token.

Seen from the engine (container ids, files inside of the containers) and from the cluster (pods), whoever is the agent.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass

from tests.parts import BUSYBOX_IMAGE, Containerd

from skerry.api.gvk import CONFIGMAPS, DEPLOYMENTS, NODES, PODS, SECRETS, Object
from skerry.kube.ports import KubeApi

NAME = "web"
AUDIENCE = "vault.example"
_FILES = ("/settings/word", "/keys/key", "/tokens/vault", "/var/run/secrets/kubernetes.io/serviceaccount/token")
_READ = "for path; do cat $path && echo ' |' || exit 1; done"


@dataclass(frozen=True, slots=True)
class Running:
    """A running container of the workload."""

    pod: str
    id: str


def deployment(replicas: int, *, node_selector: dict[str, str] | None = None) -> Object:
    """The Deployment."""
    mounts = {"settings": "/settings", "keys": "/keys", "tokens": "/tokens"}
    container = {
        "name": "app",
        "image": BUSYBOX_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; echo hello; while true; do sleep 1; done"],
        "env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "key"}}}],
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts.items()],
    }
    token = {"serviceAccountToken": {"path": "vault", "audience": AUDIENCE, "expirationSeconds": 3600}}
    volumes = [
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "keys", "secret": {"secretName": "keys"}},
        {"name": "tokens", "projected": {"sources": [token]}},
    ]
    spec = {
        "terminationGracePeriodSeconds": 2,
        "containers": [container],
        "volumes": volumes,
        "nodeSelector": node_selector or {},
    }
    return {
        "metadata": {"name": NAME, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": NAME}},
            "template": {"metadata": {"labels": {"app": NAME}}, "spec": spec},
        },
    }


class Workload:
    """The Deployment in a cluster, and its containers in an engine.

    Args:
        api: the cluster.
        engine: of the node under test.
    """

    def __init__(self, api: KubeApi, engine: Containerd) -> None:
        self.api = api
        self._engine = engine

    async def deploy(self, replicas: int) -> None:
        """Create ConfigMap, Secret and Deployment."""
        await self.api.create(
            CONFIGMAPS, {"metadata": {"name": "settings"}, "data": {"word": "one"}}, namespace="default"
        )
        key = base64.b64encode(b"first").decode()
        await self.api.create(SECRETS, {"metadata": {"name": "keys"}, "data": {"key": key}}, namespace="default")
        await self.api.create(DEPLOYMENTS, deployment(replicas), namespace="default")

    async def change_config(self, word: str) -> None:
        """Change the ConfigMap."""
        await self.api.patch(CONFIGMAPS, "settings", {"data": {"word": word}}, namespace="default")

    async def pods(self) -> list[Object]:
        """The workload's pods in the cluster."""
        return (await self.api.list(PODS, namespace="default", label_selector=f"app={NAME}")).items

    def containers(self) -> set[Running]:
        """Its running containers, as the engine says."""
        lines = self._engine.ctr("tasks", "ls").splitlines()[1:]
        found = set()
        for container in (line.split()[0] for line in lines if "RUNNING" in line):
            try:
                labels = json.loads(self._engine.ctr("containers", "info", container)).get("Labels") or {}
            except RuntimeError:
                continue  # gone meanwhile
            if labels.get("io.kubernetes.container.name") == "app":
                found.add(Running(labels["io.kubernetes.pod.name"], container))
        return found

    def read(self, container: str, paths: Sequence[str] = _FILES) -> list[str]:
        """Files as the container sees them."""
        script = ["/bin/sh", "-c", _READ, "sh", *paths]
        text = self._engine.ctr("tasks", "exec", "--exec-id", f"look-{id(paths)}", container, *script)
        return [part.strip() for part in text.split("|")[:-1]]

    async def is_right(self, replicas: int, *, word: str = "") -> str:
        """What is not yet as it should be, in words; without ``word`` the files in the containers are not looked at."""
        pods = await self.pods()
        if len(pods) != replicas:
            return f"{len(pods)} of {replicas} pods in the cluster: { {p['metadata']['name']: _why(p) for p in pods} }"
        if unready := {pod["metadata"]["name"]: _why(pod) for pod in pods if not is_ready(pod)}:
            return f"not ready: {unready}"
        containers = await asyncio.to_thread(self.containers)
        if {c.pod for c in containers} != {pod["metadata"]["name"] for pod in pods} or len(containers) != replicas:
            return f"{len(containers)} containers run"
        for container in containers if word else ():
            try:
                found = await asyncio.to_thread(self.read, container.id)
            except RuntimeError as exc:
                return str(exc)
            if len(found) != len(_FILES):
                return f"{container.pod} shows {found}"
            seen, key, *tokens = found
            if (seen, key) != (word, "first"):
                return f"{container.pod} sees {seen!r} and {key!r}"
            audiences = [_audiences(token) for token in tokens]
            if len(audiences) != 2 or audiences[0] != [AUDIENCE]:
                return f"{container.pod} has tokens for {audiences}"
        return ""

    async def is_gone(self) -> str:
        """What is still there of the containers, in words."""
        containers = await asyncio.to_thread(self.containers)
        return f"still running: {sorted(c.pod for c in containers)}" if containers else ""


def is_ready(pod: Object) -> bool:
    """Whether a pod runs and all of its containers are ready."""
    if pod["metadata"].get("deletionTimestamp") or (pod.get("status") or {}).get("phase") != "Running":
        return False
    return all(item["ready"] for item in pod["status"].get("containerStatuses") or [{"ready": False}])


async def node_is_ready(api: KubeApi, name: str) -> str:
    """Why the node is not ready, in words."""
    node = await api.get(NODES, name)
    conditions = {item["type"]: item for item in (node.get("status") or {}).get("conditions") or []}
    ready = conditions.get("Ready", {})
    return "" if ready.get("status") == "True" else f"the node is not ready: {ready}"


def _why(pod: Object) -> str:
    status = pod.get("status") or {}
    waiting = [item.get("state") for item in status.get("containerStatuses") or ()]
    return f"{status.get('phase')} {status.get('reason', '')} {status.get('message', '')} {waiting}"


def _audiences(token: str) -> list[str]:
    body = token.split(".")[1]
    found = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["aud"]
    return [found] if isinstance(found, str) else list(found)
