"""What every ``Certifier`` does: the one in this process, and the one in its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from skerry.base import certificates, x509
from skerry.base.certificates import Certifier, X509Error
from skerry.base.certifier import ChildCertifier

NOW_S = 1_800_000_000.0
DAY_S = 86_400.0


@pytest.fixture(params=["local", "child"])
async def certs(request: pytest.FixtureRequest) -> AsyncIterator[Certifier]:
    if request.param == "local":
        yield x509.LocalCertifier()
        return
    child = ChildCertifier()
    yield child
    await child.aclose()


async def test_an_authority_issues_for_servers_and_clients(certs: Certifier) -> None:
    ca = await certs.new_ca("An authority", serial=1024, now_s=NOW_S)
    assert await certs.read_certificate(ca.cert_der) == x509.read_certificate(ca.cert_der)
    assert (x509.read_certificate(ca.cert_der).serial, x509.is_pair(ca)) == (1024, True)
    server = await certs.issue_server(ca, ["::1", "a.example", "a.example"], organizations=("o",), now_s=NOW_S)
    info = await certs.read_certificate(server.cert_pem)
    assert (info.common_name, info.organizations, info.hosts) == ("KubeEdge", ("o",), ("a.example", "::1")[::-1])
    assert info == x509.read_certificate(server.cert_der)  # with its serial number of 20 bytes
    client = await certs.issue_client(ca, "user", organizations=("a", "b"))
    assert (await certs.read_certificate(client.cert_der)).organizations == ("a", "b")
    assert await certs.is_issued_by(client.cert_der, ca.cert_der)
    assert not await certs.is_issued_by(client.cert_der, client.cert_der)


async def test_requests_are_read_and_signed(certs: Certifier) -> None:
    ca = await certs.new_ca("An authority", now_s=NOW_S)
    csr, key = x509.new_csr("cn", organizations=("o",))
    assert await certs.read_csr(csr) == certificates.RequestInfo("cn", ("o",), ())
    node = await certs.sign_csr(ca, csr, common_name="node", organizations=("nodes",), days=7, now_s=NOW_S)
    info = x509.read_certificate(node)
    assert (info.common_name, info.organizations, info.not_after_s) == ("node", ("nodes",), NOW_S + 7 * DAY_S)
    approved = await certs.sign_request(ca, csr, usages={"client auth"}, valid_s=600.0, now_s=NOW_S)
    assert x509.read_certificate(approved).not_after_s == NOW_S + 600
    assert await certs.is_of_same_key(node, approved)
    assert not await certs.is_of_same_key(node, ca.cert_der)
    assert await certs.pair(approved, certificates.to_pem("ANY", key)) == certificates.Credential(approved, key)


async def test_an_authority_signs_for_the_next(certs: Certifier) -> None:
    old, new = await certs.new_ca("old"), await certs.new_ca("new")
    link = await certs.cross_sign(old, new.cert_der, now_s=NOW_S)
    assert x509.is_issued_by(link, old.cert_der)
    assert x509.is_of_same_key(link, new.cert_der)


async def test_what_cannot_be_used_is_refused_with_the_reason(certs: Certifier) -> None:
    ca, other = await certs.new_ca("a"), await certs.new_ca("b")
    with pytest.raises(X509Error, match="do not belong together"):
        await certs.pair(ca.cert_der, other.key_der)
    with pytest.raises(X509Error, match="neither PEM nor DER"):
        await certs.read_certificate(b"nonsense")
    with pytest.raises(X509Error, match="not a certificate request"):
        await certs.sign_csr(ca, b"\x30\x00", common_name="cn")
    with pytest.raises(X509Error, match="no key usage called nonsense"):
        await certs.sign_request(ca, x509.new_csr("cn")[0], usages=["nonsense"], valid_s=1)
