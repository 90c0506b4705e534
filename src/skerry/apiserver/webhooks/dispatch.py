"""Mutating and validating webhooks in the write path.

Mutating ones are called one after the other, by the names of their configurations; each sees what the one before has
made, and those that ask for it are called once more when a later one changed the object. Validating ones are called
at the same time.

Source: kubernetes apiserver/pkg/admission/plugin/webhook/{mutating,validating}/dispatcher.go (v1.36).
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

from skerry.api.gvk import Object
from skerry.api.patch import json_equal
from skerry.api.status import ApiError, BadRequest, Forbidden, InternalError
from skerry.apiserver.admission.request import AdmissionRequest, Collect
from skerry.apiserver.auth.access import Access
from skerry.apiserver.patch_growth import bounded_json_patch
from skerry.apiserver.registry import Kind
from skerry.apiserver.webhooks import conditions
from skerry.apiserver.webhooks.client import WebhookClient, WebhookFailed
from skerry.apiserver.webhooks.matching import EXEMPT, Matcher
from skerry.apiserver.webhooks.review import BadAnswer, Verdict, denial, review, verdict, version_of
from skerry.base.aio.supervise import together
from skerry.base.json import deep_copy
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.cel.errors import EvalError

log = get_log(__name__)

MUTATING = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATING = "validatingwebhookconfigurations.admissionregistration.k8s.io"

Show = Callable[[Kind, Kind, Object], Awaitable[Object]]
"""``show(from, to, obj)``: an object of one row as another row of the same objects shows it, with its kind."""

Accept = Callable[[Kind, Kind, Object], Awaitable[Object]]
"""``accept(from, to, obj)``: what a webhook made of an object, decoded, pruned and defaulted, as ``to`` stores it."""


class _Hook(Struct, frozen=True):
    """One webhook, and the configuration that it stands in."""

    configuration: str
    raw: Object

    @property
    def name(self) -> str:
        return str(self.raw.get("name", ""))

    @property
    def fails_closed(self) -> bool:
        return self.raw.get("failurePolicy") != "Ignore"

    @property
    def timeout_s(self) -> float:
        return float(self.raw.get("timeoutSeconds") or 10)


class Webhooks:
    """Calls the webhooks that a request concerns.

    Args:
        client: reaches them.
        matcher: rules and selectors.
        collection: the configurations.
        access: answers the authorizer's questions of match conditions.
        show, accept: between the server's form of an object and the webhook's.
    """

    def __init__(
        self,
        *,
        client: WebhookClient,
        matcher: Matcher,
        collection: Collect,
        access: Access,
        show: Show,
        accept: Accept,
    ) -> None:
        self._client = client
        self._matcher = matcher
        self._collection = collection
        self._access = access
        self._show = show
        self._accept = accept
        self._expressions = conditions.Expressions()
        self._hooks: dict[str, tuple[int, list[_Hook]]] = {}

    async def mutate(self, request: AdmissionRequest) -> bool:
        """Let every mutating webhook change ``request.obj``; whether one did.

        Raises:
            ApiError: a webhook refuses, or fails and its policy is Fail.
        """
        hooks = self._of(MUTATING, request)
        changers: list[int] = []
        called: list[int] = []
        for index, hook in enumerate(hooks):
            state = await self._mutate_by(hook, request)
            if state is not None:
                called.append(index)
            if state:
                changers.append(index)
        if changers:
            for index in called:
                again = hooks[index].raw.get("reinvocationPolicy") == "IfNeeded"
                if again and any(changer > index for changer in changers):
                    await self._mutate_by(hooks[index], request)
        return bool(changers)

    async def validate(self, request: AdmissionRequest) -> None:
        """Ask every validating webhook.

        Raises:
            ApiError: the first refusal, in the order of the configurations.
        """
        hooks = self._of(VALIDATING, request)
        if not hooks:
            return
        for result in await together([self._validate_by(hook, request) for hook in hooks]):
            if isinstance(result, ApiError):
                raise result

    def _of(self, storage: str, request: AdmissionRequest) -> list[_Hook]:
        if request.kind.storage in EXEMPT:
            return []
        collection = self._collection(storage)
        if not len(collection):
            return []
        known = self._hooks.get(storage)
        if known is None or known[0] != collection.last_rv:
            entries = [(entry.key.name, entry.content().get("webhooks") or ()) for entry in collection.entries()]
            hooks = [_Hook(name, raw) for name, found in entries for raw in found]
            known = self._hooks[storage] = (collection.last_rv, hooks)
        return known[1]

    async def _mutate_by(self, hook: _Hook, request: AdmissionRequest) -> bool | None:
        """Whether the webhook changed the object; None when it does not concern it."""
        try:
            asked = await self._ask(hook, request, may_patch=True)
        except (WebhookFailed, BadAnswer) as exc:
            self._failed(hook, exc)
            return False
        if asked is None:
            return None
        said, row, shown = asked
        self._note(hook, request, said)
        if not said.is_allowed:
            raise denial(hook.name, said.status)
        if not said.patch or shown is None:
            return False
        try:
            patched = bounded_json_patch(deep_copy(shown), said.patch)
            if not isinstance(patched, dict):
                raise BadAnswer("the patch leaves no object")
            new = patched if request.own is not None else await self._accept(row, request.kind, patched)
        except (ApiError, BadAnswer) as exc:
            text = f'admission webhook "{hook.name}": its patch cannot be applied: {exc}'
            if not hook.fails_closed:
                log.warning("webhook.bad_patch", webhook=hook.name, error=str(exc))
                return False
            raise InternalError(text) from exc
        for name in ("name", "namespace", "generateName", "uid"):
            if name in request.obj["metadata"]:
                new["metadata"][name] = request.obj["metadata"][name]
        if json_equal(new, request.obj):
            return False
        request.obj = new
        return True

    async def _validate_by(self, hook: _Hook, request: AdmissionRequest) -> ApiError | None:
        try:
            asked = await self._ask(hook, request, may_patch=False)
            if asked is None:
                return None
            said = asked[0]
            self._note(hook, request, said)
            return None if said.is_allowed else denial(hook.name, said.status)
        except (WebhookFailed, BadAnswer) as exc:
            try:
                self._failed(hook, exc)
            except ApiError as error:
                return error
            return None
        except ApiError as exc:
            return exc

    async def _ask(
        self, hook: _Hook, request: AdmissionRequest, *, may_patch: bool
    ) -> tuple[Verdict, Kind, Object | None] | None:
        """What the webhook says, the row in which it saw the object, and the object as it saw it."""
        raw = hook.raw
        row = self._matcher.row(request, raw.get("rules") or (), is_exact=raw.get("matchPolicy") == "Exact")
        if row is None or not self._matcher.selects(request, raw):
            return None
        new, old = await self.states(request, row)
        if not self._conditions_hold(hook, request, row, (new, old)):
            return None
        if request.is_dry_run and raw.get("sideEffects") not in ("None", "NoneOnDryRun"):
            raise BadRequest(f"admission webhook {hook.name!r} does not support dry run")
        version = version_of(raw)
        if version is None:
            raise WebhookFailed("webhook does not accept known AdmissionReview versions (v1, v1beta1)")
        uid = str(uuid.uuid4())
        info = conditions.request_info(request, row, uid=uid)
        answer = await self._client.post(
            raw.get("clientConfig") or {}, review(version, info, new, old), timeout_s=hook.timeout_s
        )
        return verdict(answer, version=version, uid=uid, may_patch=may_patch), row, new

    async def states(self, request: AdmissionRequest, row: Kind) -> tuple[Object | None, Object | None]:
        """New and old object as a row shows them; a deletion has only an old one."""
        if request.operation == "connect" or request.own is not None:
            return request.obj, request.old
        if request.operation == "delete":
            return None, await self._show(request.kind, row, request.obj)
        old = await self._show(request.kind, row, request.old) if request.old is not None else None
        return await self._show(request.kind, row, request.obj), old

    def _conditions_hold(
        self, hook: _Hook, request: AdmissionRequest, row: Kind, states: tuple[Object | None, Object | None]
    ) -> bool:
        wanted = hook.raw.get("matchConditions") or ()
        if not wanted:
            return True
        values = conditions.variables(request, row, states, self._access)
        try:
            return conditions.holds(self._expressions, wanted, values)
        except EvalError as exc:
            if hook.fails_closed:
                raise Forbidden(f"{request.kind.resource.group_resource} {request.name!r} is forbidden: {exc}") from exc
            return False

    @staticmethod
    def _note(hook: _Hook, request: AdmissionRequest, said: Verdict) -> None:
        for text in said.warnings:
            request.warn(text)
        for key, value in said.annotations.items():
            request.annotations[f"{hook.name}/{key}"] = str(value)

    @staticmethod
    def _failed(hook: _Hook, exc: Exception) -> None:
        text = f'failed calling webhook "{hook.name}": failed to call webhook: {exc}'
        if hook.fails_closed:
            raise InternalError(f"Internal error occurred: {text}", details={"causes": [{"message": text}]}) from exc
        log.warning("webhook.failed_open", webhook=hook.name, error=str(exc))
