"""The parts of a running pod that change through a subresource: ephemeral containers and resources (pure).

Source: kubernetes pkg/registry/core/pod/strategy.go, pkg/apis/core/validation/validation.go (v1.36).
"""

from __future__ import annotations

from typing import Any

from skerry.api.field import FieldError, duplicate, forbidden, invalid, invalid_object, required
from skerry.api.gvk import Object
from skerry.api.kinds.filling import fill, part, rows
from skerry.api.kinds.podspec import resource_errors
from skerry.api.patch import json_equal

_EPHEMERAL = "ephemeralContainers"
_FIXED = ("ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resources", "resizePolicy")


def changed_spec(subresource: str, pod: Object, old: Object) -> dict[str, Any]:
    """The pod's spec with only that part taken from ``pod``.

    Raises:
        Invalid: an ephemeral container is changed or removed, or a resource cannot be changed so.
    """
    make = _ephemeral if subresource == "ephemeralcontainers" else _resized
    spec, errors = make(dict(pod.get("spec") or {}), dict(old.get("spec") or {}))
    if errors:
        raise invalid_object("Pod", "", str(old["metadata"]["name"]), errors)
    return spec


def _ephemeral(new: dict[str, Any], spec: dict[str, Any]) -> tuple[dict[str, Any], list[FieldError]]:
    errors: list[FieldError] = []
    given, before = rows(new, _EPHEMERAL), rows(spec, _EPHEMERAL)
    by_name = {str(item.get("name")): item for item in given}
    plain = {item.get("name") for name in ("containers", "initContainers") for item in rows(spec, name)}
    for index, item in enumerate(given):
        where = f"spec.{_EPHEMERAL}[{index}]"
        fill(item, "terminationMessagePath", "/dev/termination-log")
        fill(item, "terminationMessagePolicy", "File")
        fill(item, "imagePullPolicy", "IfNotPresent" if ":" in str(item.get("image", "")) else "Always")
        part(item, "resources")
        for name in ("name", "image"):
            if not item.get(name):
                errors.append(required(f"{where}.{name}"))
        if item.get("name") in plain:
            errors.append(duplicate(f"{where}.name", item["name"]))
        errors += [
            forbidden(f"{where}.{name}", "cannot be set for an Ephemeral Container")
            for name in _FIXED
            if item.get(name)
        ]
    for item in before:
        now = by_name.get(str(item.get("name")))
        if now is None:
            errors.append(forbidden(f"spec.{_EPHEMERAL}", f"existing ephemeral containers {item['name']!r} may not be removed"))  # noqa: E501  # fmt: skip
        elif not json_equal(now, item):
            errors.append(forbidden(f"spec.{_EPHEMERAL}", f"existing ephemeral containers {item['name']!r} may not be changed"))  # noqa: E501  # fmt: skip
    if given or before:
        spec[_EPHEMERAL] = given
    return spec, errors


def _resized(new: dict[str, Any], spec: dict[str, Any]) -> tuple[dict[str, Any], list[FieldError]]:
    errors: list[FieldError] = []
    for name in ("containers", "initContainers"):
        given = {str(item.get("name")): item for item in rows(new, name)}
        if {str(item.get("name")) for item in rows(spec, name)} != set(given):
            errors.append(forbidden(f"spec.{name}", "containers may not be added or removed by a resize"))
            continue
        changed = []
        for index, item in enumerate(rows(spec, name)):
            asked = given[str(item.get("name"))]
            resources = asked.get("resources") or {}
            where = f"spec.{name}[{index}].resources"
            errors += resource_errors(resources, where)
            if not json_equal(_others(item.get("resources")), _others(resources)):
                errors.append(invalid(where, resources, "only cpu and memory may be changed by a resize"))
            changed.append({**item, "resources": resources, **_policy(asked)})
        if changed:
            spec[name] = changed
    return spec, errors


def _policy(container: dict[str, Any]) -> dict[str, Any]:
    return {"resizePolicy": container["resizePolicy"]} if container.get("resizePolicy") else {}


def _others(resources: Any) -> dict[str, Any]:
    return {
        kind: {name: value for name, value in (amounts or {}).items() if name not in ("cpu", "memory")}
        for kind, amounts in (resources or {}).items()
        if isinstance(amounts, dict) and any(name not in ("cpu", "memory") for name in amounts)
    }
