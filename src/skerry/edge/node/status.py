"""The Node object of this machine: what it is and how it is. Pure; ``keeper`` reads the machine and sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from skerry.api.gvk import Object

EDGE_LABELS = {"node-role.kubernetes.io/edge": "", "node-role.kubernetes.io/agent": ""}
KUBELET_PORT = 10350


@dataclass(frozen=True, slots=True)
class Machine:
    """What does not change while the agent runs.

    Args:
        cpus: logical processors.
        memory_bytes: of the machine.
        kubelet_version: such as ``v1.33.0-skerry-0.1.0``.
    """

    name: str
    hostname: str
    architecture: str
    kernel: str
    os_image: str
    machine_id: str
    boot_id: str
    cpus: int
    memory_bytes: int
    kubelet_version: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Mapping[str, str]] = ()
    max_pods: int = 110


@dataclass(frozen=True, slots=True)
class Vitals:
    """What changes.

    Args:
        address: InternalIP.
        disk_total_bytes, disk_free_bytes: where the agent's data lies.
        memory_free_bytes: available.
        runtime: name and version as ``containerd://1.6.20``; empty when the engine does not answer.
        runtime_message: why it is not ready; empty when it is.
        images: of the engine, newest first, at most 50.
    """

    address: str
    disk_total_bytes: int
    disk_free_bytes: int
    memory_free_bytes: int
    runtime: str
    runtime_message: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)


def new_node(machine: Machine, vitals: Vitals, now: str) -> Object:
    """The Node to register."""
    labels = {
        "kubernetes.io/hostname": machine.hostname,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": machine.architecture,
        **EDGE_LABELS,
        **machine.labels,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": machine.name,
            "labels": labels,
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true", **vitals.notes},
        },
        "spec": {"taints": [dict(taint) for taint in machine.taints]} if machine.taints else {},
        "status": status(machine, vitals, now, {}),
    }


def status(machine: Machine, vitals: Vitals, now: str, known: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The Node's status.

    Args:
        now: RFC 3339.
        known: conditions sent before, by type, so that transition times stay.
    """
    capacity = _capacity(machine, vitals)
    return {
        "addresses": [
            {"type": "InternalIP", "address": vitals.address},
            {"type": "Hostname", "address": machine.hostname},
        ],
        "capacity": capacity,
        "allocatable": capacity,
        "conditions": conditions(vitals, now, known),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
        "nodeInfo": _info(machine, vitals),
    }


def conditions(vitals: Vitals, now: str, known: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Ready and the pressures, each with the time of its last change."""
    free = vitals.disk_free_bytes / max(1, vitals.disk_total_bytes)
    low_disk = free < 0.05
    low_memory = vitals.memory_free_bytes < 50 * 2**20
    ready = not vitals.runtime_message
    text = vitals.runtime_message or "edge is posting ready status"
    found = [
        (
            "MemoryPressure",
            low_memory,
            *_pressure(low_memory, "Memory", f"{vitals.memory_free_bytes // 2**20} MiB free"),
        ),
        ("DiskPressure", low_disk, *_pressure(low_disk, "Disk", f"{free:.0%} free")),
        ("PIDPressure", False, *_pressure(False, "PID", "")),
        ("Ready", ready, "EdgeReady" if ready else "ContainerRuntimeNotReady", text),
    ]
    return [_condition(kind, holds, reason, message, now, known) for kind, holds, reason, message in found]


def _pressure(holds: bool, what: str, evidence: str) -> tuple[str, str]:
    if holds:
        return f"EdgeHas{what}Pressure", f"edge has {what.lower()} pressure: {evidence}"
    return f"EdgeHasNo{what}Pressure", f"edge has sufficient {what.lower()} available"


def _condition(
    kind: str, holds: bool, reason: str, message: str, now: str, known: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    value = "True" if holds else "False"
    before = known.get(kind, {})
    since = before.get("lastTransitionTime", now) if before.get("status") == value else now
    return {
        "type": kind, "status": value, "reason": reason, "message": message,
        "lastHeartbeatTime": now, "lastTransitionTime": since,
    }  # fmt: skip


def _capacity(machine: Machine, vitals: Vitals) -> dict[str, str]:
    return {
        "cpu": str(machine.cpus),
        "memory": f"{machine.memory_bytes // 1024}Ki",
        "ephemeral-storage": f"{vitals.disk_total_bytes // 1024}Ki",
        "pods": str(machine.max_pods),
    }


def _info(machine: Machine, vitals: Vitals) -> dict[str, str]:
    return {
        "machineID": machine.machine_id,
        "systemUUID": machine.machine_id,
        "bootID": machine.boot_id,
        "kernelVersion": machine.kernel,
        "osImage": machine.os_image,
        "containerRuntimeVersion": vitals.runtime or "unknown",
        "kubeletVersion": machine.kubelet_version,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": machine.architecture,
    }
