"""What is refused in a CustomResourceDefinition, and names that others have already."""

# ruff: noqa: E501 - texts of the wire stand on one line

from __future__ import annotations

from typing import Any

import pytest

from skerry.api.kinds.rules import Rules
from skerry.apiserver.custom import next_status

SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {"color": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}},
        }
    },
}


def crd(version: dict[str, Any] | None = None, names: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    one = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": SCHEMA}, **(version or {})}
    group = spec.get("group", "q.io")
    obj = {
        "metadata": {"name": f"gizmos.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "gizmos", "kind": "Gizmo", **(names or {})},
            "versions": [one],
            **spec,
        },
    }
    Rules().default("apiextensions.k8s.io", "CustomResourceDefinition", obj)
    return obj


@pytest.mark.parametrize(
    ("obj", "text"),
    [
        (
            crd({"subresources": {"scale": {"statusReplicasPath": ".status.replicas"}}}),
            "spec.versions[0].subresources.scale.specReplicasPath: Required value",
        ),
        (
            crd(
                {"subresources": {"scale": {"specReplicasPath": ".status.x", "statusReplicasPath": ".status.replicas"}}}
            ),
            'spec.versions[0].subresources.scale.specReplicasPath: Invalid value: ".status.x": should be a json path under .spec',
        ),
        (
            crd(
                {
                    "subresources": {
                        "scale": {"specReplicasPath": ".spec.x[0]", "statusReplicasPath": ".status.replicas"}
                    }
                }
            ),
            'spec.versions[0].subresources.scale.specReplicasPath: Invalid value: ".spec.x[0]": is an invalid json path: only dot notation without arrays is allowed',
        ),
        (
            crd({"selectableFields": [{"jsonPath": ".spec.tags"}]}),
            'spec.versions[0].selectableFields[0].jsonPath: Invalid value: ".spec.tags": must point to a field of type string, boolean or integer',
        ),
        (
            crd({"selectableFields": [{"jsonPath": ".metadata.name"}]}),
            'spec.versions[0].selectableFields[0].jsonPath: Invalid value: ".metadata.name": must not point to fields in metadata',
        ),
        (
            crd({"selectableFields": [{"jsonPath": ".spec.color"}] * 2}),
            'spec.versions[0].selectableFields[1].jsonPath: Duplicate value: ".spec.color"',
        ),
        (
            crd({"additionalPrinterColumns": [{"name": "C", "type": "string", "jsonPath": "spec.color"}]}),
            'spec.versions[0].additionalPrinterColumns[0].jsonPath: Invalid value: "spec.color": is an invalid json path: must begin with a dot',
        ),
        (
            crd({"additionalPrinterColumns": [{"name": "C", "type": "text", "jsonPath": ".x"}]}),
            'spec.versions[0].additionalPrinterColumns[0].type: Invalid value: "text": must be one of boolean,date,integer,number,string',
        ),
        (
            crd(preserveUnknownFields=True),
            "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ),
        (
            crd(group="things.k8s.io"),
            "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation, see https://github.com/kubernetes/enhancements/pull/1111",
        ),
        (
            crd(conversion={"strategy": "None", "webhook": {}}),
            "spec.conversion.webhook: Forbidden: should not be set when strategy is not set to Webhook",
        ),
        (
            crd(conversion={"strategy": "Magic"}),
            'spec.conversion.strategy: Unsupported value: "Magic": supported values: "None", "Webhook"',
        ),
    ],
)
def test_refused(obj: dict[str, Any], text: str) -> None:
    found = Rules().validate_create("apiextensions.k8s.io", "CustomResourceDefinition", obj)
    assert [str(error) for error in found] == [text]


def test_accepted() -> None:
    version = {
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.n",
                "statusReplicasPath": ".status.n",
                "labelSelectorPath": ".status.s",
            },
        },
        "selectableFields": [{"jsonPath": ".spec.color"}],
        "additionalPrinterColumns": [{"name": "C", "type": "string", "jsonPath": ".spec.tags[0]"}],
    }
    obj = crd(version, {"shortNames": ["gz"], "categories": ["all"]})
    assert not Rules().validate_create("apiextensions.k8s.io", "CustomResourceDefinition", obj)


@pytest.mark.parametrize(
    ("taken", "reason"),
    [
        ("gizmos", "PluralConflict"),
        ("gizmo", "SingularConflict"),
        ("gz", "ShortNamesConflict"),
        ("Gizmo", "KindConflict"),
        ("GizmoList", "ListKindConflict"),
    ],
)
def test_names_that_others_have(taken: str, reason: str) -> None:
    obj = crd(names={"shortNames": ["gz"]})
    status = next_status(obj, [("q.io", taken)], now_text="2026-01-01T00:00:00Z")
    states = {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}
    assert states == {"NamesAccepted": ("False", reason), "Established": ("False", "NotAccepted")}
    assert next_status(obj, [("other.io", taken)], now_text="")["conditions"][0]["status"] == "True"


def test_what_is_served_stays_served() -> None:
    obj = crd(names={"shortNames": ["gz"]})
    obj["status"] = next_status(obj, [], now_text="2026-01-01T00:00:00Z")
    status = next_status(obj, [("q.io", "gz")], now_text="2026-01-02T00:00:00Z")
    states = {c["type"]: c["status"] for c in status["conditions"]}
    assert states == {"NamesAccepted": "False", "Established": "True"}
