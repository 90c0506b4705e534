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
_MS_PRIVATE = 1 << 18
_MNT_DETACH = 2
_LINK_LIMIT = 40
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

    Args:
        path: an empty directory to build it on.
    """

    def __init__(self, libc: Libc, path: str) -> None:
        self._libc = libc
        self._path = path
        self._made: list[str] = []
        self._volumes: list[str] = []

    def build(self) -> None:
        """Show every entry of the host's root directory."""
        self._mirror("/", self._path)

    def add(self, source: str, container_path: str, *, read_only: bool) -> None:
        """Show ``source`` (file or directory of the host) at ``container_path``."""
        target = self._place(container_path, is_dir=stat.S_ISDIR(os.stat(source).st_mode))  # noqa: PTH116 - no pathlib here
        self._libc.mount(source, target, "", MS_BIND | MS_REC)
        if read_only:
            kept = os.statvfs(target).f_flag & 0x40E
            self._libc.mount("none", target, "", MS_BIND | _MS_REMOUNT | _MS_RDONLY | kept)
        self._volumes.append(target)

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

    def _mirror(self, source: str, target: str) -> None:
        mode = stat.S_IMODE(os.stat(source).st_mode)  # noqa: PTH116
        names = os.listdir(source)  # noqa: PTH208
        # The entry that holds the target goes first: it must not carry copies of what is mirrored before it.
        names.sort(key=lambda name: not self._path.startswith(f"/{name}/"))
        self._libc.mount("tmpfs", target, "tmpfs", 0, f"mode={mode:o},size=1m")
        self._made.append(target)
        for name in names:
            self._show(f"{source.rstrip('/')}/{name}", f"{target}/{name}")

    def _show(self, source: str, target: str) -> None:
        try:
            kind = os.lstat(source).st_mode
        except OSError:
            return
        if stat.S_ISLNK(kind):
            os.symlink(os.readlink(source), target)  # noqa: PTH115, PTH211
            return
        _make(target, is_dir=stat.S_ISDIR(kind))
        self._libc.mount(source, target, "", MS_BIND | MS_REC)

    def _place(self, container_path: str, *, is_dir: bool) -> str:
        parts = [part for part in container_path.split("/") if part not in ("", ".")]
        at, links = self._path, 0
        while parts:
            name = parts.pop(0)
            if name == "..":
                at = at if at == self._path else at.rpartition("/")[0]
                continue
            following = f"{at}/{name}"
            if os.path.islink(following):  # noqa: PTH114
                links += 1
                if links > _LINK_LIMIT:
                    raise OSError(f"{container_path}: too many symbolic links")
                link = os.readlink(following)  # noqa: PTH115
                at = self._path if link.startswith("/") else at
                parts = [part for part in link.split("/") if part not in ("", ".")] + parts
                continue
            if not os.path.lexists(following):
                self._let_make(at)
                _make(following, is_dir=is_dir or bool(parts))
            at = following
        return at

    def _let_make(self, directory: str) -> None:
        """Have ``directory`` on a tmpfs of ours or in a volume."""
        ours = max((len(path) for path in self._made + self._volumes if _covers(path, directory)), default=-1)
        theirs = self._host_mount(directory)
        if ours >= theirs:
            return
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        try:
            self._mirror(f"/proc/self/fd/{fd}", directory)
        finally:
            os.close(fd)

    def _host_mount(self, directory: str) -> int:
        """Length of the longest path over ``directory`` that shows something of the host."""
        best = -1
        at = directory
        while at.startswith(self._path) and at != self._path:
            if os.path.ismount(at) and at not in self._made and at not in self._volumes:
                best = len(at)
                break
            at = at.rpartition("/")[0]
        return best


def _covers(path: str, directory: str) -> bool:
    return directory == path or directory.startswith(path + "/")


def _make(path: str, *, is_dir: bool) -> None:
    if is_dir:
        os.mkdir(path, 0o755)  # noqa: PTH102
    else:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644))


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
