"""Pod templates: their hash and their equality. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skerry.api.meta import safe_encoded
from skerry.base import json

HASH_LABEL = "pod-template-hash"


def template_hash(template: Mapping[str, Any], collisions: int = 0) -> str:
    """The label value that names a template: FNV-32a of its canonical JSON, in letters that spell no words."""
    data = json.dumps(template, sort_keys=True) + (str(collisions).encode() if collisions else b"")
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return safe_encoded(str(value))


def same_template(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two pod templates are equal, the hash label aside."""
    return _plain_template(a) == _plain_template(b)


def _plain_template(template: Mapping[str, Any]) -> dict[str, Any]:
    meta = {key: value for key, value in (template.get("metadata") or {}).items() if value}
    labels = {key: value for key, value in (meta.pop("labels", None) or {}).items() if key != HASH_LABEL}
    return {"metadata": {**meta, "labels": labels}, "spec": template.get("spec")}
