"""Metadata of objects: generated names, owners, conditions, times. Takes times and random numbers, makes none."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from skerry.api.gvk import Object, Resource

NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
SUFFIX_LENGTH = 5
GENERATED_BASE_LIMIT = 58

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?(?:[Zz]|([+-])(\d\d):(\d\d))\Z", re.ASCII
)

STORE_GENERATION = "skerry.dev/store-generation"
"""Annotation of the namespace ``kube-system``: another value means that the store was restored from a backup."""


def generated_name(base: str, pick: Callable[[int], int]) -> str:
    """``generateName`` plus five characters.

    Args:
        base: cut to 58 characters.
        pick: ``pick(n)`` gives a random number in ``range(n)``.
    """
    return base[:GENERATED_BASE_LIMIT] + name_suffix(pick)


def name_suffix(pick: Callable[[int], int], length: int = SUFFIX_LENGTH) -> str:
    """Random characters that make no words."""
    return "".join(NAME_ALPHABET[pick(len(NAME_ALPHABET))] for _ in range(length))


def safe_encoded(text: str) -> str:
    """A text of digits (a hash) in the alphabet of generated names, as ReplicaSet names have it.

    Source: apimachinery pkg/util/rand/rand.go:SafeEncodeString.
    """
    return "".join(NAME_ALPHABET[ord(char) % len(NAME_ALPHABET)] for char in text)


def namespaced_name(obj: Object) -> str:
    """``namespace/name``, or the name alone for cluster-scoped objects."""
    metadata = obj.get("metadata") or {}
    namespace, name = metadata.get("namespace"), metadata.get("name", "")
    return f"{namespace}/{name}" if namespace else name


def owner_reference(owner: Object, resource: Resource, *, is_controller: bool = True) -> dict[str, Any]:
    """A reference to put into a child's ``ownerReferences``."""
    metadata = owner["metadata"]
    reference: dict[str, Any] = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    if is_controller:
        reference["controller"] = True
        reference["blockOwnerDeletion"] = True
    return reference


def controller_of(obj: Object) -> dict[str, Any] | None:
    """The owner reference that has ``controller: true``, or None."""
    return next((ref for ref in owners_of(obj) if ref.get("controller")), None)


def owners_of(obj: Object) -> list[dict[str, Any]]:
    """All owner references."""
    return list((obj.get("metadata") or {}).get("ownerReferences") or [])


def is_controlled_by(obj: Object, owner: Object) -> bool:
    """Whether ``owner`` is the controller of ``obj``, by uid."""
    reference = controller_of(obj)
    return reference is not None and reference.get("uid") == (owner.get("metadata") or {}).get("uid")


def is_deleting(obj: Object) -> bool:
    """Whether a deletion has begun."""
    return bool((obj.get("metadata") or {}).get("deletionTimestamp"))


def find_condition(conditions: list[dict[str, Any]] | None, kind: str) -> dict[str, Any] | None:
    """The condition of a type, or None."""
    return next((condition for condition in conditions or [] if condition.get("type") == kind), None)


def is_condition_true(obj: Object, kind: str) -> bool:
    """Whether ``status.conditions`` has the type with status True."""
    condition = find_condition((obj.get("status") or {}).get("conditions"), kind)
    return condition is not None and condition.get("status") == "True"


def set_condition(
    conditions: list[dict[str, Any]],
    kind: str,
    status: str,
    *,
    now: str,
    reason: str = "",
    message: str = "",
    observed_generation: int | None = None,
) -> bool:
    """Set a condition in place; its ``lastTransitionTime`` moves only when the status changes.

    Args:
        status: ``True``, ``False`` or ``Unknown``.
        now: RFC 3339 text.

    Returns:
        Whether anything changed.
    """
    found = find_condition(conditions, kind)
    wanted: dict[str, Any] = {"type": kind, "status": status, "lastTransitionTime": now}
    if reason:
        wanted["reason"] = reason
    if message:
        wanted["message"] = message
    if observed_generation is not None:
        wanted["observedGeneration"] = observed_generation
    if found is None:
        conditions.append(wanted)
        return True
    if found.get("status") == status and found.get("lastTransitionTime"):
        wanted["lastTransitionTime"] = found["lastTransitionTime"]
    kept: dict[str, Any] = {
        key: found[key] for key in ("lastHeartbeatTime", "lastUpdateTime", "lastProbeTime") if key in found
    }
    wanted = {**wanted, **kept}
    if wanted == found:
        return False
    conditions[conditions.index(found)] = wanted
    return True


def rfc3339(seconds: float) -> str:
    """Unix seconds as ``2026-01-02T03:04:05Z``; parts of a second are dropped."""
    return (_EPOCH + timedelta(seconds=int(seconds))).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(seconds: float) -> str:
    """Unix seconds as ``2026-01-02T03:04:05.000000Z`` (MicroTime: leases, events)."""
    return (_EPOCH + timedelta(microseconds=int(seconds * 1_000_000))).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_rfc3339(text: str | None) -> float | None:
    """Unix seconds of a time stamp; None when there is none or it cannot be read."""
    found = _RFC3339.match(text) if isinstance(text, str) else None
    if found is None:
        return None
    try:
        moment = datetime(*(int(part) for part in found.groups()[:6]), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None
    seconds = (moment - _EPOCH) / timedelta(seconds=1) + float(f"0.{found[7] or 0}")
    if found[8]:
        offset = int(found[9]) * 3600 + int(found[10]) * 60
        seconds -= offset if found[8] == "+" else -offset
    return seconds


def is_rfc3339(text: str) -> bool:
    """Whether a text is a time stamp."""
    return parse_rfc3339(text) is not None
