"""Keeps the authority of a running cloud fresh: rollovers, other replicas' changes, new hosts, a server certificate
that nears its end. Nothing of it needs a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from skerry.api.gvk import SECRETS, Object
from skerry.api.status import ApiError
from skerry.base.aio.clock import Clock
from skerry.base.certificates import CertifierFailed
from skerry.base.errors import ConfigError
from skerry.base.obs.log import get_log
from skerry.cloud.join.ca import SECRET_OLDER, Authority, AuthorityStore
from skerry.kube.informer import InformerSet
from skerry.wire.kubeedge import constants as c

log = get_log(__name__)

LOOK_EVERY_S = 12 * 3600.0
RETRY_S = 10.0
_NAMES = frozenset({c.SECRET_CA, c.SECRET_SERVER, SECRET_OLDER})


class AuthorityKeeper:
    """The authority now, and news of the next.

    Args:
        store: where it is kept.
        authority: as loaded at the start.
        clock: time source.
    """

    def __init__(self, store: AuthorityStore, authority: Authority, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._wanted = asyncio.Event()
        self._listeners: list[Callable[[Authority], None]] = []
        self.authority = authority

    def on_change(self, listener: Callable[[Authority], None]) -> None:
        """Call ``listener`` with every later authority or server certificate."""
        self._listeners.append(listener)

    def follow(self, informers: InformerSet) -> None:
        """Look again when one of the secrets changes."""
        informers.of(SECRETS).on_event(self._changed)

    def set_hosts(self, hosts: Iterable[str]) -> None:
        """Names and addresses under which nodes reach us now; a certificate for them is made when one is missing."""
        self._store.set_hosts(hosts)
        self._wanted.set()

    async def run(self) -> None:
        """Work; never ends."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._look()
            except (ConfigError, ApiError, CertifierFailed) as exc:
                log.error("ca.not_reloaded", error=str(exc), hint=exc.hint or "the cloud goes on with what it has")
                await self._clock.sleep(RETRY_S)
                self._wanted.set()

    async def run_timer(self) -> None:
        """Look twice a day for a server certificate that nears its end; never ends."""
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            self._wanted.set()

    async def _look(self) -> None:
        found = await self._store.load(may_create=False)
        if found == self.authority:
            return
        self.authority = found
        for listener in self._listeners:
            listener(found)

    def _changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        meta = (new or old or {}).get("metadata") or {}
        if meta.get("namespace") == c.NAMESPACE and meta.get("name") in _NAMES and kind != "DELETED":
            self._wanted.set()
