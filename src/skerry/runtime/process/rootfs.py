"""A private view of the file system for one container: mount and name namespaces, volumes at their paths.

Runs in the forked child of the shim, before the program. The host's mounts are never touched: every change happens in
a new mount namespace with private propagation and vanishes with the container's last process. A path that the host
does not have is made on a tmpfs that mirrors its parent directory, never in the host's directory.
Imports only what costs no memory in every shim.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWUSER = 0x10000000
_MS_RDONLY = 1
_MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
_MS_MOVE = 8192
_MS_PRIVATE = 1 << 18
_MNT_DETACH = 2
_LINK_LIMIT = 40
_ENTRY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_SET_SECCOMP, _CAPBSET_DROP, _CAP_AMBIENT = 22, 24, 47
_FILTER, _CLEAR_ALL = 2, 4


class Libc:
    """The few calls that Python 3.11 does not have."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def call(self, name: str, *arguments: object) -> None:
        """Call a function that gives 0 or -1.

        Raises:
            OSError: with the call's name.
        """
        if getattr(self._libc, name)(*arguments) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"{name}: {os.strerror(code)}")

    def mount(self, source: str, target: str, kind: str, flags: int, data: str = "") -> None:
        """mount(2)."""
        try:
            self.call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
        except OSError as exc:
            raise OSError(exc.errno, f"{exc.strerror} ({source} at {target})") from exc

    def prctl(self, option: int, value: int) -> None:
        """prctl(2) with one argument."""
        zero = ctypes.c_ulong(0)
        self.call("prctl", option, ctypes.c_ulong(value), zero, zero, zero)

    def give_up_rights(self) -> None:
        """Nobody after this, whoever it becomes, has a capability again. Without the right to say so there is none."""
        for capability in range(64):
            try:
                self.prctl(_CAPBSET_DROP, capability)
            except OSError:
                break  # past the last one, or not ours to drop
        try:
            self.prctl(_CAP_AMBIENT, _CLEAR_ALL)
        except OSError:
            pass  # older than Linux 4.3

    def filter_calls(self, program: bytes) -> None:
        """Let the kernel judge this process' system calls from now on; needs PR_SET_NO_NEW_PRIVS."""
        steps = ctypes.create_string_buffer(program, len(program))
        head = struct.pack("@HP", len(program) // 8, ctypes.addressof(steps))
        zero = ctypes.c_ulong(0)
        self.call("prctl", _SET_SECCOMP, ctypes.c_ulong(_FILTER), head, zero, zero)


def unshare(libc: Libc, *, with_user: bool, hostname: str) -> None:
    """Enter new mount and host name namespaces; ``with_user`` inside a user namespace that maps only ourselves."""
    uid, gid = os.geteuid(), os.getegid()
    libc.call("unshare", CLONE_NEWNS | CLONE_NEWUTS | (CLONE_NEWUSER if with_user else 0))
    if with_user:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    libc.mount("none", "/", "", MS_REC | _MS_PRIVATE)
    name = hostname.encode()[:63]
    libc.call("sethostname", name, len(name))


class Root:
    """A new root directory on a tmpfs that shows the host's, with volumes in it.

    Volumes may be changed by other containers meanwhile, so nothing is looked at by one name and used by another: every
    step goes from an open directory to an open entry, and what is mounted is made ready where nobody else is and moved.

    Args:
        path: an empty directory to build it on, in one that only we may change.
    """

    def __init__(self, libc: Libc, path: str) -> None:
        self._libc = libc
        self._path = path
        self._ours: set[int] = set()

    def build(self) -> None:
        """Show every entry of the host's root directory."""
        host = os.open("/", _DIRECTORY)
        self._libc.mount("tmpfs", self._path, "tmpfs", 0, _like(host))
        root = os.open(self._path, _DIRECTORY)
        self._ours.add(_mount_of(root))
        self._show_all(host, self._path)
        os.close(root)
        os.close(host)

    def add(self, source: str, container_path: str, *, read_only: bool) -> None:
        """Show ``source`` (file or directory of the host) at ``container_path``."""
        shown = os.open(source, os.O_PATH | os.O_CLOEXEC)
        is_dir = stat.S_ISDIR(os.fstat(shown).st_mode)
        target = self._place(container_path, is_dir=is_dir)
        stage = self._stage(is_dir=is_dir)
        self._libc.mount(f"/proc/self/fd/{shown}", stage, "", MS_BIND | MS_REC)
        if read_only:
            kept = os.statvfs(stage).f_flag & 0x40E
            self._libc.mount("none", stage, "", MS_BIND | _MS_REMOUNT | _MS_RDONLY | kept)
        os.close(self._move(stage, target))
        os.close(target)
        os.close(shown)

    def enter(self) -> None:
        """Make it the root directory of this process."""
        os.chdir(self._path)
        try:
            self._libc.call("pivot_root", b".", b".")
            self._libc.call("umount2", b".", _MNT_DETACH)
        except OSError:
            # The host's root is an initramfs, which cannot be pivoted away.
            os.chroot(".")
        os.chdir("/")

    def _place(self, container_path: str, *, is_dir: bool) -> int:
        """An open handle of what is at ``container_path`` in the new root; made where there is nothing."""
        trail = [os.open(self._path, _DIRECTORY)]
        parts, links = _parts(container_path), 0
        try:
            while parts:
                name = parts.pop(0)
                if name == "..":
                    if len(trail) > 1:
                        os.close(trail.pop())
                    continue
                entry = self._entry(trail, name, is_dir=is_dir or bool(parts))
                if not stat.S_ISLNK(os.fstat(entry).st_mode):
                    trail.append(entry)
                    continue
                links += 1
                link = os.readlink("", dir_fd=entry)
                os.close(entry)
                if links > _LINK_LIMIT:
                    raise OSError(f"{container_path}: too many symbolic links")
                while link.startswith("/") and len(trail) > 1:
                    os.close(trail.pop())
                parts = _parts(link) + parts
            return trail.pop()
        finally:
            for directory in trail:
                os.close(directory)

    def _entry(self, trail: list[int], name: str, *, is_dir: bool) -> int:
        try:
            return os.open(name, _ENTRY, dir_fd=trail[-1])
        except FileNotFoundError:
            pass
        if _mount_of(trail[-1]) not in self._ours:  # of the host, where nothing may be made
            trail[-1] = self._covered(trail[-1])
        try:
            _make(name, trail[-1], is_dir=is_dir)
        except FileExistsError:
            pass  # a container made it meanwhile
        return os.open(name, _ENTRY, dir_fd=trail[-1])

    def _covered(self, directory: int) -> int:
        """Cover a directory of the host by a tmpfs with the same entries; the tmpfs."""
        stage = self._stage(is_dir=True)
        self._libc.mount("tmpfs", stage, "tmpfs", 0, _like(directory))
        self._show_all(directory, stage)
        cover = self._move(stage, directory)
        os.close(directory)
        return cover

    def _show_all(self, source: int, target: str) -> None:
        """Show each entry of a directory in a tmpfs of ours."""
        listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=source)
        names = os.listdir(listed)  # noqa: PTH208
        os.close(listed)
        # The entry that holds the target goes first: it must not carry copies of what is mirrored before it.
        names.sort(key=lambda name: not self._path.startswith(f"/{name}/"))
        for name in names:
            try:
                entry = os.open(name, _ENTRY, dir_fd=source)
            except OSError:
                continue  # it went meanwhile
            self._show(entry, name, target)
            os.close(entry)

    def _show(self, entry: int, name: str, target: str) -> None:
        kind = os.fstat(entry).st_mode
        if stat.S_ISLNK(kind):
            os.symlink(os.readlink("", dir_fd=entry), f"{target}/{name}")  # noqa: PTH211
            return
        directory = os.open(target, _DIRECTORY)
        _make(name, directory, is_dir=stat.S_ISDIR(kind))
        os.close(directory)
        self._libc.mount(f"/proc/self/fd/{entry}", f"{target}/{name}", "", MS_BIND | MS_REC)

    def _stage(self, *, is_dir: bool) -> str:
        """Where something is mounted until it is ready, outside of every view."""
        directory, _, name = self._path.rpartition("/")
        name = f"{name}.{'directory' if is_dir else 'file'}"
        parent = os.open(directory, _DIRECTORY)
        try:
            _make(name, parent, is_dir=is_dir)
        except FileExistsError:
            pass
        finally:
            os.close(parent)
        return f"{directory}/{name}"

    def _move(self, stage: str, target: int) -> int:
        """Move what is mounted at ``stage`` onto an open file or directory; what was moved, open."""
        moved = os.open(stage, os.O_PATH | os.O_CLOEXEC)
        self._libc.mount(stage, f"/proc/self/fd/{target}", "", _MS_MOVE)
        self._ours.add(_mount_of(moved))
        return moved


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _like(directory: int) -> str:
    """Options of a tmpfs in place of a directory."""
    return f"mode={stat.S_IMODE(os.fstat(directory).st_mode):o},size=1m"


def _mount_of(fd: int) -> int:
    """The mount that an open file or directory was reached by."""
    with open(f"/proc/self/fdinfo/{fd}", "rb") as file:  # noqa: PTH123
        return int(file.read().partition(b"mnt_id:")[2].split(None, 1)[0])


def _make(name: str, directory: int, *, is_dir: bool) -> None:
    if is_dir:
        os.mkdir(name, 0o755, dir_fd=directory)
    else:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o644, dir_fd=directory))


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
