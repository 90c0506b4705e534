"""The cloud beside a Kubernetes cluster instead of its own API server: credentials, and what the cluster must have."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from skerry.api.config.cloud import CloudConfig
from skerry.api.gvk import (
    CLUSTEROBJECTSYNCS,
    DEVICEMODELS,
    DEVICES,
    DEVICESTATUSES,
    ENROLMENTS,
    NODES,
    OBJECTSYNCS,
    PODS,
)
from skerry.api.status import ApiError, Forbidden, NotFound, Unauthorized
from skerry.base.errors import ConfigError
from skerry.base.values import Struct
from skerry.kube import kubeconfig
from skerry.kube.http import HttpKubeApi, HttpTransport
from skerry.kube.kubeconfig import SERVICE_ACCOUNT, Credentials

_NEEDED = (NODES, PODS, ENROLMENTS, OBJECTSYNCS, CLUSTEROBJECTSYNCS, DEVICES, DEVICEMODELS, DEVICESTATUSES)


class Cluster(Struct, frozen=True):
    """A cluster that somebody else runs."""

    api: HttpKubeApi
    transport: HttpTransport
    credentials: Credentials
    kubeconfig: Path | None


def find(config: CloudConfig, environ: Mapping[str, str] = os.environ) -> Credentials | None:
    """Credentials of the cluster that the cloud shall use; None for its own API server.

    ``--kubeconfig`` names it; inside a pod with a service account it is that pod's cluster.

    Raises:
        ConfigError: the kubeconfig cannot be used.
    """
    if config.kubeconfig is not None:
        return kubeconfig.load(config.kubeconfig)
    if environ.get("KUBERNETES_SERVICE_HOST") and (SERVICE_ACCOUNT / "token").exists():
        return kubeconfig.in_cluster(environ)
    return None


async def open_cluster(credentials: Credentials, config: CloudConfig) -> Cluster:
    """Connect, and check that the cluster has what we need.

    Raises:
        ConfigError: it cannot be reached, lacks our kinds, or does not let us read them.
    """
    transport = HttpTransport(credentials, user_agent="skerry-cloud")
    api = HttpKubeApi(transport)
    try:
        for resource in _NEEDED:
            try:
                await api.list(resource, limit=1)
            except NotFound as exc:
                raise ConfigError(
                    f"the cluster {credentials.server} does not know {resource.group_resource}",
                    hint="install our definitions once: kubectl apply -f deploy/crds",
                ) from exc
    except (Forbidden, Unauthorized) as exc:
        await transport.aclose()
        raise ConfigError(
            f"the cluster {credentials.server} refuses us ({credentials.source}): {exc.message}",
            hint="give this identity its rights: kubectl apply -f deploy/static/rbac.yaml",
        ) from exc
    except ApiError as exc:
        await transport.aclose()
        raise ConfigError(
            f"the cluster cannot be used: {exc.message}", hint="check its address and that it runs"
        ) from exc
    except ConfigError:
        await transport.aclose()
        raise
    return Cluster(api, transport, credentials, config.kubeconfig)
