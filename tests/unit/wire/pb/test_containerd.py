"""What is asked of containerd beside CRI."""

from skerry.wire.pb.containerd import CONTAINERD, CREATE_LEASE, DELETE_LEASE, GET_CONTAINER


def test_a_record_is_asked_for_by_its_id() -> None:
    request, _, kind = CONTAINERD.methods[GET_CONTAINER]
    assert CONTAINERD.encode(request, {"id": "c0de"}) == b"\x0a\x04c0de" and kind == ""


def test_a_record_has_an_id_and_labels_and_what_else_it_has_is_skipped() -> None:
    _, answer, _ = CONTAINERD.methods[GET_CONTAINER]
    record = b"\x0a\x04c0de" + b"\x12\x0a\x0a\x03app\x12\x03p0d" + b"\x1a\x07busybox"
    found = CONTAINERD.decode(answer, b"\x0a" + bytes([len(record)]) + record)
    assert found == {"container": {"id": "c0de", "labels": {"app": "p0d"}}}


def test_a_lease_has_an_id_and_labels_and_is_deleted_by_its_id() -> None:
    request, answer, _ = CONTAINERD.methods[CREATE_LEASE]
    assert CONTAINERD.encode(request, {"id": "l1", "labels": {"a": "b"}}) == b"\x0a\x02l1\x1a\x06\x0a\x01a\x12\x01b"
    assert CONTAINERD.decode(answer, b"\x0a\x04\x0a\x02l1") == {}
    assert CONTAINERD.encode(CONTAINERD.methods[DELETE_LEASE][0], {"id": "l1", "sync": True}) == b"\x0a\x02l1\x10\x01"
