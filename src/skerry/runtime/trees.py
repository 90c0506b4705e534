"""Making, removing and measuring directories that programs in containers may change meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from pathlib import Path

_PASSES = 1000
"""A program that still makes files does not hold us for ever."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make_directory(path: str | Path, mode: int, *, dir_fd: int | None = None) -> None:
    """Make a directory with exactly ``mode``; what is swapped into its place meanwhile is not touched.

    Raises:
        FileExistsError: something is there.
        OSError: what was made was changed into something else.
    """
    os.mkdir(path, mode & 0o755, dir_fd=dir_fd)
    fd = os.open(path, _DIRECTORY, dir_fd=dir_fd)
    try:
        if os.fstat(fd).st_uid == os.geteuid():  # else a program moved a directory of its own here
            os.fchmod(fd, mode)
    finally:
        os.close(fd)


def remove_tree(path: Path) -> None:
    """Remove a directory and what is in it, however deep, never following a link. Missing is fine."""
    try:
        top = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return
    try:
        while names := _strip(top):
            for name in names:
                _lift(name, top)
    finally:
        os.close(top)
    path.rmdir()


def _strip(fd: int) -> list[str]:
    """Remove the files and the empty directories of a directory; gives the names of the other directories.

    Entries go as they are read, so that a directory of any size costs no memory; some file systems skip entries then,
    so it is read again until nothing more goes.
    """
    left: list[str] = []
    for _ in range(_PASSES):
        left, has_removed = [], False
        with os.scandir(fd) as found:
            for entry in found:
                if _is_left(entry, fd):
                    left.append(entry.name)
                else:
                    has_removed = True
        if not has_removed:
            break
    return left


def _is_left(entry: os.DirEntry[str], fd: int) -> bool:
    """Remove an entry of a directory, unless it is a directory that holds something."""
    with contextlib.suppress(FileNotFoundError):
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.name, dir_fd=fd)
            return False
        try:
            os.rmdir(entry.name, dir_fd=fd)
        except OSError as exc:
            if exc.errno != errno.ENOTEMPTY:
                raise
            return True
    return False


def _lift(name: str, top: int) -> None:
    """Strip the directory ``name`` of ``top`` and move what is left in it to ``top``: no depth is too deep."""
    fd = os.open(name, _DIRECTORY, dir_fd=top)
    try:
        for inner in _strip(fd):
            os.rename(inner, uuid.uuid4().hex, src_dir_fd=fd, dst_dir_fd=top)
    finally:
        os.close(fd)


def tree_bytes(path: Path) -> int:
    """Bytes on the disk of everything below ``path``, on its own file system only, following no link."""
    try:
        device = path.lstat().st_dev
    except OSError:
        return 0
    total, waiting = 0, [path]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue  # it went away, or is not ours to read
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if found.st_dev == device:
                total += found.st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
    return total
