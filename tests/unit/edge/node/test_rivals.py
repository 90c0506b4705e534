from pathlib import Path

import pytest

from skerry.edge.node.rivals import Rival, conflicting, rivals

OURS = Path("/run/containerd/containerd.sock")


def process(proc: Path, pid: int, name: str, *words: str) -> None:
    place = proc / str(pid)
    place.mkdir()
    (place / "comm").write_text(f"{name}\n")
    (place / "cmdline").write_bytes("\0".join((f"/usr/bin/{name}", *words)).encode() + b"\0")


def test_an_agent_on_the_same_engine_is_named(tmp_path: Path) -> None:
    process(tmp_path, 7, "kubelet")
    process(tmp_path, 9, "nginx")
    assert conflicting(OURS, proc=tmp_path) == [Rival("kubelet", 7, str(OURS))]
    assert conflicting(Path("/tmp/other.sock"), proc=tmp_path) == []


@pytest.mark.parametrize(
    "words",
    [
        ("--container-runtime-endpoint=unix:///tmp/x.sock",),
        ("--remote-runtime-endpoint", "/tmp/x.sock"),
    ],
)
def test_the_engine_is_read_from_the_command_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    process(tmp_path, 7, "edgecore", *words)
    assert rivals(proc=tmp_path) == [Rival("edgecore", 7, "/tmp/x.sock")]
    assert conflicting(OURS, proc=tmp_path) == []


def test_the_engine_is_read_from_the_configuration_file(tmp_path: Path) -> None:
    process(tmp_path, 7, "edgecore", "--config=/etc/edgecore.yaml")
    config = tmp_path / "7/root/etc/edgecore.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("modules: {edged: {tailoredKubeletConfig: {containerRuntimeEndpoint: 'unix:///tmp/y.sock'}}}")
    assert rivals(proc=tmp_path) == [Rival("edgecore", 7, "/tmp/y.sock")]
    config.write_text("{")
    assert rivals(proc=tmp_path) == [Rival("edgecore", 7, str(OURS))]
