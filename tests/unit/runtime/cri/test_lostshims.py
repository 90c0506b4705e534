"""Which process is a shim of which engine, and whose sandbox it was for."""

from pathlib import Path
from typing import Any

import pytest

from skerry.runtime.cri.lostshims import is_ours, shim_of
from skerry.runtime.cri.supervisors import is_supervisor

_ID = "c0ffee" * 10 + "0123"
_SHIM = ["/usr/bin/containerd-shim-runc-v2", "-namespace", "k8s.io", "-id", _ID, "-address", "/run/c.sock", ""]
_GROUP, _LOGS = "skerry-1d0c", Path("/var/lib/skerry/pod-logs")


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
    ({}, False),  # the bundle is gone
])  # fmt: skip
def test_whose_a_sandbox_was(bundle: dict[str, Any], expected: bool) -> None:
    assert is_ours(bundle, group=_GROUP, logs=_LOGS) is expected
