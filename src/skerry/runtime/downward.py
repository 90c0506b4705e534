"""Facts about a pod that its own containers may ask for: ``fieldRef`` and ``resourceFieldRef``. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from skerry.api.gvk import Object
from skerry.api.quantity import parse_quantity
from skerry.base.values import Struct, field
from skerry.runtime.ports import EngineError

_KEYED = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]\Z")


class NodeFacts(Struct, frozen=True):
    """What the node adds.

    Args:
        node_ip: the node's address.
        pod_ips: the pod's addresses, as far as they are known.
        allocatable: what stands for a limit that is not set, such as ``{"cpu": "4", "memory": "8Gi"}``.
    """

    node_ip: str = ""
    pod_ips: Sequence[str] = ()
    allocatable: Mapping[str, str] = field(default_factory=dict)


def field_value(pod: Object, path: str, facts: NodeFacts) -> str:
    """The text of ``fieldPath``.

    Raises:
        EngineError: no such field (``CreateContainerConfigError``).
    """
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    keyed = _KEYED.match(path)
    if keyed:
        return str((metadata.get(keyed[1]) or {}).get(keyed[2], ""))
    plain = {
        "metadata.name": metadata.get("name"),
        "metadata.namespace": metadata.get("namespace"),
        "metadata.uid": metadata.get("uid"),
        "spec.nodeName": spec.get("nodeName"),
        "spec.serviceAccountName": spec.get("serviceAccountName"),
        "status.hostIP": facts.node_ip,
        "status.hostIPs": facts.node_ip,
        "status.podIP": next(iter(facts.pod_ips), ""),
        "status.podIPs": ",".join(facts.pod_ips),
    }
    if path in plain:
        return str(plain[path] or "")
    if path in ("metadata.labels", "metadata.annotations"):
        return "\n".join(f'{key}="{_escaped(value)}"' for key, value in _members(metadata, path))
    raise EngineError(f"fieldPath {path!r} is not supported", reason="CreateContainerConfigError")


def resource_value(container: Mapping[str, Any], reference: Mapping[str, Any], facts: NodeFacts) -> str:
    """The whole number that ``resourceFieldRef`` asks for, rounded up.

    Raises:
        EngineError: no such resource (``CreateContainerConfigError``).
    """
    kind, _, name = str(reference.get("resource", "")).partition(".")
    resources = container.get("resources") or {}
    amount = (resources.get(kind) or {}).get(name)
    if amount is None and kind == "requests":
        amount = (resources.get("limits") or {}).get(name)
    if amount is None:
        amount = facts.allocatable.get(name, "0") if kind == "limits" else "0"
    if kind not in ("limits", "requests") or not name:
        raise EngineError(
            f"resource {reference.get('resource')!r} is not supported", reason="CreateContainerConfigError"
        )
    divisor = parse_quantity(str(reference.get("divisor") or "1"))
    nano = divisor.nano or 10**9
    return str(-(-parse_quantity(str(amount)).nano // nano))


def _members(metadata: Mapping[str, Any], path: str) -> list[tuple[str, str]]:
    return sorted((metadata.get(path.partition(".")[2]) or {}).items())


def _escaped(value: str) -> str:
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
