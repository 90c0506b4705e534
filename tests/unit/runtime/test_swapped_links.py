"""A program that swaps links into its volume while the agent works there reaches nothing outside of it.

The swap happens inside the agent's own system calls, by an audit hook: as late as a program could do it. Hooks cannot
be taken out again, so each case is a process of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.runtime.trees import remove_tree

_SWAP = """
import os, sys
from pathlib import Path
volume, victim, name, events = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4].split(",")
done = []
def swap(event, args):
    if done or event not in events or not args or os.path.basename(str(args[0])) != name:
        return
    if os.path.lexists(volume / name):
        done.append(event)
        os.rename(volume / name, volume / "aside")
        os.symlink(victim, volume / name)
sys.addaudithook(swap)
"""
_SUB_PATH = """
from skerry.runtime.volumes import mounts_of
mount = {"name": "v", "mountPath": "/v", "subPath": name}
pod = {"metadata": {"name": "p"}, "spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}
try:
    mounts_of(pod, {"name": "app", "volumeMounts": [mount]}, volume.parent, {})
except Exception as exc:
    print(type(exc).__name__)
assert done
"""
_GROUP = """
from skerry.runtime.volume_files import give_to_group
give_to_group(volume, 4321)
assert done
"""
_REMOVE = """
from skerry.runtime.trees import remove_tree
try:
    remove_tree(volume)
except OSError as exc:
    print(type(exc).__name__)
assert done
"""


def run(script: str, volume: Path, victim: Path, name: str, events: str) -> None:
    subprocess.run([sys.executable, "-c", _SWAP + script, volume, victim, name, events], check=True)


def test_a_sub_path_swapped_for_a_link_changes_no_other_file(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("the host's")
    victim.chmod(0o600)
    (tmp_path / "volumes" / "v").mkdir(parents=True)
    run(_SUB_PATH, tmp_path / "volumes" / "v", victim, "data", "os.chmod,open")
    assert victim.stat().st_mode & 0o7777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to groups")
def test_a_file_swapped_for_a_link_gives_no_other_file_to_the_group(tmp_path: Path) -> None:
    victim, volume = tmp_path / "victim", tmp_path / "v"
    victim.write_text("the host's")
    victim.chmod(0o600)
    volume.mkdir()
    (volume / "file").write_text("the pod's")
    run(_GROUP, volume, victim, "file", "os.chown,os.chmod,open")
    assert (victim.stat().st_mode & 0o7777, victim.stat().st_gid) == (0o600, 0)


def test_a_directory_swapped_for_a_link_removes_no_other_file(tmp_path: Path) -> None:
    victim, volume = tmp_path / "victim", tmp_path / "v"
    victim.mkdir()
    (victim / "file").write_text("the host's")
    (volume / "data").mkdir(parents=True)
    (volume / "data" / "file").write_text("the pod's")
    run(_REMOVE, volume, victim, "data", "open,os.scandir")
    assert (victim / "file").read_text() == "the host's"


def test_a_tree_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "v"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    try:
        remove_tree(top)
        assert not top.exists()
    finally:
        subprocess.run(["rm", "-rf", top], check=True)
