"""Power cuts for programs that keep files: record what a program does to its files, then rebuild them as a cut at any
moment would have left them.

``record(command, root)`` runs a program under strace and keeps every operation on files below ``root``, in order.
``Recording.rebuild(cut, target, seed)`` writes the files as they could be found after a cut just before operation
``cut``: what an fsync has covered is there; of everything later each write may be there, be missing, or be there in
part (512-byte sectors), and directory operations that no fsync has covered are lost from a random one on.
``Recording.told(cut)`` is what the program had written to its standard output by then: let it print a line (with one
``os.write(1, …)``) after each commit, and check that everything told is in the rebuilt files.

Not simulated: memory-mapped writes (SQLite's ``-shm`` file is rebuilt at open and left out), hard links, sparse holes
in the middle of a torn write. A data fsync of a new file does not save its name: that needs an fsync of the directory,
as POSIX says and as some file systems do.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.parts import fetch

SECTOR_BYTES = 512
_CALLS = (
    "openat,open,creat,write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,ftruncate,truncate,"
    "rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,lseek,chdir"
)
_LINE = re.compile(r"^(\d+) +(.*)$")
_UNFINISHED = " <unfinished ...>"
_RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$")
_CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+)(.*)$", re.DOTALL)
_FD = re.compile(r"^(\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FLAGS = re.compile(r"O_[A-Z_|]+")


@dataclass(frozen=True)
class Op:
    """One operation. ``started`` and ``ended`` are places in the order of all events.

    Kinds: ``create``, ``write``, ``truncate``, ``rename``, ``unlink``, ``mkdir``, ``rmdir``, ``sync``, ``told``.
    """

    kind: str
    path: str
    started: int
    ended: int
    data: bytes = b""
    offset: int = 0
    other: str = ""


@dataclass
class _File:
    """Content of one file: what is safe, and the changes since."""

    safe: bytearray = field(default_factory=bytearray)
    pending: list[Op] = field(default_factory=list)

    def sync(self, started: int) -> None:
        later = [op for op in self.pending if op.ended > started]
        for op in self.pending:
            if op.ended <= started:
                _apply(self.safe, op)
        self.pending = later


class Recording:
    """Everything that a program did below a directory."""

    def __init__(self, ops: Sequence[Op], before: Mapping[str, bytes], directories: Sequence[str]) -> None:
        self._ops = ops
        self._before = before
        self._directories = directories

    def __len__(self) -> int:
        """The number of cuts that can be told apart."""
        return len(self._ops)

    def count(self, kind: str, path: str | None = None) -> int:
        """How many operations of a kind there were, on one file or on all."""
        return sum(op.kind == kind and path in (None, op.path) for op in self._ops)

    def told(self, cut: int) -> list[str]:
        """Whole lines that the program had printed before operation ``cut``."""
        text = b"".join(op.data for op in self._ops[:cut] if op.kind == "told").decode()
        return text.split("\n")[:-1]

    def rebuild(self, cut: int, target: Path, seed: int) -> None:
        """Write the files into ``target`` (which must be empty or missing) as a cut before operation ``cut``."""
        assert 0 <= cut <= len(self._ops), f"there are {len(self._ops)} operations"
        dice = random.Random(seed)
        names, files = self._survivors(cut, dice)
        target.mkdir(parents=True, exist_ok=True)
        for directory in sorted(path for path, number in names.items() if number is None):
            (target / directory).mkdir(parents=True, exist_ok=True)
        for path, number in names.items():
            if number is not None:
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                (target / path).write_bytes(_torn(files[number], dice))

    def _survivors(self, cut: int, dice: random.Random) -> tuple[dict[str, int | None], dict[int, _File]]:
        """The names that a cut leaves (None: a directory), and the files behind them."""
        safe: dict[str, int | None] = dict.fromkeys(self._directories)
        files: dict[int, _File] = {}
        for number, (path, content) in enumerate(self._before.items()):
            safe[path], files[number] = number, _File(bytearray(content))
        live, waiting = dict(safe), list[tuple[Op, int | None]]()
        for op in self._ops[:cut]:
            match op.kind:
                case "write" | "truncate":
                    if (number := live.get(op.path)) is not None:
                        files[number].pending.append(op)
                case "sync":
                    if live.get(op.path, -1) is None:
                        waiting = _settle(op, waiting, safe)
                    elif (number := live.get(op.path)) is not None:
                        files[number].sync(op.started)
                case "create" if op.path not in live:
                    files[len(files)] = _File()
                    waiting.append((op, len(files) - 1))
                    _rename(live, op, len(files) - 1)
                case "rename" | "unlink" | "mkdir" | "rmdir":
                    waiting.append((op, live.get(op.path)))
                    _rename(live, op, live.get(op.path))
        for op, number in waiting[: dice.randint(0, len(waiting))]:
            _rename(safe, op, number)
        return safe, files


def record(command: Sequence[str], root: Path, *, environment: Mapping[str, str] | None = None) -> Recording:
    """Run ``command`` under strace and keep what it does below ``root``.

    Raises:
        PartMissing: there is no strace.
        AssertionError: the command failed.
    """
    root = root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    before = {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.endswith("-shm")
    }
    directories = ["", *(str(path.relative_to(root)) for path in root.rglob("*") if path.is_dir())]
    strace = fetch("strace", "strace")
    log = root.with_name(f"{root.name}.strace")
    options = ["-f", "--seccomp-bpf", "-y", "-xx", "-s", "16777216", "-e", f"trace={_CALLS}", "-o", str(log)]
    result = subprocess.run(
        [str(strace.path), *options, *command],
        env={**strace.env(), **(environment or {})},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    try:
        with log.open() as lines:
            ops = list(_ops(lines, str(root)))
    finally:
        log.unlink(missing_ok=True)
    return Recording(ops, before, directories)


def _settle(sync: Op, waiting: list[tuple[Op, int | None]], safe: dict[str, int | None]) -> list[tuple[Op, int | None]]:
    """A directory was synced: its changes, and with them all earlier ones, are safe."""
    last = max(
        (n for n, (op, _) in enumerate(waiting) if op.ended <= sync.started and sync.path in _parents(op)), default=-1
    )
    for op, number in waiting[: last + 1]:
        _rename(safe, op, number)
    return waiting[last + 1 :]


def _parents(op: Op) -> set[str]:
    return {str(Path(path).parent).removeprefix(".") for path in (op.path, op.other) if path}


def _rename(names: dict[str, int | None], op: Op, number: int | None) -> None:
    match op.kind:
        case "create":
            names[op.path] = number
        case "mkdir":
            names[op.path] = None
        case "unlink" | "rmdir":
            names.pop(op.path, None)
        case "rename":
            moved = {path: n for path, n in names.items() if path == op.path or path.startswith(f"{op.path}/")}
            for path in moved:
                del names[path]
            for path, n in moved.items():
                names[op.other + path[len(op.path) :]] = n


def _apply(content: bytearray, op: Op) -> None:
    if op.kind == "truncate":
        del content[op.offset :]
        content.extend(bytes(op.offset - len(content)))
        return
    content.extend(bytes(max(0, op.offset - len(content))))
    content[op.offset : op.offset + len(op.data)] = op.data


def _torn(file: _File, dice: random.Random) -> bytes:
    """The file after the cut: each change that no sync covered is there, missing, or there in part."""
    content = bytearray(file.safe)
    habit = dice.choice(("all", "none", "some", "torn"))
    for op in file.pending:
        fate = dice.choice(("all", "none", "torn")) if habit in ("some", "torn") else habit
        if fate == "all" or (fate == "torn" and op.kind == "truncate" and dice.random() < 0.5):
            _apply(content, op)
        elif fate == "torn" and op.kind == "write":
            _apply_sectors(content, op, dice)
    return bytes(content)


def _apply_sectors(content: bytearray, op: Op, dice: random.Random) -> None:
    at = op.offset
    end = op.offset + len(op.data)
    while at < end:
        until = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        if dice.random() < 0.5:
            _apply(content, Op("write", op.path, 0, 0, op.data[at - op.offset : until - op.offset], at))
        at = until


def _ops(lines: Iterator[str], root: str) -> Iterator[Op]:
    """strace's lines → operations below ``root``."""
    reader = _Reader(root)
    begun: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(lines):
        matched = _LINE.match(line.rstrip("\n"))
        if not matched:
            continue
        thread, text = matched.groups()
        started = number
        if text.endswith(_UNFINISHED):
            begun[thread] = (text.removesuffix(_UNFINISHED), number)
            continue
        if resumed := _RESUMED.match(text):
            head, started = begun.pop(thread)
            text = head + resumed[2]
        if call := _CALL.match(text):
            yield from reader.take(call[1], call[2], int(call[3]), call[4], started=started, ended=number)


class _Reader:
    """Keeps file positions and sizes, which strace does not tell."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._positions: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._appends: set[str] = set()
        self._here = str(Path.cwd())

    def take(self, name: str, arguments: str, result: int, rest: str, *, started: int, ended: int) -> Iterator[Op]:
        if result < 0:
            return
        fd = _FD.match(arguments)
        texts = [_bytes(text) for text in _TEXT.findall(arguments)]
        if name == "write" and fd and fd[1] == "1":
            yield Op("told", "", started, ended, texts[0][:result])
            return
        match name:
            case "open" | "openat" | "creat":
                yield from self._open(arguments, texts[-1], f"{result}{rest}", started, ended)
            case "chdir":
                self._here = os.path.join(self._here, texts[0].decode())
            case "rename" | "renameat" | "renameat2":
                paths = self._paths(arguments, texts)
                if paths[0] is not None and paths[1] is not None:
                    self._move(paths[0], paths[1])
                    yield Op("rename", paths[0], started, ended, other=paths[1])
            case "unlink" | "unlinkat" | "mkdir" | "mkdirat" | "rmdir":
                [path] = self._paths(arguments, texts)
                kind = "mkdir" if name.startswith("mkdir") else "rmdir" if "REMOVEDIR" in arguments else name[:6]
                if path is not None:
                    self._sizes.pop(path, None)
                    yield Op(kind, path, started, ended)
            case "truncate":
                [path] = self._paths(arguments, texts)
                if path is not None:
                    yield Op("truncate", path, started, ended, offset=int(arguments.rsplit(",", 1)[1]))
            case _ if fd and not fd[3] and (path := self._below(_bytes(fd[2]).decode())) is not None:
                yield from self._on_file(name, path, fd[1], arguments, texts, result, started, ended)

    def _open(self, arguments: str, path: bytes, answer: str, started: int, ended: int) -> Iterator[Op]:
        flags = _FLAGS.search(arguments)
        opened = _FD.match(answer)
        name = self._below(_bytes(opened[2]).decode()) if opened else None
        if opened is None or name is None:
            return
        wanted = set(flags[0].split("|")) if flags else set()
        self._positions[opened[1]] = 0
        if "O_APPEND" in wanted:
            self._appends.add(opened[1])
        else:
            self._appends.discard(opened[1])
        if "O_CREAT" in wanted:
            yield Op("create", name, started, ended)
        if "O_TRUNC" in wanted:
            self._sizes[name] = 0
            yield Op("truncate", name, started, ended)

    def _on_file(
        self, name: str, path: str, fd: str, arguments: str, texts: list[bytes], result: int, started: int, ended: int
    ) -> Iterator[Op]:
        match name:
            case "pwrite64":
                yield self._wrote(path, texts[0][:result], int(arguments.rsplit(",", 1)[1]), started, ended)
            case "write" | "writev":
                data = b"".join(texts)[:result]
                at = self._sizes.get(path, 0) if fd in self._appends else self._positions.get(fd, 0)
                self._positions[fd] = at + len(data)
                yield self._wrote(path, data, at, started, ended)
            case "pwritev" | "pwritev2":
                offset = int(arguments.split("], ")[-1].split(", ")[1])
                yield self._wrote(path, b"".join(texts)[:result], offset, started, ended)
            case "lseek":
                self._positions[fd] = result
            case "ftruncate":
                size = int(arguments.rsplit(",", 1)[1])
                self._sizes[path] = size
                yield Op("truncate", path, started, ended, offset=size)
            case "fsync" | "fdatasync":
                yield Op("sync", path, started, ended)

    def _wrote(self, path: str, data: bytes, offset: int, started: int, ended: int) -> Op:
        self._sizes[path] = max(self._sizes.get(path, 0), offset + len(data))
        return Op("write", path, started, ended, data, offset)

    def _move(self, old: str, new: str) -> None:
        if old in self._sizes:
            self._sizes[new] = self._sizes.pop(old)

    def _paths(self, arguments: str, texts: list[bytes]) -> list[str | None]:
        """The path arguments of a call, below the root; relative ones start at the descriptor before them."""
        bases = [_bytes(m[2]).decode() for part in arguments.split(", ") if (m := _FD.match(part))]
        found = []
        for number, text in enumerate(texts):
            base = bases[number] if number < len(bases) else self._here
            found.append(self._below(os.path.normpath(os.path.join(base, text.decode()))))
        return found

    def _below(self, path: str) -> str | None:
        if path == self._root:
            return ""
        if not path.startswith(f"{self._root}/") or path.endswith("-shm"):
            return None
        return path[len(self._root) + 1 :]


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
