"""Which programs bring an archive into an engine."""

from pathlib import Path

import pytest

from skerry.app.images import commands
from skerry.base.errors import ConfigError


def test_each_engine_has_a_program_of_its_own() -> None:
    socket, file, names = Path("/run/e.sock"), Path("/mnt/a.tar"), ["a:1", "b:2"]
    assert commands("containerd", socket, file, names) == [
        ["ctr", "--address", "/run/e.sock", "--namespace", "k8s.io", "images", "import", "/mnt/a.tar"]
    ]
    assert commands("docker", socket, file, names) == [["docker", "load", "--input", "/mnt/a.tar"]]
    assert commands("cri-o", socket, file, names) == [
        ["skopeo", "copy", "docker-archive:/mnt/a.tar:a:1", "containers-storage:a:1"],
        ["skopeo", "copy", "docker-archive:/mnt/a.tar:b:2", "containers-storage:b:2"],
    ]


def test_another_engine_is_named() -> None:
    with pytest.raises(ConfigError, match="into frakti is not known"):
        commands("frakti", Path("/s"), Path("/f"), ["a"])
