"""A command inside a running container, run by a process that the starter forks: probes and hooks.

The command joins the container's name spaces and root directory, takes the container's user and limits on new
privileges, and is ended with everything that it started when its time is over. The request is a file in the
container's directory (its environment may hold secrets, which have no place on a command line); the answer is another.
Imports only what costs no memory in every shim.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import time
from typing import Any

from skerry.runtime.process.become import become, enter_cgroups, take_streams
from skerry.runtime.process.rootfs import CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWUTS, Libc

OUTPUT_BYTES = 16 * 1024
_BLOCK_BYTES = 64 * 1024
_SET_PDEATHSIG, _SET_SUBREAPER, _SET_NO_NEW_PRIVS = 1, 36, 38


def run(request_path: str, libc: Libc) -> None:
    """Run what the file asks for and write the answer to ``<file>.out``.

    The file: ``pid``, ``argv``, ``env``, ``working_dir``, ``uid``, ``gid``, ``groups``, ``rlimits``, ``privileged``,
    ``has_root``, ``user_namespace``, ``cgroups`` and ``timeout_s``. The answer: one line of JSON with ``exit_code``,
    ``is_late`` and ``failure``, then the output.
    """
    with open(request_path, "rb") as file:  # noqa: PTH123
        request = json.loads(file.read())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    libc.prctl(_SET_SUBREAPER, 1)
    out, told = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _command(request, libc, out[1], told[1])
    os.close(out[1])
    os.close(told[1])
    output, is_late = _collect(out[0], pid, float(request["timeout_s"]))
    failure = os.read(told[0], 4096).decode(errors="replace")
    status = _end(pid, is_late=is_late)
    exit_code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    head = {"exit_code": exit_code, "is_late": is_late, "failure": failure}
    _write(f"{request_path}.out", json.dumps(head).encode() + b"\n" + output)


def _collect(fd: int, pid: int, timeout_s: float) -> tuple[bytes, bool]:
    """Output up to the limit, and whether the command was still running at the end of its time."""
    deadline_s = time.monotonic() + timeout_s
    poller, kept, longest_s = select.poll(), bytearray(), 0.05
    poller.register(fd, select.POLLIN)
    with contextlib.suppress(OSError):
        poller.register(os.pidfd_open(pid), select.POLLIN)
        longest_s = 60.0
    while (left_s := deadline_s - time.monotonic()) > 0:
        ready = [found for found, _ in poller.poll(min(left_s, longest_s) * 1000)]
        if fd in ready:
            data = os.read(fd, _BLOCK_BYTES)
            if not data:
                poller.unregister(fd)
            kept += data[: OUTPUT_BYTES - len(kept)]
        elif _has_ended(pid):
            # A child of the command may hold the pipe open; the command's own end counts.
            return bytes(kept), False
    return bytes(kept), not _has_ended(pid)


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(pid: int, *, is_late: bool) -> int:
    """Kill what is left of the command; its wait status."""
    if is_late:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    while True:
        for name in os.listdir("/proc"):  # noqa: PTH208
            if name.isdigit() and _parent(name) == os.getpid():
                with contextlib.suppress(OSError):
                    os.kill(int(name), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return status


def _parent(name: str) -> int:
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
        return int(file.read().rpartition(b")")[2].split()[1])
    return 0


def _command(request: dict[str, Any], libc: Libc, out: int, told: int) -> None:
    """Become the command. What goes wrong is told through ``told``."""
    step = "prepare"

    def at_step(text: str) -> None:
        nonlocal step
        step = text

    try:
        os.setsid()
        libc.prctl(_SET_PDEATHSIG, signal.SIGKILL)
        take_streams(out, out)
        step = "enter the container"
        enter_cgroups(request["cgroups"])
        _join(request, libc)
        os.chdir("/")
        become(request, libc, at_step)
    except BaseException as exc:  # noqa: BLE001 - the edge of this process
        text = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        os.write(told, f"cannot {step}: {text}".encode())
    os._exit(126)


def _join(request: dict[str, Any], libc: Libc) -> None:
    """Enter the name spaces of the container's program; without a view of its own there is nothing to enter."""
    pid = int(request["pid"])
    if not request["has_root"]:
        return
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    names = [("uts", CLONE_NEWUTS), ("mnt", CLONE_NEWNS)]
    if request["user_namespace"]:
        names.insert(0, ("user", CLONE_NEWUSER))
    spaces = [(os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), flag) for name, flag in names]
    for fd, flag in spaces:
        libc.call("setns", fd, ctypes.c_int(flag))
    os.fchdir(root)
    os.chroot(".")


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)
