"""Volumes between a kubelet's directories and ours."""

from __future__ import annotations

from pathlib import Path

from skerry.runtime import handover

POD = {
    "metadata": {"uid": "u-1"},
    "spec": {
        "volumes": [
            {"name": "scratch", "emptyDir": {}},
            {"name": "settings", "configMap": {"name": "s"}},
            {"name": "host", "hostPath": {"path": "/srv"}},
            {"name": "bare"},
        ]
    },
}


def test_each_volume_has_its_two_places() -> None:
    moves = handover.to_us([POD], kubelet=Path("/k"), ours=Path("/o"))
    assert [(str(move.source), str(move.target)) for move in moves] == [
        ("/k/pods/u-1/volumes/kubernetes.io~empty-dir/scratch", "/o/u-1/volumes/scratch"),
        ("/k/pods/u-1/volumes/kubernetes.io~configmap/settings", "/o/u-1/volumes/settings"),
        ("/k/pods/u-1/volumes/kubernetes.io~empty-dir/bare", "/o/u-1/volumes/bare"),
    ]
    assert handover.to_kubelet([POD], kubelet=Path("/k"), ours=Path("/o")) == [move.back() for move in moves]


def test_the_same_directory_goes_there_and_back(tmp_path: Path) -> None:
    move = handover.Move(tmp_path / "kubelet/scratch", tmp_path / "ours/u-1/volumes/scratch")
    move.source.mkdir(parents=True)
    (move.source / "file").write_text("kept")
    inode = move.source.stat().st_ino
    assert handover.carry_out(move)
    assert move.target.stat().st_ino == inode
    assert not move.source.exists()
    assert not handover.carry_out(move), "there is nothing to move any more"
    assert handover.carry_out(move.back())
    assert (move.source / "file").read_text() == "kept"
    assert move.source.stat().st_ino == inode


def test_what_is_at_the_target_stays(tmp_path: Path) -> None:
    move = handover.Move(tmp_path / "a", tmp_path / "b")
    move.source.mkdir()
    move.target.mkdir()
    (move.target / "file").write_text("newer")
    assert not handover.carry_out(move)
    assert move.source.is_dir()
    assert (move.target / "file").read_text() == "newer"


def test_a_link_of_a_former_move_is_taken_back(tmp_path: Path) -> None:
    real = tmp_path / "kubelet/scratch"
    real.mkdir(parents=True)
    link = tmp_path / "ours/scratch"
    link.parent.mkdir()
    link.symlink_to(real)
    real_before = real.stat().st_ino
    handover.carry_out(handover.Move(link, real))
    assert real.stat().st_ino == real_before
