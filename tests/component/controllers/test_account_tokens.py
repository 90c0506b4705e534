"""Tokens that are asked for as Secrets, against a real API server on disk."""

from __future__ import annotations

import base64

import pytest
from tests.component.controllers.conftest import Cluster

from skerry.api.gvk import SECRETS, SERVICEACCOUNTS, Object
from skerry.base.jwt import BadToken
from skerry.controllers.account_tokens import NAME_NOTE, TOKEN_TYPE


def secret(account: str) -> Object:
    meta = {"name": "t", "annotations": {NAME_NOTE: account}}
    return {"metadata": meta, "type": TOKEN_TYPE}


async def test_a_secret_gets_a_token_and_goes_with_its_account(cluster: Cluster) -> None:
    await cluster.api.create(SERVICEACCOUNTS, {"metadata": {"name": "robot"}}, namespace="default")
    await cluster.api.create(SECRETS, secret("robot"), namespace="default")
    secrets = cluster.informers.of(SECRETS)

    def data() -> dict[str, str]:
        return (secrets.get("t", "default") or {}).get("data") or {}

    await cluster.until(lambda: set(data()) == {"token", "ca.crt", "namespace"})
    assert base64.b64decode(data()["ca.crt"]) == b"PEM"
    token = base64.b64decode(data()["token"]).decode()
    user = cluster.core.tokens.check(token)
    assert user.name == "system:serviceaccount:default:robot"
    await cluster.api.delete(SERVICEACCOUNTS, "robot", namespace="default")
    await cluster.until(lambda: secrets.get("t", "default") is None)
    with pytest.raises(BadToken):
        cluster.core.tokens.check(token)
