"""A container that changes a shared volume while another's view is built has nothing made outside of the volume.

The swap happens inside the builder's own system calls, by an audit hook: as late as a program could do it. Hooks cannot
be taken out again, and views are name spaces, so each case is a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_BUILD = """
import os, sys
from skerry.runtime.process.rootfs import Libc, Root, unshare

home, event, name, read_only = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4] == "ro"
volume, victim = f"{home}/volume", f"{home}/victim"
libc = Libc()
try:
    unshare(libc, with_user=os.geteuid() != 0, hostname="view")
except OSError:
    sys.exit(77)
done = []

def swap(seen, args):
    if not done and seen == event and args and os.path.basename(str(args[0])) == name:
        done.append(seen)
        os.rename(f"{volume}/sub", f"{volume}/aside")
        os.symlink(victim, f"{volume}/sub")

root = Root(libc, f"{home}/root")
root.build()
root.add(volume, "/data", read_only=False)
sys.addaudithook(swap)
root.add(f"{home}/other", "/data/sub/deep", read_only=read_only)
assert done, "nothing was swapped"
root.enter()
place = next(p for p in ("/data/aside/deep", f"{victim}/deep") if os.path.exists(f"{p}/content"))
try:
    open(f"{place}/written", "w").close()
    print("written")
except OSError as exc:
    print(exc.strerror)
"""


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ("open", "sub"),  # before the directory is opened: the link is followed in the view, never on the host
        ("open", "deep"),  # before it is looked whether there is an entry
        ("os.mkdir", "deep"),  # between the look and the making
    ],
)
@pytest.mark.parametrize(("mode", "said"), [("rw", "written"), ("ro", "Read-only file system")])
def test_a_directory_swapped_for_a_link_is_not_followed(
    tmp_path: Path, event: str, name: str, mode: str, said: str
) -> None:
    for made in ("volume/sub", "victim", "other", "root"):
        (tmp_path / made).mkdir(parents=True)
    (tmp_path / "other/content").touch()
    command = [sys.executable, "-c", _BUILD, str(tmp_path), event, name, mode]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode == 77:
        pytest.skip("mount namespaces are not allowed here")
    assert (built.returncode, built.stdout.strip()) == (0, said), built.stderr
    assert list((tmp_path / "victim").iterdir()) == []
    assert (tmp_path / "other/written").exists() is (mode == "rw")
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
