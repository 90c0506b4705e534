"""The environment of a container: values, references, ``$(NAME)``. Pure; objects are fetched before.

Source: kubernetes pkg/kubelet/kubelet_pods.go:makeEnvironmentVariables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skerry.api.gvk import Object
from skerry.edge.pods.view import CONTAINER_LISTS
from skerry.runtime.downward import NodeFacts, field_value, resource_value
from skerry.runtime.ports import EngineError
from skerry.runtime.volumes import expand, object_data, object_names

ObjectKey = tuple[str, str]
"""``("configmap" or "secret", name)``."""

_SOURCES = {"configMapRef": "configmap", "secretRef": "secret"}
_KEYS = {"configMapKeyRef": "configmap", "secretKeyRef": "secret"}


class ConfigMissing(EngineError):
    """A required reference of a container has no value."""

    reason = "CreateContainerConfigError"


def pod_objects(pod: Object) -> set[ObjectKey]:
    """Every ConfigMap and Secret that a pod names: by volumes, variables and pull secrets.

    Empty for a pod that is malformed: all pods are asked, and one must not keep the others from their answer. Its own
    start tells what is wrong.
    """
    spec = pod.get("spec") or {}
    try:
        pull = {("secret", str(reference.get("name"))) for reference in spec.get("imagePullSecrets") or []}
        containers = [container for kind in CONTAINER_LISTS for container in spec.get(kind) or []]
        return object_names(pod).union(pull, *(object_keys(container) for container in containers))
    except (KeyError, TypeError, ValueError, AttributeError):
        return set()


def object_keys(container: Mapping[str, Any]) -> set[ObjectKey]:
    """Every ConfigMap and Secret that the environment names."""
    found: set[ObjectKey] = set()
    for source in container.get("envFrom") or []:
        found |= {(kind, source[key]["name"]) for key, kind in _SOURCES.items() if source.get(key)}
    for variable in container.get("env") or []:
        origin = variable.get("valueFrom") or {}
        found |= {(kind, origin[key]["name"]) for key, kind in _KEYS.items() if origin.get(key)}
    return found


def environment(
    pod: Object,
    container: Mapping[str, Any],
    objects: Mapping[ObjectKey, Object | None],
    facts: NodeFacts,
    services: Mapping[str, str] | None = None,
) -> list[tuple[str, str]]:
    """Names and values, in order, each name once.

    Args:
        objects: those of ``object_keys``; None where there is none.
        services: variables of Services, to which ``$(NAME)`` may refer.

    Raises:
        ConfigMissing: a required object or key is missing.
        EngineError: a field or resource that is not supported.
    """
    found: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        found |= _from(source, objects)
    for variable in container.get("env") or []:
        value = _value(pod, container, variable, objects, facts, {**(services or {}), **found})
        if value is not None:
            found[str(variable["name"])] = value
    return list(found.items())


def command_line(container: Mapping[str, Any], env: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Command and arguments with ``$(NAME)`` filled in."""
    command = [expand(str(word), env) for word in container.get("command") or []]
    return command, [expand(str(word), env) for word in container.get("args") or []]


def _from(source: Mapping[str, Any], objects: Mapping[ObjectKey, Object | None]) -> dict[str, str]:
    prefix = str(source.get("prefix") or "")
    for key, kind in _SOURCES.items():
        reference = source.get(key)
        if reference:
            found = _object(kind, reference, objects)
            data = object_data(found) if found is not None else {}
            named = {prefix + name: value.decode(errors="replace") for name, value in data.items()}
            return {name: value for name, value in named.items() if _is_name(name)}
    return {}


def _is_name(name: str) -> bool:
    """Printable ASCII without ``=``; other keys of an object are no variables, as on any node."""
    return bool(name) and all(" " <= c <= "~" and c != "=" for c in name)


def _value(
    pod: Object,
    container: Mapping[str, Any],
    variable: Mapping[str, Any],
    objects: Mapping[ObjectKey, Object | None],
    facts: NodeFacts,
    found: Mapping[str, str],
) -> str | None:
    origin = variable.get("valueFrom")
    if not origin:
        return expand(str(variable.get("value") or ""), found)
    for key, kind in _KEYS.items():
        if origin.get(key):
            return _keyed(kind, origin[key], objects)
    if origin.get("fieldRef"):
        return field_value(pod, str(origin["fieldRef"]["fieldPath"]), facts)
    if origin.get("resourceFieldRef"):
        return resource_value(_asked(pod, container, origin["resourceFieldRef"]), origin["resourceFieldRef"], facts)
    raise ConfigMissing(f"variable {variable.get('name')!r} has a source that is not supported: {', '.join(origin)}")


def _asked(pod: Object, container: Mapping[str, Any], reference: Mapping[str, Any]) -> Mapping[str, Any]:
    """The container whose resources are meant: another one by its name, else the container itself."""
    name = str(reference.get("containerName") or "")
    if name in ("", str(container.get("name"))):
        return container
    spec = pod.get("spec") or {}
    for other in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        if other.get("name") == name:
            found: Mapping[str, Any] = other
            return found
    raise ConfigMissing(f"resourceFieldRef names container {name!r}, which the pod does not have")


def _keyed(kind: str, reference: Mapping[str, Any], objects: Mapping[ObjectKey, Object | None]) -> str | None:
    found = _object(kind, reference, objects)
    data = object_data(found) if found is not None else {}
    if reference["key"] in data:
        return data[reference["key"]].decode(errors="replace")
    if reference.get("optional"):
        return None
    raise ConfigMissing(f"couldn't find key {reference['key']} in {kind} {reference['name']}")


def _object(kind: str, reference: Mapping[str, Any], objects: Mapping[ObjectKey, Object | None]) -> Object | None:
    found = objects.get((kind, reference["name"]))
    if found is None and not reference.get("optional"):
        raise ConfigMissing(f'{kind} "{reference["name"]}" not found')
    return found
