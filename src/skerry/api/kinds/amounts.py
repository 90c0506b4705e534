"""What pods ask for, in amounts: container lists summed up as the scheduler and quotas count them.

Source: kubernetes component-helpers/resource/helpers.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from skerry.api.quantity import Quantity, parse_quantity

Amounts = dict[str, Quantity]


def amounts(resources: Mapping[str, Any] | None) -> Amounts:
    """A resource list as amounts; what cannot be read is left out."""
    found: Amounts = {}
    for name, text in (resources or {}).items():
        try:
            found[name] = parse_quantity(text)
        except ValueError:
            continue
    return found


def add(into: Amounts, more: Mapping[str, Quantity]) -> None:
    """Add amounts in place."""
    for name, amount in more.items():
        into[name] = into[name] + amount if name in into else amount


def pod_amounts(spec: Mapping[str, Any], member: str) -> Amounts:
    """``requests`` or ``limits`` of a whole pod.

    Containers and sidecars run together, plain init containers one by one before them: the greater of both counts,
    and the overhead of the runtime on top. Amounts given for the pod as a whole win.
    """
    total = _sum(container.get("resources") or {} for container in spec.get("containers") or ()).get(member, {})
    sidecars: Amounts = {}
    highest: Amounts = {}
    for container in spec.get("initContainers") or ():
        own = amounts((container.get("resources") or {}).get(member))
        if container.get("restartPolicy") == "Always":
            add(total, own)
            add(sidecars, own)
            running = dict(sidecars)
        else:
            running = dict(sidecars)
            add(running, own)
        _raise(highest, running)
    _raise(total, highest)
    total |= amounts((spec.get("resources") or {}).get(member))
    overhead = amounts(spec.get("overhead"))
    if member == "requests":
        add(total, overhead)
    else:
        add(total, {name: amount for name, amount in overhead.items() if name in total})
    return total


def _sum(resources: Iterable[Mapping[str, Any]]) -> dict[str, Amounts]:
    totals: dict[str, Amounts] = {"requests": {}, "limits": {}}
    for each in resources:
        for member, total in totals.items():
            add(total, amounts(each.get(member)))
    return totals


def _raise(into: Amounts, least: Mapping[str, Quantity]) -> None:
    for name, amount in least.items():
        if name not in into or into[name] < amount:
            into[name] = amount
