"""Which requests are approved, refused, and cleared away."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.api.gvk import Object
from skerry.api.meta import rfc3339
from skerry.controllers.certificates.rules import (
    API_CLIENT,
    KUBELET_CLIENT,
    KUBELET_SERVING,
    LEGACY,
    Wish,
    approval_permissions,
    cleared_in_s,
    refusal,
    validity_s,
)

NOW_S = 1_750_000_000.0
NODE = Wish("system:node:n", ("system:nodes",))
SERVING = Wish("system:node:n", ("system:nodes",), ("n", "10.0.0.1"), ("n", "10.0.0.1"))
CLIENT_USE = ["client auth", "digital signature", "key encipherment"]
SERVER_USE = ["server auth", "digital signature"]


def request(*conditions: dict[str, str], age_s: float = 0, **spec: Any) -> Object:
    return {
        "metadata": {"creationTimestamp": rfc3339(NOW_S - age_s)},
        "spec": {"signerName": KUBELET_CLIENT, "usages": CLIENT_USE, **spec},
        "status": {"conditions": list(conditions)},
    }


@pytest.mark.parametrize(
    ("signer", "wish", "usages", "why"),
    [
        (KUBELET_CLIENT, NODE, CLIENT_USE, ""),
        (KUBELET_CLIENT, NODE, CLIENT_USE[:2], ""),
        (KUBELET_CLIENT, NODE, SERVER_USE, "usages"),
        (KUBELET_CLIENT, SERVING, CLIENT_USE, "alternative names"),
        (KUBELET_CLIENT, Wish("system:node:n", ("other",)), CLIENT_USE, "organization"),
        (KUBELET_CLIENT, Wish("n", ("system:nodes",)), CLIENT_USE, "common name"),
        (KUBELET_SERVING, SERVING, SERVER_USE, ""),
        (KUBELET_SERVING, NODE, SERVER_USE, "required"),
        (KUBELET_SERVING, Wish("system:node:n", ("system:nodes",), ("n", "a@b"), ("n",)), SERVER_USE, "only DNS"),
        (API_CLIENT, Wish("alice", ()), ["client auth"], ""),
        (API_CLIENT, Wish("alice", ()), ["client auth", "server auth"], "invalid usage"),
        (API_CLIENT, Wish("alice", ()), ["digital signature"], "missing required"),
        (LEGACY, Wish("anything", ()), ["any"], ""),
    ],
)
def test_each_signer_has_its_rules(signer: str, wish: Wish, usages: list[str], why: str) -> None:
    found = refusal(signer, wish, usages)
    assert (why in found) if why else not found


def test_only_nodes_are_approved_without_a_person() -> None:
    assert approval_permissions(request(username="system:node:n"), NODE) == ["selfnodeclient", "nodeclient"]
    assert approval_permissions(request(username="bootstrap"), NODE) == ["nodeclient"]
    assert approval_permissions(request(signerName=API_CLIENT), NODE) == []
    assert approval_permissions(request(usages=SERVER_USE), NODE) == []


@pytest.mark.parametrize(("asked", "given"), [(None, 31_536_000), (3600, 3600), (60, 600), (10**9, 31_536_000)])
def test_validity(asked: int | None, given: float) -> None:
    assert validity_s(request(expirationSeconds=asked)) == given


def test_requests_are_cleared_away() -> None:
    settled = {"type": "Denied", "lastUpdateTime": rfc3339(NOW_S - 3000)}
    assert cleared_in_s(request(), NOW_S) == 86_400
    assert cleared_in_s(request(age_s=86_401), NOW_S) == 0
    assert cleared_in_s(request(settled), NOW_S) == 600
    assert cleared_in_s(request({**settled, "type": "Approved"}), NOW_S) == 86_400
