"""Bootstrap tokens: ``<id>.<secret>`` kept in a Secret of kube-system, for nodes and tools that have nothing else yet.

Source: kubernetes plugin/pkg/auth/authenticator/token/bootstrap/bootstrap.go (v1.36).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Mapping
from typing import Any

from skerry.api.meta import parse_rfc3339
from skerry.apiserver.auth.authn import AUTHENTICATED, Find, User
from skerry.apiserver.store.log import Key
from skerry.base.aio.clock import Clock

_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")
_TYPE = "bootstrap.kubernetes.io/token"


class BootstrapTokens:
    """Checks them against the store.

    Args:
        find: looks an object up.
        clock: for expiry.
    """

    def __init__(self, *, find: Find, clock: Clock) -> None:
        self._find = find
        self._clock = clock

    async def user(self, token: str) -> User | None:
        """Who holds the token; None when it is no valid bootstrap token."""
        parts = _TOKEN.fullmatch(token)
        if parts is None:
            return None
        entry = self._find(Key("secrets", "kube-system", f"bootstrap-token-{parts[1]}"))
        if entry is None:
            return None
        secret = entry.content()
        data = secret.get("data") or {}
        if secret.get("type") != _TYPE or secret["metadata"].get("deletionTimestamp"):
            return None
        if not hmac.compare_digest(_read(data, "token-secret"), parts[2]) or _read(data, "token-id") != parts[1]:
            return None
        if _read(data, "usage-bootstrap-authentication") != "true" or self._has_expired(data):
            return None
        extra = [name.strip() for name in _read(data, "auth-extra-groups").split(",")]
        groups = [name for name in extra if _GROUP.fullmatch(name)]
        return User(f"system:bootstrap:{parts[1]}", ("system:bootstrappers", *groups, AUTHENTICATED))

    def _has_expired(self, data: Mapping[str, Any]) -> bool:
        text = _read(data, "expiration")
        if not text:
            return False
        end = parse_rfc3339(text)
        return end is None or end <= self._clock.now_s()


def _read(data: Mapping[str, Any], name: str) -> str:
    try:
        return base64.b64decode(str(data.get(name) or "")).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
