"""AdmissionReviews as bytes-free objects: what is sent, and what an answer means (pure).

Source: kubernetes apiserver/pkg/admission/plugin/webhook/request/admissionreview.go, errors/statuserror.go (v1.36).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from skerry.api.gvk import Object
from skerry.api.status import ApiError, Forbidden
from skerry.base import json
from skerry.base.errors import SkerryError
from skerry.base.values import Struct, field

VERSIONS = ("v1", "v1beta1")
"""Versions of AdmissionReview that are spoken, the best first."""

MOST_WARNINGS = 20


class BadAnswer(SkerryError):
    """An answer that is no valid AdmissionReview."""


class Verdict(Struct, frozen=True):
    """What a webhook said.

    Args:
        patch: operations of a JSON patch, empty for none.
    """

    is_allowed: bool
    status: Mapping[str, Any] | None = None
    patch: list[Any] = field(default_factory=list)
    warnings: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)


def version_of(hook: Mapping[str, Any]) -> str | None:
    """The version in which to speak with a webhook, None when there is none in common."""
    return next((each for each in hook.get("admissionReviewVersions") or () if each in VERSIONS), None)


def review(version: str, info: Object, obj: Object | None, old: Object | None) -> Object:
    """The body of a call."""
    return {
        "kind": "AdmissionReview",
        "apiVersion": f"admission.k8s.io/{version}",
        "request": {**info, "object": obj, "oldObject": old},
    }


def verdict(answer: Any, *, version: str, uid: str, may_patch: bool) -> Verdict:
    """Read an answer.

    Raises:
        BadAnswer: not an AdmissionReview of that version, for that request.
    """
    if not isinstance(answer, dict) or not isinstance(answer.get("response"), dict):
        raise BadAnswer("webhook response is missing")
    wanted = f"admission.k8s.io/{version}"
    if version == "v1" and (answer.get("apiVersion"), answer.get("kind")) != (wanted, "AdmissionReview"):
        raise BadAnswer(
            f"expected webhook response of {wanted}, Kind=AdmissionReview, got {answer.get('apiVersion')}, "
            f"Kind={answer.get('kind')}"
        )
    response = answer["response"]
    if version == "v1" and response.get("uid") != uid:
        raise BadAnswer(f"expected response.uid={uid!r}, got {response.get('uid')!r}")
    patch = response.get("patch")
    if patch and version == "v1" and (not may_patch or response.get("patchType") != "JSONPatch"):
        raise BadAnswer("expected response.patchType to be JSONPatch, and no patch of a validating webhook")
    annotations = response.get("auditAnnotations")
    return Verdict(
        is_allowed=response.get("allowed") is True,
        status=response.get("status") if isinstance(response.get("status"), dict) else None,
        patch=_operations(patch) if patch and may_patch else [],
        warnings=tuple(str(text) for text in (response.get("warnings") or ())[:MOST_WARNINGS]),
        annotations=annotations if isinstance(annotations, dict) else {},
    )


def denial(name: str, status: Mapping[str, Any] | None) -> ApiError:
    """The error of a request that a webhook refused."""
    text = f'admission webhook "{name}" denied the request'
    said = status or {}
    if said.get("message"):
        text = f"{text}: {said['message']}"
    elif said.get("reason"):
        text = f"{text}: {said['reason']}"
    else:
        text = f"{text} without explanation"
    details = said.get("details")
    error: ApiError = Forbidden(text, details=details if isinstance(details, dict) else None)
    code = said.get("code")
    if isinstance(code, int) and 400 <= code < 600:
        error.code = code
    error.reason = str(said.get("reason") or "Forbidden") if error.code == 403 else str(said.get("reason") or "")
    return error


def _operations(patch: Any) -> list[Any]:
    try:
        found = json.loads(base64.b64decode(str(patch), validate=True))
    except (binascii.Error, ValueError, json.JsonError) as exc:
        raise BadAnswer(f"the patch cannot be read: {exc}") from exc
    if not isinstance(found, list):
        raise BadAnswer("the patch is no list of operations")
    return found
