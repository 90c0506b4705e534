"""Where data lies: as root in ``/var/lib/skerry``, otherwise below ``$XDG_DATA_HOME``."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from skerry.base.errors import ConfigError
from skerry.base.files import SECRET_DIR_MODE

_SOCKET_PATH_BYTES = 107
_LONGEST_SOCKET_NAME = len("/kubelet.sock")


def data_root(environment: Mapping[str, str] = os.environ) -> Path:
    """The directory of this user's Skerry data."""
    if os.geteuid() == 0:
        return Path("/var/lib/skerry")
    base = environment.get("XDG_DATA_HOME") or str(Path.home() / ".local/share")
    return Path(base) / "skerry"


def cloud_data(data: Path | None) -> Path:
    """The cloud's directory: as given, else the default."""
    return data or data_root() / "cloud"


def edge_data(data: Path | None) -> Path:
    """The agent's directory: as given, else the default."""
    return data or data_root() / "edge"


def socket_directory(data: Path) -> Path:
    """Where the agent's sockets go: ``data``, or a private directory of a short name when its path is too long.

    The kernel takes at most 107 bytes for the path of a socket.
    """
    if len(os.fsencode(data)) + _LONGEST_SOCKET_NAME <= _SOCKET_PATH_BYTES:
        return data
    import tempfile  # here: it is wanted for a long path only

    directory = Path(tempfile.gettempdir()) / _name_for(data)
    if not _is_made_private(directory):
        raise ConfigError(f"{directory} belongs to somebody else", hint="remove it, or choose a shorter --data")
    return directory


def claims_directory() -> Path:
    """Where the agents of this machine say what they hold."""
    return Path("/run/skerry/claims") if os.geteuid() == 0 else data_root() / "claims"


def split_address(text: str, port: int) -> tuple[str, int]:
    """``host``, ``host:port`` or ``[v6]:port``."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        rest = rest.removeprefix(":")
    elif text.count(":") > 1:
        host, rest = text, ""
    else:
        host, _, rest = text.partition(":")
    if not host or (rest and not (rest.isascii() and rest.isdigit())):
        raise ConfigError(f"{text!r} is no address", hint="give HOST or HOST:PORT")
    if rest and not 0 < int(rest) < 65536:
        raise ConfigError(f"{text!r}: there is no port {rest}", hint="a port is a number from 1 to 65535")
    return host, int(rest) if rest else port


def memory_directory(data: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """A private directory in memory, for what is written often and worth nothing after a boot.

    ``data`` itself where this machine has no file system in memory that we may use.
    """
    roots = [environment.get("XDG_RUNTIME_DIR", ""), "/run" if os.geteuid() == 0 else "", "/dev/shm"]
    in_memory = _memory_mounts()
    for root in filter(None, roots):
        directory = Path(root) / _name_for(data)
        with contextlib.suppress(OSError):
            if os.path.realpath(root) in in_memory and _is_made_private(directory):
                return directory
    return data


def _name_for(data: Path) -> str:
    digest = hashlib.sha256(os.fsencode(data.absolute())).hexdigest()[:16]
    return f"skerry-{os.geteuid()}-{digest}"


def _is_made_private(directory: Path) -> bool:
    """Whether the directory is ours; made where it was not there."""
    directory.mkdir(mode=SECRET_DIR_MODE, exist_ok=True)
    found = directory.lstat()
    if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
        return False
    directory.chmod(SECRET_DIR_MODE)
    return True


def _memory_mounts() -> frozenset[str]:
    """Where file systems in memory are mounted."""
    try:
        lines = Path("/proc/self/mounts").read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(words[1] for line in lines if (words := line.split())[2] == "tmpfs")
