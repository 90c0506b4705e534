"""Which process is a shim of which engine, and whose sandbox it was for."""

from pathlib import Path
from typing import Any

import pytest

from skerry.runtime.cri.lostshims import Owner, Shim, Told, idle, shim_of, unknown
from skerry.runtime.cri.supervisors import is_supervisor, socket_of

_ID = "c0ffee" * 10 + "0123"
_SHIM = ["/usr/bin/containerd-shim-runc-v2", "-namespace", "k8s.io", "-id", _ID, "-address", "/run/c.sock", ""]
_LOGS = Path("/var/lib/skerry/pod-logs")
_GROUP, _OWNER = "skerry-1d0c", Owner("1d0c", logs=_LOGS)


def test_a_shim_names_its_sandbox_and_its_engine() -> None:
    assert shim_of(_SHIM) == shim_of([*_SHIM[:-1], "-debug", ""]) == (_ID, "/run/c.sock")


@pytest.mark.parametrize("words", [
    [],
    [""],
    ["/usr/bin/containerd-shim-kata-v2", *_SHIM[1:]],
    ["/usr/bin/conmon", *_SHIM[1:]],
    [*_SHIM[:2], "moby", *_SHIM[3:]],
    [*_SHIM[:1], *_SHIM[3:]],
])  # fmt: skip
def test_others_name_none(words: list[str]) -> None:
    assert shim_of(words) == ("", "")


def test_a_shim_that_does_not_say_for_what_names_nothing() -> None:
    assert shim_of(_SHIM[:3]) == ("", "") and shim_of([*_SHIM[:3], "-id"]) == ("", "")


@pytest.mark.parametrize(("words", "expected"), [
    (_SHIM, True),
    (["conmon", "-c", _ID], True),
    ([*_SHIM[:-1], "start", ""], False),
    ([*_SHIM[:-1], "-bundle", "/x", "delete", ""], False),
    (["/usr/bin/containerd", "-c", "x"], False),
    (["sh", "/usr/bin/containerd-shim-runc-v2"], False),
    ([], False),
    ([""], False),
])  # fmt: skip
def test_supervisors_and_their_errands(words: list[str], expected: bool) -> None:
    assert is_supervisor(words) is expected


def test_a_shim_tells_where_it_listens() -> None:
    sandbox = "34685731d5a9faa1ef6fc97be262b28c7f8218639af48f7557da83459fba6236"
    words = ["/usr/bin/containerd-shim-runc-v2", "-namespace", "k8s.io", "-id", sandbox, "-address"]
    digest = "a2476dcffcf2adb43e3fc3752ac65a05dc83edbf4b3762c8cd068ea42fa7817d"  # as containerd 2.1 has it
    assert socket_of([*words, "/tmp/skc-x8c0llaa/c.sock", ""]) == Path("/run/containerd/s") / digest
    assert socket_of(words) is None and socket_of(["/usr/bin/conmon", "-c", sandbox]) is None and socket_of([]) is None


def _bundle(group: object, logs: object) -> dict[str, Any]:
    return {"linux": {"cgroupsPath": group}, "annotations": {"io.kubernetes.cri.sandbox-log-directory": logs}}


@pytest.mark.parametrize(("bundle", "expected"), [
    (_bundle(f"/{_GROUP}/pod7/{_ID}", None), True),
    (_bundle(f"skerry.slice:cri-containerd:{_ID}", f"{_LOGS}/default_a_7"), True),  # systemd: no uid in the group
    (_bundle(f"skerry.slice:cri-containerd:{_ID}", "/var/log/pods/default_a_7"), False),
    (_bundle(f"/{_GROUP}2/pod7/{_ID}", f"{_LOGS}2/default_a_7"), False),  # names that begin like ours
    (_bundle(f"/kubepods/{_GROUP}/x", "pod-logs/default_a_7"), False),
    (_bundle(None, str(_LOGS)), False),
    ({"linux": None, "annotations": None}, False),
    ({}, False),
])  # fmt: skip
def test_whose_a_sandbox_was(bundle: dict[str, Any], expected: bool) -> None:
    assert _OWNER.made(bundle) is expected
    assert unknown([Shim(_ID, bundle)], Told([], []), _OWNER) == ({_ID} if expected else set())


def _item(node: str, **more: object) -> dict[str, Any]:
    return {"id": "other", "labels": {"skerry.dev/node": node}, **more}


@pytest.mark.parametrize(("told", "expected"), [
    (Told([], []), True),
    (Told([_item("1d0c")], [_item("1d0c", pod_sandbox_id="other")]), True),
    (Told([_item("2222")], []), False),  # another tenant: the shim may have been of its sandbox
    (Told([_item("1d0c")], [_item("2222")]), False),
    (Told([{"id": "other"}], []), False),
])  # fmt: skip
def test_a_shim_without_a_bundle_is_ours_where_all_is_ours(told: Told, expected: bool) -> None:
    assert unknown([Shim(_ID, None)], told, _OWNER) == ({_ID} if expected else set())
    assert unknown([Shim(_ID, None, is_parent=True)], told, _OWNER) == set()


@pytest.mark.parametrize("told", [
    Told([_item("1d0c", id=_ID)], []),
    Told([], [_item("1d0c", pod_sandbox_id=_ID)]),
])  # fmt: skip
def test_what_the_engine_tells_of_is_not_unknown(told: Told) -> None:
    ours = _bundle(f"/{_GROUP}/pod7/{_ID}", None)
    assert unknown([Shim(_ID, ours), Shim(_ID, None)], told, _OWNER) == set()


@pytest.mark.parametrize(("sandbox", "containers", "expected"), [
    (_item("1d0c", id=_ID, state=1), [], True),
    (_item("1d0c", id=_ID, state=1), [_item("1d0c", pod_sandbox_id=_ID, state=2)], True),
    (_item("1d0c", id=_ID, state=1), [_item("1d0c", pod_sandbox_id=_ID, state=1)], False),  # it runs
    (_item("1d0c", id=_ID, state=1), [_item("1d0c", pod_sandbox_id=_ID)], False),  # it is created
    (_item("1d0c", id=_ID, state=1), [_item("1d0c", pod_sandbox_id=_ID, state=3)], False),  # nobody knows
    (_item("1d0c", id=_ID, state=1), [_item("1d0c", pod_sandbox_id="other", state=1)], True),
    (_item("1d0c", id=_ID), [], False),  # it is ready
    (_item("2222", id=_ID, state=1), [], False),
])  # fmt: skip
def test_which_sandboxes_have_a_shim_for_nothing(
    sandbox: dict[str, Any], containers: list[dict[str, Any]], expected: bool
) -> None:
    assert idle(Told([sandbox], containers), _OWNER) == ({_ID} if expected else set())
