"""Files that survive a power cut: atomic writes, private modes, a lock per directory."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from skerry.base.errors import ConfigError

SECRET_MODE = 0o600
SECRET_DIR_MODE = 0o700


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace ``path`` with ``data`` in one step: a reader, or a power cut, sees the old file or the new one.

    Args:
        path: target; its directory must exist.
        data: whole content.
        mode: permission bits of the new file, set before any byte is written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    try:
        os.fchmod(fd, mode)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_secret(path: Path, data: bytes) -> None:
    """``write_atomic`` with mode 0600."""
    write_atomic(path, data, mode=SECRET_MODE)


def make_private_dir(path: Path) -> Path:
    """Create ``path`` (and parents) readable by its owner only."""
    path.mkdir(parents=True, exist_ok=True, mode=SECRET_DIR_MODE)
    path.chmod(SECRET_DIR_MODE)
    return path


def sync_directory(path: Path) -> None:
    """Make renames and removals in ``path`` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class DirectoryLock:
    """One process per data directory. A lock left by a dead process frees itself.

    Args:
        held: descriptor of this lock, which our process took as another program.

    Raises (on enter):
        ConfigError: another process holds the lock; names its pid.
    """

    def __init__(self, directory: Path, *, name: str = "lock", held: int = -1) -> None:
        self._path = directory / name
        self._fd = held

    @property
    def fd(self) -> int:
        """The descriptor that holds it."""
        return self._fd

    def __enter__(self) -> Self:
        if self._fd >= 0:
            os.set_inheritable(self._fd, False)
            return self
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, SECRET_MODE)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holder = _pid_in(self._fd) or "unknown"
            os.close(self._fd)
            raise ConfigError(
                f"{self._path.parent} is in use by another Skerry process (pid {holder})",
                hint="stop that process or choose another directory with --data",
            ) from exc
        line = f"{os.getpid()}\n".encode()
        os.pwrite(self._fd, line, 0)  # first, so that a full disk has the room that the file had
        os.ftruncate(self._fd, len(line))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        os.close(self._fd)


def lock_holder(directory: Path, *, name: str = "lock") -> int:
    """The process that holds the lock of ``directory``; 0 when it is free."""
    try:
        fd = os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        pid = _pid_in(fd)
        if not Path(f"/proc/{pid}").exists():
            return 0  # asked first, because our own short lock below could get in the way of a process that starts
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return pid
    finally:
        os.close(fd)
    return 0


def _pid_in(fd: int) -> int:
    text = os.pread(fd, 32, 0).decode(errors="replace").strip()
    return int(text) if text.isascii() and text.isdigit() else 0


def read_small(path: Path, *, limit_bytes: int) -> bytes:
    """A file that somebody else put there: never more than is allowed, and never a pipe that nobody writes.

    Raises:
        OSError: it cannot be read, is no file, or is longer than ``limit_bytes``.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path} is not a file")
        text = file.read(limit_bytes + 1)
    if len(text) > limit_bytes:
        raise OSError(f"{path} is longer than {limit_bytes} bytes")
    return text
