"""The answer ``as=Table``: columns of every kind, cells of every object.

Source: kubernetes pkg/printers/internalversion/printers.go, apimachinery pkg/util/duration (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from skerry.api import clustercells
from skerry.api.ages import UNKNOWN, age
from skerry.api.gvk import Object, Resource
from skerry.api.jsonpath import find_values, parse_path
from skerry.api.meta import controller_of, parse_rfc3339
from skerry.api.podcells import pod_cells, pod_row_conditions
from skerry.api.quantity import canonical
from skerry.api.selectors import label_selector, match_labels
from skerry.api.status import BadRequest

Row = Callable[[Object, float], list[Any]]

_NONE = "<none>"
_ROLE_PREFIX = "node-role.kubernetes.io/"
_ACCESS = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
_CRD_TEXT = "Custom resource definition column (in JSONPath format): "


def to_table(
    resource: Resource,
    objects: Sequence[Object],
    *,
    now_s: float,
    include_object: str = "Metadata",
    crd_columns: Sequence[dict[str, Any]] | None = None,
    list_metadata: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A ``meta.k8s.io/v1`` Table.

    Args:
        include_object: ``Metadata``, ``Object`` or ``None``.
        crd_columns: ``additionalPrinterColumns`` of a custom resource, maybe empty; None for built-in kinds.
        list_metadata: metadata of the list (resourceVersion, continue, remainingItemCount).

    Raises:
        BadRequest: an ``include_object`` that is none of the three.
    """
    if include_object not in ("Metadata", "Object", "None", ""):
        raise BadRequest(f'unrecognized includeObject value: "{include_object}"')
    rows = table_rows(resource, objects, now_s=now_s, crd_columns=crd_columns)
    for row, obj in zip(rows, objects, strict=True):
        row["object"] = _included(obj, include_object or "Metadata")
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata or {},
        "columnDefinitions": columns(resource, crd_columns=crd_columns),
        "rows": rows,
    }


def columns(resource: Resource, *, crd_columns: Sequence[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """``columnDefinitions`` of a resource."""
    if crd_columns is not None:
        return [_column("Name:string/name"), *(_crd_column(column) for column in _crd_or_age(crd_columns))]
    layout = _LAYOUTS.get((resource.group, resource.plural), _PLAIN)
    return [_column(text) for text in layout.split(", ")]


def table_rows(
    resource: Resource,
    objects: Sequence[Object],
    *,
    now_s: float,
    crd_columns: Sequence[dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """One row per object, without the object itself."""
    if crd_columns is not None:
        paths = [(item.get("type", "string"), _path(item.get("jsonPath", ""))) for item in _crd_or_age(crd_columns)]
        cells = [[_crd_cell(kind, path, obj, now_s) for kind, path in paths] for obj in objects]
        return [{"cells": [_name(obj), *row]} for obj, row in zip(objects, cells, strict=True)]
    make = _CELLS.get((resource.group, resource.plural), _plain)
    rows: list[dict[str, Any]] = []
    for obj in objects:
        row: dict[str, Any] = {"cells": make(obj, now_s)}
        if (resource.group, resource.plural) == ("", "pods"):
            conditions = pod_row_conditions(obj)
            if conditions:
                row["conditions"] = conditions
        rows.append(row)
    return rows


def _included(obj: Object, what: str) -> Any:
    if what == "None":
        return None
    if what == "Object":
        return obj
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj.get("metadata") or {}}


def _column(text: str) -> dict[str, Any]:
    """From ``name:type[/format][!priority]``."""
    text, _, priority = text.partition("!")
    name, _, kind = text.rpartition(":")
    kind, _, form = kind.partition("/")
    return {"name": name, "type": kind, "format": form, "description": "", "priority": int(priority or 0)}


def _crd_or_age(given: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    return given or [{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]


def _crd_column(column: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": column.get("name", ""),
        "type": column.get("type", "string"),
        "format": column.get("format", ""),
        "description": column.get("description") or _CRD_TEXT + column.get("jsonPath", ""),
        "priority": column.get("priority", 0),
    }


def _path(text: str) -> Any:
    try:
        return parse_path(text)
    except ValueError:
        return None


def _crd_cell(kind: str, path: Any, obj: Object, now_s: float) -> Any:
    values = find_values(path, obj) if path is not None else []
    if not values or values[0] is None:
        return None
    value = values[0]
    if kind == "date":
        return "<invalid>" if parse_rfc3339(value) is None else age(value, now_s)
    if kind == "integer":
        return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    if kind == "number":
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    return " ".join(_printed(item) for item in values)


def _printed(value: Any) -> str:
    """A value as Go's ``%v`` shows it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{' '.join(_printed(item) for item in value)}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{_printed(value[key])}' for key in sorted(value))}]"
    return str(value)


def _name(obj: Object) -> str:
    return str((obj.get("metadata") or {}).get("name", ""))


def _age(obj: Object, now_s: float) -> str:
    return age((obj.get("metadata") or {}).get("creationTimestamp"), now_s)


def _spec(obj: Object) -> dict[str, Any]:
    return obj.get("spec") or {}


def _status(obj: Object) -> dict[str, Any]:
    return obj.get("status") or {}


def _plain(obj: Object, now_s: float) -> list[Any]:
    return [_name(obj), (obj.get("metadata") or {}).get("creationTimestamp")]


def _named(obj: Object, now_s: float) -> list[Any]:
    return [_name(obj), _age(obj, now_s)]


def _namespace(obj: Object, now_s: float) -> list[Any]:
    return [_name(obj), _status(obj).get("phase", ""), _age(obj, now_s)]


def _configmap(obj: Object, now_s: float) -> list[Any]:
    return [_name(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), _age(obj, now_s)]


def _secret(obj: Object, now_s: float) -> list[Any]:
    return [_name(obj), obj.get("type", ""), len(obj.get("data") or {}), _age(obj, now_s)]


def _node(obj: Object, now_s: float) -> list[Any]:
    status = _status(obj)
    info, addresses = status.get("nodeInfo") or {}, status.get("addresses") or []
    internal, external = (
        next((item.get("address") for item in addresses if item.get("type") == kind), None) or _NONE
        for kind in ("InternalIP", "ExternalIP")
    )
    return [
        _name(obj), _node_status(obj), _node_roles(obj), _age(obj, now_s), info.get("kubeletVersion", ""), internal,
        external, info.get("osImage") or UNKNOWN, info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]  # fmt: skip


def _node_status(obj: Object) -> str:
    conditions = _status(obj).get("conditions") or []
    ready = next((item for item in conditions if item.get("type") == "Ready"), None)
    text = "Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"
    return f"{text},SchedulingDisabled" if _spec(obj).get("unschedulable") else text


def _node_roles(obj: Object) -> str:
    roles: set[str] = set()
    for key, value in ((obj.get("metadata") or {}).get("labels") or {}).items():
        if key.startswith(_ROLE_PREFIX) and len(key) > len(_ROLE_PREFIX):
            roles.add(key.removeprefix(_ROLE_PREFIX))
        elif key == "kubernetes.io/role" and value:
            roles.add(value)
    return ",".join(sorted(roles)) or _NONE


def _service(obj: Object, now_s: float) -> list[Any]:
    spec = _spec(obj)
    kind = spec.get("type") or "ClusterIP"
    address = (spec.get("clusterIPs") or [spec.get("clusterIP") or _NONE])[0]
    ports = ",".join(_service_port(port) for port in spec.get("ports") or []) or _NONE
    selector = _pairs(spec.get("selector"))
    return [_name(obj), kind, address, _external_ip(obj, kind), ports, _age(obj, now_s), selector]


def _service_port(port: dict[str, Any]) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port')}{node}/{port.get('protocol') or 'TCP'}"


def _external_ip(obj: Object, kind: str) -> str:
    spec = _spec(obj)
    given = list(spec.get("externalIPs") or [])
    if kind == "ExternalName":
        return spec.get("externalName") or ""
    if kind == "LoadBalancer":
        ingress = (_status(obj).get("loadBalancer") or {}).get("ingress") or []
        names = sorted({item.get("ip") or item.get("hostname") or "" for item in ingress} - {""})
        text = ",".join(names)
        if len(text) > 16:
            text = text[:13] + "..."
        if given:
            return ",".join([*([text] if text else []), *given])
        return text or "<pending>"
    return ",".join(given) or _NONE


def _pairs(labels: dict[str, str] | None) -> str:
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels)) if labels else _NONE


def _selector(selector: dict[str, Any] | None) -> str:
    try:
        return str(label_selector(selector)) or _NONE
    except BadRequest:
        return "<error>"


def _containers(template: dict[str, Any] | None) -> tuple[str, str]:
    containers = ((template or {}).get("spec") or {}).get("containers") or []
    return ",".join(item.get("name", "") for item in containers), ",".join(item.get("image", "") for item in containers)


def _endpoints(obj: Object, now_s: float) -> list[Any]:
    shown: list[str] = []
    for subset in obj.get("subsets") or []:
        ports = subset.get("ports") or [{}]
        for port in ports:
            for address in subset.get("addresses") or []:
                number = f":{port['port']}" if port.get("port") else ""
                shown.append(f"{address.get('ip', '')}{number}")
    return [_name(obj), _first_three(shown) or _NONE, _age(obj, now_s)]


def _first_three(items: Sequence[str]) -> str:
    text = ",".join(items[:3])
    return f"{text} + {len(items) - 3} more..." if len(items) > 3 else text


def _event(obj: Object, now_s: float) -> list[Any]:
    involved = obj.get("involvedObject") or obj.get("regarding") or {}
    first = obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp") or obj.get("eventTime")
    last = obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp")
    series = obj.get("series") or {}
    count = obj.get("count") or obj.get("deprecatedCount") or 1
    if series:
        last, count = series.get("lastObservedTime") or last, series.get("count") or count
    seen = age(last or first, now_s)
    target = f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}"
    message = str(obj.get("message") or obj.get("note") or "").strip()
    return [
        seen, obj.get("type", ""), obj.get("reason", ""), target, involved.get("fieldPath") or "", _event_source(obj),
        message, age(first, now_s), count, _name(obj),
    ]  # fmt: skip


def _event_source(obj: Object) -> str:
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    component = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    host = source.get("host") or ""
    return f"{component}, {host}" if host else component


def _lease(obj: Object, now_s: float) -> list[Any]:
    return [_name(obj), _spec(obj).get("holderIdentity") or "", _age(obj, now_s)]


def _deployment(obj: Object, now_s: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    return [
        _name(obj), f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        str(status.get("updatedReplicas", 0)), str(status.get("availableReplicas", 0)), _age(obj, now_s),
        *_containers(spec.get("template")), _selector(spec.get("selector")),
    ]  # fmt: skip


def _replicaset(obj: Object, now_s: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    return [
        _name(obj), spec.get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0),
        _age(obj, now_s), *_containers(spec.get("template")), _selector(spec.get("selector")),
    ]  # fmt: skip


def _daemonset(obj: Object, now_s: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    counts = (
        "desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled", "numberAvailable",
    )  # fmt: skip
    pod_spec = (spec.get("template") or {}).get("spec") or {}
    return [
        _name(obj), *(status.get(name, 0) for name in counts), _pairs(pod_spec.get("nodeSelector")), _age(obj, now_s),
        *_containers(spec.get("template")), _selector(spec.get("selector")),
    ]  # fmt: skip


def _statefulset(obj: Object, now_s: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    return [_name(obj), ready, _age(obj, now_s), *_containers(spec.get("template"))]


def _revision(obj: Object, now_s: float) -> list[Any]:
    owner = controller_of(obj)
    text = _NONE
    if owner is not None:
        group = str(owner.get("apiVersion", "")).rpartition("/")[0]
        kind = str(owner.get("kind", "")).lower()
        text = f"{kind}.{group}/{owner.get('name')}" if group else f"{kind}/{owner.get('name')}"
    return [_name(obj), text, str(obj.get("revision", 0)), _age(obj, now_s)]


def _binding(obj: Object, now_s: float) -> list[Any]:
    ref = obj.get("roleRef") or {}
    names: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.get("subjects") or []:
        text = subject.get("name", "")
        if subject.get("kind") == "ServiceAccount":
            text = f"{subject.get('namespace', '')}/{text}"
        names.setdefault(subject.get("kind", ""), []).append(text)
    role = f"{ref.get('kind', '')}/{ref.get('name', '')}"
    subjects = [", ".join(names[kind]) for kind in ("User", "Group", "ServiceAccount")]
    return [_name(obj), role, _age(obj, now_s), *subjects]


def _endpointslice(obj: Object, now_s: float) -> list[Any]:
    ports = obj.get("ports")
    addresses = [text for item in obj.get("endpoints") or [] for text in item.get("addresses") or []]
    if ports is None:
        shown = "*"
    else:
        shown = _first_three([str(port.get("port") or "*") for port in ports]) or "<unset>"
    return [_name(obj), obj.get("addressType", ""), shown, _first_three(addresses) or "<unset>", _age(obj, now_s)]


def _volume(obj: Object, now_s: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    claim = spec.get("claimRef") or {}
    phase = status.get("phase", "")
    if (obj.get("metadata") or {}).get("deletionTimestamp"):
        phase = "Terminating"
    return [
        _name(obj), _amount((spec.get("capacity") or {}).get("storage")), _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""), phase,
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "", spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or "<unset>", status.get("reason") or "", _age(obj, now_s),
        spec.get("volumeMode") or "<unset>",
    ]  # fmt: skip


def _claim(obj: Object, now_s: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    phase = status.get("phase", "")
    if (obj.get("metadata") or {}).get("deletionTimestamp"):
        phase = "Terminating"
    is_bound = bool(spec.get("volumeName"))
    return [
        _name(obj), phase, spec.get("volumeName") or "",
        _amount((status.get("capacity") or {}).get("storage")) if is_bound else "",
        _modes(status.get("accessModes")) if is_bound else "", spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or "<unset>", _age(obj, now_s), spec.get("volumeMode") or "<unset>",
    ]  # fmt: skip


def _amount(text: Any) -> str:
    try:
        return canonical(text) if text is not None else ""
    except ValueError:
        return str(text)


def _modes(modes: Sequence[str] | None) -> str:
    return ",".join(short for name, short in _ACCESS.items() if name in (modes or []))


def _priorityclass(obj: Object, now_s: float) -> list[Any]:
    return [
        _name(obj), obj.get("value", 0), bool(obj.get("globalDefault")), _age(obj, now_s),
        obj.get("preemptionPolicy") or "",
    ]  # fmt: skip


def _podtemplate(obj: Object, now_s: float) -> list[Any]:
    template = obj.get("template") or {}
    return [_name(obj), *_containers(template), _pairs((template.get("metadata") or {}).get("labels"))]


def _controller(obj: Object, now_s: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    selector = str(match_labels(spec.get("selector"))) or _NONE
    counts = [spec.get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [_name(obj), *counts, _age(obj, now_s), *_containers(spec.get("template")), selector]


def _pod(obj: Object, now_s: float) -> list[Any]:
    return pod_cells(obj, age_text=_age(obj, now_s), since=lambda stamp: age(stamp, now_s))


_PLAIN = "Name:string/name, Created At:date"
_EVENT_LAYOUT = (
    "Last Seen:string, Type:string, Reason:string, Object:string, Subobject:string!1, Source:string!1, Message:string, "
    "First Seen:string!1, Count:string!1, Name:string/name!1"
)
_BINDING_LAYOUT = "Name:string/name, Role:string, Age:string, Users:string!1, Groups:string!1, ServiceAccounts:string!1"
_AGED = "Name:string/name, Age:string"
_APP_TAIL = "Age:string, Containers:string!1, Images:string!1, Selector:string!1"
_RBAC = "rbac.authorization.k8s.io"

_TABLE: dict[tuple[str, str], tuple[str, Row]] = {
    ("", "configmaps"): ("Name:string/name, Data:string, Age:string", _configmap),
    ("", "endpoints"): ("Name:string/name, Endpoints:string, Age:string", _endpoints),
    ("", "events"): (_EVENT_LAYOUT, _event),
    ("events.k8s.io", "events"): (_EVENT_LAYOUT, _event),
    ("", "namespaces"): ("Name:string/name, Status:string, Age:string", _namespace),
    ("", "nodes"): (
        "Name:string/name, Status:string, Roles:string, Age:string, Version:string, Internal-IP:string!1, "
        "External-IP:string!1, OS-Image:string!1, Kernel-Version:string!1, Container-Runtime:string!1", _node,
    ),
    ("", "persistentvolumeclaims"): (
        "Name:string/name, Status:string, Volume:string, Capacity:string, Access Modes:string, StorageClass:string, "
        "VolumeAttributesClass:string, Age:string, VolumeMode:string!1", _claim,
    ),
    ("", "persistentvolumes"): (
        "Name:string/name, Capacity:string, Access Modes:string, Reclaim Policy:string, Status:string, Claim:string, "
        "StorageClass:string, VolumeAttributesClass:string, Reason:string, Age:string, VolumeMode:string!1", _volume,
    ),
    ("", "pods"): (
        "Name:string/name, Ready:string, Status:string, Restarts:string, Age:string, IP:string!1, Node:string!1, "
        "Nominated Node:string!1, Readiness Gates:string!1", _pod,
    ),
    ("", "podtemplates"): ("Name:string/name, Containers:string, Images:string, Pod Labels:string", _podtemplate),
    ("", "replicationcontrollers"): (
        f"Name:string/name, Desired:integer, Current:integer, Ready:integer, {_APP_TAIL}", _controller,
    ),
    ("", "secrets"): ("Name:string/name, Type:string, Data:string, Age:string", _secret),
    ("", "serviceaccounts"): (_AGED, _named),
    ("", "services"): (
        "Name:string/name, Type:string, Cluster-IP:string, External-IP:string, Port(s):string, Age:string, "
        "Selector:string!1", _service,
    ),
    ("apps", "controllerrevisions"): ("Name:string/name, Controller:string, Revision:string, Age:string", _revision),
    ("apps", "daemonsets"): (
        "Name:string/name, Desired:integer, Current:integer, Ready:integer, Up-to-date:integer, Available:integer, "
        f"Node Selector:string, {_APP_TAIL}", _daemonset,
    ),
    ("apps", "deployments"): (
        f"Name:string/name, Ready:string, Up-to-date:string, Available:string, {_APP_TAIL}", _deployment,
    ),
    ("apps", "replicasets"): (
        f"Name:string/name, Desired:integer, Current:integer, Ready:integer, {_APP_TAIL}", _replicaset,
    ),
    ("apps", "statefulsets"): (
        "Name:string/name, Ready:string, Age:string, Containers:string!1, Images:string!1", _statefulset,
    ),
    (_RBAC, "clusterrolebindings"): (_BINDING_LAYOUT, _binding),
    (_RBAC, "rolebindings"): (_BINDING_LAYOUT, _binding),
    ("coordination.k8s.io", "leases"): ("Name:string/name, Holder:string, Age:string", _lease),
    ("discovery.k8s.io", "endpointslices"): (
        "Name:string/name, AddressType:string, Ports:string, Endpoints:string, Age:string", _endpointslice,
    ),
    ("scheduling.k8s.io", "priorityclasses"): (
        "Name:string/name, Value:integer, Global-Default:boolean, Age:string, PreemptionPolicy:string", _priorityclass,
    ),
}  # fmt: skip
_TABLE |= clustercells.TABLE
_LAYOUTS = {key: layout for key, (layout, _) in _TABLE.items()}
_CELLS = {key: cells for key, (_, cells) in _TABLE.items()}
