"""The certificate helper as a real child process, with the library and with the program openssl."""

from __future__ import annotations

import shutil

import pytest

from skerry.base import certificates, x509, x509_child, x509_openssl


async def test_the_child_makes_a_key_and_a_request() -> None:
    request = await x509_child.new_request("system:node:e", organizations=("system:nodes",))
    assert x509.read_csr(request.csr_der) == certificates.RequestInfo("system:node:e", ("system:nodes",), ())
    assert x509.normalized_key(request.key_pem)


async def test_the_child_reads_a_certificate() -> None:
    ca = x509.new_ca(now_s=1_800_000_000)
    found = await x509_child.inspect(ca.cert_pem)
    assert found.common_name == "KubeEdge"
    assert found.fingerprint == certificates.fingerprint(ca.cert_der)
    assert found.not_before_s == 1_800_000_000 - 3600


async def test_the_child_says_why_it_cannot() -> None:
    with pytest.raises(x509_child.ChildError, match="neither PEM nor DER"):
        await x509_child.inspect(b"nonsense")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")
def test_openssl_does_the_same() -> None:
    csr_der, key_pem = x509_openssl.new_csr("system:node:e-1.site", ["system:nodes"])
    assert x509.read_csr(csr_der) == certificates.RequestInfo("system:node:e-1.site", ("system:nodes",), ())
    assert x509.normalized_key(key_pem)
    ca = x509.new_ca(now_s=1_800_000_000)
    client = x509.issue_client(ca, "a", organizations=("b", "c"), now_s=1_800_000_000)
    assert x509_openssl.inspect(client.cert_pem) == {
        "common_name": "a",
        "organizations": ["b", "c"],
        "not_before_s": 1_800_000_000.0 - 3600,
        "not_after_s": 1_800_000_000.0 + 365 * 86_400,
    }
    with pytest.raises(x509_openssl.OpensslError):
        x509_openssl.new_csr("a/CN=b", [])
    with pytest.raises(x509_openssl.OpensslError):
        x509_openssl.inspect(b"nonsense")
