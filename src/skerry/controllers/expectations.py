"""What a control loop has done and its cache does not show yet.

Without this a loop that looks at a stale cache creates its pods twice. Creations are awaited by revision, because
revisions of one server grow and every write passes the watch in order; deletions by looking whether the cache still
shows the pod alive. (Upstream counts events instead, which needs a handler for each.)
"""

from __future__ import annotations

from skerry.api.gvk import Object
from skerry.api.meta import is_deleting
from skerry.base.aio.clock import Clock
from skerry.base.values import Struct, field
from skerry.kube.informer import Informer, Key, key_of

EXPIRY_S = 300.0
"""After this an expectation is given up: better a pod too many than a loop that stands still."""


class _Pending(Struct):
    since_s: float
    revision: int = 0
    deleted: list[tuple[Key, str]] = field(default_factory=list)


class Expectations:
    """Writes per controller key that a cache of pods has still to show.

    Args:
        pods: the cache.
        clock: for the expiry.
    """

    def __init__(self, pods: Informer, clock: Clock) -> None:
        self._pods = pods
        self._clock = clock
        self._pending: dict[Key, _Pending] = {}

    def created(self, key: Key, pod: Object) -> None:
        """A pod was created; ``pod`` is the server's answer."""
        pending = self._of(key)
        pending.revision = max(pending.revision, _number(pod["metadata"].get("resourceVersion")))

    def deleted(self, key: Key, pod: Object) -> None:
        """A pod was deleted."""
        self._of(key).deleted.append((key_of(pod), pod["metadata"]["uid"]))

    def are_met(self, key: Key) -> bool:
        """Whether the cache shows everything done, or the wait has lasted too long."""
        pending = self._pending.get(key)
        if pending is None:
            return True
        late = self._clock.monotonic_s() - pending.since_s > EXPIRY_S
        if not late and (_number(self._pods.resource_version) < pending.revision or self._shows_alive(pending)):
            return False
        del self._pending[key]
        return True

    def forget(self, key: Key) -> None:
        """The controller's object is gone."""
        self._pending.pop(key, None)

    def _of(self, key: Key) -> _Pending:
        return self._pending.setdefault(key, _Pending(self._clock.monotonic_s()))

    def _shows_alive(self, pending: _Pending) -> bool:
        for (namespace, name), uid in pending.deleted:
            pod = self._pods.get(name, namespace)
            if pod is not None and pod["metadata"]["uid"] == uid and not is_deleting(pod):
                return True
        return False


def _number(version: str | None) -> int:
    return int(version) if version and version.isdigit() else 0
