"""Acting as somebody else: the ``Impersonate-*`` headers.

Source: kubernetes staging/src/k8s.io/apiserver/pkg/endpoints/filters/impersonation/ (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol
from urllib.parse import unquote

from skerry.api.status import InternalError
from skerry.apiserver.auth.authn import (
    ANONYMOUS,
    AUTHENTICATED,
    SERVICE_ACCOUNT_PREFIX,
    UNAUTHENTICATED,
    User,
)
from skerry.apiserver.auth.rbac import Attributes

_EXTRA = "impersonate-extra-"
_GROUP = "authentication.k8s.io"


class Require(Protocol):
    """Raises ``Forbidden`` unless the request may go on."""

    def __call__(self, attributes: Attributes, /) -> None: ...


class Headers(Protocol):
    """Headers of a request; names compare without case."""

    def getall(self, key: str, default: Sequence[str], /) -> Sequence[str]:
        """Every value of one name."""

    def __iter__(self) -> Iterator[str]:
        """The names."""


def impersonated(user: User, headers: Headers, require: Require) -> User:
    """The user that a request acts as; ``user`` when it names none.

    Raises:
        Forbidden: ``user`` may not act as that user, or as a member of one of the groups.
        InternalError: groups or extras without a user.
    """
    names = [name for name in headers.getall("Impersonate-User", ()) if name]
    groups = list(headers.getall("Impersonate-Group", ()))
    uids = [uid for uid in headers.getall("Impersonate-Uid", ()) if uid]
    extra = _extra(headers)
    if not names:
        if groups or uids or extra:
            raise InternalError("requested groups, uid or extra without impersonating a user")
        return user
    name = names[0]
    account = name.removeprefix(SERVICE_ACCOUNT_PREFIX).split(":") if name.startswith(SERVICE_ACCOUNT_PREFIX) else []
    if len(account) == 2:
        require(Attributes(user, "impersonate", resource="serviceaccounts", namespace=account[0], name=account[1]))
    else:
        require(Attributes(user, "impersonate", resource="users", name=name))
    for group in groups:
        require(Attributes(user, "impersonate", resource="groups", name=group))
    for uid in uids:
        require(Attributes(user, "impersonate", group=_GROUP, resource="uids", name=uid))
    for key, values in extra.items():
        for value in values:
            require(Attributes(user, "impersonate", group=_GROUP, resource="userextras", subresource=key, name=value))
    if len(account) == 2 and not groups:
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{account[0]}"]
    known = UNAUTHENTICATED if name == ANONYMOUS else AUTHENTICATED
    return User(name, tuple(dict.fromkeys([*groups, known])), uids[0] if uids else "", extra)


def _extra(headers: Headers) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for header in dict.fromkeys(name.lower() for name in headers):
        if header.startswith(_EXTRA):
            found[unquote(header[len(_EXTRA) :])] = list(headers.getall(header, ()))
    return found
