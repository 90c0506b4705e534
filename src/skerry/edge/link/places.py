"""Where the cloud is reached: what the join wrote into ``node.json``, and what the cloud has told since.

The newest list comes first; addresses that the cloud names no more are kept behind it, so that a wrong setting in the
cloud does not cut its nodes off.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skerry.base import json
from skerry.base.files import write_secret
from skerry.base.obs.log import get_log

log = get_log(__name__)

Address = tuple[str, int]
MAX_ADDRESSES = 8


class Places:
    """Addresses of hub, join server, tunnel server and API server, each in the order in which they are tried.

    Args:
        path: of ``node.json``.
        joined: its content: ``hubs`` and ``tunnels``, lists of ``[host, port]``; ``joins`` likewise, or ``join``, one;
            ``api_port``, of the API server, where the cloud has told it.
    """

    def __init__(self, path: Path, joined: Mapping[str, Any]) -> None:
        self._path = path
        self._joined = dict(joined)
        self.hubs = _addresses(joined["hubs"])
        self.tunnels = _addresses(joined["tunnels"])
        self.joins = _addresses(joined.get("joins") or [joined["join"]])
        self._api_port = _port(joined.get("api_port"))

    @property
    def api(self) -> Address | None:
        """The API server of the cloud, which is where the hub is; None: it has none of its own."""
        return (self.hubs[0][0], self._api_port) if self._api_port else None

    def learn(self, content: Mapping[str, Any]) -> bool:
        """Take what the cloud says (see ``cloud/join/bulletin.py``) and keep it. Whether anything is new."""
        before = (self.hubs, self.joins, self.tunnels, self._api_port)
        self.hubs = _merged(content.get("hubs"), self.hubs)
        self.joins = _merged(content.get("joins"), self.joins)
        self.tunnels = _merged(content.get("tunnels"), self.tunnels)
        self._api_port = _port(content.get("api_port"))
        if before == (self.hubs, self.joins, self.tunnels, self._api_port):
            return False
        self._joined |= {"hubs": self.hubs, "tunnels": self.tunnels, "joins": self.joins, "join": self.joins[0]}
        self._joined["api_port"] = self._api_port
        try:
            write_secret(self._path, json.dumps(self._joined))
        except OSError as exc:  # a full disk: known until the next start, and told again then
            log.warning("cloud.addresses_not_kept", why=str(exc))
        log.info("cloud.addresses_learnt", hubs=[f"{host}:{port}" for host, port in self.hubs])
        return True


def _port(found: Any) -> int:
    """0 for whatever is no port."""
    return found if isinstance(found, int) and 0 < found < 65_536 else 0


def _merged(told: Any, known: list[Address]) -> list[Address]:
    new = _addresses(told) if isinstance(told, list) else []
    return list(dict.fromkeys([*new, *known]))[:MAX_ADDRESSES]


def _addresses(found: Any) -> list[Address]:
    """Whatever is no ``[host, port]`` is left out."""
    return [
        (entry[0], entry[1])
        for entry in found
        if isinstance(entry, list | tuple)
        and len(entry) == 2
        and isinstance(entry[0], str)
        and isinstance(entry[1], int)
        and entry[0]
        and 0 < entry[1] < 65_536
    ]
