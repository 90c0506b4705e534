"""Pod security levels by the labels of a namespace: enforced on pods, told about workloads, written to the audit log.

Source: kubernetes pod-security-admission/admission/admission.go (v1.36).
"""

from __future__ import annotations

from typing import Any

from skerry.api.field import invalid_object
from skerry.api.gvk import Object
from skerry.api.kinds import podsecurity as standards
from skerry.apiserver.admission.request import AdmissionRequest, Collect, Find
from skerry.apiserver.store.log import Key

MOST_PODS = 3000
"""Pods of a namespace that are judged when its level is raised."""

_TEMPLATES = {
    "podtemplates": ("template",),
    "replicationcontrollers": ("spec", "template"),
    "replicasets.apps": ("spec", "template"),
    "deployments.apps": ("spec", "template"),
    "statefulsets.apps": ("spec", "template"),
    "daemonsets.apps": ("spec", "template"),
    "jobs.batch": ("spec", "template"),
    "cronjobs.batch": ("spec", "jobTemplate", "spec", "template"),
}
_POD_SUBRESOURCES = ("", "ephemeralcontainers", "resize")


class PodLevels:
    """Judges pods and everything with a pod template, and the labels themselves."""

    def __init__(self, find: Find, collection: Collect) -> None:
        self._find = find
        self._collection = collection

    def __call__(self, request: AdmissionRequest) -> None:
        if request.operation not in ("create", "update"):
            return
        storage = request.kind.storage
        if storage == "namespaces" and not request.subresource:
            self._namespace(request)
        elif storage == "pods" and request.subresource in _POD_SUBRESOURCES:
            if request.old is None or _images(request.obj) != _images(request.old):
                self._judge(request, request.obj["metadata"], request.obj.get("spec") or {}, enforces=True)
        elif storage in _TEMPLATES and not request.subresource:
            template: Any = request.obj
            for name in _TEMPLATES[storage]:
                template = (template or {}).get(name)
            if template:
                self._judge(request, template.get("metadata") or {}, template.get("spec") or {}, enforces=False)

    def _judge(self, request: AdmissionRequest, meta: Object, spec: Object, *, enforces: bool) -> None:
        namespace = self._find(Key("namespaces", "", request.namespace))
        policy, errors = standards.policy_of(namespace.labels() if namespace is not None else {})
        if policy.is_open and not errors:
            return
        prefix = standards.PREFIX
        if errors:
            request.annotations[f"{prefix}error"] = f"Failed to parse policy: {errors[0]}"
        if enforces:
            request.annotations[f"{prefix}enforce-policy"] = str(policy.enforce)
            found = standards.violations(policy.enforce, meta, spec)
            if found:
                raise request.forbidden(f'violates PodSecurity "{policy.enforce}": {", ".join(map(str, found))}')
        found = standards.violations(policy.audit, meta, spec)
        if found:
            text = f'would violate PodSecurity "{policy.audit}": {", ".join(map(str, found))}'
            request.annotations[f"{prefix}audit-violations"] = text
        found = standards.violations(policy.warn, meta, spec)
        if found:
            request.warn(f'would violate PodSecurity "{policy.warn}": {", ".join(map(str, found))}')

    def _namespace(self, request: AdmissionRequest) -> None:
        """Labels that cannot be read are refused; a raised level tells which pods break it already."""
        policy, errors = standards.policy_of(request.obj["metadata"].get("labels") or {})
        old_labels = (request.old or {"metadata": {}})["metadata"].get("labels") or {}
        old, old_errors = standards.policy_of(old_labels)
        if errors and errors != old_errors:
            raise invalid_object("Namespace", "", request.name, errors)
        if request.old is None or policy.enforce == old.enforce:
            return
        order = standards.LEVELS.index
        is_relaxed = order(policy.enforce.level) <= order(old.enforce.level)
        if policy.enforce.level == "privileged" or (policy.enforce.minor == old.enforce.minor and is_relaxed):
            return
        for text in self._standing(request.name, policy.enforce):
            request.warn(text)

    def _standing(self, namespace: str, wanted: standards.LevelVersion) -> list[str]:
        pods = list(self._collection("pods").entries(namespace))
        names: dict[str, list[str]] = {}
        for entry in pods[:MOST_PODS]:
            pod = entry.content()
            found = standards.violations(wanted, pod["metadata"], pod.get("spec") or {})
            if found:
                names.setdefault(", ".join(each.reason for each in found), []).append(entry.key.name)
        texts = []
        if len(pods) > MOST_PODS:
            texts.append(
                f"new PodSecurity enforce level only checked against the first {MOST_PODS} of {len(pods)} existing pods"
            )
        if names:
            texts.append(
                f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level "{wanted}"'
            )
        return texts + sorted(f"{_who(sorted(found))}: {reason}" for reason, found in names.items())


def _images(pod: Object) -> list[tuple[str, str, str]]:
    spec = pod.get("spec") or {}
    return [
        (name, str(container.get("name")), str(container.get("image")))
        for name in ("containers", "initContainers", "ephemeralContainers")
        for container in spec.get(name) or ()
    ]


def _who(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    more = len(names) - 1
    return f"{names[0]} (and {more} other {'pod' if more == 1 else 'pods'})"
