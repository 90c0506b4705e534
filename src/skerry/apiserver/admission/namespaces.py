"""Namespaces: no content in missing or ending ones, and the system's own stay.

Source: kubernetes staging/src/k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle/admission.go (v1.36).
"""

from __future__ import annotations

from skerry.api.status import Forbidden, not_found
from skerry.apiserver.admission.request import AdmissionRequest, Find
from skerry.apiserver.store.log import Key

KEPT = ("default", "kube-system", "kube-public")


class NamespaceLifecycle:
    """Refuse content in missing or ending namespaces, and the removal of the system's namespaces."""

    def __init__(self, find: Find) -> None:
        self._find = find

    def __call__(self, request: AdmissionRequest) -> None:
        resource = request.kind.resource
        if request.kind.storage == "namespaces" and request.operation == "delete":
            if request.name in KEPT:
                raise request.forbidden("this namespace may not be deleted")
            return
        if not resource.namespaced or request.operation != "create":
            return
        entry = self._find(Key("namespaces", "", request.namespace))
        if entry is None:
            raise not_found("namespaces", request.namespace)
        if entry.field("admission.phase", lambda obj: str((obj.get("status") or {}).get("phase", ""))) != "Terminating":
            return
        if resource.plural == "localsubjectaccessreviews" or request.subresource:
            return
        raise _terminating(request)


def _terminating(request: AdmissionRequest) -> Forbidden:
    error = request.forbidden(
        f"unable to create new content in namespace {request.namespace} because it is being terminated"
    )
    cause = {
        "reason": "NamespaceTerminating",
        "message": f"namespace {request.namespace} is being terminated",
        "field": "metadata.namespace",
    }
    error.details = {**(error.details or {}), "causes": [cause]}
    return error
