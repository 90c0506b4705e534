"""Keeps what a broken-off pull has fetched, so that the next one goes on from there; containerd only.

containerd fetches within a lease that ends with the call, and throws away what belongs to no lease. A call that brings
a lease along (in a header) is put into that one instead. It is released when the image is there, and ends by itself
after ``_KEPT_S``, so that what nobody fetches any more goes too. Engines without leases answer that they have none.
Source: containerd api/services/leases/v1/leases.proto, leases/{context,grpc}.go (1.6 to 2.x).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from skerry.api.meta import rfc3339
from skerry.base.aio.clock import Clock
from skerry.base.grpc import GrpcClient, GrpcError, Status
from skerry.base.obs.log import get_log
from skerry.runtime.cri.client import SHORT_S
from skerry.wire.pb.containerd import (
    CONTAINERD,
    CREATE_LEASE,
    CRI_NAMESPACE,
    DELETE_LEASE,
    EXPIRE_LABEL,
    NAMESPACE_HEADER,
)

log = get_log(__name__)

_KEPT_S = 7 * 24 * 3600.0


class PullLeases:
    """One lease for each image that is being pulled.

    Args:
        socket: of the engine.
    """

    def __init__(self, socket: Path, *, clock: Clock) -> None:
        self._socket = socket
        self._clock = clock
        self._has_leases = True

    async def hold(self, image: str) -> str:
        """The lease of an image, new or of a former pull; empty where there can be none: the pull goes without."""
        if not self._has_leases:
            return ""
        lease = f"skerry-pull-{hashlib.blake2b(image.encode(), digest_size=12).hexdigest()}"
        labels = {EXPIRE_LABEL: rfc3339(self._clock.now_s() + _KEPT_S)}
        try:
            await self._call(CREATE_LEASE, {"id": lease, "labels": labels})
        except GrpcError as exc:
            if exc.status is Status.UNIMPLEMENTED:
                self._has_leases = False
            if exc.status is not Status.ALREADY_EXISTS:
                log.debug("image.no_lease", image=image, why=exc.message)
                return ""
        return lease

    async def release(self, lease: str) -> None:
        """The image is there, and keeps what it is made of."""
        try:
            await self._call(DELETE_LEASE, {"id": lease})
        except GrpcError as exc:  # it ends by itself
            log.debug("image.lease_left", lease=lease, why=exc.message)

    async def _call(self, method: str, request: dict[str, object]) -> None:
        client = GrpcClient(self._socket, CONTAINERD, headers={NAMESPACE_HEADER: CRI_NAMESPACE})
        try:
            await client.call(method, request, timeout_s=SHORT_S)
        finally:
            await client.aclose()
