"""What the control groups of pods and containers are given. Pure.

Source: kubernetes pkg/kubelet/cm/helpers_linux.go:ResourceConfigForPod,
pkg/kubelet/kuberuntime/kuberuntime_{container,sandbox}_linux.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from skerry.api.podrequests import limits_of, requests_of, together
from skerry.api.qos import qos_class
from skerry.api.quantity import milli_cpu, whole_units
from skerry.runtime.cgroups import GroupLimits

_MIN_SHARES, _MAX_SHARES = 2, 262_144
_GUARANTEED_OOM, _BEST_EFFORT_OOM = -997, 1000
_LEAST_CPU_MILLI: Final = 10
"""Each container gets this much in any case, so the pod around it needs it, too."""

Object = Mapping[str, Any]


def cpu_shares(milli: int) -> int:
    """Shares for a request in thousandths of a core."""
    return min(_MAX_SHARES, max(_MIN_SHARES, milli * 1024 // 1000))


def pod_limits(spec: Object, *, process_count: int) -> GroupLimits:
    """Of a pod's own group: the weight of all its requests, and limits where each of its containers has one; what its
    runtime takes (``overhead``) comes on top of both.

    Args:
        spec: the pod's.
        process_count: what the node lets a pod have; 0 for any number.
    """
    requests, limits = requests_of(spec), limits_of(spec)
    if qos_class({"spec": spec}) == "BestEffort":
        requests = {}  # it weighs least, whatever its runtime takes
    count = len(spec.get("containers") or ()) + len(spec.get("initContainers") or ())
    cpu = limits.get("cpu", 0)
    return GroupLimits(
        cpu_shares=cpu_shares(requests.get("cpu", 0) or cpu),
        cpu_milli=max(cpu, count * _LEAST_CPU_MILLI) if cpu else 0,
        memory_bytes=limits.get("memory", 0),
        process_count=process_count,
    )


def overhead_limits(spec: Object) -> GroupLimits:
    """What the runtime itself takes for a pod, as request and limit; nothing where the pod names none."""
    overhead = spec.get("overhead") or {}
    cpu = milli_cpu(overhead.get("cpu"))
    return GroupLimits(
        cpu_shares=cpu_shares(cpu) if cpu else 0, cpu_milli=cpu, memory_bytes=whole_units(overhead.get("memory"))
    )


def contained_limits(spec: Object) -> GroupLimits:
    """What the containers of a pod take together: for engines that make a machine of that size for them."""
    bare = {key: value for key, value in spec.items() if key != "overhead"}
    limits = together(bare, "limits")
    return GroupLimits(
        cpu_shares=cpu_shares(together(bare, "requests").get("cpu", 0) or limits.get("cpu", 0)),
        cpu_milli=limits.get("cpu", 0),
        memory_bytes=limits.get("memory", 0),
    )


def container_limits(container: Object) -> GroupLimits:
    """Of a container's group."""
    resources = container.get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    cpu = milli_cpu(limits.get("cpu"))
    return GroupLimits(
        cpu_shares=cpu_shares(milli_cpu(requests.get("cpu")) or cpu),
        cpu_milli=max(cpu, _LEAST_CPU_MILLI) if cpu else 0,
        memory_bytes=whole_units(limits.get("memory")),
    )


def oom_score_adj(container: Object, pod: Object, *, machine_memory_bytes: int) -> int:
    """By the kubelet's rule: the smaller the share of the machine that was asked for, the earlier it ends.

    Args:
        pod: the pod's spec.
        machine_memory_bytes: 0 where it is not known.
    """
    qos = qos_class({"spec": pod})
    if qos == "Guaranteed":
        return _GUARANTEED_OOM
    if qos == "BestEffort" or machine_memory_bytes <= 0:
        return _BEST_EFFORT_OOM
    resources = container.get("resources") or {}
    asked = [whole_units((resources.get(kind) or {}).get("memory")) for kind in ("requests", "limits")]
    score = 1000 - 1000 * (asked[0] or asked[1]) // machine_memory_bytes
    return min(_BEST_EFFORT_OOM - 1, max(1000 + _GUARANTEED_OOM, score))
