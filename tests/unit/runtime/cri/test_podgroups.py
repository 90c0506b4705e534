"""Who keeps the engine's control groups, as containerd before 2.0 tells it."""

import pytest

from skerry.base import json
from skerry.runtime.cri.podgroups import configured_driver


@pytest.mark.parametrize(("options", "driver"), [
    ({"BinaryName": "", "SystemdCgroup": True}, "systemd"),
    ({"BinaryName": "", "SystemdCgroup": False}, "cgroupfs"),
    (None, "cgroupfs"),
])  # fmt: skip
def test_the_default_runtime_counts(options: object, driver: str) -> None:
    runtimes = {"runc": {"runtimeType": "io.containerd.runc.v2", "options": options}, "kata": {"options": {}}}
    told = {"containerd": {"defaultRuntimeName": "runc", "runtimes": runtimes}}
    assert configured_driver({"config": json.dumps(told).decode()}) == driver


@pytest.mark.parametrize("text", ["", "null", "{}", '{"containerd": {"defaultRuntimeName": "x", "runtimes": {}}}'])
def test_an_engine_that_does_not_tell(text: str) -> None:
    assert configured_driver({"config": text}) == configured_driver({}) == ""
