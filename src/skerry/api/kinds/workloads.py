"""Deployment, ReplicaSet, ReplicationController, StatefulSet, DaemonSet, ControllerRevision, PodTemplate: their rules.

Source: kubernetes pkg/apis/apps/{v1/defaults,validation/validation}.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from skerry.api.field import FieldError, forbidden, invalid, not_supported, required
from skerry.api.gvk import Object
from skerry.api.kinds.filling import fill, part, rows
from skerry.api.kinds.podspec import default_spec, spec_errors
from skerry.api.names import annotation_errors, label_errors
from skerry.api.patch import json_equal
from skerry.api.selectors import label_selector
from skerry.api.status import BadRequest

_NOT_NEGATIVE = "must be greater than or equal to 0"
_IMMUTABLE = "field is immutable"
_STATEFULSET_CHANGES = ("replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
                        "persistentVolumeClaimRetentionPolicy", "minReadySeconds")  # fmt: skip
_STATEFULSET_TEXT = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)


def default_deployment(obj: Object) -> None:
    """Fill what an omitted field becomes."""
    spec = part(obj, "spec")
    fill(spec, "replicas", 1)
    fill(spec, "revisionHistoryLimit", 10)
    fill(spec, "progressDeadlineSeconds", 600)
    strategy = part(spec, "strategy")
    fill(strategy, "type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = part(strategy, "rollingUpdate")
        fill(rolling, "maxUnavailable", "25%")
        fill(rolling, "maxSurge", "25%")
    elif strategy.get("rollingUpdate") == {}:
        del strategy["rollingUpdate"]
    default_template(spec)


def default_replicaset(obj: Object) -> None:
    """Fill what an omitted field becomes."""
    spec = part(obj, "spec")
    fill(spec, "replicas", 1)
    default_template(spec)


def default_replicationcontroller(obj: Object) -> None:
    """Fill what an omitted field becomes; selector and labels come from the template."""
    spec = part(obj, "spec")
    fill(spec, "replicas", 1)
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if labels:
        if not spec.get("selector"):
            spec["selector"] = dict(labels)
        meta = part(obj, "metadata")
        if not meta.get("labels"):
            meta["labels"] = dict(labels)
    default_template(spec)


def default_statefulset(obj: Object) -> None:
    """Fill what an omitted field becomes."""
    spec = part(obj, "spec")
    fill(spec, "replicas", 1)
    fill(spec, "revisionHistoryLimit", 10)
    fill(spec, "podManagementPolicy", "OrderedReady")
    strategy = part(spec, "updateStrategy")
    fill(strategy, "type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        fill(part(strategy, "rollingUpdate"), "partition", 0)
    kept = part(spec, "persistentVolumeClaimRetentionPolicy")
    fill(kept, "whenDeleted", "Retain")
    fill(kept, "whenScaled", "Retain")
    for claim in rows(spec, "volumeClaimTemplates"):
        claim["kind"], claim["apiVersion"] = "PersistentVolumeClaim", "v1"
        fill(part(claim, "spec"), "volumeMode", "Filesystem")
        fill(part(claim, "status"), "phase", "Pending")
    default_template(spec)


def default_daemonset(obj: Object) -> None:
    """Fill what an omitted field becomes."""
    spec = part(obj, "spec")
    fill(spec, "revisionHistoryLimit", 10)
    strategy = part(spec, "updateStrategy")
    fill(strategy, "type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = part(strategy, "rollingUpdate")
        fill(rolling, "maxUnavailable", 1)
        fill(rolling, "maxSurge", 0)
    default_template(spec)


def default_podtemplate(obj: Object) -> None:
    """Fill what an omitted field becomes."""
    default_template(obj)


def default_template(holder: dict[str, Any]) -> None:
    """Fill the pod spec in ``template``."""
    template = part(holder, "template")
    part(template, "metadata")
    default_spec(part(template, "spec"))


def deployment_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a Deployment's spec."""
    spec = obj.get("spec") or {}
    yield from _workload_errors(spec, "deployment")
    yield from _strategy_errors(spec.get("strategy") or {}, "spec.strategy", ("Recreate", "RollingUpdate"))


def replicaset_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a ReplicaSet's spec."""
    yield from _workload_errors(obj.get("spec") or {}, "replicaset")


def replicationcontroller_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a ReplicationController's spec."""
    spec = obj.get("spec") or {}
    selector = spec.get("selector")
    yield from _workload_errors(spec | {"selector": {"matchLabels": selector} if selector else None}, "controller")


def statefulset_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a StatefulSet's spec."""
    spec = _with_claims(obj.get("spec") or {})
    yield from _workload_errors(spec, "statefulset")
    policies = ("OrderedReady", "Parallel")
    if spec.get("podManagementPolicy") not in policies:
        yield not_supported("spec.podManagementPolicy", spec.get("podManagementPolicy") or "", policies)
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") not in ("OnDelete", "RollingUpdate"):
        yield not_supported("spec.updateStrategy.type", strategy.get("type") or "", ("OnDelete", "RollingUpdate"))
    partition = (strategy.get("rollingUpdate") or {}).get("partition") or 0
    if partition < 0:
        yield invalid("spec.updateStrategy.rollingUpdate.partition", partition, _NOT_NEGATIVE)


def _with_claims(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec as its pods will have it: each claim template is a volume of its name, too."""
    template = spec.get("template") or {}
    pod = template.get("spec") or {}
    volumes = list(pod.get("volumes") or ())
    there = {volume.get("name") for volume in volumes}
    names = [str((claim.get("metadata") or {}).get("name") or "") for claim in spec.get("volumeClaimTemplates") or ()]
    volumes += [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in names if name not in there]
    return {**spec, "template": {**template, "spec": {**pod, "volumes": volumes}}}


def statefulset_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """Only a few fields of a StatefulSet's spec may change."""
    new, before = dict(obj.get("spec") or {}), dict(old.get("spec") or {})
    for name in _STATEFULSET_CHANGES:
        new.pop(name, None)
        before.pop(name, None)
    if not json_equal(new, before):
        yield forbidden("spec", _STATEFULSET_TEXT)


def daemonset_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a DaemonSet's spec."""
    spec = obj.get("spec") or {}
    yield from _workload_errors(spec, "daemonset")
    yield from _strategy_errors(spec.get("updateStrategy") or {}, "spec.updateStrategy", ("OnDelete", "RollingUpdate"))


def podtemplate_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a PodTemplate."""
    yield from template_errors(obj.get("template") or {}, "template")


def selector_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """A selector never changes."""
    new, before = (obj.get("spec") or {}).get("selector"), (old.get("spec") or {}).get("selector")
    if not json_equal(new, before):
        yield invalid("spec.selector", new, _IMMUTABLE)


def revision_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a ControllerRevision."""
    if obj.get("data") is None:
        yield required("data", "data is mandatory")
    if (obj.get("revision") or 0) < 0:
        yield invalid("revision", obj["revision"], _NOT_NEGATIVE)


def revision_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """A revision's data never changes."""
    if not json_equal(obj.get("data"), old.get("data")):
        yield invalid("data", obj.get("data"), _IMMUTABLE)


def template_errors(template: dict[str, Any], path: str) -> Iterator[FieldError]:
    """Everything wrong with a pod template."""
    meta = template.get("metadata") or {}
    yield from label_errors(meta.get("labels"), f"{path}.labels")
    yield from annotation_errors(meta.get("annotations"), f"{path}.annotations")
    yield from spec_errors(template.get("spec") or {}, f"{path}.spec")


def _workload_errors(spec: dict[str, Any], kind: str) -> Iterator[FieldError]:
    if (spec.get("replicas") or 0) < 0:
        yield invalid("spec.replicas", spec["replicas"], _NOT_NEGATIVE)
    if (spec.get("minReadySeconds") or 0) < 0:
        yield invalid("spec.minReadySeconds", spec["minReadySeconds"], _NOT_NEGATIVE)
    template = spec.get("template") or {}
    yield from _selector_errors(spec.get("selector"), template, kind)
    yield from template_errors(template, "spec.template")
    policy = (template.get("spec") or {}).get("restartPolicy") or "Always"
    if policy != "Always":
        yield not_supported("spec.template.spec.restartPolicy", policy, ("Always",))
    if (template.get("spec") or {}).get("activeDeadlineSeconds") is not None:
        yield forbidden("spec.template.spec.activeDeadlineSeconds", f"activeDeadlineSeconds in {kind} is not Supported")


def _selector_errors(selector: dict[str, Any] | None, template: dict[str, Any], kind: str) -> Iterator[FieldError]:
    if selector is None:
        yield required("spec.selector")
        return
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield invalid("spec.selector", selector, f"empty selector is invalid for {kind}")
        return
    labels = (template.get("metadata") or {}).get("labels") or {}
    try:
        matches = label_selector(selector).matches(labels)
    except BadRequest as exc:
        yield invalid("spec.selector", selector, exc.message)
        return
    if not matches:
        yield invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")


def _strategy_errors(strategy: dict[str, Any], path: str, allowed: tuple[str, ...]) -> Iterator[FieldError]:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind not in allowed:
        yield not_supported(f"{path}.type", kind or "", allowed)
    elif kind != "RollingUpdate" and rolling is not None:
        yield forbidden(f"{path}.rollingUpdate", f"may not be specified when strategy `type` is '{kind}'")
    elif kind == "RollingUpdate" and isinstance(rolling, dict):
        for name in ("maxUnavailable", "maxSurge"):
            yield from _amount_errors(rolling.get(name), f"{path}.rollingUpdate.{name}")
        if _is_zero(rolling.get("maxUnavailable")) and _is_zero(rolling.get("maxSurge")):
            yield invalid(f"{path}.rollingUpdate.maxUnavailable", rolling["maxUnavailable"], "may not be 0 when `maxSurge` is 0")  # noqa: E501  # fmt: skip


def _amount_errors(value: Any, path: str) -> Iterator[FieldError]:
    if isinstance(value, int) and value < 0:
        yield invalid(path, value, _NOT_NEGATIVE)
    elif isinstance(value, str) and not (value.endswith("%") and value[:-1].isascii() and value[:-1].isdigit()):
        yield invalid(path, value, "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')")  # noqa: E501  # fmt: skip


def _is_zero(value: Any) -> bool:
    return value in (0, "0%")
