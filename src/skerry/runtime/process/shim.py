"""The supervisors that outlive the agent: one small process per container, forked from one starter per agent.

The agent runs the starter (``python -I -S -E``) and writes container directories to its standard input, one per line;
the starter forks a shim for each and ends with the agent. A line that names a request (``*.exec``) runs a command in a
container instead. A shim starts the program, writes its output to the log
file in CRI format with rotation, waits, ends whatever the program left behind, and writes ``state.json``. Forking
shares the interpreter's memory between all shims.

Answers on standard output: ``<last part of the line> started`` (or ``done``), or ``<last part> failed <reason>``.
Not here: any import that costs memory in every shim; anything about pods.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import sys
import time
from typing import Any

from skerry.runtime.process import exec as inside
from skerry.runtime.process.become import become, enter_cgroups, take_streams
from skerry.runtime.process.rootfs import MS_BIND, MS_REC, Libc, Root, unshare

SPEC, STATE = "spec.json", "state.json"
REQUEST = ".exec"
BLOCK_BYTES = 64 * 1024
ENTRY_BYTES = 16 * 1024
_SET_PDEATHSIG, _SET_SUBREAPER, _SET_NO_NEW_PRIVS = 1, 36, 38


def start_time(pid: int) -> int:
    """Clock ticks after boot when a process began; 0 when there is no such process (or only its remains)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def boot_id() -> str:
    """Names this boot of the machine."""
    with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123
        return file.read().strip()


def write_json(path: str, value: dict[str, Any]) -> None:
    """Replace a file durably."""
    temporary = f"{path}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps(value).encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(temporary, path)  # noqa: PTH105


class Log:
    """A log file with rotation.

    Args:
        path: the newest file; older ones get ``.1``, ``.2``… (1 is the newest of them).
        limit_bytes: size at which it is rotated.
        keep_count: how many files there are at most, with the newest one.
    """

    def __init__(self, path: str, *, limit_bytes: int, keep_count: int) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._keep_count = keep_count
        self._rests: dict[str, bytes] = {}
        self._open()

    def take(self, stream: str, data: bytes) -> None:
        """Bytes as the program wrote them."""
        now_ns = time.time_ns()
        prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_ns // 10**9)).encode()
        prefix += b".%09dZ %s " % (now_ns % 10**9, stream.encode())
        *lines, rest = (self._rests.get(stream, b"") + data).split(b"\n")
        entries: list[bytes] = []
        for line in lines:
            while len(line) > ENTRY_BYTES:
                entries += (prefix, b"P ", line[:ENTRY_BYTES], b"\n")
                line = line[ENTRY_BYTES:]
            entries += (prefix, b"F ", line, b"\n")
        while len(rest) > ENTRY_BYTES:
            entries += (prefix, b"P ", rest[:ENTRY_BYTES], b"\n")
            rest = rest[ENTRY_BYTES:]
        self._rests[stream] = rest
        if entries:
            self._write(b"".join(entries))

    def end(self) -> None:
        """Lines without a line feed at the end."""
        for stream, rest in list(self._rests.items()):
            if rest:
                self.take(stream, b"\n")

    def _open(self) -> None:
        os.makedirs(os.path.dirname(self._path), exist_ok=True)  # noqa: PTH103, PTH120
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size_bytes = os.fstat(self._fd).st_size

    def _write(self, data: bytes) -> None:
        # A full disk loses log lines, never the container.
        with contextlib.suppress(OSError):
            if self._size_bytes and self._size_bytes + len(data) > self._limit_bytes:
                self._rotate()
            self._size_bytes += os.write(self._fd, data)

    def _rotate(self) -> None:
        for number in range(self._keep_count - 1, 0, -1):
            older = self._path if number == 1 else f"{self._path}.{number - 1}"
            with contextlib.suppress(FileNotFoundError):
                os.replace(older, f"{self._path}.{number}")  # noqa: PTH105
        os.close(self._fd)
        self._open()


def serve() -> None:
    """The starter: fork a shim for each directory on standard input; end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libc = Libc()
    gc.collect()
    gc.freeze()
    waiting = b""
    while block := os.read(0, BLOCK_BYTES):
        *lines, waiting = (waiting + block).split(b"\n")
        for line in lines:
            _fork_twice(os.fsdecode(line), libc)


def probe() -> None:
    """End with 0 when this user may have mount namespaces, else 1."""
    try:
        libc = Libc()
        unshare(libc, with_user=os.geteuid() != 0, hostname="probe")
        libc.mount("/", "/", "", MS_BIND | MS_REC)
        libc.mount("tmpfs", "/", "tmpfs", 0)
    except OSError:
        sys.exit(1)


def _fork_twice(directory: str, libc: Libc) -> None:
    """The middle process ends at once, so that the shim is no child of the starter."""
    middle = os.fork()
    if middle:
        os.waitpid(middle, 0)
        return
    if os.fork():
        os._exit(0)
    is_request = directory.endswith(REQUEST)
    try:
        os.setsid()
        if is_request:
            inside.run(directory, libc)
            _answer(directory, "done")
        else:
            _shim(directory, libc)
    except BaseException as exc:  # noqa: BLE001 - the edge of this process
        _answer(directory, f"failed {exc}")
        if not is_request:
            with contextlib.suppress(OSError):
                write_json(f"{directory}/{STATE}", _ended(128, reason="StartError", message=str(exc)))
        os._exit(1)
    os._exit(0)


def _answer(directory: str, text: str) -> None:
    with contextlib.suppress(OSError):
        name = directory.rstrip("/").rpartition("/")[2]
        os.write(1, f"{name} {text}".replace("\n", " ").encode()[:4000] + b"\n")


def _ended(exit_code: int, *, sig: int = 0, reason: str, message: str = "") -> dict[str, Any]:
    return {
        "state": "exited",
        "exit_code": exit_code,
        "signal": sig,
        "finished_at_s": time.time(),
        "reason": reason,
        "message": message,
    }


def _shim(directory: str, libc: Libc) -> None:
    with open(f"{directory}/{SPEC}", "rb") as file:  # noqa: PTH123
        spec = json.loads(file.read())["shim"]
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    libc.prctl(_SET_SUBREAPER, 1)
    log = Log(spec["log_path"], limit_bytes=spec["log_limit_bytes"], keep_count=spec["log_keep_count"])
    wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake[1], warn_on_full_buffer=False)
    out, err, told = (os.pipe2(os.O_CLOEXEC) for _ in range(3))
    pid = os.fork()
    if pid == 0:
        _program(spec, libc, out[1], err[1], told[1])
    for fd in (out[1], err[1], told[1]):
        os.close(fd)
    started = {
        "state": "running",
        "boot_id": boot_id(),
        "shim_pid": os.getpid(),
        "shim_start": start_time(os.getpid()),
        "pid": pid,
        "pid_start": start_time(pid),
        "started_at_s": time.time(),
    }
    failure = _read_all(told[0])
    if failure:
        os.waitpid(pid, 0)
        raise RuntimeError(failure.decode(errors="replace"))
    write_json(f"{directory}/{STATE}", started)
    _answer(directory, "started")
    _let_go()
    status = _pump(pid, log, {out[0]: "stdout", err[0]: "stderr"}, wake[0])
    write_json(f"{directory}/{STATE}", started | _result(status, spec))


def _let_go() -> None:
    """Hold nothing of the agent's any more."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.chdir("/")


def _result(status: int, spec: dict[str, Any]) -> dict[str, Any]:
    if os.WIFSIGNALED(status):
        sig = os.WTERMSIG(status)
        reason = "OOMKilled" if sig == signal.SIGKILL and out_of_memory(spec["cgroups"]) else "Error"
        return _ended(128 + sig, sig=sig, reason=reason)
    exit_code = os.WEXITSTATUS(status)
    return _ended(exit_code, reason="Error" if exit_code else "Completed")


def out_of_memory(cgroups: list[str]) -> bool:
    """Whether the kernel killed something in a container's control groups for its memory limit."""
    for path in cgroups:
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError), open(f"{path}/{name}") as file:  # noqa: PTH123
                counts = dict(line.split() for line in file if len(line.split()) == 2)
                if int(counts.get("oom_kill", 0)):
                    return True
    return False


def _pump(pid: int, log: Log, streams: dict[int, str], wake: int) -> int:
    """Write the log until the program and everything it started has ended; its wait status."""
    poller = select.poll()
    for fd in (*streams, wake):
        os.set_blocking(fd, False)
        poller.register(fd, select.POLLIN)
    status: int | None = None
    while status is None:
        for fd, _ in poller.poll():
            if fd == wake:
                _read_some(wake)
                status = _reap(pid, status)
            elif not _copy(fd, streams[fd], log):
                poller.unregister(fd)
    _end_descendants()
    for fd, stream in streams.items():
        while _copy(fd, stream, log):
            pass
    log.end()
    return status


def _copy(fd: int, stream: str, log: Log) -> bool:
    data = _read_some(fd)
    if data:
        log.take(stream, data)
    return bool(data)


def _read_some(fd: int) -> bytes:
    try:
        return os.read(fd, BLOCK_BYTES)
    except BlockingIOError:
        return b""


def _read_all(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, 4096):
        parts.append(part)
    os.close(fd)
    return b"".join(parts)


def _reap(pid: int, status: int | None) -> int | None:
    """Take the status of every ended child; orphans of the program are our children too."""
    while True:
        try:
            ended, found = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if ended == 0:
            return status
        if ended == pid:
            status = found


def _end_descendants() -> None:
    """Kill what the program left behind: it is all ours, because we are its subreaper."""
    me = os.getpid()
    while True:
        parents: dict[int, int] = {}
        for name in os.listdir("/proc"):  # noqa: PTH208
            if name.isdigit():
                with contextlib.suppress(OSError, IndexError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                    parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
        for child in [pid for pid, parent in parents.items() if parent == me]:
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _program(spec: dict[str, Any], libc: Libc, out: int, err: int, told: int) -> None:
    """Become the program. What goes wrong is told through ``told``."""
    step = "prepare"

    def at_step(text: str) -> None:
        nonlocal step
        step = text

    try:
        signal.set_wakeup_fd(-1)
        for number in range(1, signal.NSIG):
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        os.setsid()
        take_streams(out, err)
        step = "enter the cgroup"
        enter_cgroups(spec["cgroups"])
        step = "make the file system view"
        if spec["root"]:
            unshare(libc, with_user=spec["user_namespace"], hostname=spec["hostname"])
            root = Root(libc, spec["root"])
            root.build()
            for mount in spec["mounts"]:
                root.add(mount["source"], mount["target"], read_only=mount["read_only"])
            root.enter()
        become(spec, libc, at_step)
    except BaseException as exc:  # noqa: BLE001 - the edge of this process
        text = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        os.write(told, f"cannot {step}: {text}".encode())
    os._exit(127)
