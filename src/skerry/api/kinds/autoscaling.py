"""HorizontalPodAutoscaler: defaults, validation, and what ``autoscaling/v1`` shows of it. Stored is ``v2``.

Source: kubernetes pkg/apis/autoscaling/{v1,v2}/{conversion,defaults}.go, validation/validation.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from skerry.api.field import FieldError, invalid, required
from skerry.api.gvk import Object
from skerry.api.kinds.filling import fill, part, rows
from skerry.base import json

_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
_CURRENT = "autoscaling.alpha.kubernetes.io/current-metrics"
_DEFAULT_CPU = 80
_SCALE_UP = ({"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15})
_SCALE_DOWN = ({"type": "Percent", "value": 100, "periodSeconds": 15},)


def default_autoscaler(obj: Object) -> None:
    """Fill what an omitted field becomes."""
    spec = part(obj, "spec")
    fill(spec, "minReplicas", 1)
    if not spec.get("metrics"):
        spec["metrics"] = [_cpu_metric(_DEFAULT_CPU)]
    behavior = spec.get("behavior")
    if not isinstance(behavior, dict):
        return
    for name, policies in (("scaleUp", _SCALE_UP), ("scaleDown", _SCALE_DOWN)):
        rules = behavior.get(name)
        if rules is None:
            rules = behavior[name] = {}
        fill(rules, "selectPolicy", "Max")
        if not rules.get("policies"):
            rules["policies"] = [dict(policy) for policy in policies]
    fill(behavior["scaleUp"], "stabilizationWindowSeconds", 0)


def autoscaler_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a HorizontalPodAutoscaler."""
    spec = obj.get("spec") or {}
    low, high, target = spec.get("minReplicas"), spec.get("maxReplicas") or 0, spec.get("scaleTargetRef") or {}
    if isinstance(low, int) and low < 1:
        yield invalid("spec.minReplicas", low, "must be greater than or equal to 1")
    if high < 1:
        yield invalid("spec.maxReplicas", high, "must be greater than 0")
    if isinstance(low, int) and high < low:
        yield invalid("spec.maxReplicas", high, "must be greater than or equal to `minReplicas`")
    for name in ("kind", "name"):
        if not target.get(name):
            yield required(f"spec.scaleTargetRef.{name}")
    for index, metric in enumerate(rows(spec, "metrics")):
        if not metric.get("type"):
            yield required(f"spec.metrics[{index}].type", "must specify a metric source type")


def from_v1(obj: Object) -> Object:
    """Turn what a client of ``autoscaling/v1`` sends into the stored form, in place."""
    spec, meta = dict(obj.get("spec") or {}), part(obj, "metadata")
    notes = dict(meta.get("annotations") or {})
    percent = spec.pop("targetCPUUtilizationPercentage", None)
    metrics = _noted(notes, _METRICS, [])
    if percent is not None:
        metrics = [_cpu_metric(percent), *metrics]
    if metrics:
        spec["metrics"] = metrics
    behavior = _noted(notes, _BEHAVIOR, None)
    if behavior:
        spec["behavior"] = behavior
    status = dict(obj.get("status") or {})
    current = _noted(notes, _CURRENT, [])
    used = status.pop("currentCPUUtilizationPercentage", None)
    if used is not None:
        current = [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": used}}}, *current]
    conditions = _noted(notes, _CONDITIONS, [])
    status |= {name: value for name, value in (("currentMetrics", current), ("conditions", conditions)) if value}
    return _joined(obj, meta, notes, spec, status)


def to_v1(obj: Object) -> Object:
    """Turn the stored form into what a client of ``autoscaling/v1`` sees, in place."""
    spec, meta, status = dict(obj.get("spec") or {}), part(obj, "metadata"), dict(obj.get("status") or {})
    notes = dict(meta.get("annotations") or {})
    others = []
    for metric in spec.pop("metrics", None) or []:
        percent = _cpu_of(metric, "target")
        if percent is not None and "targetCPUUtilizationPercentage" not in spec:
            spec["targetCPUUtilizationPercentage"] = percent
        else:
            others.append(metric)
    current = []
    for metric in status.pop("currentMetrics", None) or []:
        percent = _cpu_of(metric, "current")
        if percent is not None and "currentCPUUtilizationPercentage" not in status:
            status["currentCPUUtilizationPercentage"] = percent
        else:
            current.append(metric)
    written = (
        (_METRICS, others),
        (_BEHAVIOR, spec.pop("behavior", None)),
        (_CURRENT, current),
        (_CONDITIONS, status.pop("conditions", None)),
    )
    notes |= {name: json.dumps(value).decode() for name, value in written if value}
    return _joined(obj, meta, notes, spec, status)


def _joined(obj: Object, meta: Object, notes: Object, spec: Object, status: Object) -> Object:
    if notes:
        meta["annotations"] = notes
    else:
        meta.pop("annotations", None)
    obj["spec"] = spec
    if status or "status" in obj:
        obj["status"] = status
    return obj


def _noted(notes: dict[str, Any], name: str, default: Any) -> Any:
    """What an annotation holds; taken out. A text that is no JSON of that shape counts as absent."""
    text = notes.pop(name, None)
    try:
        value = json.loads(text) if text else default
    except json.JsonError:
        return default
    wanted = list if isinstance(default, list) else dict
    return value if isinstance(value, wanted) else default


def _cpu_metric(percent: int) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def _cpu_of(metric: dict[str, Any], part_name: str) -> int | None:
    resource = metric.get("resource") or {}
    if metric.get("type") != "Resource" or resource.get("name") != "cpu":
        return None
    value = (resource.get(part_name) or {}).get("averageUtilization")
    return value if isinstance(value, int) else None
