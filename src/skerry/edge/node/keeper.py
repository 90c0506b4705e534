"""Registers the node, reports its status when it changes, and renews its lease.

Nothing of this is queued: whatever is not sent is outdated by the next round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from skerry.api.gvk import Object
from skerry.api.status import AlreadyExists, ApiError, Conflict, NotFound, ServerTimeout, Unavailable
from skerry.base import json
from skerry.base.aio.clock import Clock
from skerry.base.obs.log import get_log
from skerry.edge.node.events import NodeEvents
from skerry.edge.node.status import Machine, Vitals, conditions, new_node, status
from skerry.edge.sync.remote import Remote
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import route

log = get_log(__name__)

STATUS_EVERY_S = 10.0
FORCED_EVERY_S = 300.0
CALM_EVERY_S = 3600.0
"""Between two reports of an unchanged status, where the cloud renews the Lease and needs no other sign of life."""
LEASE_EVERY_S = 10.0
LEASE_DURATION_S = 40
RETRY_S = 1.0
_LEASE_NAMESPACE = "kube-node-lease"
_AWAY = (Unavailable, ServerTimeout)


class NodeKeeper:
    """Owner of this machine's Node and Lease.

    Args:
        read_vitals: asks the machine and the engine.
        events: hears of every change, cloud or not.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        remote: Remote,
        read_vitals: Callable[[], Awaitable[Vitals]],
        events: NodeEvents,
        clock: Clock,
    ) -> None:
        self._machine = machine
        self._remote = remote
        self._read_vitals = read_vitals
        self._events = events
        self._clock = clock
        self._known: dict[str, dict[str, Any]] = {}
        self._sent: bytes = b""
        self._sent_at_s = 0.0
        self._uid = ""
        self._lease: Object | None = None
        self._status_wanted = asyncio.Event()
        self._lease_wanted = asyncio.Event()

    @property
    def is_registered(self) -> bool:
        """Whether the cloud of this session knows the node."""
        return bool(self._uid)

    async def run_status(self) -> None:
        """Register, then report; never ends. Call ``reconnected`` when a new session begins."""
        while True:
            vitals = await self._read_vitals()
            try:
                if not self._uid:
                    await self._register(vitals)
                await self._report(vitals)
            except _AWAY as exc:
                log.debug("node.away", why=str(exc))
            except ApiError as exc:
                log.warning("node.not_reported", code=exc.code, why=exc.message)
                if isinstance(exc, NotFound):
                    self._uid = ""
            await self._events.conditions(conditions(vitals, self._now(), {}))
            await _pause(self._status_wanted, STATUS_EVERY_S if self._uid else RETRY_S)

    async def run_lease(self) -> None:
        """Renew the lease, unless the cloud does it by itself; never ends."""
        while True:
            try:
                if not self._remote.folds_lease:
                    await self._renew()
            except (Conflict, NotFound):
                self._lease = None
                await _pause(self._lease_wanted, RETRY_S)
                continue
            except _AWAY as exc:
                log.debug("lease.away", why=str(exc))
            except ApiError as exc:
                log.warning("lease.not_renewed", code=exc.code, why=exc.message)
                self._lease = None
            await _pause(self._lease_wanted, LEASE_EVERY_S)

    def reconnected(self) -> None:
        """A new session began: register again (the cloud then sends what we miss) and report at once."""
        self._uid, self._sent, self._lease = "", b"", None
        self._status_wanted.set()
        self._lease_wanted.set()

    def look(self) -> None:
        """The machine has changed: report at once, not at the next round."""
        self._status_wanted.set()

    async def _register(self, vitals: Vitals) -> None:
        path = route.build("", c.TYPE_NODE, self._machine.name)
        node = new_node(self._machine, vitals, self._now())
        try:
            found = await self._remote.ask(c.OP_INSERT, path, node)
        except AlreadyExists:
            found = await self._remote.ask(c.OP_QUERY, path)
        self._uid = str((found.get("metadata") or {}).get("uid") or "registered")
        self._events.seen((found.get("status") or {}).get("conditions") or ())
        self._remember(node["status"]["conditions"])
        log.info("node.registered", node=self._machine.name)

    async def _report(self, vitals: Vitals) -> None:
        wanted = status(self._machine, vitals, self._now(), self._known)
        print_ = _fingerprint(wanted)
        pause_s = CALM_EVERY_S if self._remote.folds_lease else FORCED_EVERY_S
        due = self._clock.monotonic_s() - self._sent_at_s > pause_s
        if print_ == self._sent and not due:
            return
        patch = {"metadata": {"uid": self._uid}, "status": wanted} if self._uid != "registered" else {"status": wanted}
        path = route.build("", c.TYPE_NODE_PATCH, self._machine.name)
        await self._remote.ask(c.OP_PATCH, path, json.dumps(patch).decode())
        self._sent, self._sent_at_s = print_, self._clock.monotonic_s()
        self._remember(wanted["conditions"])

    async def _renew(self) -> None:
        path = route.build(_LEASE_NAMESPACE, c.TYPE_LEASE, self._machine.name)
        if self._lease is None:
            self._lease = await self._first_lease(path)
        lease = self._lease | {"spec": self._lease["spec"] | {"renewTime": self._micro_now()}}
        self._lease = await self._remote.ask(c.OP_UPDATE, path, lease)

    async def _first_lease(self, path: str) -> Object:
        try:
            found = await self._remote.ask(c.OP_QUERY, path)
            if found.get("spec"):
                return found
        except NotFound:
            pass
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._machine.name, "namespace": _LEASE_NAMESPACE},
            "spec": {
                "holderIdentity": self._machine.name,
                "leaseDurationSeconds": LEASE_DURATION_S,
                "renewTime": self._micro_now(),
            },
        }
        return await self._remote.ask(c.OP_INSERT, path, lease)

    def _remember(self, conditions: list[dict[str, Any]]) -> None:
        self._known = {item["type"]: item for item in conditions}

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock.now_s(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _micro_now(self) -> str:
        return datetime.fromtimestamp(self._clock.now_s(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def _pause(wanted: asyncio.Event, delay_s: float) -> None:
    """Wait ``delay_s``, or until somebody wants it sooner."""
    try:
        async with asyncio.timeout(delay_s):
            await wanted.wait()
    except TimeoutError:
        return
    wanted.clear()


def _fingerprint(node_status: dict[str, Any]) -> bytes:
    """What a change of which is worth a message: everything but heartbeats and free amounts."""
    conditions = [{k: v for k, v in item.items() if k != "lastHeartbeatTime"} for item in node_status["conditions"]]
    return json.dumps(node_status | {"conditions": conditions}, sort_keys=True)
