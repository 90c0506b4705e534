"""The join port over real TLS: certificates by token and by rotation, and every refusal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509 as lib
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from skerry import __version__
from skerry.api.gvk import NODES, SECRETS
from skerry.base import certificates, json, x509
from skerry.base.errors import Refused
from skerry.base.x509 import LocalCertifier
from skerry.cloud.join.ca import AuthorityStore
from skerry.cloud.join.tokens import JoinTokens, sign
from skerry.testing.clock import VirtualClock
from skerry.testing.fakekube import FakeKubeApi
from skerry.testing.hollow import Refusal, connect, enrol, fetch
from skerry.testing.hubkit import CloudKit, cloud
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import join


@pytest.fixture
async def api() -> FakeKubeApi:
    return FakeKubeApi()


@pytest.fixture
async def kit(api: FakeKubeApi, tmp_path: Path) -> AsyncIterator[CloudKit]:
    async with cloud(api, tmp_path) as kit:
        yield kit


async def ask(
    kit: CloudKit, node: str, jwt: str, *, csr: bytes = b"", credential: certificates.Credential | None = None
) -> bytes:
    """GET /edge.crt with the CSR as body."""
    body = csr or x509.new_csr(join.common_name(node), organizations=(c.CERT_ORGANIZATION,))[0]
    headers = join.request_headers(node, jwt=jwt)
    return await fetch(kit.join_url + "/edge.crt", kit.tls(credential), headers=headers, body=body)


async def refused(kit: CloudKit, node: str, jwt: str, **options: object) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await ask(kit, node, jwt, **options)  # type: ignore[arg-type]
    assert ";" in caught.value.text, "a refusal names its remedy"
    return caught.value


async def jwt_of(kit: CloudKit, *, node: str = "", uses: int = 1, ttl_s: float = 60.0) -> str:
    _, text = await kit.tokens.create(node=node, uses=uses, ttl_s=ttl_s)
    return join.parse_token(text).jwt


async def test_the_ca_and_the_greeting_need_no_proof(kit: CloudKit) -> None:
    tls = kit.tls()
    assert await fetch(kit.join_url + "/ca.crt", tls) == kit.authority.ca.cert_der
    hello = json.loads(await fetch(kit.join_url + "/skerry/v1/hello", tls))
    assert (hello["name"], hello["version"], hello["node_address"]) == ("skerry", __version__, "127.0.0.1")
    assert hello["time_s"] > 1_600_000_000


async def test_the_node_check_answers_as_keadm_expects(kit: CloudKit, api: FakeKubeApi) -> None:
    await api.create(NODES, {"metadata": {"name": "here"}})
    assert await fetch(kit.join_url + "/node/here", kit.tls()) == b"Node found\n"
    for name in ("absent", "a%2Fb", "A_B", ""):
        with pytest.raises(Refusal) as caught:
            await fetch(kit.join_url + "/node/" + name, kit.tls())
        assert (caught.value.status, caught.value.text) == (404, "Node not found\n")


async def test_a_certificate_names_its_node_and_nothing_else(kit: CloudKit) -> None:
    cert = await ask(kit, "edge-1", await jwt_of(kit, node="edge-1"))
    info = x509.read_certificate(cert)
    assert (info.common_name, info.organizations, info.hosts) == ("system:node:edge-1", ("system:nodes",), ())
    assert x509.is_issued_by(cert, kit.authority.ca.cert_der)
    record = await kit.enrolments.get("edge-1")
    assert record is not None and record.live == info.fingerprint and not record.has_connected


async def test_until_it_connects_a_node_may_ask_again_which_revokes_the_earlier_certificate(kit: CloudKit) -> None:
    token = (await kit.tokens.create(node="edge-1"))[1]
    first = await kit.join("edge-1", token)
    second = await kit.join("edge-1", token)
    with pytest.raises(Refusal) as caught:
        async with connect(kit.hub_url, "edge-1", kit.tls(first)):
            pass
    assert caught.value.status == 403
    async with connect(kit.hub_url, "edge-1", kit.tls(second)) as node:
        await node.request("query", "null/node/edge-1")
        again = await refused(kit, "edge-1", join.parse_token(token).jwt)
        assert again.status == 401 and "used up" in again.text and "skerry token create" in again.text


async def test_wrong_expired_revoked_and_foreign_tokens(kit: CloudKit) -> None:
    good = await jwt_of(kit, node="edge-1")
    damaged = good[:-2] + ("aa" if good[-2:] != "aa" else "bb")
    signed_by_ca = sign({"exp": 4_000_000_000}, kit.authority.ca.key_der)
    for jwt, words in [(damaged, "not made by this cloud"), (signed_by_ca, "not made by this cloud")]:
        refusal = await refused(kit, "edge-1", jwt)
        assert refusal.status == 401 and words in refusal.text
    bound = await refused(kit, "edge-2", good)
    assert bound.status == 401 and "bound to node edge-1" in bound.text
    token, text = await kit.tokens.create(node="edge-3")
    assert await kit.tokens.revoke(token.id)
    gone = await refused(kit, "edge-3", join.parse_token(text).jwt)
    assert gone.status == 401 and "revoked" in gone.text
    neither = await refused(kit, "edge-1", "")
    assert neither.status == 401


async def test_an_expired_token(api: FakeKubeApi, tmp_path: Path) -> None:
    clock = VirtualClock(start_s=1_800_000_000.0)
    tokens = JoinTokens(api, ca_der=b"ca", clock=clock)
    await tokens.load()
    _, text = await tokens.create(node="edge-1", ttl_s=60)
    jwt = join.parse_token(text).jwt
    assert (await tokens.check(jwt, "edge-1")).node == "edge-1"
    await clock.advance(61)
    with pytest.raises(Exception, match="expired"):
        await tokens.check(jwt, "edge-1")
    assert len(await tokens.list()) == 1
    await clock.advance(25 * 3600)
    assert await tokens.list() == []


async def test_a_counted_token_enrols_so_many_new_names(kit: CloudKit, api: FakeKubeApi) -> None:
    await api.create(NODES, {"metadata": {"name": "old"}})
    await kit.join("held")
    jwt = await jwt_of(kit, uses=2)
    for name, words in [("old", "exists already"), ("held", "holds a certificate already")]:
        refusal = await refused(kit, name, jwt)
        assert refusal.status == 403 and words in refusal.text
    await ask(kit, "a", jwt)
    await ask(kit, "a", jwt)
    await ask(kit, "b", jwt)
    assert "used up by other nodes" in (await refused(kit, "c", jwt)).text


async def test_one_use_is_taken_once_by_many_at_the_same_time(kit: CloudKit) -> None:
    jwt = await jwt_of(kit, uses=1)
    results = await asyncio.gather(*(ask(kit, f"n{i}", jwt) for i in range(6)), return_exceptions=True)
    assert len([r for r in results if isinstance(r, bytes)]) == 1
    assert len([r for r in results if isinstance(r, Refusal)]) == 5


def _csr(common: str, organization: str, names: list[lib.GeneralName]) -> bytes:
    subject = [lib.NameAttribute(NameOID.COUNTRY_NAME, "CN")]
    if organization:
        subject.append(lib.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    subject.append(lib.NameAttribute(NameOID.COMMON_NAME, common))
    builder = lib.CertificateSigningRequestBuilder().subject_name(lib.Name(subject))
    if names:
        builder = builder.add_extension(lib.SubjectAlternativeName(names), critical=False)
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(
        serialization.Encoding.DER
    )


async def test_requests_for_anything_but_the_own_name_are_refused(kit: CloudKit) -> None:
    jwt = await jwt_of(kit, node="edge-1")
    for csr, status in [
        (_csr("system:node:edge-2", "system:nodes", []), 403),
        (_csr("system:node:edge-1", "system:masters", []), 403),
        (_csr("system:node:edge-1", "", []), 403),
        (_csr("kubeedge.io", "KubeEdge", []), 403),
        (_csr("system:node:edge-1", "system:nodes", [lib.DNSName("cloud")]), 403),
        (b"nonsense", 400),
    ]:
        with pytest.raises(Refusal) as caught:
            await ask(kit, "edge-1", jwt, csr=csr)
        assert caught.value.status == status
    with pytest.raises(Refusal) as caught:
        await ask(kit, "edge-1", jwt, csr=b"x" * (1024 * 1024 + 1))
    assert caught.value.status == 413
    headers = join.request_headers("edge-1", jwt=jwt, usages=(1, 2))
    with pytest.raises(Refusal) as caught:
        await fetch(kit.join_url + "/edge.crt", kit.tls(), headers=headers, body=b"x")
    assert caught.value.status == 400
    assert await kit.enrolments.get("edge-1") is None
    stranger = await refused(kit, "edge-1", sign({"exp": 4_000_000_000}, kit.authority.ca.key_der), csr=b"nonsense")
    assert stranger.status == 401, "who has no token learns nothing of its request, which is not read"
    gos = _csr("system:node:edge-1", "system:nodes", [])
    assert await ask(kit, "edge-1", jwt, csr=gos)


async def test_rotation_by_the_own_live_certificate_only(kit: CloudKit) -> None:
    first = await kit.join("edge-1")
    async with connect(kit.hub_url, "edge-1", kit.tls(first)) as node:
        await node.request("query", "null/node/edge-1")
    assert "may not ask" in (await refused(kit, "edge-2", "", credential=first)).text
    csr, key = x509.new_csr(join.common_name("edge-1"), organizations=(c.CERT_ORGANIZATION,))
    second = certificates.Credential(await ask(kit, "edge-1", "", csr=csr, credential=first), key)
    async with connect(kit.hub_url, "edge-1", kit.tls(first)) as node:
        await node.request("query", "null/node/edge-1")
    async with connect(kit.hub_url, "edge-1", kit.tls(second)) as node:
        await node.request("query", "null/node/edge-1")
    for attempt in (connect(kit.hub_url, "edge-1", kit.tls(first)),):
        with pytest.raises(Refusal):
            async with attempt:
                pass
    assert "revoked" in (await refused(kit, "edge-1", "", credential=first)).text


async def test_a_revoked_node_is_refused_until_it_joins_again(kit: CloudKit) -> None:
    credential = await kit.join("edge-1")
    assert await kit.enrolments.revoke("edge-1")
    assert not await kit.enrolments.revoke("edge-1")
    with pytest.raises(Refusal) as caught:
        async with connect(kit.hub_url, "edge-1", kit.tls(credential)):
            pass
    assert caught.value.status == 403
    fresh = await kit.join("edge-1")
    async with connect(kit.hub_url, "edge-1", kit.tls(fresh)) as node:
        assert node.close_code is None


async def test_guessing_is_slowed_down_and_logged_once(kit: CloudKit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    good = await jwt_of(kit, node="edge-1")
    statuses = []
    for number in range(15):
        guess = sign({"exp": 4_000_000_000, "jti": "x"}, f"guess {number}".encode())
        with pytest.raises(Refusal) as caught:
            await ask(kit, "edge-1", guess)
        statuses.append(caught.value.status)
    assert statuses == [401] * 10 + [429] * 5
    with pytest.raises(Refusal) as caught:
        await ask(kit, "edge-1", good)
    assert caught.value.status == 429 and "try again in" in caught.value.text
    events = [record.getMessage() for record in caplog.records]
    assert events.count("join.refused") == 1
    assert events.count("join.slowed_down") == 1
    assert kit.join_server.refusals.count == 16
    assert await fetch(kit.join_url + "/ca.crt", kit.tls()) == kit.authority.ca.cert_der


async def test_other_methods_and_paths(kit: CloudKit) -> None:
    for method, path, status in [("POST", "/edge.crt", 405), ("GET", "/", 404), ("DELETE", "/node/x", 405)]:
        with pytest.raises(Refusal) as caught:
            await fetch(kit.join_url + path, kit.tls(), method=method)
        assert caught.value.status == status


async def test_a_token_of_another_cloud_is_noticed_before_it_is_sent(kit: CloudKit) -> None:
    _, text = await kit.tokens.create(node="edge-1")
    other = join.JoinToken(join.ca_hash(b"other"), join.parse_token(text).jwt).text
    with pytest.raises(ValueError, match="another CA"):
        await enrol(kit.join_url, other, "edge-1", ca_der=kit.authority.ca.cert_der, folder=kit.folder)


async def test_the_authority_is_upstreams_and_survives(kit: CloudKit, api: FakeKubeApi) -> None:
    secret = await api.get(SECRETS, "casecret", namespace="kubeedge")
    assert set(secret["data"]) == {"cadata", "cakeydata"}
    again = await AuthorityStore(api, ["127.0.0.1"], certs=LocalCertifier()).load()
    assert again == kit.authority
    wider = await AuthorityStore(api, ["cloud.example:10002", "[::1]:5", "::2"], certs=LocalCertifier()).load()
    assert wider.ca == kit.authority.ca
    assert set(x509.read_certificate(wider.server.cert_der).hosts) == {
        "127.0.0.1", "localhost", "cloud.example", "::1", "::2",
    }  # fmt: skip
    reader = JoinTokens(api, ca_der=again.ca.cert_der)
    await reader.load()
    _, text = await reader.create(node="edge-9")
    assert await kit.join("edge-9", text)


async def test_a_revocation_ends_the_session_that_is_open(kit: CloudKit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    first, other = await kit.join("edge-1"), await kit.join("edge-2")
    async with connect(kit.hub_url, "edge-1", kit.tls(first)) as node:
        async with connect(kit.hub_url, "edge-2", kit.tls(other)) as healthy:
            assert await kit.enrolments.revoke("edge-1")
            async with asyncio.timeout(2):
                await node.until(lambda n: n.ended.is_set())
            assert not (await healthy.request("query", "default/configmap/x")).is_ok
            assert not healthy.ended.is_set()
    reasons = [r.__dict__["fields"]["reason"] for r in caplog.records if r.getMessage() == "hub.disconnected"]
    assert any("revoked" in reason for reason in reasons)
    assert (await refused(kit, "edge-1", "", credential=first)).status == 403


async def test_a_node_that_joins_anew_takes_over_from_a_lost_one_that_still_runs(kit: CloudKit) -> None:
    lost = await kit.join("edge-1")
    async with connect(kit.hub_url, "edge-1", kit.tls(lost)) as node:
        await node.request("query", "null/node/edge-1")
        fresh = await kit.join("edge-1")
        async with asyncio.timeout(2):
            await node.until(lambda n: n.ended.is_set())
        async with connect(kit.hub_url, "edge-1", kit.tls(fresh)) as again:
            assert not (await again.request("query", "default/configmap/x")).is_ok


async def test_a_renewal_that_crosses_a_revocation_does_not_undo_it(kit: CloudKit) -> None:
    credential = await kit.join("edge-1")
    await kit.enrolments.revoke("edge-1")
    with pytest.raises(Refused):
        info = x509.read_certificate(credential.cert_der)
        await kit.enrolments.issued("edge-1", info, proof=certificates.fingerprint(credential.cert_der))
    assert not await kit.enrolments.is_good("edge-1", certificates.fingerprint(credential.cert_der))


async def test_a_guesser_does_not_keep_its_neighbours_from_renewing(kit: CloudKit) -> None:
    credential = await kit.join("edge-1")
    for number in range(12):
        with pytest.raises(Refusal) as caught:
            await ask(kit, "edge-9", sign({"exp": 4_000_000_000, "jti": "x"}, f"guess {number}".encode()))
    assert caught.value.status == 429
    assert await ask(kit, "edge-1", "", credential=credential)
    with pytest.raises(Refusal) as caught:
        await ask(kit, "edge-1", sign({"exp": 4_000_000_000, "jti": "x"}, b"guess"), credential=credential)
    assert caught.value.status == 429
