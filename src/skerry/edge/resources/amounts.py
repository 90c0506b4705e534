"""How much of the machine pods may have. Pure.

Allocatable is the capacity without what is reserved for the system and what eviction keeps free.
Source: kubernetes pkg/kubelet/cm/node_container_manager_linux.go:getNodeAllocatableAbsolute (v1.36).
"""

from __future__ import annotations

from collections.abc import Mapping

from skerry.api.quantity import milli_cpu, whole_units

Amounts = dict[str, int]
"""By resource: millicores for ``cpu``, bytes or pieces for everything else."""

_MEMORY_SIGNAL, _DISK_SIGNAL = "memory.available", "nodefs.available"


def threshold(text: str, total: int) -> int:
    """A threshold as bytes or pieces: ``5%`` of the total, or a quantity such as ``100Mi``.

    Raises:
        ValueError: neither.
    """
    if text.endswith("%"):
        share = float(text[:-1])
        if not 0 <= share <= 100:
            raise ValueError(f"{text} is no share of 100")
        return int(total * share / 100)
    return whole_units(text)


def allocatable(capacity: Mapping[str, int], reserved: Mapping[str, str], thresholds: Mapping[str, str]) -> Amounts:
    """What pods may have, never below zero.

    Args:
        capacity: of the machine.
        reserved: for the system, by resource.
        thresholds: of eviction, by signal.

    Raises:
        ValueError: an amount is no quantity.
    """
    kept = {key: milli_cpu(text) if key == "cpu" else whole_units(text) for key, text in reserved.items()}
    for resource, signal in (("memory", _MEMORY_SIGNAL), ("ephemeral-storage", _DISK_SIGNAL)):
        if signal in thresholds:
            kept[resource] = kept.get(resource, 0) + threshold(thresholds[signal], capacity.get(resource, 0))
    return {key: max(0, value - kept.get(key, 0)) for key, value in capacity.items()}


def written(amounts: Mapping[str, int]) -> dict[str, str]:
    """Amounts as a Node's status has them."""
    return {key: _written(key, value) for key, value in amounts.items()}


def _written(resource: str, value: int) -> str:
    if resource == "cpu":
        return str(value // 1000) if value % 1000 == 0 else f"{value}m"
    if resource in ("memory", "ephemeral-storage"):
        return f"{value // 1024}Ki"
    return str(value)
