"""Keys, certificates and requests."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography import x509 as lib
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from skerry.base import certificates, x509

NOW_S = 1_800_000_000.0
DAY_S = 86_400


@pytest.fixture(scope="module")
def ca() -> certificates.Credential:
    return x509.new_ca(serial=1024, now_s=NOW_S)


def _csr(key: object, *, names: list[lib.GeneralName] | None = None) -> bytes:
    builder = lib.CertificateSigningRequestBuilder().subject_name(
        lib.Name([lib.NameAttribute(NameOID.ORGANIZATION_NAME, "o"), lib.NameAttribute(NameOID.COMMON_NAME, "cn")])
    )
    if names:
        builder = builder.add_extension(lib.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)  # type: ignore[arg-type]


def test_an_authority_looks_like_upstreams(ca: certificates.Credential) -> None:
    info = x509.read_certificate(ca.cert_der)
    assert (info.common_name, info.serial, info.is_ca) == ("KubeEdge", 1024, True)
    assert info.not_before_s == NOW_S - 3600
    assert info.not_after_s == NOW_S + 36_400 * DAY_S
    cert = lib.load_der_x509_certificate(ca.cert_der)
    usage = cert.extensions.get_extension_for_class(lib.KeyUsage).value
    assert usage.digital_signature and usage.key_encipherment and usage.key_cert_sign
    assert x509.is_issued_by(ca.cert_der, ca.cert_der)


def test_a_server_certificate_names_its_hosts(ca: certificates.Credential) -> None:
    server = x509.issue_server(ca, ["127.0.0.1", "::1", "cloud.example", "127.0.0.1"], now_s=NOW_S)
    info = x509.read_certificate(server.cert_der)
    assert info.hosts == ("127.0.0.1", "::1", "cloud.example")
    assert (info.common_name, info.organizations, info.is_ca) == ("KubeEdge", ("KubeEdge",), False)
    assert x509.is_issued_by(server.cert_der, ca.cert_der)
    assert x509.is_pair(server)
    assert not x509.is_pair(certificates.Credential(server.cert_der, ca.key_der))


def test_a_client_certificate_names_user_and_groups(ca: certificates.Credential) -> None:
    client = x509.issue_client(ca, "admin", organizations=("system:masters", "x"), now_s=NOW_S)
    info = x509.read_certificate(client.cert_pem)
    assert (info.common_name, info.organizations) == ("admin", ("system:masters", "x"))
    assert info.not_after_s == NOW_S + 365 * DAY_S
    assert info.fingerprint == certificates.fingerprint(client.cert_der)


def test_of_a_request_only_the_key_is_taken(ca: certificates.Credential) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    csr = _csr(key, names=[lib.DNSName("cloud.example")])
    assert x509.read_csr(csr) == certificates.RequestInfo("cn", ("o",), ("cloud.example",), ("cloud.example",))
    cert = x509.sign_csr(ca, csr, common_name="system:node:e", organizations=("system:nodes",), now_s=NOW_S)
    info = x509.read_certificate(cert)
    assert (info.common_name, info.organizations, info.hosts) == ("system:node:e", ("system:nodes",), ())
    usages = lib.load_der_x509_certificate(cert).extensions.get_extension_for_class(lib.ExtendedKeyUsage).value
    assert [u.dotted_string for u in usages] == ["1.3.6.1.5.5.7.3.2"]


def test_our_requests_are_readable() -> None:
    csr, key = x509.new_csr("system:node:e", organizations=("system:nodes",))
    assert x509.read_csr(csr) == certificates.RequestInfo("system:node:e", ("system:nodes",), ())
    assert x509.normalized_key(key) == key


def test_long_node_names_fit(ca: certificates.Credential) -> None:
    name = "system:node:" + "e" * 216
    csr, _ = x509.new_csr(name)
    cert = x509.sign_csr(ca, csr, common_name=name)
    assert x509.read_certificate(cert).common_name == name


def test_weak_or_broken_requests_are_refused(ca: certificates.Credential) -> None:
    good = _csr(ec.generate_private_key(ec.SECP256R1()))
    forged = good[:-1] + bytes([good[-1] ^ 1])
    weak = [_csr(ec.generate_private_key(ec.SECP192R1())), _csr(rsa.generate_private_key(65537, 1024))]
    for csr in (b"", b"x" * 100, good[:-10], forged, *weak):
        with pytest.raises(certificates.X509Error):
            x509.sign_csr(ca, csr, common_name="cn")


@pytest.mark.parametrize("form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("label", ["PRIVATE KEY", "EC PRIVATE KEY", "ANY"])
def test_keys_are_read_under_any_label(form: serialization.PrivateFormat, label: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    der = key.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption())
    sec1 = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    assert x509.normalized_key(certificates.to_pem(label, der)) == sec1
    assert x509.normalized_key(der) == sec1


@pytest.mark.parametrize("data", [b"", b"text", b"-----BEGIN X-----\n!!\n-----END X-----", b"\x30\x00"])
def test_what_is_no_key_is_said_so(data: bytes) -> None:
    with pytest.raises(certificates.X509Error):
        x509.normalized_key(data)
    with pytest.raises(certificates.X509Error):
        x509.read_certificate(data)


def test_files_are_private_and_checked(ca: certificates.Credential, tmp_path: Path) -> None:
    cert_file, key_file = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificates.save(ca, cert_file, key_file)
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert x509.load(cert_file, key_file) == ca
    key_file.write_bytes(certificates.to_pem("EC PRIVATE KEY", x509.new_key()))
    with pytest.raises(certificates.X509Error, match="do not belong together"):
        x509.load(cert_file, key_file)
    with pytest.raises(certificates.X509Error, match="cannot read"):
        x509.load(tmp_path / "missing", key_file)


def test_private_keys_are_not_shown(ca: certificates.Credential) -> None:
    assert base64.b64encode(ca.key_der).decode() not in repr(ca)
    assert repr(ca.key_der) not in repr(ca)
