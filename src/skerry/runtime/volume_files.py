"""Files of a volume that the agent writes: all of them appear in one step, with their modes and their group.

The names in the volume are links into ``..data``, itself a link that is renamed over the old one.
Source: kubernetes pkg/volume/util/atomic_writer.go, pkg/volume/volume_linux.go:SetVolumeOwnership (1.36).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import os
import stat
import uuid
from pathlib import Path

from skerry.api.gvk import Object
from skerry.runtime.ports import EngineError
from skerry.runtime.trees import remove_tree

_DATA = "..data"
_GROUP_READS, _GROUP_WRITES, _GROUP_ENTERS = 0o440, 0o660, 0o2110

Files = dict[str, tuple[bytes, int]]
"""Content and mode by path in the volume."""


class VolumeError(EngineError):
    """A volume cannot be had now; the pod waits and the Event says why."""

    reason = "FailedMount"


def write_files(path: Path, files: Files, *, group: int | None = None) -> bool:
    """Make ``path`` hold exactly ``files``, in one step for its readers. Returns whether anything changed.

    Args:
        group: ``fsGroup``: owns the files and may read them.

    Raises:
        VolumeError: a name that would leave the volume.
    """
    for name in files:
        safe_path(name)
    path.mkdir(exist_ok=True)
    path.chmod(0o755)
    if group is not None:
        files = {name: (data, mode | _GROUP_READS) for name, (data, mode) in files.items()}
    data = path / _DATA
    is_same = data.is_symlink() and _read_files(data) == files
    if not is_same:
        _replace_data(path, files, group)
    # Also where nothing changed: an agent that was killed after its data took their place has left this undone.
    _link_names(path, {name.partition("/")[0] for name in files})
    for old in path.iterdir():
        if old.name.startswith("..") and old.name not in (_DATA, data.readlink().name):
            remove_tree(old)
    return not is_same


def give_to_group(path: Path, group: int, *, only_if_root_differs: bool = False) -> None:
    """Let ``group`` read and write everything below ``path``; links are left alone and never followed.

    Args:
        only_if_root_differs: ``fsGroupChangePolicy: OnRootMismatch``: do nothing where the top has the group already.
    """
    if os.geteuid() != 0:
        return
    top = path.stat()
    wanted = _GROUP_WRITES | _GROUP_ENTERS
    if only_if_root_differs and top.st_gid == group and top.st_mode & wanted == wanted:
        return
    for directory, _, names, fd in os.fwalk(path, follow_symlinks=False):
        del directory
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISREG(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                    _give_file(name, fd, group)
        os.fchown(fd, -1, group)
        os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) | wanted)


def _give_file(name: str, directory: int, group: int) -> None:
    """Give the group one file, if it still is one: a program may have put a link in its place."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENXIO):
            return
        raise
    try:
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode):
            os.fchown(fd, -1, group)
            os.fchmod(fd, stat.S_IMODE(found.st_mode) | _GROUP_WRITES)
    finally:
        os.close(fd)


def safe_path(path: str) -> str:
    """The path of a file in a volume, unchanged.

    Raises:
        VolumeError: it would leave the volume, or meet the agent's own names.
    """
    parts = path.split("/")
    if not path or path.startswith(("/", "..")) or ".." in parts or "\0" in path or "" in parts[:-1]:
        raise VolumeError(f"path {path!r} leaves its volume")
    return path


def object_data(found: Object) -> dict[str, bytes]:
    """The keys of a ConfigMap or Secret as bytes.

    Raises:
        VolumeError: a value is not base64.
    """
    data = found.get("data") or {}
    try:
        if found.get("kind") == "Secret" or "type" in found:
            return {key: base64.b64decode(value, validate=True) for key, value in data.items()}
        plain = {key: str(value).encode() for key, value in data.items()}
        return plain | {
            key: base64.b64decode(value, validate=True) for key, value in (found.get("binaryData") or {}).items()
        }
    except (binascii.Error, ValueError, TypeError) as exc:
        name = (found.get("metadata") or {}).get("name", "")
        raise VolumeError(f"{found.get('kind') or 'object'} {name!r} holds a value that is not base64") from exc


def _replace_data(path: Path, files: Files, group: int | None) -> None:
    fresh = f"..{uuid.uuid4().hex}"
    for name, (data, mode) in files.items():
        file = path / fresh / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.chmod(mode)
        _give(file, group)
    (path / fresh).mkdir(exist_ok=True)
    (path / "..data_tmp").unlink(missing_ok=True)
    (path / "..data_tmp").symlink_to(fresh)
    (path / "..data_tmp").replace(path / _DATA)


def _give(file: Path, group: int | None) -> None:
    if group is not None and os.geteuid() == 0:
        os.chown(file, -1, group)


def _link_names(path: Path, names: set[str]) -> None:
    for name in names:
        if not (path / name).is_symlink():
            (path / name).symlink_to(f"{_DATA}/{name}")
    for old in path.iterdir():
        if not old.name.startswith("..") and old.name not in names:
            old.unlink()


def _read_files(link: Path) -> Files:
    directory = link.resolve()
    return {
        str(file.relative_to(directory)): (file.read_bytes(), stat.S_IMODE(file.stat().st_mode))
        for file in directory.rglob("*")
        if file.is_file()
    }
