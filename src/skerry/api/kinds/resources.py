"""What limits and describes the cluster's resources: LimitRange, ResourceQuota, storage kinds, RuntimeClass, priority
levels of the API, certificate requests, APIService: defaults and validation.

Source: kubernetes pkg/apis/{core,storage,node,flowcontrol,certificates}/{v1/defaults,validation/validation}.go,
kube-aggregator pkg/apis/apiregistration/validation (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from skerry.api.field import FieldError, forbidden, invalid, not_supported, required
from skerry.api.gvk import Object
from skerry.api.kinds.filling import fill, fill_number, part, rows
from skerry.api.patch import json_equal
from skerry.api.quantity import parse_quantity

_IMMUTABLE = "field is immutable"
_NOT_NEGATIVE = "must be greater than or equal to 0"
_BINDING_MODES = ("Immediate", "WaitForFirstConsumer")
_RECLAIM = ("Delete", "Retain")
_USAGES = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip


def default_limitrange(obj: Object) -> None:
    """Fill a LimitRange: defaults of containers follow from its limits and from each other."""
    for item in rows(part(obj, "spec"), "limits"):
        if item.get("type") != "Container":
            continue
        default, request = part(item, "default"), part(item, "defaultRequest")
        for name, value in (item.get("max") or {}).items():
            default.setdefault(name, value)
        for name, value in default.items():
            request.setdefault(name, value)
        for name, value in (item.get("min") or {}).items():
            request.setdefault(name, value)
        for name in ("default", "defaultRequest"):
            if not item[name]:
                del item[name]


def limitrange_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a LimitRange."""
    seen: set[str] = set()
    for index, item in enumerate(rows(obj.get("spec") or {}, "limits")):
        where, kind = f"spec.limits[{index}]", str(item.get("type") or "")
        if kind in seen:
            yield invalid(f"{where}.type", kind, "must not be repeated")
        seen.add(kind)
        if kind == "Pod":
            for name in ("default", "defaultRequest"):
                if item.get(name):
                    yield forbidden(f"{where}.{name}", "may not be specified when `type` is 'Pod'")
        for low, high in (("min", "max"), ("min", "default"), ("defaultRequest", "default"), ("default", "max")):
            yield from _order_errors(item, low, high, where)


def quota_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a ResourceQuota."""
    for name, value in ((obj.get("spec") or {}).get("hard") or {}).items():
        amount = _amount(value)
        if amount is None or amount < 0:
            yield invalid(f"spec.hard[{name}]", value, _NOT_NEGATIVE)


def quota_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """The scopes never change."""
    new, before = (obj.get("spec") or {}).get("scopes"), (old.get("spec") or {}).get("scopes")
    if sorted(new or []) != sorted(before or []):
        yield invalid("spec.scopes", new, _IMMUTABLE)


def default_storageclass(obj: Object) -> None:
    """Fill what an omitted field of a StorageClass becomes."""
    fill(obj, "reclaimPolicy", "Delete")
    fill(obj, "volumeBindingMode", "Immediate")


def storageclass_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a StorageClass."""
    if not obj.get("provisioner"):
        yield required("provisioner")
    if obj.get("reclaimPolicy") not in _RECLAIM:
        yield not_supported("reclaimPolicy", obj.get("reclaimPolicy"), _RECLAIM)
    if obj.get("volumeBindingMode") not in _BINDING_MODES:
        yield not_supported("volumeBindingMode", obj.get("volumeBindingMode"), _BINDING_MODES)


def storageclass_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """What a class does never changes."""
    for name in ("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"):
        if not json_equal(obj.get(name) or None, old.get(name) or None):
            yield forbidden(name, f"updates to {name} are forbidden.")


def default_csidriver(obj: Object) -> None:
    """Fill what an omitted field of a CSIDriver becomes."""
    spec = part(obj, "spec")
    for name, value in (("attachRequired", True), ("podInfoOnMount", False), ("storageCapacity", False),
                        ("requiresRepublish", False), ("seLinuxMount", False)):  # fmt: skip
        fill(spec, name, value)
    fill(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType")
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]


def capacity_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a CSIStorageCapacity."""
    if not obj.get("storageClassName"):
        yield required("storageClassName")


def capacity_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """Where capacity is never changes."""
    for name in ("nodeTopology", "storageClassName"):
        if not json_equal(obj.get(name) or None, old.get(name) or None):
            yield invalid(name, obj.get(name), _IMMUTABLE)


def attachment_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a VolumeAttachment."""
    spec = obj.get("spec") or {}
    for name in ("attacher", "nodeName"):
        if not spec.get(name):
            yield required(f"spec.{name}")
    source = spec.get("source") or {}
    if not source.get("persistentVolumeName") and not source.get("inlineVolumeSpec"):
        yield required("spec.source", "must specify exactly one of inlineVolumeSpec and persistentVolumeName")


def attachment_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """The spec never changes."""
    if not json_equal(obj.get("spec"), old.get("spec")):
        yield invalid("spec", obj.get("spec"), _IMMUTABLE)


def attributesclass_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a VolumeAttributesClass."""
    if not obj.get("driverName"):
        yield required("driverName")
    if not obj.get("parameters"):
        yield required("parameters", "must contain at least one key/value pair")


def attributesclass_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """What a class does never changes."""
    for name in ("driverName", "parameters"):
        if not json_equal(obj.get(name), old.get(name)):
            yield forbidden(name, f"updates to {name} are forbidden.")


def runtimeclass_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a RuntimeClass."""
    if not obj.get("handler"):
        yield required("handler")


def runtimeclass_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """The handler never changes."""
    if obj.get("handler") != old.get("handler"):
        yield invalid("handler", obj.get("handler"), _IMMUTABLE)


def default_flowschema(obj: Object) -> None:
    """Fill what an omitted field of a FlowSchema becomes."""
    fill_number(part(obj, "spec"), "matchingPrecedence", 1000)


def flowschema_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a FlowSchema."""
    spec = obj.get("spec") or {}
    if not 1 <= (spec.get("matchingPrecedence") or 0) <= 10_000:
        yield invalid("spec.matchingPrecedence", spec.get("matchingPrecedence"), "must be a positive value up to 10000")
    if not (spec.get("priorityLevelConfiguration") or {}).get("name"):
        yield required("spec.priorityLevelConfiguration.name", "must reference a priority level")


def default_prioritylevel(obj: Object) -> None:
    """Fill what an omitted field of a PriorityLevelConfiguration becomes."""
    spec = part(obj, "spec")
    if isinstance(spec.get("exempt"), dict):
        fill(spec["exempt"], "nominalConcurrencyShares", 0)
        fill(spec["exempt"], "lendablePercent", 0)
    limited = spec.get("limited")
    if not isinstance(limited, dict):
        return
    fill(limited, "nominalConcurrencyShares", 30)
    fill(limited, "lendablePercent", 0)
    queuing = (limited.get("limitResponse") or {}).get("queuing")
    if isinstance(queuing, dict):
        for name, value in (("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)):
            fill_number(queuing, name, value)


def prioritylevel_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a PriorityLevelConfiguration."""
    kind = (obj.get("spec") or {}).get("type")
    if kind not in ("Exempt", "Limited"):
        yield not_supported("spec.type", kind or "", ("Exempt", "Limited"))


def request_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a CertificateSigningRequest, apart from the bytes of the request."""
    spec = obj.get("spec") or {}
    signer = str(spec.get("signerName") or "")
    if not signer:
        yield required("spec.signerName")
    elif "/" not in signer.strip("/"):
        yield invalid("spec.signerName", signer, "must be a fully qualified domain and path of the form 'example.com/signer-name'")  # noqa: E501  # fmt: skip
    if not spec.get("request"):
        yield required("spec.request")
    usages = spec.get("usages") or []
    if not usages:
        yield required("spec.usages", "usages is required")
    for index, usage in enumerate(usages):
        if usage not in _USAGES:
            yield not_supported(f"spec.usages[{index}]", usage, _USAGES)
    if isinstance(spec.get("expirationSeconds"), int) and spec["expirationSeconds"] < 600:
        yield invalid("spec.expirationSeconds", spec["expirationSeconds"], "may not specify a duration less than 600 seconds (10 minutes)")  # noqa: E501  # fmt: skip


def apiservice_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with an APIService."""
    spec, name = obj.get("spec") or {}, str((obj.get("metadata") or {}).get("name") or "")
    wanted = f"{spec.get('version', '')}.{spec.get('group', '')}"
    if name != wanted:
        yield invalid("metadata.name", name, f'must be `spec.version+"."+spec.group`: {wanted!r}')
    for field in ("groupPriorityMinimum", "versionPriority"):
        if (spec.get(field) or 0) <= 0:
            yield invalid(f"spec.{field}", spec.get(field) or 0, "must be positive")


def _order_errors(item: dict[str, Any], low: str, high: str, where: str) -> Iterator[FieldError]:
    for name, value in (item.get(low) or {}).items():
        least, most = _amount(value), _amount((item.get(high) or {}).get(name))
        if least is not None and most is not None and least > most:
            text = f"{low} value {value} is greater than {high} value {item[high][name]}"
            yield invalid(f"{where}.{low}[{name}]", value, text)


def _amount(text: Any) -> int | None:
    """Nano units; None for what is absent or no quantity."""
    try:
        return parse_quantity(text).nano if text is not None else None
    except ValueError:
        return None
