"""One of several replicas does a duty: whoever holds a Lease. Semantics of client-go's leader election.

A holder that cannot renew for ``RENEW_WITHIN_S`` ends its duty; another may begin it ``DURATION_S`` after the last
renewal. Times of others are never compared with our clock: a Lease counts as held until it has not changed for its
duration, as we measure it.

Source: k8s.io/client-go/tools/leaderelection (1.32).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from skerry.api.gvk import LEASES, Object
from skerry.api.status import AlreadyExists, ApiError, Conflict, NotFound
from skerry.base.aio.clock import Clock
from skerry.base.aio.supervise import Supervisor
from skerry.base.obs.log import get_log
from skerry.kube.ports import KubeApi

log = get_log(__name__)

DURATION_S = 15.0
RENEW_WITHIN_S = 10.0
RETRY_S = 2.0


class Election:
    """A duty that runs at one replica at a time.

    Args:
        api: the cluster.
        name, namespace: of the Lease.
        identity: ours; must differ between replicas.
    """

    def __init__(self, api: KubeApi, name: str, *, namespace: str, identity: str, clock: Clock) -> None:
        self._api = api
        self._name = name
        self._namespace = namespace
        self._identity = identity
        self._clock = clock
        self._seen: tuple[str, str] = ("", "")
        self._seen_at_s = 0.0
        self.is_leader = False

    async def run(self, duty: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait until we lead, do the duty as long as we do, wait again; never ends."""
        while True:
            while not await self._try():
                await self._clock.sleep(RETRY_S)
            log.info("leader.elected", lease=self._name, identity=self._identity)
            self.is_leader = True
            try:
                async with Supervisor(f"leader/{self._name}", clock=self._clock) as supervisor:
                    supervisor.keep("duty", duty)
                    await self._hold()
            finally:
                self.is_leader = False
            log.warning("leader.lost", lease=self._name, identity=self._identity)

    async def release(self) -> None:
        """Let another begin at once: at the end of a replica."""
        try:
            lease = await self._api.get(LEASES, self._name, namespace=self._namespace)
            if (lease.get("spec") or {}).get("holderIdentity") == self._identity:
                spec = lease["spec"] | {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._api.update(LEASES, lease | {"spec": spec})
        except ApiError as exc:
            log.debug("leader.not_released", error=exc.message)

    async def _hold(self) -> None:
        """Renew until it has failed for too long."""
        renewed_s = self._clock.monotonic_s()
        while self._clock.monotonic_s() - renewed_s < RENEW_WITHIN_S:
            await self._clock.sleep(RETRY_S)
            try:
                async with asyncio.timeout(RENEW_WITHIN_S):
                    if await self._try():
                        renewed_s = self._clock.monotonic_s()
            except TimeoutError:
                return

    async def _try(self) -> bool:
        """Take or renew the Lease; whether it is ours now."""
        try:
            lease = await self._api.get(LEASES, self._name, namespace=self._namespace)
        except NotFound:
            return await self._create()
        except ApiError as exc:
            log.debug("leader.not_read", error=exc.message)
            return False
        spec = lease.get("spec") or {}
        holder = str(spec.get("holderIdentity") or "")
        if holder not in ("", self._identity) and not self._has_expired(holder, spec):
            return False
        now = self._now()
        fresh = {**spec, "holderIdentity": self._identity, "leaseDurationSeconds": int(DURATION_S), "renewTime": now}
        if holder != self._identity:
            fresh |= {"acquireTime": now, "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1}
        try:
            await self._api.update(LEASES, lease | {"spec": fresh})
        except (Conflict, NotFound):
            return False
        except ApiError as exc:
            log.debug("leader.not_renewed", error=exc.message)
            return False
        return True

    async def _create(self) -> bool:
        now = self._now()
        spec = {
            "holderIdentity": self._identity, "leaseDurationSeconds": int(DURATION_S), "acquireTime": now,
            "renewTime": now, "leaseTransitions": 0,
        }  # fmt: skip
        lease: Object = {"metadata": {"name": self._name, "namespace": self._namespace}, "spec": spec}
        try:
            await self._api.create(LEASES, lease, namespace=self._namespace)
        except AlreadyExists:
            return False
        except ApiError as exc:
            log.warning("leader.no_lease", lease=self._name, error=exc.message)
            return False
        return True

    def _has_expired(self, holder: str, spec: Object) -> bool:
        seen = (holder, str(spec.get("renewTime") or ""))
        if seen != self._seen:
            self._seen, self._seen_at_s = seen, self._clock.monotonic_s()
        return self._clock.monotonic_s() - self._seen_at_s >= float(spec.get("leaseDurationSeconds") or DURATION_S)

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock.now_s(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
