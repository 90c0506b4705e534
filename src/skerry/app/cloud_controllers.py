"""The control loops of the embedded control plane, each of which can be switched off by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol

from skerry.api.config.cloud import CloudConfig
from skerry.api.gvk import REPLICATIONCONTROLLERS, Resource
from skerry.base.aio.clock import Clock
from skerry.base.aio.supervise import Supervisor
from skerry.base.certificates import Certifier, Credential
from skerry.base.errors import ConfigError
from skerry.controllers.account_tokens import AccountTokens
from skerry.controllers.autoscaling.loop import PodAutoscaler
from skerry.controllers.autoscaling.metrics import ApiPodMetrics
from skerry.controllers.certificates.loop import CertificateController
from skerry.controllers.clusterroles import ClusterRoleAggregation
from skerry.controllers.cronjobs.loop import CronJobController
from skerry.controllers.daemonsets import DaemonSetController
from skerry.controllers.deployments.loop import DeploymentController
from skerry.controllers.disruption import DisruptionController
from skerry.controllers.endpoint_mirror import EndpointMirror
from skerry.controllers.endpoints import EndpointController
from skerry.controllers.gc import GarbageCollector
from skerry.controllers.jobs.loop import JobController
from skerry.controllers.namespaces import NamespaceController
from skerry.controllers.node_ipam import NodeIpam, parse_range
from skerry.controllers.node_lifecycle import NodeLifecycle, Patience
from skerry.controllers.node_ttl import NodeTtl
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
from skerry.kube.informer import InformerSet
from skerry.kube.ports import KubeApi


class Loop(Protocol):
    """A control loop."""

    async def run(self) -> None:
        """Work; never ends."""


def chosen(wanted: Sequence[str], known: Collection[str]) -> list[str]:
    """Which of the known loops run, in the known order.

    Args:
        wanted: as kube-controller-manager's ``--controllers``: ``*`` for all, ``name`` for one, ``-name`` for all but
            this one; upstream's suffix ``-controller`` may be there.
        known: every name.

    Raises:
        ConfigError: it names a loop that does not exist.
    """
    names = [item.removesuffix("-controller") for item in wanted]
    unknown = {name.removeprefix("-") for name in names} - set(known) - {"*"}
    if unknown:
        text = f"controllers: there is none called {', '.join(sorted(unknown))}"
        raise ConfigError(text, hint=f"known: {', '.join(sorted(known))}")
    return [name for name in known if f"-{name}" not in names and (name in names or "*" in names)]


def start_controllers(
    supervisor: Supervisor,
    api: KubeApi,
    config: CloudConfig,
    *,
    informers: InformerSet,
    served: Callable[[], Sequence[Resource]],
    root_ca_pem: str,
    authority: Callable[[], Awaitable[Credential]],
    certs: Certifier,
    clock: Clock,
) -> list[EventRecorder]:
    """Start every control loop that the configuration does not switch off.

    Returns:
        The recorders of their Events; the caller closes them.

    Raises:
        ConfigError: it names a loop that does not exist.
    """
    recorders: list[EventRecorder] = []

    def events(component: str) -> EventRecorder:
        recorders.append(EventRecorder(api, component, clock=clock))
        return recorders[-1]

    patience = Patience(grace_s=config.node_grace_s, start_s=config.mass_loss_grace_s)
    makers: dict[str, Callable[[], Loop]] = {
        "scheduler": lambda: Scheduler(api, informers=informers, events=events("default-scheduler"), clock=clock),
        "deployment": lambda: DeploymentController(
            api, informers=informers, events=events("deployment-controller"), clock=clock
        ),
        "replicaset": lambda: ReplicaSetController(
            api, informers=informers, events=events("replicaset-controller"), clock=clock
        ),
        "replicationcontroller": lambda: ReplicaSetController(
            api,
            informers=informers,
            events=events("replication-controller"),
            clock=clock,
            resource=REPLICATIONCONTROLLERS,
        ),
        "daemonset": lambda: DaemonSetController(
            api, informers=informers, events=events("daemonset-controller"), clock=clock
        ),
        "statefulset": lambda: StatefulSetController(
            api, informers=informers, events=events("statefulset-controller"), clock=clock
        ),
        "job": lambda: JobController(api, informers=informers, events=events("job-controller"), clock=clock),
        "cronjob": lambda: CronJobController(
            api, informers=informers, events=events("cronjob-controller"), clock=clock
        ),
        "node-lifecycle": lambda: NodeLifecycle(
            api, informers=informers, events=events("node-controller"), clock=clock, patience=patience
        ),
        "disruption": lambda: DisruptionController(
            api, informers=informers, events=events("controllermanager"), clock=clock
        ),
        "horizontal-pod-autoscaler": lambda: PodAutoscaler(
            api,
            informers=informers,
            events=events("horizontal-pod-autoscaler"),
            metrics=ApiPodMetrics(api),
            served=served,
            clock=clock,
        ),
        "certificates": lambda: CertificateController(
            api, informers=informers, authority=authority, certs=certs, clock=clock
        ),
        "node-ipam": lambda: NodeIpam(
            api,
            informers=informers,
            events=events("cidrAllocator"),
            network=parse_range(config.pod_range, config.node_prefix),
            prefix=config.node_prefix,
        ),
        "ttl": lambda: NodeTtl(api, informers=informers),
        "endpoint-mirror": lambda: EndpointMirror(api, informers=informers),
        "serviceaccount-token": lambda: AccountTokens(api, informers=informers, root_ca_pem=root_ca_pem),
        "volume-binder": lambda: VolumeBinder(api, informers=informers, events=events("volume-binder")),
        "volume-protection": lambda: VolumeProtection(api, informers=informers),
        "ephemeral-volume": lambda: EphemeralVolumes(api, informers=informers, events=events("ephemeral-volume")),
        "garbage-collector": lambda: GarbageCollector(api, informers=informers, served=served),
        "pod-gc": lambda: PodGarbageCollector(api, informers=informers, clock=clock),
        "namespace": lambda: NamespaceController(api, informers=informers, served=served, clock=clock),
        "clusterrole-aggregation": lambda: ClusterRoleAggregation(api, informers=informers),
        "endpoints": lambda: EndpointController(api, informers=informers),
        "resourcequota": lambda: ResourceQuotaController(api, informers=informers, served=served),
        "namespace-basics": lambda: NamespaceBasics(api, informers=informers, root_ca_pem=root_ca_pem),
    }
    for name in chosen(config.controllers, list(makers)):
        supervisor.keep(f"controller-{name}", makers[name]().run)
    return recorders
