"""Pod specs, alone and in templates: defaults and validation.

Source: defaults observed on a v1.36 server; kubernetes pkg/apis/core/validation/validation.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from skerry.api.field import FieldError, duplicate, forbidden, invalid, not_found, not_supported, required
from skerry.api.gvk import Object
from skerry.api.kinds import downward, podvolumes
from skerry.api.kinds.filling import fill, fill_number, part, rows
from skerry.api.names import dns_label, dns_subdomain, env_name, label_errors, port_name
from skerry.api.quantity import Quantity, parse_quantity

PROTOCOLS = ("SCTP", "TCP", "UDP")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
RESTART_POLICIES = ("Always", "Never", "OnFailure")
DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")

_CONTAINER_LISTS = ("initContainers", "containers")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOKS = ("postStart", "preStop")
_PORT_RANGE = "must be between 1 and 65535, inclusive"
_NOT_NEGATIVE = "must be greater than or equal to 0"
_FIELD_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_UPDATE_TEXT = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def default_spec(spec: dict[str, Any]) -> None:
    """Fill what an omitted field of a pod spec becomes."""
    fill(spec, "restartPolicy", "Always")
    fill(spec, "terminationGracePeriodSeconds", 30)
    fill(spec, "dnsPolicy", "ClusterFirst")
    part(spec, "securityContext")
    fill(spec, "schedulerName", "default-scheduler")
    if spec.get("serviceAccountName"):
        fill(spec, "serviceAccount", spec["serviceAccountName"])
    elif spec.get("serviceAccount"):
        fill(spec, "serviceAccountName", spec["serviceAccount"])
    for name in _CONTAINER_LISTS:
        for container in rows(spec, name):
            _default_container(container)
    for volume in rows(spec, "volumes"):
        podvolumes.default_volume(volume)


def default_pod(pod: Object) -> None:
    """Fill what an omitted field of a pod becomes; what admission adds is not here."""
    spec = part(pod, "spec")
    default_spec(spec)
    fill(spec, "enableServiceLinks", True)
    for name in _CONTAINER_LISTS:
        for container in rows(spec, name):
            _requests_from_limits(part(container, "resources"))
            if spec.get("hostNetwork"):
                for port in rows(container, "ports"):
                    fill_number(port, "hostPort", port.get("containerPort", 0))


def spec_errors(spec: dict[str, Any], path: str) -> Iterator[FieldError]:
    """Everything wrong with a pod spec (a chosen subset of what Kubernetes checks)."""
    volumes = [str(volume.get("name", "")) for volume in rows(spec, "volumes")]
    yield from podvolumes.volume_errors(spec, f"{path}.volumes")
    if not spec.get("containers"):
        yield required(f"{path}.containers")
    seen: set[str] = set()
    for name in ("containers", "initContainers"):
        for index, container in enumerate(rows(spec, name)):
            where = f"{path}.{name}[{index}]"
            yield from _container_errors(container, where, volumes)
            if container.get("name") in seen:
                yield duplicate(f"{where}.name", container["name"])
            seen.add(container.get("name", ""))
    yield from _one_of(spec, "restartPolicy", RESTART_POLICIES, path)
    yield from _one_of(spec, "dnsPolicy", DNS_POLICIES, path)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        yield invalid(f"{path}.terminationGracePeriodSeconds", spec["terminationGracePeriodSeconds"], _NOT_NEGATIVE)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= 2**31 - 1:
        yield invalid(f"{path}.activeDeadlineSeconds", deadline, "must be between 1 and 2147483647, inclusive")
    yield from label_errors(spec.get("nodeSelector"), f"{path}.nodeSelector")
    yield from _name_errors(spec, path)
    yield from _toleration_errors(spec, f"{path}.tolerations")


def pod_update_errors(pod: Object, old: Object) -> Iterator[FieldError]:
    """A pod's spec may change in its images, its deadline, and by more tolerations; nothing else."""
    new, before = dict(pod.get("spec") or {}), dict(old.get("spec") or {})
    yield from _added_tolerations(new, before)
    deadline, was = new.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds")
    if was is not None and (deadline is None or deadline > was):
        yield invalid("spec.activeDeadlineSeconds", deadline, f"must be less than or equal to previous value {was}")
    for name in _CONTAINER_LISTS:
        if len(rows(new, name)) != len(rows(before, name)):
            yield forbidden(f"spec.{name}", f"pod updates may not add or remove {name}")
            return
        new[name] = [_without_image(container) for container in rows(new, name)]
        before[name] = [_without_image(container) for container in rows(before, name)]
    grace = before.get("terminationGracePeriodSeconds")
    if isinstance(grace, int) and grace < 0 and new.get("terminationGracePeriodSeconds") == 1:
        before["terminationGracePeriodSeconds"] = 1
    for free in ("activeDeadlineSeconds", "tolerations", "schedulingGates"):
        new.pop(free, None)
        before.pop(free, None)
    if new != before:
        yield forbidden("spec", _UPDATE_TEXT)


def _default_container(container: dict[str, Any]) -> None:
    fill(container, "terminationMessagePath", "/dev/termination-log")
    fill(container, "terminationMessagePolicy", "File")
    fill(container, "imagePullPolicy", "Always" if _is_latest(str(container.get("image", ""))) else "IfNotPresent")
    part(container, "resources")
    for port in rows(container, "ports"):
        fill(port, "protocol", "TCP")
    for env in rows(container, "env"):
        downward.default_reference(env.get("valueFrom") or {})
    for name in _PROBES:
        if container.get(name):
            _default_probe(container[name])
    for name in _HOOKS:
        hook = (container.get("lifecycle") or {}).get(name) or {}
        if hook.get("httpGet"):
            _default_http(hook["httpGet"])


def _default_probe(probe: dict[str, Any]) -> None:
    fill_number(probe, "timeoutSeconds", 1)
    fill_number(probe, "periodSeconds", 10)
    fill_number(probe, "successThreshold", 1)
    fill_number(probe, "failureThreshold", 3)
    if probe.get("httpGet"):
        _default_http(probe["httpGet"])
    if isinstance(probe.get("grpc"), dict):
        probe["grpc"].setdefault("service", "")


def _default_http(action: dict[str, Any]) -> None:
    fill(action, "path", "/")
    fill(action, "scheme", "HTTP")


def _requests_from_limits(resources: dict[str, Any]) -> None:
    if resources.get("limits"):
        requests = part(resources, "requests")
        for name, amount in resources["limits"].items():
            requests.setdefault(name, amount)


def _is_latest(image: str) -> bool:
    if "@" in image:
        return False
    tag = image.rpartition("/")[2].partition(":")[2]
    return tag in ("", "latest")


def _quantity(text: Any) -> Quantity | None:
    try:
        return parse_quantity(text) if text is not None else None
    except ValueError:
        return None


def _one_of(obj: dict[str, Any], name: str, allowed: Sequence[str], path: str) -> Iterator[FieldError]:
    value = obj.get(name)
    if value not in (None, "") and value not in allowed:
        yield not_supported(f"{path}.{name}", value, allowed)


def _container_errors(container: dict[str, Any], path: str, volumes: Sequence[str]) -> Iterator[FieldError]:
    name = container.get("name") or ""
    if not name:
        yield required(f"{path}.name")
    else:
        yield from (invalid(f"{path}.name", name, text) for text in dns_label(name))
    image = container.get("image") or ""
    if not image:
        yield required(f"{path}.image")
    elif image != image.strip():
        yield invalid(f"{path}.image", image, "must not have leading or trailing whitespace")
    yield from _one_of(container, "imagePullPolicy", PULL_POLICIES, path)
    yield from _one_of(container, "terminationMessagePolicy", ("FallbackToLogsOnError", "File"), path)
    yield from _port_errors(container, f"{path}.ports")
    yield from _env_errors(container, f"{path}.env")
    yield from _mount_errors(container, f"{path}.volumeMounts", volumes)
    yield from resource_errors(container.get("resources") or {}, f"{path}.resources")
    for probe in _PROBES:
        if isinstance(container.get(probe), dict):
            yield from _probe_errors(container[probe], f"{path}.{probe}", probe)


def _port_errors(container: dict[str, Any], path: str) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, port in enumerate(rows(container, "ports")):
        where, name, number = f"{path}[{index}]", port.get("name") or "", port.get("containerPort") or 0
        if name:
            yield from (invalid(f"{where}.name", name, text) for text in port_name(name))
            if name in seen:
                yield duplicate(f"{where}.name", name)
            seen.add(name)
        if number == 0:
            yield required(f"{where}.containerPort")
        elif not 1 <= number <= 65535:
            yield invalid(f"{where}.containerPort", number, _PORT_RANGE)
        if port.get("hostPort") and not 1 <= port["hostPort"] <= 65535:
            yield invalid(f"{where}.hostPort", port["hostPort"], _PORT_RANGE)
        yield from _one_of(port, "protocol", PROTOCOLS, where)


def _env_errors(container: dict[str, Any], path: str) -> Iterator[FieldError]:
    for index, env in enumerate(rows(container, "env")):
        where, name = f"{path}[{index}]", env.get("name") or ""
        if not name:
            yield required(f"{where}.name")
        else:
            yield from (invalid(f"{where}.name", name, text) for text in env_name(name))
        source = env.get("valueFrom")
        if not isinstance(source, dict):
            continue
        if env.get("value"):
            yield invalid(f"{where}.valueFrom", "", "may not be specified when `value` is not empty")
        given = [key for key in _FIELD_SOURCES if source.get(key) is not None]
        if not given:
            yield invalid(f"{where}.valueFrom", "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`")  # noqa: E501  # fmt: skip
        elif len(given) > 1:
            yield invalid(f"{where}.valueFrom", "", "may not have more than one field specified at a time")
        if source.get("fieldRef") is not None:
            yield from downward.field_errors(source["fieldRef"], f"{where}.valueFrom.fieldRef", downward.ENV_FIELDS)
        if source.get("resourceFieldRef") is not None:
            at = f"{where}.valueFrom.resourceFieldRef"
            yield from downward.resource_errors(source["resourceFieldRef"], at, is_file=False)


def _mount_errors(container: dict[str, Any], path: str, volumes: Sequence[str]) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, mount in enumerate(rows(container, "volumeMounts")):
        where, name, target = f"{path}[{index}]", mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            yield required(f"{where}.name")
        elif name not in volumes:
            yield not_found(f"{where}.name", name)
        if not target:
            yield required(f"{where}.mountPath")
        elif target in seen:
            yield invalid(f"{where}.mountPath", target, "must be unique")
        seen.add(target)
        if ".." in str(mount.get("subPath") or "").split("/"):
            yield invalid(f"{where}.subPath", mount["subPath"], "must not contain '..'")


def resource_errors(resources: dict[str, Any], path: str) -> Iterator[FieldError]:
    """Quantities must not be negative, and no request above its limit."""
    limits = resources.get("limits") or {}
    for kind in ("limits", "requests"):
        for name, text in (resources.get(kind) or {}).items():
            amount = _quantity(text)
            if amount is not None and amount.nano < 0:
                yield invalid(f"{path}.{kind}[{name}]", str(amount), _NOT_NEGATIVE)
    for name, text in (resources.get("requests") or {}).items():
        amount, limit = _quantity(text), _quantity(limits.get(name))
        if amount is not None and limit is not None and limit < amount:
            yield invalid(f"{path}.requests", str(amount), f"must be less than or equal to {name} limit of {limit}")


def _probe_errors(probe: dict[str, Any], path: str, kind: str) -> Iterator[FieldError]:
    handlers = [name for name in _HANDLERS if probe.get(name) is not None]
    if not handlers:
        yield required(path, "must specify a handler type")
    for extra in handlers[1:]:
        yield forbidden(f"{path}.{extra}", "may not specify more than 1 handler type")
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        if (probe.get(name) or 0) < 0:
            yield invalid(f"{path}.{name}", probe[name], _NOT_NEGATIVE)
    if kind != "readinessProbe" and (probe.get("successThreshold") or 1) != 1:
        yield invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1")
    if isinstance(probe.get("exec"), dict) and not probe["exec"].get("command"):
        yield required(f"{path}.exec.command")
    for name in ("httpGet", "tcpSocket"):
        port = (probe.get(name) or {}).get("port")
        if isinstance(port, int) and probe.get(name) is not None and not 1 <= port <= 65535:
            yield invalid(f"{path}.{name}.port", port, _PORT_RANGE)


def _name_errors(spec: dict[str, Any], path: str) -> Iterator[FieldError]:
    for name, check in (
        ("nodeName", dns_subdomain), ("serviceAccountName", dns_subdomain), ("priorityClassName", dns_subdomain),
        ("hostname", dns_label), ("subdomain", dns_label),
    ):  # fmt: skip
        if spec.get(name):
            yield from (invalid(f"{path}.{name}", spec[name], text) for text in check(spec[name]))


def _toleration_errors(spec: dict[str, Any], path: str) -> Iterator[FieldError]:
    for index, toleration in enumerate(rows(spec, "tolerations")):
        where, operator = f"{path}[{index}]", toleration.get("operator") or "Equal"
        if operator not in ("Equal", "Exists"):
            yield not_supported(f"{where}.operator", operator, ("Equal", "Exists"))
        if not toleration.get("key") and operator != "Exists":
            yield invalid(f"{where}.operator", operator, "operator must be Exists when `key` is empty, which means \"match all values and all keys\"")  # noqa: E501  # fmt: skip
        if operator == "Exists" and toleration.get("value"):
            yield invalid(f"{where}.operator", toleration, "value must be empty when `operator` is 'Exists'")
        if toleration.get("tolerationSeconds") is not None and toleration.get("effect") != "NoExecute":
            yield invalid(f"{where}.effect", toleration.get("effect") or "", "effect must be 'NoExecute' when `tolerationSeconds` is set")  # noqa: E501  # fmt: skip
        yield from _one_of(toleration, "effect", ("NoSchedule", "PreferNoSchedule", "NoExecute"), where)


def _added_tolerations(new: dict[str, Any], before: dict[str, Any]) -> Iterator[FieldError]:
    kept = [_timeless(item) for item in rows(new, "tolerations")]
    if any(_timeless(item) not in kept for item in rows(before, "tolerations")):
        yield forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")


def _timeless(toleration: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in toleration.items() if name != "tolerationSeconds"}


def _without_image(container: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in container.items() if name != "image"}
