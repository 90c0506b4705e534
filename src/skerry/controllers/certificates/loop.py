"""Approves the requests of nodes, signs what is approved, and clears old requests away."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Any

from skerry.api.gvk import CSRS, Object, Resource
from skerry.api.meta import rfc3339
from skerry.api.status import NotFound
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.certificates import Certifier, Credential, X509Error, from_pem, to_pem
from skerry.base.obs.log import get_log
from skerry.controllers.certificates.rules import (
    SIGNERS,
    Wish,
    approval_permissions,
    cleared_in_s,
    is_true,
    refusal,
    validity_s,
)
from skerry.controllers.loop import Loop
from skerry.kube.informer import InformerSet, Key
from skerry.kube.ports import KubeApi

log = get_log(__name__)

REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False)


class CertificateController:
    """Works on CertificateSigningRequests of the signers ``kubernetes.io/…``.

    Args:
        api: the cluster.
        informers: shared caches.
        authority: the authority that the API server trusts for clients; asked for each signature.
        certs: reads requests and signs.
        clock: time source.
    """

    def __init__(
        self,
        api: KubeApi,
        *,
        informers: InformerSet,
        authority: Callable[[], Awaitable[Credential]],
        certs: Certifier,
        clock: Clock | None = None,
    ) -> None:
        self._api = api
        self._authority = authority
        self._certs = certs
        self._clock = clock or SystemClock()
        self._requests = informers.of(CSRS)
        self._loop: Loop[Key] = Loop("certificates", self._sync, informers=(self._requests,))
        self._loop.follow(self._requests)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    async def _sync(self, key: Key) -> float | None:
        request = self._requests.get(key[1])
        if request is None:
            return None
        left_s = cleared_in_s(request, self._clock.now_s())
        if left_s <= 0:
            await self._clear(request)
            return None
        await self._work(request)
        return left_s

    async def _clear(self, request: Object) -> None:
        meta = request["metadata"]
        try:
            await self._api.delete(CSRS, meta["name"], uid=meta["uid"])
        except NotFound:
            return

    async def _work(self, request: Object) -> None:
        has_certificate = bool((request.get("status") or {}).get("certificate"))
        if has_certificate or is_true(request, "Denied") or is_true(request, "Failed"):
            return
        signer = request["spec"].get("signerName")
        if signer not in SIGNERS:
            return
        try:
            der = _der(request)
            info = await self._certs.read_csr(der)
        except X509Error as exc:
            await self._fail(request, str(exc))
            return
        wish = Wish(info.common_name, info.organizations, info.names, info.hosts)
        if is_true(request, "Approved"):
            await self._sign(request, der, wish)
        else:
            await self._approve(request, wish)

    async def _approve(self, request: Object, wish: Wish) -> None:
        for name in approval_permissions(request, wish):
            if not await self._may(request["spec"], name):
                continue
            whose = "self kubelet" if name == "selfnodeclient" else "kubelet"
            text = f"Auto approving {whose} client certificate after SubjectAccessReview."
            fresh = self._with_condition(request, "Approved", "AutoApproved", text)
            await self._api.update(CSRS, fresh, subresource="approval")
            log.info("certificate.approved", name=request["metadata"]["name"], node=wish.common_name)
            return

    async def _may(self, spec: dict[str, Any], subresource: str) -> bool:
        review = {
            "apiVersion": REVIEWS.api_version,
            "kind": REVIEWS.kind,
            "spec": {
                "user": spec.get("username") or "",
                "uid": spec.get("uid") or "",
                "groups": spec.get("groups") or [],
                "extra": spec.get("extra") or {},
                "resourceAttributes": {
                    "group": CSRS.group, "resource": CSRS.plural, "subresource": subresource, "verb": "create",
                    "version": "*",
                },
            },
        }  # fmt: skip
        answer = await self._api.create(REVIEWS, review)
        return bool((answer.get("status") or {}).get("allowed"))

    async def _sign(self, request: Object, der: bytes, wish: Wish) -> None:
        spec = request["spec"]
        if reason := refusal(spec["signerName"], wish, spec.get("usages") or ()):
            await self._fail(request, reason)
            return
        cert = await self._certs.sign_request(
            await self._authority(), der, usages=spec.get("usages") or (), valid_s=validity_s(request),
            now_s=self._clock.now_s(),
        )  # fmt: skip
        pem = base64.b64encode(to_pem("CERTIFICATE", cert)).decode()
        status = {**(request.get("status") or {}), "certificate": pem}
        await self._api.update(CSRS, {**request, "status": status}, subresource="status")
        log.info("certificate.signed", name=request["metadata"]["name"], signer=spec["signerName"])

    async def _fail(self, request: Object, message: str) -> None:
        fresh = self._with_condition(request, "Failed", "SignerValidationFailure", message)
        await self._api.update(CSRS, fresh, subresource="status")

    def _with_condition(self, request: Object, kind: str, reason: str, message: str) -> Object:
        status = request.get("status") or {}
        now = rfc3339(self._clock.now_s())
        condition = {
            "type": kind, "status": "True", "reason": reason, "message": message, "lastUpdateTime": now,
            "lastTransitionTime": now,
        }  # fmt: skip
        return {**request, "status": {**status, "conditions": [*(status.get("conditions") or ()), condition]}}


def _der(request: Object) -> bytes:
    try:
        return from_pem(base64.b64decode(request["spec"].get("request") or "", validate=True))
    except (binascii.Error, ValueError) as exc:
        raise X509Error("spec.request is no certificate request in PEM, encoded in base64") from exc
