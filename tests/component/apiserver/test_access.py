"""Who is asking and what they may: identities of every kind against a real server."""

# ruff: noqa: E501 - one request per line

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from skerry.api import gvk
from skerry.apiserver.auth.oidc import OidcSettings, OidcTokens
from skerry.base import certificates, json, x509
from skerry.base.aio.clock import SystemClock
from skerry.base.errors import SkerryError
from skerry.base.jwt import SigningKey

REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
TOKENS = "/apis/authentication.k8s.io/v1/tokenreviews"


class Bearer:
    """Requests with a bearer token and no certificate."""

    def __init__(self, session: aiohttp.ClientSession, site: Any) -> None:
        self._session = session
        self._url = site.url
        self._tls = ssl.create_default_context(cafile=str(site.files.ca_cert))

    async def ask(self, token: str, method: str, path: str, obj: Any = None, **headers: str) -> tuple[int, Any]:
        sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"} if token else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = json.dumps(obj) if obj is not None else None
        async with self._session.request(method, self._url + path, ssl=self._tls, data=data, headers=sent) as answer:
            body = await answer.read()
            return answer.status, json.loads(body) if answer.content_type.endswith("json") else body

    async def who(self, token: str) -> dict[str, Any] | int:
        status, body = await self.ask(token, "POST", REVIEW, {})
        return body["status"]["userInfo"] if status == 201 else status


@pytest.fixture
def bearer(session: aiohttp.ClientSession) -> Callable[[Any], Bearer]:
    return lambda site: Bearer(session, site)


async def _account(api: Any, name: str) -> dict[str, Any]:
    status, account = await api.ask("POST", gvk.SERVICEACCOUNTS.path("default"), {"metadata": {"name": name}})
    assert status == 201
    found: dict[str, Any] = account
    return found


async def _token(api: Any, name: str, **spec: Any) -> str:
    place = gvk.SERVICEACCOUNTS.path("default", name, "token")
    status, answer = await api.ask("POST", place, {"spec": spec})
    assert status == 201, answer
    return str(answer["status"]["token"])


async def test_a_token_dies_with_what_it_is_bound_to(api: Any, site: Any, bearer: Callable[[Any], Bearer]) -> None:
    account = await _account(api, "robot")
    plain = await _token(api, "robot")
    pod = {
        "metadata": {"name": "p"},
        "spec": {"serviceAccountName": "robot", "containers": [{"name": "c", "image": "i"}]},
    }
    _, pod = await api.ask("POST", gvk.PODS.path("default"), pod)
    bound = await _token(api, "robot", boundObjectRef={"kind": "Pod", "name": "p", "uid": pod["metadata"]["uid"]})
    ask = bearer(site)
    who = await ask.who(bound)
    assert isinstance(who, dict)
    assert who["username"] == "system:serviceaccount:default:robot"
    assert who["uid"] == account["metadata"]["uid"]
    assert who["extra"]["authentication.kubernetes.io/pod-name"] == ["p"]
    review = {"spec": {"token": bound, "audiences": ["elsewhere"]}}
    assert "authenticated" not in (await api.ask("POST", TOKENS, review))[1]["status"]
    assert (await api.ask("POST", TOKENS, {"spec": {"token": bound}}))[1]["status"]["authenticated"] is True
    await api.ask("DELETE", gvk.PODS.path("default", "p") + "?gracePeriodSeconds=0")
    assert await ask.who(bound) == 401
    assert isinstance(await ask.who(plain), dict)
    await api.ask("DELETE", gvk.SERVICEACCOUNTS.path("default", "robot"))
    assert await ask.who(plain) == 401
    await _account(api, "robot")  # the same name is another account
    assert await ask.who(plain) == 401


async def test_a_token_is_for_the_pods_own_account(api: Any) -> None:
    for name in ("robot", "other"):
        await _account(api, name)
    pod = {
        "metadata": {"name": "p"},
        "spec": {"serviceAccountName": "robot", "containers": [{"name": "c", "image": "i"}]},
    }
    await api.ask("POST", gvk.PODS.path("default"), pod)
    place = gvk.SERVICEACCOUNTS.path("default", "other", "token")
    status, body = await api.ask("POST", place, {"spec": {"boundObjectRef": {"kind": "Pod", "name": "p"}}})
    assert (status, "different serviceaccount" in body["message"]) == (400, True)


async def test_tokens_kept_in_secrets(api: Any, site: Any, bearer: Callable[[Any], Bearer]) -> None:
    account = await _account(api, "old")
    key = SigningKey(site.files.token_key.read_bytes())
    prefix = "kubernetes.io/serviceaccount"
    token = key.sign({
        "iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:default:old", f"{prefix}/namespace": "default",
        f"{prefix}/secret.name": "old-token", f"{prefix}/service-account.name": "old",
        f"{prefix}/service-account.uid": account["metadata"]["uid"],
    })  # fmt: skip
    ask = bearer(site)
    assert await ask.who(token) == 401
    secret = {
        "metadata": {"name": "old-token", "annotations": {"kubernetes.io/service-account.name": "old"}},
        "type": "kubernetes.io/service-account-token",
        "data": {"token": base64.b64encode(token.encode()).decode()},
    }
    assert (await api.ask("POST", gvk.SECRETS.path("default"), secret))[0] == 201
    who = await ask.who(token)
    assert isinstance(who, dict) and who["username"] == "system:serviceaccount:default:old"
    await api.ask("DELETE", gvk.SECRETS.path("default", "old-token"))
    assert await ask.who(token) == 401


async def test_bootstrap_tokens(api: Any, site: Any, bearer: Callable[[Any], Bearer]) -> None:
    secret = {
        "metadata": {"name": "bootstrap-token-abcdef"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true",
            "auth-extra-groups": "system:bootstrappers:edge,system:masters",
        },
    }  # fmt: skip
    assert (await api.ask("POST", gvk.SECRETS.path("kube-system"), secret))[0] == 201
    who = await bearer(site).who("abcdef.0123456789abcdef")
    assert isinstance(who, dict)
    assert who["username"] == "system:bootstrap:abcdef"
    assert who["groups"] == ["system:bootstrappers", "system:bootstrappers:edge", "system:authenticated"]
    assert await bearer(site).who("abcdef.0123456789abcdee") == 401
    late = {"stringData": {"expiration": "2020-01-01T00:00:00Z"}}
    await api.ask("PATCH", gvk.SECRETS.path("kube-system", "bootstrap-token-abcdef"), late, kind="application/merge-patch+json")  # fmt: skip
    assert await bearer(site).who("abcdef.0123456789abcdef") == 401


class Issuer:
    """An OpenID provider in memory: documents, and keys that change."""

    url = "https://issuer.example"

    def __init__(self) -> None:
        self.asked = 0
        self.is_down = False
        self.rotate("one")

    def rotate(self, name: str) -> None:
        self._name = name
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def token(self, **claims: Any) -> str:
        now = int(time.time())
        content = {"iss": self.url, "aud": "skerry", "sub": "1234", "exp": now + 60, "iat": now} | claims
        return jwt.encode(content, self._key, algorithm="RS256", headers={"kid": self._name})

    async def fetch(self, url: str) -> bytes:
        self.asked += 1
        if self.is_down:
            raise SkerryError("down")
        if url.endswith("/.well-known/openid-configuration"):
            return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"})
        assert url == f"{self.url}/keys"
        public = jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return json.dumps({"keys": [{**public, "kid": self._name, "use": "sig"}, {"kty": "odd"}]})


class Hands(SystemClock):
    """A clock whose monotonic side is set by hand."""

    def __init__(self) -> None:
        self.moment_s = 100.0

    def monotonic_s(self) -> float:
        return self.moment_s


async def test_openid_users(serve: Any, bearer: Callable[[Any], Bearer]) -> None:
    issuer, clock = Issuer(), Hands()
    settings = OidcSettings(
        issuer=issuer.url, client_ids=("skerry",), username_claim="email", groups_claim="groups",
        groups_prefix="oidc:", required_claims={"hd": "example.com"},
    )  # fmt: skip
    site = await serve(token_checks=[OidcTokens(settings, fetch=issuer.fetch, clock=clock)])
    ask, good = bearer(site), {"email": "jane@example.com", "groups": ["devs"], "hd": "example.com"}
    who = await ask.who(issuer.token(**good))
    assert isinstance(who, dict)
    assert (who["username"], who["groups"]) == ("jane@example.com", ["oidc:devs", "system:authenticated"])
    for bad in (
        {"hd": "x"},
        {"aud": "other"},
        {"exp": 1},
        {"email": ""},
        {"email_verified": False},
        {"email": "system:x"},
    ):
        assert await ask.who(issuer.token(**(good | bad))) == 401, bad
    unsigned = jwt.encode({"iss": issuer.url, "aud": "skerry", "sub": "x", "exp": 2**33, **good}, "", algorithm="none")
    assert await ask.who(unsigned) == 401
    asked = issuer.asked
    issuer.rotate("two")
    token = issuer.token(**good)
    assert await ask.who(token) == 401  # asked for keys a moment ago
    assert issuer.asked == asked
    clock.moment_s += 11
    assert isinstance(await ask.who(token), dict)
    issuer.is_down = True
    clock.moment_s += 4000
    assert isinstance(await ask.who(token), dict)  # old keys serve while the issuer is away


async def test_acting_as_somebody_else(api: Any, as_user: Callable[..., Any]) -> None:
    headers = {
        "Impersonate_User": "jane", "Impersonate_Group": "devs", "Impersonate_Uid": "42",
        "Impersonate_Extra_example.com%2Fteam": "red",
    }  # fmt: skip
    _, body = await api.ask("POST", REVIEW, {}, **headers)
    assert body["status"]["userInfo"] == {
        "username": "jane", "uid": "42", "groups": ["devs", "system:authenticated"], "extra": {"example.com/team": ["red"]},
    }  # fmt: skip
    _, body = await api.ask("POST", REVIEW, {}, Impersonate_User="system:serviceaccount:default:robot")
    assert "system:serviceaccounts:default" in body["status"]["userInfo"]["groups"]
    status, _ = await api.ask("POST", REVIEW, {}, Impersonate_Group="devs")
    assert status == 500
    role = {
        "metadata": {"name": "act"},
        "rules": [{"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"]}],
    }
    await api.ask("POST", gvk.CLUSTERROLES.path(), role)
    binding = {"metadata": {"name": "act"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "act"},
               "subjects": [{"kind": "User", "name": "bob"}]}  # fmt: skip
    await api.ask("POST", gvk.CLUSTERROLEBINDINGS.path(), binding)
    bob = as_user("bob")
    assert (await bob.ask("POST", REVIEW, {}, Impersonate_User="jane"))[0] == 201
    status, body = await bob.ask("POST", REVIEW, {}, **headers)
    assert (status, 'cannot impersonate resource "groups"' in body["message"]) == (403, True)
    assert (await as_user("eve").ask("GET", "/version", Impersonate_User="jane"))[0] == 403


async def test_a_node_certificate_reads_its_own_pods_only(api: Any, as_user: Callable[..., Any]) -> None:
    await _account(api, "default")
    for name, node in (("mine", "edge-1"), ("theirs", "edge-2")):
        pod = {"metadata": {"name": name}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i", "envFrom": [
            {"secretRef": {"name": f"for-{name}"}}]}]}}  # fmt: skip
        assert (await api.ask("POST", gvk.PODS.path("default"), pod))[0] == 201
        await api.ask("POST", gvk.SECRETS.path("default"), {"metadata": {"name": f"for-{name}"}})
    node = as_user("system:node:edge-1", "system:nodes")
    assert (await node.ask("GET", "/api/v1/pods"))[0] == 403
    status, found = await node.ask("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1")
    assert (status, [pod["metadata"]["name"] for pod in found["items"]]) == (200, ["mine"])
    assert (await node.ask("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-2"))[0] == 403
    assert (await node.ask("GET", gvk.PODS.path("default", "theirs")))[0] == 403
    assert (await node.ask("GET", gvk.SECRETS.path("default", "for-mine")))[0] == 200
    assert (await node.ask("GET", gvk.SECRETS.path("default", "for-theirs")))[0] == 403
    assert (await node.ask("GET", gvk.SECRETS.path("default")))[0] == 403
    token = gvk.SERVICEACCOUNTS.path("default", "default", "token")
    assert (await node.ask("POST", token, {"spec": {}}))[0] == 403
    _, theirs = await api.ask("GET", gvk.PODS.path("default", "theirs"))
    reference = {"kind": "Pod", "name": "theirs", "uid": theirs["metadata"]["uid"]}
    status, body = await node.ask("POST", token, {"spec": {"boundObjectRef": reference}})
    assert (status, "different node" in body["message"]) == (403, True)
    _, mine = await api.ask("GET", gvk.PODS.path("default", "mine"))
    reference = {"kind": "Pod", "name": "mine", "uid": mine["metadata"]["uid"]}
    assert (await node.ask("POST", token, {"spec": {"boundObjectRef": reference}}))[0] == 201


async def test_a_name_in_a_selector_or_a_watch_path_is_all_that_is_seen(api: Any, as_user: Callable[..., Any]) -> None:
    for name in ("mine", "other"):
        await api.ask("POST", gvk.SECRETS.path("default"), {"metadata": {"name": name}})
    rule = {"verbs": ["list", "watch"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mine"]}
    await api.ask("POST", gvk.ROLES.path("default"), {"metadata": {"name": "one"}, "rules": [rule]})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "one"}
    binding = {"metadata": {"name": "one"}, "roleRef": reference, "subjects": [{"kind": "User", "name": "bob"}]}
    await api.ask("POST", gvk.ROLEBINDINGS.path("default"), binding)
    bob, secrets = as_user("bob"), gvk.SECRETS.path("default")
    status, found = await bob.ask("GET", f"{secrets}?fieldSelector=metadata.name%3Dmine")
    assert (status, [item["metadata"]["name"] for item in found["items"]]) == (200, ["mine"])
    for selector in (r"type!%3Dx%5C,metadata.name%3Dmine", r"type!%3Dx%5C,metadata.name%5C%3Dmine"):
        assert (await bob.ask("GET", f"{secrets}?fieldSelector={selector}"))[0] == 403
    path = secrets.replace("/v1/", "/v1/watch/", 1)
    assert (await bob.ask("GET", f"{path}/other?timeoutSeconds=1"))[0] == 403
    for query in ("resourceVersion=0", "resourceVersion=1"):
        async with bob.open("GET", f"{path}/mine?{query}&timeoutSeconds=1") as answer:
            told = [json.loads(text) for text in (await answer.read()).splitlines()]
        assert [(event["type"], event["object"]["metadata"]["name"]) for event in told] == [("ADDED", "mine")]


async def test_a_node_gains_nothing_by_pods_of_its_own_making(api: Any, as_user: Callable[..., Any]) -> None:
    await _account(api, "default")
    node, pods = as_user("system:node:edge-1", "system:nodes"), gvk.PODS.path("default")
    meta = {"name": "db", "annotations": {"kubernetes.io/config.mirror": "hash"}}
    spec = {"nodeName": "edge-1", "containers": [{"name": "c", "image": "i"}]}
    claim = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
    volume = {"name": "data", "ephemeral": {"volumeClaimTemplate": claim}}
    for more in ({"volumes": [volume]}, {"resourceClaims": [{"name": "gpu", "resourceClaimName": "theirs"}]}):
        status, body = await node.ask("POST", pods, {"metadata": meta, "spec": spec | more})
        assert (status, "claims" in body["message"]) == (403, True), body
    assert (await node.ask("POST", pods, {"metadata": meta, "spec": spec}))[0] == 201
    merge = "application/merge-patch+json"
    unmask = {"metadata": {"annotations": {"kubernetes.io/config.mirror": None}}}
    assert (await node.ask("PATCH", f"{pods}/db/status", unmask, kind=merge))[0] == 403
    claims = {"status": {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "theirs"}]}}
    assert (await node.ask("PATCH", f"{pods}/db/status", claims, kind=merge))[0] == 403
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "6f1e7a4e-0000-4000-8000-000000000000"}
    status, body = await node.ask("PATCH", f"{pods}/db/status", {"metadata": {"ownerReferences": [owner]}}, kind=merge)
    assert (status, "ownerReferences" in body["metadata"]) == (200, False)


async def test_a_node_describes_only_its_own_drivers_and_devices(api: Any, as_user: Callable[..., Any]) -> None:
    node = as_user("system:node:edge-1", "system:nodes")
    for name, expected in (("edge-2", 403), ("edge-1", 201)):
        csi = {"metadata": {"name": name}, "spec": {"drivers": []}}
        assert (await node.ask("POST", gvk.CSINODES.path(), csi))[0] == expected
        pool = {"name": name, "generation": 1, "resourceSliceCount": 1}
        slice_ = {
            "metadata": {"name": f"{name}-gpus"},
            "spec": {"driver": "gpu.example.com", "nodeName": name, "pool": pool},
        }
        assert (await node.ask("POST", gvk.RESOURCESLICES.path(), slice_))[0] == expected


async def test_nobody_grants_more_than_he_holds(api: Any, as_user: Callable[..., Any]) -> None:
    grant = {"metadata": {"name": "granter"}, "rules": [
        {"verbs": ["*"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"]},
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}  # fmt: skip
    # every verb includes escalate and bind, so name those that do not
    grant["rules"][0]["verbs"] = ["get", "create", "update", "patch"]  # type: ignore[index]
    await api.ask("POST", gvk.CLUSTERROLES.path(), grant)
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "granter"}
    await api.ask("POST", gvk.ROLEBINDINGS.path("default"), {"metadata": {"name": "b"}, "roleRef": reference,
                                                             "subjects": [{"kind": "User", "name": "bob"}]})  # fmt: skip
    bob, roles = as_user("bob"), gvk.ROLES.path("default")
    role = {"metadata": {"name": "r"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}
    assert (await bob.ask("POST", roles, role))[0] == 201
    role["rules"][0]["resources"] = ["pods", "secrets"]  # type: ignore[index]
    status, body = await bob.ask("PUT", f"{roles}/r", role)
    assert status == 403
    assert body["message"].endswith(
        'not currently held:\n{APIGroups:[""], Resources:["pods" "secrets"], Verbs:["get"]}'
    )
    later = {"metadata": {"name": "later"}, "roleRef": {**reference, "kind": "Role", "name": "none"}, "subjects": [{"kind": "User", "name": "bob"}]}  # fmt: skip
    status, body = await bob.ask("POST", gvk.ROLEBINDINGS.path("default"), later)
    assert (status, body["message"]) == (404, 'roles.rbac.authorization.k8s.io "none" not found')
    assert (await api.ask("POST", gvk.ROLEBINDINGS.path("default"), later))[0] == 201
    admin = {"metadata": {"name": "up"}, "roleRef": {**reference, "name": "cluster-admin"}, "subjects": [{"kind": "User", "name": "bob"}]}  # fmt: skip
    assert (await bob.ask("POST", gvk.ROLEBINDINGS.path("default"), admin))[0] == 403
    # what others wrote may get a label from anybody who may write roles
    big = {"metadata": {"name": "big"}, "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]}
    await api.ask("POST", roles, big)
    label = {"metadata": {"labels": {"a": "b"}}}
    assert (await bob.ask("PATCH", f"{roles}/big", label, kind="application/merge-patch+json"))[0] == 200


async def test_strangers_learn_that_the_server_lives_and_no_more(site: Any, bearer: Callable[[Any], Bearer]) -> None:
    ask = bearer(site)
    for path, status in (
        ("/version", 200),
        ("/healthz", 200),
        ("/apis", 403),
        ("/openapi/v3", 403),
        ("/api/v1/pods", 403),
    ):
        assert (await ask.ask("", "GET", path))[0] == status, path
    assert (await ask.ask("nonsense", "GET", "/version"))[0] == 401


async def test_the_issuer_publishes_its_keys(api: Any, site: Any) -> None:
    await _account(api, "robot")
    token = await _token(api, "robot")
    _, about = await api.ask("GET", "/.well-known/openid-configuration")
    _, keys = await api.ask("GET", "/openid/v1/jwks")
    key = jwt.PyJWK(keys["keys"][0])
    claims = jwt.decode(token, key.key, algorithms=["RS256"], audience=about["issuer"], issuer=about["issuer"])
    assert claims["kubernetes.io"]["serviceaccount"]["name"] == "robot"
    assert jwt.get_unverified_header(token)["kid"] == keys["keys"][0]["kid"]


async def test_signers_decide_who_may_approve(api: Any, as_user: Callable[..., Any]) -> None:
    def request(name: str, *groups: str) -> dict[str, Any]:
        der, _ = x509.new_csr(name, organizations=groups)
        text = base64.b64encode(certificates.to_pem("CERTIFICATE REQUEST", der)).decode()
        return {"metadata": {"name": name}, "spec": {"request": text, "signerName": "kubernetes.io/kube-apiserver-client",
                                                     "usages": ["client auth"]}}  # fmt: skip

    status, body = await api.ask("POST", gvk.CSRS.path(), request("root", "system:masters"))
    assert (status, "system:masters" in body["message"]) == (403, True), body
    assert (await api.ask("POST", gvk.CSRS.path(), request("jane")))[0] == 201
    group = "certificates.k8s.io"
    rules = [{"verbs": ["get", "update"], "apiGroups": [group], "resources": ["certificatesigningrequests/approval"]}]
    for name in ("clerk", "approver"):
        await api.ask("POST", gvk.CLUSTERROLES.path(), {"metadata": {"name": name}, "rules": rules})
        await api.ask("POST", gvk.CLUSTERROLEBINDINGS.path(), {
            "metadata": {"name": name}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "User", "name": name}]})  # fmt: skip
        rules = [*rules, {"verbs": ["approve"], "apiGroups": [group], "resources": ["signers"],
                          "resourceNames": ["kubernetes.io/*"]}]  # fmt: skip
    _, made = await api.ask("GET", gvk.CSRS.path(name="jane"))
    made["status"] = {"conditions": [{"type": "Approved", "status": "True", "reason": "r", "message": ""}]}
    place = gvk.CSRS.path(name="jane", subresource="approval")
    status, body = await as_user("clerk").ask("PUT", place, made)
    assert (status, "not permitted to approve" in body["message"]) == (403, True), body
    assert (await as_user("approver").ask("PUT", place, made))[0] == 200


async def test_roles_of_an_older_release_get_what_is_new(serve: Any, client: Callable[..., Any]) -> None:
    site = await serve()
    api = client(site)
    place = gvk.CLUSTERROLES.path()
    older, own = f"{place}/system:basic-user", f"{place}/system:discovery"
    merge = "application/merge-patch+json"
    rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["nodes"]}
    await api.ask("PATCH", older, {"rules": [rule]}, kind=merge)
    note = {"metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}, "rules": []}
    await api.ask("PATCH", own, note, kind=merge)
    await site.server.aclose()
    await site.core.aclose()
    again = client(await serve())
    _, role = await again.ask("GET", older)
    assert rule in role["rules"] and any("selfsubjectreviews" in item["resources"] for item in role["rules"])
    _, kept = await again.ask("GET", own)
    assert not kept.get("rules")
