"""Kubernetes API objects from protobuf: what kubectl really sends, and the special messages one by one."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from skerry.base import json
from skerry.wire.errors import Malformed, TooLarge
from skerry.wire.pb.kubernetes import UnknownKind, decode_object, decode_options, go_duration, message_name
from skerry.wire.pb.scan import varint

VECTORS = [
    json.loads(line)
    for line in (Path(__file__).resolve().parents[3] / "vectors" / "kubernetes-protobuf.jsonl").read_text().splitlines()
]


def lengthy(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def body(api_version: str, kind: str, raw: bytes) -> bytes:
    return b"k8s\x00" + lengthy(1, lengthy(1, api_version.encode()) + lengthy(2, kind.encode())) + lengthy(2, raw)


def decoded(api_version: str, kind: str, raw: bytes) -> dict[str, Any]:
    return decode_object(body(api_version, kind, raw))


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_body_of_kubectl(vector: dict[str, Any]) -> None:
    """The object is what the same kubectl prints with ``--dry-run=client -o json``."""
    assert decode_object(base64.b64decode(vector["body"])) == vector["object"]


@pytest.mark.parametrize("api_version", ["v1", "policy/v1", "apps/v1", "skerry.dev/v1alpha1"])
def test_delete_options_of_any_group(api_version: str) -> None:
    raw = number(1, 0) + lengthy(2, lengthy(1, b"u-1")) + lengthy(4, b"Foreground")
    assert decode_options(body(api_version, "DeleteOptions", raw)) == {
        "apiVersion": api_version,
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": "u-1"},
        "propagationPolicy": "Foreground",
    }


def test_no_options_is_empty_and_another_kind_is_refused() -> None:
    assert decode_options(b"") == {}
    with pytest.raises(Malformed, match="DeleteOptions"):
        decode_options(body("v1", "Pod", b""))


def test_zero_of_a_pointer_stays_and_of_a_plain_omitempty_member_goes() -> None:
    deployment = decoded("apps/v1", "Deployment", lengthy(2, number(1, 0) + number(5, 0)))
    assert deployment["spec"] == {"replicas": 0}


def test_zero_without_omitempty_stays() -> None:
    versions = lengthy(1, b"v1") + number(2, 0) + number(3, 0)
    crd = decoded("apiextensions.k8s.io/v1", "CustomResourceDefinition", lengthy(2, lengthy(7, versions)))
    assert crd["spec"]["versions"] == [{"name": "v1", "served": False, "storage": False}]


def test_times() -> None:
    seconds = 1_700_000_000
    raw = lengthy(1, lengthy(8, number(1, seconds)))
    assert decoded("v1", "Pod", raw)["metadata"] == {"creationTimestamp": "2023-11-14T22:13:20Z"}
    lease = lengthy(2, lengthy(4, number(1, seconds) + number(2, 1_500)))
    assert decoded("coordination.k8s.io/v1", "Lease", lease)["spec"] == {"renewTime": "2023-11-14T22:13:20.000001Z"}


def test_year_one_is_null() -> None:
    condition = lengthy(1, b"Ready") + lengthy(4, number(1, (1 << 64) - 62135596800))
    pod = decoded("v1", "Pod", lengthy(3, lengthy(2, condition)))
    assert pod["status"]["conditions"] == [{"type": "Ready"}]


def test_quantities_in_a_map_and_inline_members() -> None:
    limits = lengthy(1, lengthy(1, b"cpu") + lengthy(2, lengthy(1, b"500m")))
    get = lengthy(1, lengthy(2, lengthy(1, b"/h") + lengthy(2, number(1, 1) + lengthy(3, b"web"))))
    container = lengthy(1, b"c") + lengthy(8, limits) + lengthy(10, get)
    volume = lengthy(1, b"v") + lengthy(2, lengthy(2, b""))
    spec = lengthy(1, volume) + lengthy(2, container)
    pod = decoded("v1", "Pod", lengthy(2, spec))["spec"]
    assert pod["volumes"] == [{"name": "v", "emptyDir": {}}]
    assert pod["containers"][0]["resources"] == {"limits": {"cpu": "500m"}}
    assert pod["containers"][0]["livenessProbe"]["httpGet"] == {"path": "/h", "port": "web"}


def test_secret_data_is_base64() -> None:
    secret = decoded("v1", "Secret", lengthy(2, lengthy(1, b"k") + lengthy(2, b"\x00\xff")))
    assert secret["data"] == {"k": "AP8="}


def test_managed_fields_hold_json() -> None:
    entry = lengthy(1, b"kubectl") + lengthy(7, lengthy(1, b'{"f:spec":{}}'))
    assert decoded("v1", "Pod", lengthy(1, lengthy(17, entry)))["metadata"]["managedFields"] == [
        {"manager": "kubectl", "fieldsV1": {"f:spec": {}}}
    ]


def test_raw_extension_holds_json_or_another_body() -> None:
    revision = lengthy(2, lengthy(1, b'{"spec":{"a":1}}'))
    assert decoded("apps/v1", "ControllerRevision", revision)["data"] == {"spec": {"a": 1}}
    inner = body("v1", "ConfigMap", lengthy(2, lengthy(1, b"a") + lengthy(2, b"1")))
    nested = decoded("apps/v1", "ControllerRevision", lengthy(2, lengthy(1, inner)))
    assert nested["data"] == {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"}}


def test_crd_schema_special_members() -> None:
    schema = (
        lengthy(5, b"object")
        + lengthy(8, lengthy(1, b'{"a":[1]}'))
        + lengthy(20, lengthy(1, b'"x"'))
        + lengthy(24, lengthy(1, lengthy(5, b"string")))
        + lengthy(30, number(1, 1))
        + lengthy(33, lengthy(2, lengthy(5, b"integer")))
        + lengthy(32, lengthy(1, b"k") + lengthy(2, lengthy(2, b"p")))
        + lengthy(29, lengthy(1, b"q") + lengthy(2, number(40, 1)))
        + varint(9 << 3 | 1)
        + bytes.fromhex("0000000000000440")
    )
    version = lengthy(1, b"v1") + lengthy(4, lengthy(1, schema))
    crd = decoded("apiextensions.k8s.io/v1", "CustomResourceDefinition", lengthy(2, lengthy(7, version)))
    assert crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] == {
        "type": "object",
        "default": {"a": [1]},
        "enum": ["x"],
        "items": {"type": "string"},
        "additionalProperties": True,
        "additionalItems": {"type": "integer"},
        "dependencies": {"k": ["p"]},
        "properties": {"q": {"x-kubernetes-int-or-string": True}},
        "maximum": 2.5,
    }


def test_extra_values_are_lists() -> None:
    extra = lengthy(1, b"scopes") + lengthy(2, lengthy(1, b"a") + lengthy(1, b"b"))
    review = decoded("authentication.k8s.io/v1", "TokenReview", lengthy(3, lengthy(2, lengthy(4, extra))))
    assert review["status"]["user"]["extra"] == {"scopes": ["a", "b"]}


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (250_000_000, "250ms"),
        (1_500_000_000, "1.5s"),
        (60_000_000_000, "1m0s"),
        (5_400_000_000_000, "1h30m0s"),
        (-3_600_000_000_000, "-1h0m0s"),
    ],
)
def test_duration_text_is_that_of_go(nanoseconds: int, text: str) -> None:
    assert go_duration(nanoseconds) == text


@pytest.mark.parametrize(
    ("api_version", "kind", "name"),
    [
        ("v1", "Pod", "core.v1.Pod"),
        ("apps/v1", "Deployment", "apps.v1.Deployment"),
        ("rbac.authorization.k8s.io/v1", "Role", "rbac.v1.Role"),
        ("flowcontrol.apiserver.k8s.io/v1", "FlowSchema", "flowcontrol.v1.FlowSchema"),
        ("internal.apiserver.k8s.io/v1alpha1", "StorageVersion", "apiserverinternal.v1alpha1.StorageVersion"),
        ("autoscaling/v2", "HorizontalPodAutoscaler", "autoscaling.v2.HorizontalPodAutoscaler"),
    ],
)
def test_message_names(api_version: str, kind: str, name: str) -> None:
    assert message_name(api_version, kind) == name


def test_unknown_kind_says_which() -> None:
    with pytest.raises(UnknownKind, match='"Device" in version "devices.kubeedge.io/v1beta1"'):
        decode_object(body("devices.kubeedge.io/v1beta1", "Device", b""))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'{"kind":"Pod"}',
        b"k8s\x00",
        b"k8s\x00\xff",
        body("v1", "Pod", b"\x0a\x05x"),
        body("v1", "Pod", b"\x08\x01"),
        body("v1", "Pod", lengthy(1, lengthy(1, b"\xff"))),
        body("v1", "Pod", lengthy(1, lengthy(8, number(1, 1 << 60)))),
        body("v1", "Pod", lengthy(1, lengthy(8, lengthy(1, b"x")))),
        body("apps/v1", "ControllerRevision", lengthy(2, lengthy(1, b"{"))),
        b"k8s\x00" + lengthy(1, lengthy(1, b"v1") + lengthy(2, b"Pod")) + lengthy(3, b"gzip"),
    ],
)
def test_bad_bodies_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_object(data)


def test_nesting_and_size_are_limited() -> None:
    schema = b""
    for _ in range(200):
        schema = lengthy(28, schema)
    version = lengthy(4, lengthy(1, schema))
    with pytest.raises(TooLarge, match="deeply"):
        decoded("apiextensions.k8s.io/v1", "CustomResourceDefinition", lengthy(2, lengthy(7, version)))
    with pytest.raises(TooLarge, match="limit"):
        decode_object(bytes(20), limit_bytes=10)
