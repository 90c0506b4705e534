"""Table columns and cells of batch, autoscaling, policy, networking, storage, certificate and API kinds.

Source: kubernetes pkg/printers/internalversion/printers.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from skerry.api.ages import UNKNOWN, age, human_duration
from skerry.api.gvk import Object
from skerry.api.meta import parse_rfc3339
from skerry.api.selectors import label_selector
from skerry.api.status import BadRequest

Row = Callable[[Object, float], list[Any]]

_NONE = "<none>"
_UNSET = "<unset>"
_AGED = "Name:string/name, Age:string"
_TEMPLATE_TAIL = "Age:string, Containers:string!1, Images:string!1, Selector:string!1"
_AUTOSCALER = (
    "Name:string/name, Reference:string, Targets:string, MinPods:string, MaxPods:string, Replicas:string, Age:string"
)
_HOOKS = "Name:string/name, Webhooks:integer, Age:string"
_BINDING = "Name:string/name, PolicyName:string, ParamRef:string, Age:string"
_FLOWCONTROL = "flowcontrol.apiserver.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"


def _name(obj: Object) -> str:
    return str((obj.get("metadata") or {}).get("name", ""))


def _age(obj: Object, now_s: float) -> str:
    return age((obj.get("metadata") or {}).get("creationTimestamp"), now_s)


def _spec(obj: Object) -> dict[str, Any]:
    return obj.get("spec") or {}


def _status(obj: Object) -> dict[str, Any]:
    return obj.get("status") or {}


def _named(obj: Object, now_s: float) -> list[Any]:
    return [_name(obj), _age(obj, now_s)]


def _is_true(obj: Object, condition: str) -> bool:
    return any(c.get("type") == condition and c.get("status") == "True" for c in _status(obj).get("conditions") or ())


def _images(template: dict[str, Any] | None) -> tuple[str, str]:
    containers = ((template or {}).get("spec") or {}).get("containers") or []
    return ",".join(item.get("name", "") for item in containers), ",".join(item.get("image", "") for item in containers)


def _selector(selector: dict[str, Any] | None) -> str:
    try:
        return str(label_selector(selector)) or _NONE
    except BadRequest:
        return "<error>"


def _text(value: Any, default: str) -> str:
    return default if value is None else str(value)


def _job(obj: Object, now_s: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    done, parallel = status.get("succeeded") or 0, spec.get("parallelism") or 0
    if spec.get("completions") is not None:
        completions = f"{done}/{spec['completions']}"
    else:
        completions = f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"
    started, ended = parse_rfc3339(status.get("startTime")), parse_rfc3339(status.get("completionTime"))
    took = "" if started is None else human_duration((now_s if ended is None else ended) - started)
    selector = _selector(spec.get("selector"))
    return [_name(obj), _job_state(obj), completions, took, _age(obj, now_s), *_images(spec.get("template")), selector]


def _job_state(obj: Object) -> str:
    for condition, shown in (("Complete", "Complete"), ("Failed", "Failed")):
        if _is_true(obj, condition):
            return shown
    if (obj.get("metadata") or {}).get("deletionTimestamp"):
        return "Terminating"
    for condition in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if _is_true(obj, condition):
            return condition
    return "Running"


def _cronjob(obj: Object, now_s: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    last = age(status["lastScheduleTime"], now_s) if status.get("lastScheduleTime") else _NONE
    template = ((spec.get("jobTemplate") or {}).get("spec") or {}).get("template")
    return [
        _name(obj), spec.get("schedule", ""), spec.get("timeZone") or _NONE, bool(spec.get("suspend")),
        len(status.get("active") or ()), last, _age(obj, now_s), *_images(template), _NONE,
    ]  # fmt: skip


def _autoscaler(obj: Object, now_s: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    target = spec.get("scaleTargetRef") or {}
    metrics = spec.get("metrics") or []
    if "targetCPUUtilizationPercentage" in spec:
        cpu = {"name": "cpu", "target": {"averageUtilization": spec["targetCPUUtilizationPercentage"]}}
        metrics = [{"type": "Resource", "resource": cpu}]
    shown = [_metric(metric, status) for metric in metrics[:2]]
    more = f" + {len(metrics) - 2} more..." if len(metrics) > 2 else ""
    low = spec.get("minReplicas")
    return [
        _name(obj), f"{target.get('kind', '')}/{target.get('name', '')}", ", ".join(shown) + more or _NONE,
        _UNSET if low is None else str(low), str(spec.get("maxReplicas", 0)), str(status.get("currentReplicas") or 0),
        _age(obj, now_s),
    ]  # fmt: skip


def _metric(metric: dict[str, Any], status: dict[str, Any]) -> str:
    kind = str(metric.get("type", ""))
    part = {"ContainerResource": "containerResource"}.get(kind, kind.lower())
    source = metric.get(part) or {}
    name = source.get("name") or (source.get("metric") or {}).get("name")
    current = next(
        (
            (item.get(part) or {}).get("current") or {}
            for item in status.get("currentMetrics") or ()
            if item.get("type") == kind and _metric_name(item.get(part) or {}) == name
        ),
        {},
    )
    if "currentCPUUtilizationPercentage" in status and name == "cpu":
        current = {"averageUtilization": status["currentCPUUtilizationPercentage"]}
    target = source.get("target") or {}
    prefix = f"{name}: " if kind in ("Resource", "ContainerResource") else ""
    if target.get("averageUtilization") is not None:
        now = current.get("averageUtilization")
        return f"{prefix}{UNKNOWN if now is None else f'{now}%'}/{target['averageUtilization']}%"
    if target.get("averageValue") is not None:
        return f"{prefix}{current.get('averageValue', UNKNOWN)}/{target['averageValue']}" + (
            " (avg)" if kind in ("Object", "External") else ""
        )
    return f"{prefix}{current.get('value', UNKNOWN)}/{target.get('value', '')}"


def _metric_name(source: dict[str, Any]) -> Any:
    return source.get("name") or (source.get("metric") or {}).get("name")


def _budget(obj: Object, now_s: float) -> list[Any]:
    spec = _spec(obj)
    return [
        _name(obj), _text(spec.get("minAvailable"), "N/A"), _text(spec.get("maxUnavailable"), "N/A"),
        _status(obj).get("disruptionsAllowed") or 0, _age(obj, now_s),
    ]  # fmt: skip


def _request(obj: Object, now_s: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    conditions = [str(c.get("type")) for c in status.get("conditions") or ()]
    state = "Denied" if "Denied" in conditions else "Approved" if "Approved" in conditions else "Pending"
    if "Failed" in conditions:
        state += ",Failed"
    if status.get("certificate"):
        state += ",Issued"
    wanted = spec.get("expirationSeconds")
    return [
        _name(obj), _age(obj, now_s), spec.get("signerName") or _NONE, spec.get("username", ""),
        _NONE if wanted is None else human_duration(wanted), state,
    ]  # fmt: skip


def _ingress(obj: Object, now_s: float) -> list[Any]:
    spec = _spec(obj)
    hosts = list(dict.fromkeys(str(rule["host"]) for rule in spec.get("rules") or () if rule.get("host")))
    shown = ",".join(hosts[:3]) + (f" + {len(hosts) - 3} more..." if len(hosts) > 3 else "") or "*"
    points = (_status(obj).get("loadBalancer") or {}).get("ingress") or ()
    address = ",".join(dict.fromkeys(str(p.get("ip") or p.get("hostname") or "") for p in points))
    ports = "80, 443" if spec.get("tls") else "80"
    return [_name(obj), spec.get("ingressClassName") or _NONE, shown, address, ports, _age(obj, now_s)]


def _ingressclass(obj: Object, now_s: float) -> list[Any]:
    spec = _spec(obj)
    ref = spec.get("parameters") or {}
    kind = f"{ref.get('kind', '')}.{ref['apiGroup']}" if ref.get("apiGroup") else ref.get("kind", "")
    return [_name(obj), spec.get("controller", ""), f"{kind}/{ref.get('name')}" if ref else _NONE, _age(obj, now_s)]


def _networkpolicy(obj: Object, now_s: float) -> list[Any]:
    return [_name(obj), _selector(_spec(obj).get("podSelector")), _age(obj, now_s)]


def _ipaddress(obj: Object, now_s: float) -> list[Any]:
    ref = _spec(obj).get("parentRef") or {}
    group = f".{ref['group']}" if ref.get("group") else ""
    space = f"{ref['namespace']}/" if ref.get("namespace") else ""
    return [_name(obj), f"{ref.get('resource', '')}{group}/{space}{ref.get('name', '')}"]


def _servicecidr(obj: Object, now_s: float) -> list[Any]:
    return [_name(obj), ",".join(_spec(obj).get("cidrs") or ()), _age(obj, now_s)]


def _csidriver(obj: Object, now_s: float) -> list[Any]:
    spec = _spec(obj)
    tokens = ",".join(str(item.get("audience", "")) for item in spec.get("tokenRequests") or ()) or _UNSET
    attach = spec.get("attachRequired")
    return [
        _name(obj), True if attach is None else attach, bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")), tokens, bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or ()) or _NONE, _age(obj, now_s),
    ]  # fmt: skip


def _csinode(obj: Object, now_s: float) -> list[Any]:
    return [_name(obj), len(_spec(obj).get("drivers") or ()), _age(obj, now_s)]


def _storageclass(obj: Object, now_s: float) -> list[Any]:
    notes = (obj.get("metadata") or {}).get("annotations") or {}
    is_default = notes.get("storageclass.kubernetes.io/is-default-class") == "true"
    return [
        f"{_name(obj)} (default)" if is_default else _name(obj), obj.get("provisioner", ""),
        obj.get("reclaimPolicy") or "Delete", obj.get("volumeBindingMode") or "Immediate",
        "true" if obj.get("allowVolumeExpansion") else "false", _age(obj, now_s),
    ]  # fmt: skip


def _attachment(obj: Object, now_s: float) -> list[Any]:
    spec = _spec(obj)
    volume = (spec.get("source") or {}).get("persistentVolumeName") or ""
    return [
        _name(obj), spec.get("attacher", ""), volume, spec.get("nodeName", ""), bool(_status(obj).get("attached")),
        _age(obj, now_s),
    ]  # fmt: skip


def _attributesclass(obj: Object, now_s: float) -> list[Any]:
    return [_name(obj), obj.get("driverName", ""), _age(obj, now_s)]


def _hooks(obj: Object, now_s: float) -> list[Any]:
    return [_name(obj), len(obj.get("webhooks") or ()), _age(obj, now_s)]


def _policy(part: str) -> Row:
    def row(obj: Object, now_s: float) -> list[Any]:
        spec = _spec(obj)
        kind = spec.get("paramKind")
        shown = f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}" if kind else _UNSET
        return [_name(obj), len(spec.get(part) or ()), shown, _age(obj, now_s)]

    return row


def _policybinding(obj: Object, now_s: float) -> list[Any]:
    spec = _spec(obj)
    ref = spec.get("paramRef") or {}
    name = ref.get("name") or "*"
    shown = f"{ref['namespace']}/{name}" if ref.get("namespace") else name
    return [_name(obj), spec.get("policyName", ""), shown if ref else _UNSET, _age(obj, now_s)]


def _runtimeclass(obj: Object, now_s: float) -> list[Any]:
    return [_name(obj), obj.get("handler", ""), _age(obj, now_s)]


def _claim(obj: Object, now_s: float) -> list[Any]:
    status = _status(obj)
    states = []
    if (obj.get("metadata") or {}).get("deletionTimestamp"):
        states.append("deleted")
    states.append("allocated" if status.get("allocation") else "pending")
    if status.get("reservedFor"):
        states.append("reserved")
    return [_name(obj), ",".join(state for state in states if len(states) == 1 or state != "pending"), _age(obj, now_s)]


def _slice(obj: Object, now_s: float) -> list[Any]:
    spec = _spec(obj)
    pool = (spec.get("pool") or {}).get("name", "")
    return [_name(obj), spec.get("nodeName") or "", spec.get("driver", ""), pool, _age(obj, now_s)]


def _flowschema(obj: Object, now_s: float) -> list[Any]:
    spec = _spec(obj)
    missing = next((c.get("status") for c in _status(obj).get("conditions") or () if c.get("type") == "Dangling"), "?")
    return [
        _name(obj), (spec.get("priorityLevelConfiguration") or {}).get("name", ""),
        str(spec.get("matchingPrecedence", "")), (spec.get("distinguisherMethod") or {}).get("type") or _NONE,
        _age(obj, now_s), missing,
    ]  # fmt: skip


def _prioritylevel(obj: Object, now_s: float) -> list[Any]:
    spec = _spec(obj)
    own = spec.get("limited") or spec.get("exempt") or {}
    queuing = (own.get("limitResponse") or {}).get("queuing") or {}
    shown = [_text(queuing.get(name), _NONE) for name in ("queues", "handSize", "queueLengthLimit")]
    return [
        _name(obj),
        spec.get("type", ""),
        _text(own.get("nominalConcurrencyShares"), _NONE),
        *shown,
        _age(obj, now_s),
    ]


def _quota(obj: Object, now_s: float) -> list[Any]:
    status = _status(obj)
    hard, used = status.get("hard") or {}, status.get("used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for name in sorted(hard):
        is_limit = name.startswith("limits.")
        (limits if is_limit else requests).append(f"{name}: {used.get(name, '0')}/{hard[name]}")
    return [_name(obj), ", ".join(requests), ", ".join(limits), _age(obj, now_s)]


def _apiservice(obj: Object, now_s: float) -> list[Any]:
    service = _spec(obj).get("service")
    shown = f"{service.get('namespace', '')}/{service.get('name', '')}" if service else "Local"
    state: Sequence[dict[str, Any]] = [c for c in _status(obj).get("conditions") or () if c.get("type") == "Available"]
    available = "Unknown"
    if state:
        available = str(state[0].get("status"))
        if available != "True":
            available = f"{available} ({state[0].get('reason', '')})"
    return [_name(obj), shown, available, _age(obj, now_s)]


def _component(obj: Object, now_s: float) -> list[Any]:
    found: dict[str, Any] = next((c for c in obj.get("conditions") or () if c.get("type") == "Healthy"), {})
    state = {"True": "Healthy", "False": "Unhealthy"}.get(str(found.get("status")), "Unknown")
    return [_name(obj), state, found.get("message") or "", found.get("error") or ""]


TABLE: dict[tuple[str, str], tuple[str, Row]] = {
    ("", "componentstatuses"): ("Name:string/name, Status:string, Message:string, Error:string", _component),
    ("", "resourcequotas"): ("Name:string/name, Request:string, Limit:string, Age:string", _quota),
    ("apiregistration.k8s.io", "apiservices"): (
        "Name:string/name, Service:string, Available:string, Age:string", _apiservice,
    ),
    ("autoscaling", "horizontalpodautoscalers"): (_AUTOSCALER, _autoscaler),
    ("batch", "cronjobs"): (
        "Name:string/name, Schedule:string, Timezone:string, Suspend:boolean, Active:integer, Last Schedule:string, "
        f"{_TEMPLATE_TAIL}", _cronjob,
    ),
    ("batch", "jobs"): (
        f"Name:string/name, Status:string, Completions:string, Duration:string, {_TEMPLATE_TAIL}", _job,
    ),
    ("certificates.k8s.io", "certificatesigningrequests"): (
        "Name:string/name, Age:string, SignerName:string, Requestor:string, RequestedDuration:string, "
        "Condition:string", _request,
    ),
    ("networking.k8s.io", "ingressclasses"): (
        "Name:string/name, Controller:string, Parameters:string, Age:string", _ingressclass,
    ),
    ("networking.k8s.io", "ingresses"): (
        "Name:string/name, Class:string, Hosts:string, Address:string, Ports:string, Age:string", _ingress,
    ),
    ("networking.k8s.io", "ipaddresses"): ("Name:string/name, ParentRef:string", _ipaddress),
    ("networking.k8s.io", "networkpolicies"): ("Name:string/name, Pod-Selector:string, Age:string", _networkpolicy),
    ("networking.k8s.io", "servicecidrs"): ("Name:string/name, CIDRs:string, Age:string", _servicecidr),
    ("policy", "poddisruptionbudgets"): (
        "Name:string/name, Min Available:string, Max Unavailable:string, Allowed Disruptions:integer, Age:string",
        _budget,
    ),
    ("storage.k8s.io", "csidrivers"): (
        "Name:string/name, AttachRequired:boolean, PodInfoOnMount:boolean, StorageCapacity:boolean, "
        "TokenRequests:string, RequiresRepublish:boolean, Modes:string, Age:string", _csidriver,
    ),
    ("storage.k8s.io", "csinodes"): ("Name:string/name, Drivers:integer, Age:string", _csinode),
    ("storage.k8s.io", "storageclasses"): (
        "Name:string/name, Provisioner:string, ReclaimPolicy:string, VolumeBindingMode:string, "
        "AllowVolumeExpansion:string, Age:string", _storageclass,
    ),
    ("storage.k8s.io", "volumeattachments"): (
        "Name:string/name, Attacher:string/name, PV:string, Node:string, Attached:boolean, Age:string", _attachment,
    ),
    ("storage.k8s.io", "volumeattributesclasses"): (
        "Name:string/name, DriverName:string, Age:string", _attributesclass,
    ),
    (_ADMISSION, "mutatingadmissionpolicies"): (
        "Name:string/name, Mutations:integer, ParamKind:string, Age:string", _policy("mutations"),
    ),
    (_ADMISSION, "validatingadmissionpolicies"): (
        "Name:string/name, Validations:integer, ParamKind:string, Age:string", _policy("validations"),
    ),
    (_ADMISSION, "mutatingadmissionpolicybindings"): (_BINDING, _policybinding),
    (_ADMISSION, "validatingadmissionpolicybindings"): (_BINDING, _policybinding),
    (_ADMISSION, "mutatingwebhookconfigurations"): (_HOOKS, _hooks),
    (_ADMISSION, "validatingwebhookconfigurations"): (_HOOKS, _hooks),
    ("node.k8s.io", "runtimeclasses"): ("Name:string/name, Handler:string, Age:string", _runtimeclass),
    ("resource.k8s.io", "deviceclasses"): (_AGED, _named),
    ("resource.k8s.io", "resourceclaims"): ("Name:string/name, State:string, Age:string", _claim),
    ("resource.k8s.io", "resourceclaimtemplates"): (_AGED, _named),
    ("resource.k8s.io", "resourceslices"): (
        "Name:string/name, Node:string, Driver:string, Pool:string, Age:string", _slice,
    ),
    (_FLOWCONTROL, "flowschemas"): (
        "Name:string/name, PriorityLevel:string, MatchingPrecedence:string, DistinguisherMethod:string, Age:string, "
        "MissingPL:string", _flowschema,
    ),
    (_FLOWCONTROL, "prioritylevelconfigurations"): (
        "Name:string/name, Type:string, NominalConcurrencyShares:string, Queues:string, HandSize:string, "
        "QueueLengthLimit:string, Age:string", _prioritylevel,
    ),
}  # fmt: skip
