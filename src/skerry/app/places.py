"""Where data lies: as root in ``/var/lib/skerry``, otherwise below ``$XDG_DATA_HOME``."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from skerry.base.errors import ConfigError
from skerry.base.files import make_private_dir

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
    digest = hashlib.sha256(os.fsencode(data.absolute())).hexdigest()[:16]
    directory = Path(tempfile.gettempdir()) / f"skerry-{os.geteuid()}-{digest}"
    make_private_dir(directory)
    found = directory.lstat()
    if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
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
