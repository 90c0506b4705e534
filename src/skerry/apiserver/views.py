"""Served forms that differ from the stored one (pure).

``events.k8s.io`` shows the core events under new names; ``autoscaling/v1`` shows the autoscalers of ``v2``.
"""

from __future__ import annotations

from skerry.api.gvk import Object
from skerry.api.kinds import autoscaling
from skerry.apiserver.registry import Kind

_EVENT_NAMES = (
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
)


def to_served(kind: Kind, stored: Object) -> Object:
    """The form that clients of this row see."""
    if kind.view == "events":
        return _renamed(stored, dict(_EVENT_NAMES))
    return autoscaling.to_v1(stored) if kind.view == "autoscaling/v1" else stored


def to_stored(kind: Kind, served: Object) -> Object:
    """The form that the store keeps."""
    if kind.view == "events":
        return _renamed(served, {new: old for old, new in _EVENT_NAMES})
    return autoscaling.from_v1(served) if kind.view == "autoscaling/v1" else served


def _renamed(obj: Object, names: dict[str, str]) -> Object:
    return {names.get(name, name): value for name, value in obj.items()}
