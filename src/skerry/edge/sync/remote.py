"""Questions to the cloud with a deadline, and answers from the store where it has them."""

from __future__ import annotations

import asyncio
from collections.abc import Container
from typing import Any

from skerry.api.gvk import Object
from skerry.api.status import ApiError, NotFound, ServerTimeout, Unavailable, from_status
from skerry.base.aio.clock import Clock
from skerry.base.obs.log import get_log
from skerry.edge.link.ports import Link, LinkError
from skerry.edge.store.objects import Change, EdgeObjects
from skerry.wire.kubeedge import answer, route
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge.envelope import Envelope

log = get_log(__name__)

_DEADLINE_S = 20.0
_CLOCK_SKEW_S = 300.0


class Remote:
    """Asks the cloud and gives the answer or an ``ApiError``."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def folds_lease(self) -> bool:
        """See ``Link.folds_lease``."""
        return self._link.folds_lease

    @property
    def is_up(self) -> bool:
        """See ``Link.is_up``."""
        return self._link.is_up

    @property
    def is_to_skerry(self) -> bool:
        """See ``Link.is_to_skerry``."""
        return self._link.is_to_skerry

    async def ask(self, operation: str, resource: str, content: Any = None, *, source: str = c.SOURCE_EDGED) -> Object:
        """One request.

        Args:
            operation: such as ``query`` or ``insert``.
            resource: wire resource.
            content: of the request.

        Returns:
            The object of the answer; empty when the answer has none.

        Raises:
            Unavailable: no link now.
            ServerTimeout: no answer in time.
            ApiError: what the cloud answered.
        """
        envelope = Envelope(
            msg_id="", source=source, group=c.GROUP_META, operation=operation, resource=resource, content=content
        )
        try:
            outcome = answer.read(await self._link.request(envelope, timeout_s=_DEADLINE_S))
        except LinkError as exc:
            raise Unavailable(f"{resource}: {exc}") from exc
        except TimeoutError as exc:
            raise ServerTimeout(f"{resource}: the cloud did not answer within {_DEADLINE_S:.0f} s") from exc
        if outcome.status is not None:
            raise from_status(outcome.status)
        return outcome.object or {}


class ObjectSource:
    """ConfigMaps, Secrets and the like: from the store, else from the cloud.

    However many ask for an object, the cloud is asked once: a Go cloud keeps one answer per object, and the answers to
    several questions at once would replace each other. For the same reason the object may come by itself instead of as
    the answer, and that ends the wait too.

    Args:
        unused: keys of what the store still has, though it must not be used any more.
    """

    def __init__(self, objects: EdgeObjects, remote: Remote, *, unused: Container[str] = ()) -> None:
        self._objects = objects
        self._remote = remote
        self._unused = unused
        self._flights: dict[str, asyncio.Future[Object]] = {}
        self._waits: dict[str, asyncio.Timeout] = {}
        objects.subscribe(self._arrived)

    async def get(self, kind: str, namespace: str, name: str) -> Object:
        """One object.

        Args:
            kind: wire type, such as ``configmap``.

        Raises:
            NotFound: it does not exist, by the cloud's word.
            Unavailable: it is not here and the cloud cannot be asked now.
        """
        key = route.build(namespace, kind, name)
        known = self._objects.get(key)
        return known if known is not None and key not in self._unused else await self._asked(key)

    async def fresh(self, kind: str, namespace: str, name: str) -> Object:
        """One object as the cloud has it now, also where the store has one; it is kept for later, and forgotten when
        the cloud says that it does not exist.

        Raises:
            NotFound, Unavailable: as ``get``.
        """
        key = route.build(namespace, kind, name)
        try:
            return await self._asked(key)
        except NotFound:
            await self._objects.delete(key)
            raise

    def is_answered(self) -> bool:
        """Whether this node's cloud knows questions that a Go cloud leaves without an answer."""
        return self._remote.is_to_skerry if self._remote.is_up else bool(self._objects.bound_to)

    async def _asked(self, key: str) -> Object:
        """The answer to the one question that is under way for an object, ours if there is none."""
        while (flight := self._flights.get(key)) is not None:
            try:
                return await asyncio.shield(flight)
            except asyncio.CancelledError:
                if not flight.cancelled():
                    raise
                # Whoever asked was cancelled, and we were not: ask ourselves.
        return await self._lead(key)

    async def _lead(self, key: str) -> Object:
        flight: asyncio.Future[Object] = asyncio.get_running_loop().create_future()
        self._flights[key] = flight
        try:
            found = await self._ask(key)
            flight.set_result(found)
            return found
        except ApiError as exc:
            flight.set_exception(exc)
            flight.exception()
            raise
        finally:
            del self._flights[key]
            flight.cancel()

    async def _ask(self, key: str) -> Object:
        try:
            async with asyncio.timeout(None) as self._waits[key]:
                found = await self._remote.ask(c.OP_QUERY, key)
        except TimeoutError:
            arrived = self._objects.get(key)
            if arrived is None:
                raise ServerTimeout(f"{key} came and went") from None
            return arrived
        finally:
            del self._waits[key]
        if not (found.get("metadata") or {}).get("name"):
            parsed = route.parse(key)
            raise NotFound(f'{parsed.type} "{parsed.namespace}/{parsed.name}" not found')
        await self._objects.put(key, found)
        return found

    def _arrived(self, change: Change) -> None:
        wait = self._waits.get(change.key)
        if wait is not None and change.new is not None and not wait.expired():
            wait.reschedule(asyncio.get_running_loop().time())


class TokenSource:
    """Tokens of service accounts for pods: renewed at 80 % of their life, kept over restarts and outages.

    A token whose time has passed while the node was offline stays mounted: the pod may need only its identity, and a
    missing file would end it.
    """

    def __init__(self, objects: EdgeObjects, remote: Remote, *, clock: Clock) -> None:
        self._objects = objects
        self._remote = remote
        self._clock = clock

    async def get(
        self,
        namespace: str,
        service_account: str,
        *,
        audience: str | None,
        expiration_s: int,
        pod_name: str,
        pod_uid: str,
    ) -> str:
        """The token to mount now.

        Raises:
            ApiError: there is none yet and the cloud cannot give one.
        """
        key = _token_key(namespace, service_account, audience, expiration_s, pod_uid)
        known = self._objects.get(key)
        if known is not None and self._is_fresh(known):
            return str(known["token"])
        try:
            answer_object = await self._remote.ask(
                c.OP_QUERY,
                route.build(namespace, c.TYPE_TOKEN, service_account),
                _token_request(audience, expiration_s, pod_name, pod_uid),
            )
        except (Unavailable, ServerTimeout):
            if known is None:
                raise
            self._warn(known, namespace, service_account, pod_name)
            return str(known["token"])
        return await self._keep(key, answer_object, expiration_s)

    async def forget(self, pod_uid: str) -> None:
        """Remove the tokens of a pod that is gone."""
        for key, value in self._objects.list(c.TYPE_TOKEN).items():
            if value.get("pod_uid") == pod_uid:
                await self._objects.delete(key)

    def _is_fresh(self, known: Object) -> bool:
        """Whether a token need not be renewed. With a clock behind the token's own beginning its age is not known."""
        now_s = self._clock.now_s()
        return float(known.get("issued_at_s", 0.0)) - _CLOCK_SKEW_S <= now_s < float(known["refresh_at_s"])

    def _warn(self, known: Object, namespace: str, account: str, pod: str) -> None:
        now_s = self._clock.now_s()
        if now_s < float(known.get("issued_at_s", 0.0)) - _CLOCK_SKEW_S:
            log.warning(
                "token.age_unknown", namespace=namespace, service_account=account, pod=pod, why="clock is behind"
            )
        elif now_s > float(known["expires_at_s"]):
            log.warning("token.expired_kept", namespace=namespace, service_account=account, pod=pod)

    async def _keep(self, key: str, token_request: Object, expiration_s: int) -> str:
        token = (token_request.get("status") or {}).get("token")
        if not isinstance(token, str) or not token:
            raise Unavailable("the cloud answered without a token")
        now_s = self._clock.now_s()
        row = {
            "metadata": {},
            "token": token,
            "pod_uid": key.rsplit("/", 1)[1].split("|")[1],
            "issued_at_s": now_s,
            "refresh_at_s": now_s + 0.8 * min(expiration_s, 86_400),
            "expires_at_s": now_s + expiration_s,
        }
        await self._objects.put(key, row)
        return token


def _token_key(namespace: str, account: str, audience: str | None, expiration_s: int, pod_uid: str) -> str:
    return f"{namespace}/{c.TYPE_TOKEN}/{account}|{pod_uid}|{audience or ''}|{expiration_s}"


def _token_request(audience: str | None, expiration_s: int, pod_name: str, pod_uid: str) -> Object:
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "metadata": {},
        "spec": {
            "audiences": [audience] if audience else None,
            "expirationSeconds": expiration_s,
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": pod_name, "uid": pod_uid},
        },
    }
