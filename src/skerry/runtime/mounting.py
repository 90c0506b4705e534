"""Mounts that the agent makes itself: memory volumes and pinned sub-paths; and their end."""

from __future__ import annotations

import ctypes
import os
import stat
from pathlib import Path

from skerry.runtime.volume_files import VolumeError

_BIND, _REC, _DETACH = 4096, 16384, 2


def mount_memory(path: Path, *, size_bytes: int | None) -> None:
    """A tmpfs at ``path``, once."""
    if not path.is_mount():
        size = f",size={size_bytes}" if size_bytes else ""
        _libc_call("mount", b"tmpfs", os.fsencode(path), b"tmpfs", ctypes.c_ulong(0), f"mode=0777{size}".encode())


def unmount_below(directory: Path) -> None:
    """End every mount at or below ``directory``, the deepest first."""
    top = os.fsencode(directory)
    found = []
    with open("/proc/self/mountinfo", "rb") as file:  # noqa: PTH123 - bytes, as the kernel writes them
        for line in file:
            place = line.split(b" ", 5)[4].replace(b"\\040", b" ").replace(b"\\134", b"\\")
            if place == top or place.startswith(top + b"/"):
                found.append(place)
    for place in sorted(found, key=len, reverse=True):
        _libc_call("umount2", place, _DETACH)


def move_mount(source: Path, target: Path) -> None:
    """What is mounted at ``source`` is at ``target`` from now on; open files and other mounts of it stay good.

    A bind and an unmount: the kernel's own move is refused below shared mounts, as systemd makes them.
    """
    _libc_call("mount", os.fsencode(source), os.fsencode(target), b"", ctypes.c_ulong(_BIND), b"")
    _libc_call("umount2", os.fsencode(source), _DETACH)


def pin(base: Path, sub_path: str, target: Path) -> Path:
    """Bind ``base/sub_path`` to ``target``, by what it is now: a container that swaps it for a link changes nothing.

    A normal user cannot mount; the path itself is given back then, whose files are that user's own.

    Raises:
        VolumeError: it is not there, or leaves ``base``.
    """
    real_base = base.resolve()
    path = (real_base / sub_path).resolve()
    if not path.is_relative_to(real_base):
        raise VolumeError(f"subPath {sub_path!r} leaves its volume")
    relative = path.relative_to(real_base)
    if os.geteuid() != 0:
        return real_base / relative
    fd = _open_beneath(real_base, relative)
    try:
        is_directory = os.path.isdir(f"/proc/self/fd/{fd}")  # noqa: PTH112
        _make_target(target, is_directory=is_directory)
        source = f"/proc/self/fd/{fd}".encode()
        _libc_call("mount", source, os.fsencode(target), b"", ctypes.c_ulong(_BIND | _REC), b"")
    finally:
        os.close(fd)
    return target


def _open_beneath(base: Path, relative: Path) -> int:
    """The path without following any link: what was resolved a moment ago must still be what it was."""
    fd = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in relative.parts:
        try:
            following = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        except OSError as exc:
            raise VolumeError(f"subPath {str(relative)!r}: {exc.strerror}") from exc
        finally:
            os.close(fd)
        fd = following
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            os.close(fd)
            raise VolumeError(f"subPath {str(relative)!r} was changed into a link")
    return fd


def _make_target(target: Path, *, is_directory: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() or target.is_symlink():
        unmount_below(target)
        if target.is_dir():
            target.rmdir()
        else:
            target.unlink()
    if is_directory:
        target.mkdir()
    else:
        target.touch()


def _libc_call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
