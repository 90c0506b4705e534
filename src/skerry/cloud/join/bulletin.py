"""What the cloud tells Skerry agents about itself: where it is reached, and which authorities are its own.

Sent when a node connects and at every change; agents keep it (``edge/link/places.py``). Go agents get none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skerry.api.config.advertise import places
from skerry.base.certificates import fingerprint
from skerry.cloud.hub.ports import NodeLink, NodeName, Outbox
from skerry.cloud.join.ca import Authority
from skerry.cloud.join.enrolments import Enrolments
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge.envelope import Envelope

_SERVERS = {"hubs": "hub", "joins": "join", "tunnels": "tunnel"}


class Bulletin:
    """The present news, and who has to hear it.

    Args:
        outbox: reaches connected nodes.
        authority: the authority now.
        enrolments: tells which authority a node's certificate is of.
        ports: of the servers, by name.
        advertise: addresses of the cloud, as configured; when there are none, nodes keep the one they joined at.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        authority: Callable[[], Authority],
        enrolments: Enrolments,
        ports: Mapping[str, int],
        advertise: Callable[[], Sequence[str]],
    ) -> None:
        self._outbox = outbox
        self._authority = authority
        self._enrolments = enrolments
        self._ports = ports
        self._advertise = advertise

    def tell(self, link: NodeLink) -> None:
        """Send it to one node."""
        if link.is_skerry:
            content = self._content(link.node)
            self._outbox.send(
                link.node, Envelope("", c.SOURCE_CLOUD_HUB, c.GROUP_HUB, c.OP_UPDATE, c.RESOURCE_CLOUD, content)
            )

    def tell_all(self) -> None:
        """Send it to every connected node."""
        for link in self._outbox.connected():
            self.tell(link)

    def _content(self, node: NodeName) -> dict[str, Any]:
        """``hubs``, ``joins``, ``tunnels``: lists of ``[host, port]``; ``api_port``: of the API server on the same
        hosts, 0 without one; ``authorities``: PEM; ``renew``: whether the node should ask for a certificate of the
        present authority before its own one ends."""
        authority = self._authority()
        entries = self._advertise()
        found = {name: list(map(list, places(entries, server, self._ports))) for name, server in _SERVERS.items()}
        told = {name: at for name, at in found.items() if at}
        record = self._enrolments.cached(node)
        present = fingerprint(authority.ca.cert_der)
        is_older = bool(authority.older) and record is not None and record.issuer != present
        api = places(entries, "api", self._ports) if entries and "api" in self._ports else []
        api_port = api[0][1] if api else self._ports.get("api", 0)
        news = {"api_port": api_port, "authorities": authority.bundle_pem.decode(), "renew": is_older}
        return told | news
