"""One agent of a node on one container engine, also with a copied data directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.app.runtimes import OpenRuntime, claim_engine, refuse_rivals
from skerry.base.errors import ConfigError
from skerry.testing.fakeruntime import FakeEngine, FakeImages, FakeRuntime

JOINED = {"node": "gate-1", "nodeUid": "u-1"}
_OTHER = """
import sys
from pathlib import Path
from skerry.app.runtimes import OpenRuntime, claim_engine, refuse_rivals
from skerry.testing.fakeruntime import FakeEngine, FakeImages, FakeRuntime
runtime = FakeRuntime(FakeEngine())
opened = OpenRuntime("cri", runtime, runtime, FakeImages(FakeEngine()), socket=Path(sys.argv[1]))
with claim_engine(opened, {"node": "gate-1", "nodeUid": "u-1"}, place=Path(sys.argv[2])):
    print("claimed", flush=True)
    sys.stdin.read()
"""


def opened(socket: Path | None) -> OpenRuntime:
    runtime = FakeRuntime(FakeEngine())
    return OpenRuntime("cri", runtime, runtime, FakeImages(FakeEngine()), socket=socket)


def test_a_second_agent_with_the_same_identity_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    socket, place = tmp_path / "c.sock", tmp_path / "claims"
    (tmp_path / "link.sock").symlink_to(socket)
    first = subprocess.Popen(
        [sys.executable, "-c", _OTHER, str(socket), str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert first.stdout is not None and first.stdout.readline() == b"claimed\n"
    for same in (socket, tmp_path / "link.sock"):
        with pytest.raises(ConfigError, match=rf"gate-1 is served .* \(pid {first.pid}\)"):
            with claim_engine(opened(same), JOINED, place=place):
                pass
    first.kill()
    first.communicate()
    with claim_engine(opened(socket), JOINED, place=place):
        assert place.stat().st_mode & 0o077 == 0


def test_other_nodes_and_other_engines_are_no_rivals(tmp_path: Path) -> None:
    place = tmp_path / "claims"
    with (
        claim_engine(opened(tmp_path / "c.sock"), JOINED, place=place),
        claim_engine(opened(tmp_path / "c.sock"), JOINED | {"nodeUid": "u-2"}, place=place),
        claim_engine(opened(tmp_path / "d.sock"), JOINED, place=place),
        claim_engine(opened(None), JOINED, place=place),
        claim_engine(opened(None), JOINED, place=place),
    ):
        assert len(list(place.iterdir())) == 3
    assert os.access(place, os.W_OK)


def test_a_live_kubelet_on_the_same_engine_blocks_the_start_and_is_named(tmp_path: Path) -> None:
    socket, program = tmp_path / "c.sock", tmp_path / "kubelet"
    program.symlink_to(sys.executable)
    script = "print('up', flush=True); import time; time.sleep(300)"
    kubelet = subprocess.Popen(
        [program, "-c", script, f"--container-runtime-endpoint=unix://{socket}"], stdout=subprocess.PIPE
    )
    try:
        assert kubelet.stdout is not None and kubelet.stdout.readline() == b"up\n"
        with pytest.raises(ConfigError, match=rf"kubelet \(pid {kubelet.pid}\) manages .*c\.sock") as caught:
            refuse_rivals(opened(socket))
        assert "systemctl disable --now kubelet" in str(caught.value.hint)
        refuse_rivals(opened(tmp_path / "another.sock"))
    finally:
        kubelet.kill()
        kubelet.communicate()
    refuse_rivals(opened(socket))
