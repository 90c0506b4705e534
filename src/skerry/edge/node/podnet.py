"""The pod network of a node whose container engine has none: written when the cloud has given the node addresses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from skerry.api.status import ApiError
from skerry.base.aio.clock import Clock
from skerry.base.obs.log import get_log
from skerry.edge.sync.remote import Remote
from skerry.runtime.network import BRIDGE, FILE_NAME, missing_plugins, write_default_conflist
from skerry.runtime.ports import EngineError
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import route

log = get_log(__name__)

_AGAIN_S, _CALM_S = 2.0, 600.0


class NetworkPlaces(Protocol):
    """Where the engine looks for its network: ``runtime.cri.network.Places`` as it is."""

    @property
    def is_missing(self) -> bool:
        """The engine says that it has no network."""

    @property
    def configuration(self) -> Path:
        """Directory of conflists."""

    @property
    def plugins(self) -> Path:
        """Directory of plugins."""


class PodNetwork:
    """Writes the default conflist where the engine has no network of its own, and nothing anywhere else.

    Args:
        places: asks the engine; None when it does not tell.
        made: lists a file before it is made, for ``skerry reset``.
        has_masquerade: iptables is there, so that pods reach other networks by the node's address.
    """

    def __init__(
        self,
        node: str,
        *,
        remote: Remote,
        places: Callable[[], Awaitable[NetworkPlaces | None]],
        made: Callable[[str, str], None],
        has_masquerade: bool,
        clock: Clock,
    ) -> None:
        self._node = node
        self._remote = remote
        self._places = places
        self._made = made
        self._has_masquerade = has_masquerade
        self._clock = clock

    async def run(self) -> None:
        """Look, and help where something is missing; never ends."""
        while True:
            try:
                is_good = await self.ensure()
            except (ApiError, EngineError, OSError) as exc:
                log.debug("podnet.later", why=str(exc))
                is_good = False
            await self._clock.sleep(_CALM_S if is_good else _AGAIN_S)

    async def ensure(self) -> bool:
        """One look; False when it has to be looked at again soon.

        Raises:
            ApiError: the cloud cannot be asked now.
            EngineError: the engine cannot be asked now.
            OSError: the file cannot be written.
        """
        places = await self._places()
        if places is None or not places.is_missing:
            return places is not None
        if missing := missing_plugins((places.plugins,)):
            log.warning(
                "podnet.plugins_missing", missing=missing, directory=str(places.plugins),
                hint="install the CNI plugins (Debian: containernetworking-plugins)",
            )  # fmt: skip
            return False
        node = await self._remote.ask(c.OP_QUERY, route.build("", c.TYPE_NODE, self._node))
        pod_cidr = (node.get("spec") or {}).get("podCIDR")
        if not pod_cidr:
            log.info("podnet.no_addresses", hint="the cloud has not given this node a podCIDR yet")
            return False
        self._made("file", str(places.configuration / FILE_NAME))
        self._made("bridge", BRIDGE)
        path = write_default_conflist(
            pod_cidr=str(pod_cidr), directory=places.configuration, has_masquerade=self._has_masquerade
        )
        if path is not None:
            log.info("podnet.written", path=str(path), pod_cidr=pod_cidr)
        return False
