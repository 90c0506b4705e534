"""What a node's report makes of a DeviceStatus: pure functions.

A twin entry is stale when its version is lower than the stored one and its time is not newer; a node that lost its
disk counts from a higher number or reports newer times, so it is heard again. The version is kept beside the time in
the twin's metadata, so that any replica, also after a restart, decides alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skerry.api.gvk import DEVICES, DEVICESTATUSES, Object
from skerry.wire.kubeedge.twin import MsgTwin, Value, Version

Twins = list[dict[str, Any]]


def merge_twins(
    device: Object, current: Sequence[Mapping[str, Any]], report: Mapping[str, MsgTwin]
) -> tuple[Twins, int]:
    """Lay a report over ``status.twins``.

    Args:
        device: decides which properties there are and their order.
        current: ``status.twins`` as stored.
        report: what the node says.

    Returns:
        The new list in the order of the Device's properties, and how many sides of twins were stale and ignored.
        Properties that the Device does not have are left out.
    """
    known = {twin.get("propertyName"): twin for twin in current}
    result: Twins = []
    stale = 0
    for name in property_names(device):
        said = report.get(name)
        if said is None:
            if name in known:
                result.append(dict(known[name]))
            continue
        before = known.get(name) or {}
        reported, is_old = _side(before.get("reported"), said.actual, said.actual_version, said.type)
        observed, is_old_too = _side(before.get("observedDesired"), said.expected, said.expected_version, said.type)
        stale += is_old + is_old_too
        result.append({"propertyName": name, "reported": reported, "observedDesired": observed})
    return result, stale


def property_names(device: Object) -> list[str]:
    """Names of a Device's properties in their order."""
    properties = (device.get("spec") or {}).get("properties") or []
    return [prop["name"] for prop in properties if isinstance(prop, dict) and isinstance(prop.get("name"), str)]


def newest(waiting: MsgTwin | None, other: MsgTwin) -> MsgTwin:
    """Two reports of one property as one; of each side the newer, whichever came first."""
    if waiting is None:
        return other
    use_expected = _is_newer(waiting.expected, waiting.expected_version, other.expected, other.expected_version)
    use_actual = _is_newer(waiting.actual, waiting.actual_version, other.actual, other.actual_version)
    return MsgTwin(
        expected=other.expected if use_expected else waiting.expected,
        actual=other.actual if use_actual else waiting.actual,
        optional=other.optional,
        type=other.type or waiting.type,
        expected_version=other.expected_version if use_expected else waiting.expected_version,
        actual_version=other.actual_version if use_actual else waiting.actual_version,
    )


def new_status(device: Object) -> Object:
    """An empty DeviceStatus, owned by its Device."""
    metadata = device["metadata"]
    return {
        "apiVersion": DEVICESTATUSES.api_version,
        "kind": DEVICESTATUSES.kind,
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata.get("namespace") or "default",
            "ownerReferences": [
                {
                    "apiVersion": DEVICES.api_version,
                    "kind": DEVICES.kind,
                    "name": metadata["name"],
                    "uid": metadata.get("uid", ""),
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {},
        "status": {},
    }


def belongs_to(status: Object, device: Object) -> bool:
    """Whether a DeviceStatus is this Device's, not one of an earlier Device of the same name."""
    owners = (status.get("metadata") or {}).get("ownerReferences") or []
    uid = (device.get("metadata") or {}).get("uid", "")
    return not owners or any(owner.get("uid") == uid for owner in owners)


def _side(
    before: Mapping[str, Any] | None, said: Value | None, version: Version | None, kind: str
) -> tuple[dict[str, Any], bool]:
    if said is None:
        return (dict(before), False) if before else ({"value": ""}, False)
    metadata = dict((before or {}).get("metadata") or {})
    if before is not None and version is not None:
        is_lower = version.edge < _whole(metadata.get("version"))
        if is_lower and said.timestamp_ms <= _whole(metadata.get("timestamp")):
            return dict(before), True
    metadata = {"timestamp": str(said.timestamp_ms), "type": kind or "string"}
    if version is not None:
        metadata["version"] = str(version.edge)
    return {"value": said.value, "metadata": metadata}, False


def _is_newer(old: Value | None, old_version: Version | None, new: Value | None, new_version: Version | None) -> bool:
    if new is None:
        return False
    if old is None or old_version is None or new_version is None:
        return True
    return new_version.edge >= old_version.edge or new.timestamp_ms > old.timestamp_ms


def _whole(text: Any) -> int:
    return int(text) if isinstance(text, str) and text.isdecimal() and len(text) < 20 else 0
