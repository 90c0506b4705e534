"""Leases of containerd 2 that outlive their sandbox.

containerd 2 makes a lease by a sandbox's id before anything else of it, which keeps its files, and deletes it with the
sandbox. Killed before it has written down that there is a sandbox, it leaves the lease, which never expires, and the
files. Leases that expire are left alone: they end by themselves after a day.

Source: containerd internal/cri/server/{sandbox_run.go,sandbox_remove.go} (2.x), api/services/leases/v1/leases.proto.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from skerry.base.aio.clock import Clock
from skerry.base.grpc import GrpcClient, GrpcError, Status
from skerry.base.obs.log import get_log
from skerry.runtime.cri.client import SHORT_S, CriClient
from skerry.runtime.cri.lostshims import Owner, all_of
from skerry.runtime.cri.lostspaces import listener, ripe
from skerry.runtime.ports import EngineError, EngineUnavailable
from skerry.wire.pb.containerd import (
    CONTAINERD,
    CRI_NAMESPACE,
    DELETE_LEASE,
    EXPIRE_LABEL,
    LIST_LEASES,
    NAMESPACE_HEADER,
)

log = get_log(__name__)

LOOK_S = 60.0
_ID = re.compile(r"[0-9a-f]{64}")


def of_sandboxes(leases: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """When leases were made that are named as a sandbox is and never expire, by id. Pure."""
    found = {}
    for lease in leases:
        if _ID.fullmatch(lease.get("id", "")) and EXPIRE_LABEL not in lease.get("labels", {}):
            at = lease.get("created_at", {})
            found[str(lease["id"])] = at.get("seconds", 0) + at.get("nanos", 0) / 1e9
    return found


class LostLeases:
    """Deletes lost leases of one node on one containerd; finds none on other engines.

    Args:
        client: of the engine; stays its owner's.
    """

    def __init__(self, client: CriClient, owner: Owner, *, clock: Clock) -> None:
        self._client = client
        self._owner = owner
        self._clock = clock
        self._first_s: dict[str, float] = {}

    async def run(self) -> None:
        """Look each ``LOOK_S``; never ends."""
        while True:
            try:
                await self.end()
            except (EngineError, OSError) as exc:
                log.debug("leases.engine_away", why=str(exc))
            await self._clock.sleep(LOOK_S)

    async def end(self) -> int:
        """Delete those that are lost at this look and were at the last; how many.

        Raises:
            EngineError: the engine does not tell what it knows.
        """
        made_at_s = of_sandboxes((await self._call(LIST_LEASES, {})).get("leases", []))
        if not made_at_s:
            self._first_s = {}
            return 0
        told = await all_of(self._client)
        known, now_s, before = told.known(), self._clock.monotonic_s(), self._first_s
        unknown = {lease: at_s for lease, at_s in made_at_s.items() if lease not in known}
        self._first_s = {lease: before.get(lease, now_s) for lease in unknown}
        began_at_s, _ = listener(self._client.socket)
        if not self._owner.has_all(told):
            return 0
        lost = ripe(unknown, first_s=before, now_s=now_s, engine_began_at_s=began_at_s)
        for lease in sorted(lost):
            await self._call(DELETE_LEASE, {"id": lease})
            log.warning(
                "engine.lost_lease_deleted", sandbox=lease,
                hint="the container engine was killed while it made the sandbox",
            )  # fmt: skip
        return len(lost)

    async def _call(self, method: str, request: dict[str, object]) -> dict[str, Any]:
        client = GrpcClient(self._client.socket, CONTAINERD, headers={NAMESPACE_HEADER: CRI_NAMESPACE})
        try:
            return await client.call(method, request, timeout_s=SHORT_S)
        except GrpcError as exc:
            if exc.status in (Status.UNIMPLEMENTED, Status.NOT_FOUND):
                return {}
            raise EngineUnavailable(f"container engine at {self._client.socket}: {exc.message}") from exc
        finally:
            await client.aclose()
