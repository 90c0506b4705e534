"""Reviews: questions about identity and access, answered and not stored."""

from __future__ import annotations

from typing import Any

from skerry.api.gvk import Object
from skerry.api.selectors import escaped_value
from skerry.api.status import BadRequest
from skerry.apiserver.auth.access import Access
from skerry.apiserver.auth.authn import AUTHENTICATED, Authenticator, ServiceAccountTokens, User
from skerry.apiserver.auth.rbac import Attributes, Rule
from skerry.apiserver.calls import Answer, Call
from skerry.base.jwt import BadToken


class Reviews:
    """Answers review kinds.

    Args:
        access: what users may do.
        tokens: checks tokens of service accounts for any audience.
        authenticator: checks every other token.
    """

    def __init__(self, *, access: Access, tokens: ServiceAccountTokens, authenticator: Authenticator) -> None:
        self._access = access
        self._tokens = tokens
        self._authenticator = authenticator

    async def create(self, call: Call, obj: Object) -> Answer:
        """Answer one review; the object comes back with its status."""
        resource = call.kind.resource
        spec = obj.get("spec") or {}
        obj = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": obj.get("metadata") or {}} | obj
        match resource.plural:
            case "tokenreviews":
                obj["status"] = await self._token(spec)
            case "selfsubjectreviews":
                obj["status"] = {"userInfo": call.user.info()}
            case "selfsubjectrulesreviews":
                obj["status"] = self._rules(call.user, str(spec.get("namespace", "")))
            case "selfsubjectaccessreviews":
                obj["status"] = self._decide(call.user, spec, "")
            case "subjectaccessreviews":
                obj["status"] = self._decide(_subject(spec), spec, "")
            case _:
                asked = (spec.get("resourceAttributes") or {}).get("namespace")
                if asked and asked != call.namespace:
                    raise BadRequest(
                        f"spec.resourceAttributes.namespace must be the namespace of the review: {call.namespace}"
                    )
                obj["status"] = self._decide(_subject(spec), spec, call.namespace)
        return Answer(201, obj=obj)

    async def _token(self, spec: dict[str, Any]) -> dict[str, Any]:
        token, own = str(spec.get("token", "")), [self._tokens.issuer]
        audiences = [str(name) for name in spec.get("audiences") or ()] or own
        user: User | None
        try:
            user = self._tokens.check(token, audiences=audiences)
            audiences = self._tokens.audiences_of(token, audiences)
        except BadToken:
            # Tokens of other kinds are for this server alone.
            user = await self._authenticator.by_token(token) if set(own) & set(audiences) else None
            audiences = own
        if user is None:
            return {"user": {}, "error": "invalid bearer token"}
        return {"authenticated": True, "user": user.info(), "audiences": audiences}

    def _decide(self, user: User, spec: dict[str, Any], namespace: str) -> dict[str, Any]:
        asked = spec.get("resourceAttributes")
        other = spec.get("nonResourceAttributes")
        if bool(asked) == bool(other):
            raise BadRequest("exactly one of spec.resourceAttributes and spec.nonResourceAttributes must be given")
        if asked:
            attributes = Attributes(
                user,
                str(asked.get("verb", "")),
                group=str(asked.get("group", "")),
                resource=str(asked.get("resource", "")),
                subresource=str(asked.get("subresource", "")),
                namespace=namespace or str(asked.get("namespace", "")),
                name=str(asked.get("name", "")),
                field_selector=_selector_text(asked.get("fieldSelector")),
            )
        else:
            assert other is not None
            attributes = Attributes(user, str(other.get("verb", "")), path=str(other.get("path", "")))
        return {"allowed": self._access.allows(attributes)}

    def _rules(self, user: User, namespace: str) -> dict[str, Any]:
        resources: list[Rule] = []
        urls: list[Rule] = []
        for rule in self._access.rules_of(user, namespace):
            found = {name: value for name, value in rule.items() if value}
            (urls if rule.get("nonResourceURLs") else resources).append(found)
        return {"resourceRules": resources, "nonResourceRules": urls, "incomplete": False}


def _selector_text(selector: dict[str, Any] | None) -> str:
    """A field selector of a review, as it would stand in a query; only terms that ask for one value count."""
    if not selector:
        return ""
    if selector.get("rawSelector"):
        return str(selector["rawSelector"])
    terms = [item for item in selector.get("requirements") or () if item.get("operator") == "In"]
    return ",".join(
        f"{item.get('key')}={escaped_value(str(item['values'][0]))}"
        for item in terms
        if len(item.get("values") or ()) == 1
    )


def _subject(spec: dict[str, Any]) -> User:
    groups = [str(name) for name in spec.get("groups") or ()]
    user = str(spec.get("user", ""))
    if not user and not groups:
        raise BadRequest("at least one of spec.user and spec.groups must be given")
    return User(user, tuple(dict.fromkeys([*groups, AUTHENTICATED])), str(spec.get("uid", "")), spec.get("extra") or {})
