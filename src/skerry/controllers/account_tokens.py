"""Tokens in Secrets of the type ``kubernetes.io/service-account-token``: filled in, and removed with their account.

The token is bound to its Secret, so that deleting the Secret ends it.
Source of behaviour: kubernetes pkg/controller/serviceaccount/tokens_controller.go (v1.36); there the tokens never end,
here they end after ten years.
"""

from __future__ import annotations

import base64
from typing import Any

from skerry.api.gvk import SECRETS, SERVICEACCOUNTS, Object
from skerry.api.meta import is_deleting
from skerry.api.status import NotFound
from skerry.base.obs.log import get_log
from skerry.controllers.loop import Loop
from skerry.controllers.objects import annotations_of
from skerry.kube.informer import InformerSet, Key, key_of
from skerry.kube.ports import KubeApi

log = get_log(__name__)

TOKEN_TYPE = "kubernetes.io/service-account-token"
NAME_NOTE, UID_NOTE = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"
VALID_S = 10 * 365 * 86_400


def is_complete(secret: Object, account_uid: str, root_ca_pem: str) -> bool:
    """Whether the Secret has everything, for this account."""
    data = secret.get("data") or {}
    wanted = {"ca.crt": _encoded(root_ca_pem), "namespace": _encoded(secret["metadata"]["namespace"])}
    return (
        bool(data.get("token"))
        and annotations_of(secret).get(UID_NOTE) == account_uid
        and all(data.get(key) == value for key, value in wanted.items())
    )


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class AccountTokens:
    """Keeps those Secrets.

    Args:
        api: the cluster.
        informers: shared caches.
        root_ca_pem: certificate authority of the API server.
    """

    def __init__(self, api: KubeApi, *, informers: InformerSet, root_ca_pem: str) -> None:
        self._api = api
        self._root_ca_pem = root_ca_pem
        self._accounts = informers.of(SERVICEACCOUNTS)
        self._secrets = informers.of(SECRETS, field_selector=f"type={TOKEN_TYPE}")
        self._loop: Loop[Key] = Loop("account-tokens", self._sync, informers=(self._accounts, self._secrets))
        self._loop.follow(self._secrets)
        self._accounts.on_event(self._account_changed)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    def _account_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        if kind == "MODIFIED":
            return
        account = new or old
        assert account is not None
        meta = account["metadata"]
        for secret in self._secrets.items():
            same = secret["metadata"]["namespace"] == meta["namespace"]
            if same and annotations_of(secret).get(NAME_NOTE) == meta["name"]:
                self._loop.add(key_of(secret))

    async def _sync(self, key: Key) -> float | None:
        secret = self._secrets.get(key[1], key[0])
        name = annotations_of(secret).get(NAME_NOTE) if secret is not None else None
        if secret is None or is_deleting(secret) or not name:
            return None
        account = await self._account(name, key[0])
        known_uid = annotations_of(secret).get(UID_NOTE)
        if account is None or (known_uid and known_uid != account["metadata"]["uid"]):
            await self._remove(secret)
            return None
        if not is_complete(secret, account["metadata"]["uid"], self._root_ca_pem):
            await self._fill(secret, account)
        return None

    async def _account(self, name: str, namespace: str) -> Object | None:
        """By a live look when the cache has none: a stale cache removes nothing."""
        found = self._accounts.get(name, namespace)
        if found is not None:
            return found
        try:
            return await self._api.get(SERVICEACCOUNTS, name, namespace=namespace)
        except NotFound:
            return None

    async def _fill(self, secret: Object, account: Object) -> None:
        meta = secret["metadata"]
        data = {"ca.crt": _encoded(self._root_ca_pem), "namespace": _encoded(meta["namespace"])}
        if not (secret.get("data") or {}).get("token"):
            data["token"] = _encoded(await self._new_token(secret, account))
        guard = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        patch: dict[str, Any] = {
            "metadata": {**guard, "annotations": {UID_NOTE: account["metadata"]["uid"]}},
            "data": data,
        }
        await self._api.patch(SECRETS, meta["name"], patch, namespace=meta["namespace"])

    async def _new_token(self, secret: Object, account: Object) -> str:
        meta = secret["metadata"]
        reference = {"apiVersion": "v1", "kind": "Secret", "name": meta["name"], "uid": meta["uid"]}
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": VALID_S, "boundObjectRef": reference},
        }
        name = account["metadata"]["name"]
        answer = await self._api.create(
            SERVICEACCOUNTS, request, namespace=meta["namespace"], name=name, subresource="token"
        )
        return str(answer["status"]["token"])

    async def _remove(self, secret: Object) -> None:
        meta = secret["metadata"]
        try:
            await self._api.delete(SECRETS, meta["name"], namespace=meta["namespace"], uid=meta["uid"])
        except NotFound:
            return
        log.info("account_token.removed", ns=meta["namespace"], name=meta["name"])
