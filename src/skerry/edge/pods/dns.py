"""``/etc/resolv.conf`` of a pod by ``dnsPolicy`` and ``dnsConfig``. Pure.

Source: kubernetes pkg/kubelet/network/dns/dns.go (1.36).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skerry.api.gvk import Object
from skerry.base.values import Struct

_SERVERS, _SEARCHES, _SEARCH_CHARS = 3, 32, 2048


class Resolver(Struct, frozen=True):
    """What a resolv.conf says."""

    servers: Sequence[str] = ()
    searches: Sequence[str] = ()
    options: Sequence[str] = ()


class NodeDns(Struct, frozen=True):
    """The node's resolver, and the cluster's where there is one.

    Args:
        cluster_servers: empty where no cluster DNS is known to the node.
    """

    node: Resolver = Resolver()
    cluster_servers: Sequence[str] = ()
    cluster_domain: str = "cluster.local"


def read_resolver(text: str) -> Resolver:
    """The resolv.conf of the node."""
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word == "nameserver" and rest:
            servers.append(rest[0])
        elif word == "search":
            searches = [name for name in rest if name != "."]
        elif word == "options":
            options = rest
    return Resolver(servers, searches, options)


def pod_resolver(pod: Object, dns: NodeDns) -> tuple[Resolver, list[tuple[str, str]]]:
    """The pod's resolver, and (reason, message) of Events that it deserves."""
    spec, namespace = pod.get("spec") or {}, str(pod["metadata"].get("namespace") or "default")
    told: list[tuple[str, str]] = []
    base = _by_policy(spec, namespace, dns, told)
    config = spec.get("dnsConfig") or {}
    servers = _unique([*base.servers, *(config.get("nameservers") or [])])
    searches = _unique([*base.searches, *(config.get("searches") or [])])
    options = _options([*base.options, *map(_option, config.get("options") or [])])
    return Resolver(_fit(servers, _SERVERS, "nameservers", told), _fit_searches(searches, told), options), told


def _by_policy(spec: dict[str, Any], namespace: str, dns: NodeDns, told: list[tuple[str, str]]) -> Resolver:
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    if policy == "None":
        return Resolver()
    is_cluster = policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not spec.get("hostNetwork"))
    if not is_cluster:
        return dns.node
    if not dns.cluster_servers:
        if policy == "ClusterFirstWithHostNet":  # ClusterFirst is what a pod has that does not ask for anything
            text = f'pod asks for dnsPolicy "{policy}", but this node knows no cluster DNS: falling back to "Default".'
            told.append(("MissingClusterDNS", text))
        return dns.node
    domain = dns.cluster_domain
    own = [f"{namespace}.svc.{domain}", f"svc.{domain}", domain] if domain else []
    return Resolver(dns.cluster_servers, [*own, *dns.node.searches], ["ndots:5"])


def _option(option: dict[str, Any]) -> str:
    value = option.get("value")
    return str(option.get("name", "")) if value in (None, "") else f"{option.get('name')}:{value}"


def _options(words: Sequence[str]) -> list[str]:
    """The last of each name wins, at the place of the first."""
    return list({word.partition(":")[0]: word for word in words if word}.values())


def _unique(words: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(str(word) for word in words))


def _fit(words: list[str], limit: int, what: str, told: list[tuple[str, str]]) -> list[str]:
    if len(words) > limit:
        used = " ".join(words[:limit])
        told.append(("DNSConfigForming", f"{what} limits were exceeded, some have been omitted, the applied: {used}"))
    return words[:limit]


def _fit_searches(words: list[str], told: list[tuple[str, str]]) -> list[str]:
    kept = _fit(words, _SEARCHES, "search paths", told)
    while len(" ".join(kept)) > _SEARCH_CHARS:
        kept = kept[:-1]
    return kept
