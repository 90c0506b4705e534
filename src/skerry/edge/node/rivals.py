"""Other node agents on this machine that manage the same container engine: two of them would end each other's pods."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from skerry.base import yaml
from skerry.base.values import Struct

_DEFAULT = "/run/containerd/containerd.sock"
_OWN_ENGINES = {"kubelet": _DEFAULT, "edgecore": _DEFAULT, "k3s": "/run/k3s/containerd/containerd.sock"}
_CONFIG_BYTES = 1024 * 1024
_FLAGS = ("--container-runtime-endpoint", "--remote-runtime-endpoint")


class Rival(Struct, frozen=True):
    """One running agent and the socket of the engine that it manages."""

    name: str
    pid: int
    socket: str


def rivals(*, proc: Path = Path("/proc")) -> list[Rival]:
    """Every other node agent of this machine."""
    found = []
    for path in proc.glob("[0-9]*"):
        try:
            name = (path / "comm").read_text().strip()
            words = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it has ended meanwhile
        if name in _OWN_ENGINES:
            socket = next(_endpoints(words, path), _OWN_ENGINES[name])
            found.append(Rival(name, int(path.name), socket.removeprefix("unix://")))
    return sorted(found, key=lambda rival: rival.pid)


def conflicting(socket: Path, *, proc: Path = Path("/proc")) -> list[Rival]:
    """The rivals that manage the engine at ``socket``."""
    return [rival for rival in rivals(proc=proc) if Path(rival.socket).resolve() == socket.resolve()]


def _endpoints(words: list[str], process: Path) -> Iterator[str]:
    """The engine's socket, from the command line or the file that it names."""
    for flag in _FLAGS:
        if value := _value(words, flag):
            yield value
    if config := _value(words, "--config"):
        yield from _configured(process / "root" / config.lstrip("/"))


def _value(words: list[str], flag: str) -> str:
    for number, word in enumerate(words):
        if word == flag and number + 1 < len(words):
            return words[number + 1]
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return ""


def _configured(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            document = yaml.load(file.read(_CONFIG_BYTES))
    except (OSError, yaml.YamlError):
        return
    waiting = [document]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            for key, value in part.items():
                if key in ("containerRuntimeEndpoint", "remoteRuntimeEndpoint") and isinstance(value, str) and value:
                    yield value
                waiting.append(value)
