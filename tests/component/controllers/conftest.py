"""A real embedded API server on disk, the controllers, and a kubelet that says yes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from skerry.api.gvk import (
    CLUSTERROLES,
    CONFIGMAPS,
    CONTROLLERREVISIONS,
    CRONJOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    EVENTS,
    HPAS,
    JOBS,
    NAMESPACES,
    NODES,
    PDBS,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    RESOURCEQUOTAS,
    SECRETS,
    SERVICEACCOUNTS,
    SERVICES,
    STATEFULSETS,
    Object,
)
from skerry.api.meta import is_deleting, rfc3339
from skerry.api.status import NotFound, Unavailable
from skerry.apiserver.auth.authn import User
from skerry.apiserver.core import ApiCore
from skerry.apiserver.local import LocalKubeApi
from skerry.base import json
from skerry.base.aio.clock import SystemClock
from skerry.base.aio.supervise import Supervisor, wait_for_condition
from skerry.controllers.account_tokens import AccountTokens
from skerry.controllers.autoscaling.loop import PodAutoscaler
from skerry.controllers.autoscaling.metrics import ApiPodMetrics
from skerry.controllers.clusterroles import ClusterRoleAggregation
from skerry.controllers.cronjobs.loop import CronJobController
from skerry.controllers.daemonsets import DaemonSetController
from skerry.controllers.deployments.loop import DeploymentController
from skerry.controllers.disruption import DisruptionController
from skerry.controllers.endpoint_mirror import EndpointMirror
from skerry.controllers.endpoints import ENDPOINTS, EndpointController
from skerry.controllers.gc import GarbageCollector
from skerry.controllers.jobs.loop import JobController
from skerry.controllers.loop import Loop
from skerry.controllers.namespaces import NamespaceController
from skerry.controllers.node_ipam import NodeIpam, parse_range
from skerry.controllers.node_ttl import NodeTtl
from skerry.controllers.objects import is_ready
from skerry.controllers.pod_gc import PodGarbageCollector
from skerry.controllers.quotas import ResourceQuotaController
from skerry.controllers.replicasets import ReplicaSetController
from skerry.controllers.scheduler.loop import Scheduler
from skerry.controllers.statefulsets.loop import StatefulSetController
from skerry.controllers.tokens import NamespaceBasics
from skerry.controllers.volumes.binder import VolumeBinder
from skerry.controllers.volumes.ephemeral import EphemeralVolumes
from skerry.controllers.volumes.protection import VolumeProtection
from skerry.kube.events import EventRecorder
from skerry.kube.informer import InformerSet, Key
from skerry.kube.ports import KubeletRequest

ADMIN = User("admin", ("system:masters", "system:authenticated"))
WATCHED = (
    PODS, NODES, DEPLOYMENTS, REPLICASETS, DAEMONSETS, NAMESPACES, SERVICES, ENDPOINTSLICES, EVENTS, CONFIGMAPS,
    SERVICEACCOUNTS, ENDPOINTS, STATEFULSETS, JOBS, CRONJOBS, PERSISTENTVOLUMECLAIMS, CONTROLLERREVISIONS,
    PERSISTENTVOLUMES, RESOURCEQUOTAS, PDBS,
    REPLICATIONCONTROLLERS, CLUSTERROLES, HPAS, SECRETS,
)  # fmt: skip


class Kubelet:
    """Runs every pod that is bound to a node, at once, and ends those that are deleted.

    Pods whose image is ``broken`` never become ready; those of ``done`` succeed and those of ``fail`` fail at once.
    ``offline`` nodes do nothing.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._api = cluster.api
        self._pods = cluster.informers.of(PODS)
        self.offline: set[str] = set()
        self._loop: Loop[Key] = Loop("kubelet", self._sync, informers=(self._pods,))
        self._loop.follow(self._pods)

    async def run(self) -> None:
        await self._loop.run()

    async def _sync(self, key: Key) -> float | None:
        pod = self._pods.get(key[1], key[0])
        node = pod["spec"].get("nodeName") if pod else None
        if pod is None or not node or node in self.offline:
            return None
        meta = pod["metadata"]
        try:
            if is_deleting(pod):
                await self._api.delete(PODS, key[1], namespace=key[0], uid=meta["uid"], grace_period_s=0)
            elif (pod.get("status") or {}).get("phase") == "Pending":
                await self._start(pod)
        except NotFound:
            pass
        return None

    async def _start(self, pod: Object) -> None:
        broken = any(container["image"] == "broken" for container in pod["spec"]["containers"])
        now = rfc3339(SystemClock().now_s())
        ready = {"type": "Ready", "status": "False" if broken else "True", "lastTransitionTime": now}
        ends = {"done": ("Succeeded", 0), "fail": ("Failed", 1)}
        phase, code = ends.get(pod["spec"]["containers"][0]["image"], ("Running", 0))
        status: dict[str, Any] = {"phase": phase, "podIP": "10.1.0.7", "startTime": now, "conditions": [ready]}
        if phase != "Running":
            ready["status"] = "False"
            ended = {"exitCode": code, "finishedAt": now, "reason": phase}
            name = pod["spec"]["containers"][0]["name"]
            status["containerStatuses"] = [
                {"name": name, "state": {"terminated": ended}, "ready": False, "restartCount": 0, "image": "x",
                 "imageID": ""}
            ]  # fmt: skip
        meta = pod["metadata"]
        await self._api.patch(
            PODS, meta["name"], {"status": status}, patch_type="strategic", namespace=meta["namespace"],
            subresource="status",
        )  # fmt: skip


class Summaries:
    """A ``NodeConnector`` whose nodes tell in ``/stats/summary`` what a test says that their pods use."""

    def __init__(self) -> None:
        self._pods: dict[str, list[dict[str, Any]]] = {}
        self.asked: list[str] = []

    def use(self, pod: Object, container: str, *, cpu_nanocores: int) -> None:
        """A container of a bound pod uses this much, and a MiB."""
        usage = {"cpu": {"usageNanoCores": cpu_nanocores}, "memory": {"workingSetBytes": 2**20}}
        meta = pod["metadata"]
        entry = {"podRef": {"uid": meta["uid"]}, "containers": [{"name": container, **usage}]}
        self._pods.setdefault(pod["spec"]["nodeName"], []).append(entry)

    @asynccontextmanager
    async def request(self, node: str, request: KubeletRequest) -> AsyncIterator[Answer]:
        assert request.path == "/stats/summary"
        self.asked.append(node)
        if node not in self._pods:
            raise Unavailable(f'node "{node}" has no tunnel')
        machine = {"cpu": {"usageNanoCores": 5}, "memory": {"workingSetBytes": 2**30}}
        yield Answer({"node": machine, "pods": self._pods[node]})

    def upgrade(self, node: str, request: KubeletRequest) -> Any:
        raise Unavailable("this node has no streams")


class Answer:
    """A whole answer of a node."""

    status = 200
    headers: Mapping[str, str] = {}

    def __init__(self, document: Any) -> None:
        self._text = json.dumps(document)

    async def body(self) -> AsyncIterator[bytes]:
        yield self._text


class Cluster:
    """One cluster in this process."""

    def __init__(self, core: ApiCore, tasks: Supervisor, summaries: Summaries) -> None:
        self.core = core
        self.summaries = summaries
        self.api = LocalKubeApi(core, user=ADMIN)
        self.tasks = tasks
        self.informers = InformerSet(self.api)
        self.events = EventRecorder(self.api, "test")
        self.kubelet = Kubelet(self)
        self._changed = asyncio.Event()
        for resource in WATCHED:
            self.informers.of(resource).on_event(lambda kind, old, new: self._changed.set())

    def start(self) -> None:
        """Start every controller and the kubelet."""
        served = lambda: [row.resource for row in self.core.registry if row.is_stored]  # noqa: E731
        shared: dict[str, Any] = {"informers": self.informers, "events": self.events}
        parts = [
            Scheduler(self.api, **shared),
            DeploymentController(self.api, **shared),
            ReplicaSetController(self.api, **shared),
            ClusterRoleAggregation(self.api, informers=self.informers),
            DaemonSetController(self.api, **shared),
            StatefulSetController(self.api, **shared),
            JobController(self.api, **shared),
            ReplicaSetController(self.api, **shared, resource=REPLICATIONCONTROLLERS),
            DisruptionController(self.api, **shared),
            AccountTokens(self.api, informers=self.informers, root_ca_pem="PEM"),
            NodeIpam(self.api, **shared, network=parse_range("10.244.0.0/16", 24), prefix=24),
            NodeTtl(self.api, informers=self.informers),
            EndpointMirror(self.api, informers=self.informers),
            PodAutoscaler(self.api, **shared, metrics=ApiPodMetrics(self.api), served=served),
            CronJobController(self.api, **shared),
            VolumeBinder(self.api, **shared),
            VolumeProtection(self.api, informers=self.informers),
            EphemeralVolumes(self.api, **shared),
            GarbageCollector(self.api, informers=self.informers, served=served),
            NamespaceController(self.api, informers=self.informers, served=served),
            ResourceQuotaController(self.api, informers=self.informers, served=served),
            NamespaceBasics(self.api, informers=self.informers, root_ca_pem="PEM"),
            EndpointController(self.api, informers=self.informers),
            PodGarbageCollector(self.api, informers=self.informers),
            self.kubelet,
        ]
        for part in parts:
            self.tasks.keep(f"{type(part).__name__}-{id(part)}", part.run)
        self.tasks.keep("informers", self.informers.run)

    async def until(self, condition: Callable[[], bool], *, timeout_s: float = 10) -> None:
        """Wait until what the caches show fulfils ``condition``."""
        assert await wait_for_condition(condition, self._changed, timeout_s=timeout_s), self._picture()

    async def add_node(self, name: str, labels: dict[str, str] | None = None) -> None:
        """A node that is ready."""
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels or {}}}
        await self.api.create(NODES, node)
        status = {
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": rfc3339(1e9)}],
        }
        await self.api.patch(NODES, name, {"status": status}, subresource="status")
        await self.api.patch(NODES, name, {"spec": {"taints": None}})

    def pods(self, app: str = "web", *, ready: bool = True) -> list[Object]:
        """Pods of an app that are not on their way out."""
        found = [p for p in self.informers.of(PODS).items() if p["metadata"].get("labels", {}).get("app") == app]
        return [p for p in found if not is_deleting(p) and (is_ready(p) or not ready)]

    def images(self, app: str = "web") -> list[str]:
        """Images of ready pods, sorted."""
        return sorted(pod["spec"]["containers"][0]["image"] for pod in self.pods(app))

    def events_of(self, reason: str) -> list[str]:
        """Messages of events with this reason."""
        return [e["message"] for e in self.informers.of(EVENTS).items() if e.get("reason") == reason]

    def _picture(self) -> str:
        lines = []
        for resource in WATCHED:
            if resource in (NAMESPACES, CONFIGMAPS, SERVICEACCOUNTS):
                continue
            for obj in self.informers.of(resource).items():
                text = obj.get("message") or obj.get("status")
                lines.append(f"{resource.plural} {obj['metadata']['name']} {text}")
        return "\n".join(lines)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    summaries = Summaries()
    core = ApiCore(
        database=tmp_path / "api.db", token_key=tmp_path / "sa.key", synchronous="NORMAL", nodes=summaries
    )  # fmt: skip
    await core.start()
    async with Supervisor("test") as tasks:
        made = Cluster(core, tasks, summaries)
        made.start()
        await made.until(lambda: made.informers.of(SERVICEACCOUNTS).get("default", "default") is not None)
        yield made
        await tasks.aclose()
        await made.events.flush()
        await made.events.aclose()
    await core.aclose()
