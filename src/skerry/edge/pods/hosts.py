"""``/etc/hosts`` of a pod's containers. Pure.

Source: kubernetes pkg/kubelet/kubelet_pods.go:managedHostsFileContent (1.36).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_HEAD = "# Kubernetes-managed hosts file."
_HOST_HEAD = "# Kubernetes-managed hosts file (host network)."
_USUAL = (
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::0\tip6-localnet",
    "fe00::0\tip6-mcastprefix",
    "fe00::1\tip6-allnodes",
    "fe00::2\tip6-allrouters",
)


def hosts_file(
    ips: Sequence[str], names: Sequence[str], aliases: Sequence[Mapping[str, Any]], *, node_hosts: str | None = None
) -> str:
    """The file's text.

    Args:
        ips: of the pod.
        names: of the pod, the full one first.
        aliases: ``spec.hostAliases``.
        node_hosts: the node's own file, for pods on the node's network.
    """
    if node_hosts is not None:
        lines = [_HOST_HEAD, node_hosts.rstrip("\n")]
    else:
        lines = [_HEAD, *_USUAL, *("\t".join((ip, *names)) for ip in ips)]
    if aliases:
        lines += ["", "# Entries added by HostAliases."]
        lines += ["\t".join((str(alias.get("ip", "")), *alias.get("hostnames", []))) for alias in aliases]
    return "\n".join(lines) + "\n"


def host_names(pod_name: str, namespace: str, spec: Mapping[str, Any], *, cluster_domain: str) -> tuple[str, str]:
    """(host name, full name or empty) of a pod.

    Source: kubernetes pkg/kubelet/kubelet_pods.go:GeneratePodHostNameAndDomain.
    """
    name = str(spec.get("hostnameOverride") or spec.get("hostname") or pod_name)
    if len(name) > 63:
        name = name[:63].rstrip("-.")
    subdomain = str(spec.get("subdomain") or "")
    full = f"{name}.{subdomain}.{namespace}.svc.{cluster_domain}" if subdomain else ""
    return name, full
