"""The Node object of this machine: what it is and how it is. Pure; ``keeper`` reads the machine and sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skerry.api.gvk import Object
from skerry.base.errors import ConfigError
from skerry.base.values import Struct, field
from skerry.runtime.ports import StoredImage

EDGE_LABELS = {"node-role.kubernetes.io/edge": "", "node-role.kubernetes.io/agent": ""}
KUBELET_PORT = 10350
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_MAX_IMAGES = 50


class Machine(Struct, frozen=True):
    """What does not change while the agent runs.

    Args:
        capacity, allocatable: amounts of the machine, and those that pods may have.
        kubelet_version: such as ``v1.33.0-skerry-0.1.0``.
    """

    name: str
    architecture: str
    kernel: str
    os_image: str
    machine_id: str
    boot_id: str
    capacity: Mapping[str, str]
    allocatable: Mapping[str, str]
    kubelet_version: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Mapping[str, str]] = ()


class Vitals(Struct, frozen=True):
    """What changes.

    Args:
        address: InternalIP.
        pressures: those that hold, such as ``DiskPressure``, each with its evidence.
        extended: devices of each resource of a device plugin: how many there are, and how many of them are healthy.
        runtime: name and version as ``containerd://1.6.20``; empty when the engine does not answer.
        runtime_message: why it is not ready; empty when it is.
        images: of the engine, newest first, at most 50.
        is_shutting_down: the machine is about to end.
    """

    address: str
    runtime: str
    runtime_message: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    pressures: Mapping[str, str] = field(default_factory=dict)
    extended: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    images: Sequence[Mapping[str, Any]] = ()
    is_shutting_down: bool = False


def new_node(machine: Machine, vitals: Vitals, now: str) -> Object:
    """The Node to register."""
    labels = base_labels(machine.name, machine.architecture) | dict(machine.labels)
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


def base_labels(name: str, architecture: str) -> dict[str, str]:
    """Labels that every edge node has."""
    return {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": architecture,
        **EDGE_LABELS,
    }


def taint(text: str) -> dict[str, str]:
    """``key=value:Effect`` or ``key:Effect`` as a taint.

    Raises:
        ConfigError: of another form.
    """
    head, _, effect = text.rpartition(":")
    key, _, value = head.partition("=")
    if not key or effect not in _EFFECTS:
        raise ConfigError(f"taints: {text!r} is no taint", hint=f"write key=value:Effect, one of {', '.join(_EFFECTS)}")
    return {"key": key, **({"value": value} if value else {}), "effect": effect}


def node_images(images: Sequence[StoredImage]) -> list[dict[str, Any]]:
    """The largest images that have a name, as a Node's status lists them."""
    named = [image for image in images if image.tags or image.digests]
    largest = sorted(named, key=lambda image: -image.size_bytes)[:_MAX_IMAGES]
    return [{"names": [*image.digests, *image.tags][:5], "sizeBytes": image.size_bytes} for image in largest]


def status(machine: Machine, vitals: Vitals, now: str, known: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The Node's status.

    Args:
        now: RFC 3339.
        known: conditions sent before, by type, so that transition times stay.
    """
    return {
        "addresses": [
            {"type": "InternalIP", "address": vitals.address},
            {"type": "Hostname", "address": machine.name},
        ],
        "capacity": {**machine.capacity, **{name: str(count) for name, (count, _) in vitals.extended.items()}},
        "allocatable": {**machine.allocatable, **{name: str(fit) for name, (_, fit) in vitals.extended.items()}},
        "conditions": conditions(vitals, now, known),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
        "nodeInfo": _info(machine, vitals),
        "images": [dict(image) for image in vitals.images],
    }


def conditions(vitals: Vitals, now: str, known: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Ready and the pressures, each with the time of its last change."""
    ready = not vitals.runtime_message and not vitals.is_shutting_down
    text = vitals.runtime_message or "edge is posting ready status"
    found = [
        (f"{what}Pressure", f"{what}Pressure" in vitals.pressures, *_pressure(what, vitals.pressures))
        for what in ("Memory", "Disk", "PID")
    ]
    reason = "EdgeReady" if ready else "ContainerRuntimeNotReady"
    if vitals.is_shutting_down:
        reason, text = "KubeletNotReady", "node is shutting down"
    found.append(("Ready", ready, reason, text))
    return [_condition(kind, holds, reason, message, now, known) for kind, holds, reason, message in found]


def _pressure(what: str, held: Mapping[str, str]) -> tuple[str, str]:
    evidence = held.get(f"{what}Pressure")
    if evidence is not None:
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
