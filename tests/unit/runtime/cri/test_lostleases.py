"""Leases that containerd 2 makes for a sandbox, among all others."""

from __future__ import annotations

from skerry.runtime.cri.lostleases import of_sandboxes
from skerry.wire.pb.containerd import CONTAINERD

_SANDBOX = "03813aaf4dfdbb4d230f433047927af8038d2d4806f890b4bd6c9f943be321ed"


def test_only_leases_by_a_sandboxs_id_that_never_expire_are_of_sandboxes() -> None:
    expires = {"containerd.io/gc.expire": "2026-11-28T06:04:28Z"}
    answer = {
        "leases": [
            {"id": _SANDBOX, "created_at": {"seconds": 1795759457, "nanos": 500_000_000}},
            {"id": "745037875-LRXL", "created_at": {"seconds": 1795759468}, "labels": expires},
            {"id": "ab" * 32, "created_at": {"seconds": 1795759468}, "labels": expires},
            {"id": "skerry-pull-00"},
        ]
    }
    told = CONTAINERD.decode("ListLeasesResponse", CONTAINERD.encode("ListLeasesResponse", answer))
    assert of_sandboxes(told["leases"]) == {_SANDBOX: 1795759457.5}
    assert of_sandboxes([]) == {}
