"""The variables that tell a container of the Services in its namespace, as old programs expect them. Pure.

Source: kubernetes pkg/kubelet/envvars/envvars.go, kubelet_pods.go:getServiceEnvVarMap (1.36).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from skerry.api.gvk import Object


def service_variables(services: Iterable[Object], namespace: str, *, has_links: bool) -> dict[str, str]:
    """Names and values.

    Args:
        services: those that this node knows.
        has_links: ``spec.enableServiceLinks``; without it only the API server's own Service is told.
    """
    found: dict[str, str] = {}
    chosen: dict[str, Object] = {}
    for service in services:
        metadata, spec = service.get("metadata") or {}, service.get("spec") or {}
        if spec.get("clusterIP") in (None, "", "None") or not spec.get("ports"):
            continue
        name, home = str(metadata.get("name")), metadata.get("namespace")
        if home == namespace and has_links:
            chosen[name] = service
        elif home == "default" and name == "kubernetes":
            chosen.setdefault(name, service)
    for name in sorted(chosen):
        found |= dict(_variables(name, chosen[name].get("spec") or {}))
    return found


def _variables(name: str, spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    prefix, ip, ports = _name(name), str(spec["clusterIP"]), spec["ports"]
    yield f"{prefix}_SERVICE_HOST", ip
    yield f"{prefix}_SERVICE_PORT", str(ports[0].get("port"))
    for port in ports:
        if port.get("name"):
            yield f"{prefix}_SERVICE_PORT_{_name(str(port['name']))}", str(port.get("port"))
    host = f"[{ip}]" if ":" in ip else ip
    for index, port in enumerate(ports):
        protocol, number = str(port.get("protocol") or "TCP"), port.get("port")
        url = f"{protocol.lower()}://{host}:{number}"
        if index == 0:
            yield f"{prefix}_PORT", url
        port_prefix = f"{prefix}_PORT_{number}_{protocol.upper()}"
        yield port_prefix, url
        yield f"{port_prefix}_PROTO", protocol.lower()
        yield f"{port_prefix}_PORT", str(number)
        yield f"{port_prefix}_ADDR", ip


def _name(text: str) -> str:
    return text.upper().replace("-", "_")
