"""Keys, certificates and certificate requests: the only door to ``cryptography``.

No process that stays imports this module: the library takes 11 to 13 MB of memory. The cloud works through
``base.certifier``, the edge agent through ``base.x509_child``; both run it as a child (``base.x509_service``).

All keys are EC P-256. Private keys are kept as SEC1 DER (upstream's form) and read as SEC1 or PKCS#8 under any PEM
label. Every certificate starts one hour in the past, for clocks that are late.
"""

from __future__ import annotations

import contextlib
import ipaddress
import time
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from skerry.base.certificates import (
    CLIENT_DAYS,
    CertificateInfo,
    Credential,
    RequestInfo,
    X509Error,
    fingerprint,
    from_pem,
)

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    HAS_LIBRARY = True
except ImportError:  # pragma: no cover - only on targets without the library
    HAS_LIBRARY = False

BACKDATE_S = 3600
CA_DAYS = 36_400
SERVER_DAYS = 36_400
_MIN_RSA_BITS = 2048
_KEY_USAGES = {
    "signing": "digital_signature", "digital signature": "digital_signature",
    "content commitment": "content_commitment", "key encipherment": "key_encipherment",
    "key agreement": "key_agreement", "data encipherment": "data_encipherment",
    "encipher only": "encipher_only", "decipher only": "decipher_only",
}  # fmt: skip
_EXTENDED_USAGES = {
    "any": "2.5.29.37.0", "server auth": "1.3.6.1.5.5.7.3.1", "client auth": "1.3.6.1.5.5.7.3.2",
    "code signing": "1.3.6.1.5.5.7.3.3", "email protection": "1.3.6.1.5.5.7.3.4", "s/mime": "1.3.6.1.5.5.7.3.4",
    "ipsec end system": "1.3.6.1.5.5.7.3.5", "ipsec tunnel": "1.3.6.1.5.5.7.3.6", "ipsec user": "1.3.6.1.5.5.7.3.7",
    "timestamping": "1.3.6.1.5.5.7.3.8", "ocsp signing": "1.3.6.1.5.5.7.3.9",
}  # fmt: skip
"""By the names of Kubernetes; those that make a certificate an authority are not among them."""


class NotTogether(X509Error):
    """The key is not that of the certificate."""


class LocalCertifier:
    """``Certifier`` in this process; for those that end soon."""

    async def new_ca(self, common_name: str, *, serial: int | None = None, now_s: float | None = None) -> Credential:
        return new_ca(common_name, serial=serial, now_s=now_s)

    async def cross_sign(self, issuer: Credential, ca_cert: bytes, *, now_s: float | None = None) -> bytes:
        return cross_sign(issuer, ca_cert, now_s=now_s)

    async def issue_server(
        self, ca: Credential, hosts: Iterable[str], *, common_name: str = "KubeEdge",
        organizations: Sequence[str] = ("KubeEdge",), now_s: float | None = None,
    ) -> Credential:  # fmt: skip
        return issue_server(ca, hosts, common_name=common_name, organizations=organizations, now_s=now_s)

    async def issue_client(
        self, ca: Credential, common_name: str, *, organizations: Sequence[str] = (), now_s: float | None = None
    ) -> Credential:
        return issue_client(ca, common_name, organizations=organizations, now_s=now_s)

    async def sign_csr(
        self, ca: Credential, csr_der: bytes, *, common_name: str, organizations: Sequence[str] = (),
        days: int = CLIENT_DAYS, now_s: float | None = None,
    ) -> bytes:  # fmt: skip
        return sign_csr(ca, csr_der, common_name=common_name, organizations=organizations, days=days, now_s=now_s)

    async def sign_request(
        self, ca: Credential, csr_der: bytes, *, usages: Collection[str], valid_s: float, now_s: float | None = None
    ) -> bytes:
        return sign_request(ca, csr_der, usages=usages, valid_s=valid_s, now_s=now_s)

    async def read_csr(self, csr_der: bytes) -> RequestInfo:
        return read_csr(csr_der)

    async def read_certificate(self, cert: bytes) -> CertificateInfo:
        return read_certificate(cert)

    async def pair(self, cert: bytes, key: bytes) -> Credential:
        return pair(cert, key)

    async def is_issued_by(self, cert: bytes, ca_cert: bytes) -> bool:
        return is_issued_by(cert, ca_cert)

    async def is_of_same_key(self, cert: bytes, other: bytes) -> bool:
        return is_of_same_key(cert, other)


def new_key() -> bytes:
    """A fresh EC P-256 private key, SEC1 DER."""
    return _key_der(ec.generate_private_key(ec.SECP256R1()))


def new_ca(
    common_name: str = "KubeEdge", *, serial: int | None = None, days: int = CA_DAYS, now_s: float | None = None
) -> Credential:
    """A self-signed authority: digitalSignature, keyEncipherment and certSign; server and client use; no path limit."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(common_name, ())
    builder = _builder(name, name, key.public_key(), serial=serial, days=days, now_s=now_s)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(is_ca=True), critical=True)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return Credential(_der(builder.sign(key, hashes.SHA256())), _key_der(key))


def cross_sign(issuer: Credential, ca_cert: bytes, *, days: int = CA_DAYS, now_s: float | None = None) -> bytes:
    """A certificate (DER) of one authority's key by another: who trusts the issuer can then verify what it signs."""
    other = _load_cert(ca_cert)
    by, key = _load_cert(issuer.cert_der), _load_key(issuer.key_der)
    builder = _builder(_subject(other), by.subject, other.public_key(), serial=None, days=days, now_s=now_s)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(is_ca=True), critical=True)
    subject_key = other.public_key()
    assert isinstance(subject_key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(subject_key), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return _der(builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256()))


def issue_server(
    ca: Credential,
    hosts: Iterable[str],
    *,
    common_name: str = "KubeEdge",
    organizations: Sequence[str] = ("KubeEdge",),
    days: int = SERVER_DAYS,
    now_s: float | None = None,
) -> Credential:
    """A server certificate.

    Args:
        hosts: DNS names and IP addresses for the SAN, without ports; duplicates are dropped.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    names = [_general_name(host) for host in dict.fromkeys(hosts)]
    extensions: list[tuple[Any, bool]] = [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)]
    if names:
        extensions.append((x509.SubjectAlternativeName(names), False))
    subject = _name(common_name, organizations)
    return Credential(_leaf(ca, subject, key.public_key(), extensions, days=days, now_s=now_s), _key_der(key))


def issue_client(
    ca: Credential,
    common_name: str,
    *,
    organizations: Sequence[str] = (),
    days: int = CLIENT_DAYS,
    now_s: float | None = None,
) -> Credential:
    """A client certificate with a fresh key, such as for a kubeconfig: CN is the user, each O a group."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(common_name, organizations)
    cert = _leaf(ca, subject, key.public_key(), [_client_usage()], days=days, now_s=now_s)
    return Credential(cert, _key_der(key))


def sign_csr(
    ca: Credential,
    csr_der: bytes,
    *,
    common_name: str,
    organizations: Sequence[str] = (),
    days: int = CLIENT_DAYS,
    now_s: float | None = None,
) -> bytes:
    """A client certificate (DER) for the key of a request. Of the request only the key is taken.

    Raises:
        X509Error: the request cannot be read, is not signed by its key, or its key is weak.
    """
    csr = _load_csr(csr_der)
    subject = _name(common_name, organizations)
    return _leaf(ca, subject, csr.public_key(), [_client_usage()], days=days, now_s=now_s)


def new_csr(common_name: str, *, organizations: Sequence[str] = ()) -> tuple[bytes, bytes]:
    """A fresh key and a request for it: ``(csr_der, key_der)``."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(common_name, organizations))
    csr = builder.sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.DER), _key_der(key)


def read_csr(csr_der: bytes) -> RequestInfo:
    """What a request asks for.

    Raises:
        X509Error: as ``sign_csr``.
    """
    csr = _load_csr(csr_der)
    found = _alternative_names(csr)
    return RequestInfo(
        _first(_subject(csr), NameOID.COMMON_NAME),
        _organizations(_subject(csr)),
        tuple(str(name.value) for name in found),
        tuple(str(name.value) for name in found if isinstance(name, x509.DNSName | x509.IPAddress)),
    )


def sign_request(
    ca: Credential, csr_der: bytes, *, usages: Collection[str], valid_s: float, now_s: float | None = None
) -> bytes:
    """A certificate (DER) as a request asks for it: its subject, names and key, with the usages given.

    Only for requests that somebody approved.

    Args:
        usages: as ``CertificateSigningRequest.spec.usages`` has them, such as ``client auth``.
        valid_s: until then from now on.

    Raises:
        X509Error: as ``sign_csr``, or a usage that does not exist.
    """
    csr = _load_csr(csr_der)
    names = _alternative_names(csr)
    issuer, key = _load_cert(ca.cert_der), _load_key(ca.key_der)
    now = datetime.fromtimestamp(int(time.time() if now_s is None else now_s), UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(csr))
        .issuer_name(issuer.subject)
        .public_key(csr.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=300))
        .not_valid_after(min(now + timedelta(seconds=valid_s), issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    unknown = set(usages) - set(_KEY_USAGES) - set(_EXTENDED_USAGES)
    if unknown:
        raise X509Error(f"there is no key usage called {', '.join(sorted(unknown))}")
    flags = {_KEY_USAGES[usage] for usage in usages if usage in _KEY_USAGES}
    if flags:
        all_flags = (*_KEY_USAGES.values(), "crl_sign", "key_cert_sign")
        builder = builder.add_extension(x509.KeyUsage(**{flag: flag in flags for flag in all_flags}), critical=True)
    extended = [x509.ObjectIdentifier(_EXTENDED_USAGES[usage]) for usage in usages if usage in _EXTENDED_USAGES]
    if extended:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return _der(builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256()))


def _alternative_names(csr: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    try:
        return list(csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []
    except ValueError as exc:
        raise X509Error(f"the certificate request's extensions cannot be read: {exc}") from exc


def read_certificate(cert: bytes) -> CertificateInfo:
    """What a certificate (DER or PEM) says.

    Raises:
        X509Error: it cannot be read.
    """
    loaded = _load_cert(cert)
    return CertificateInfo(
        common_name=_first(_subject(loaded), NameOID.COMMON_NAME),
        organizations=_organizations(_subject(loaded)),
        fingerprint=fingerprint(_der(loaded)),
        serial=loaded.serial_number,
        not_before_s=loaded.not_valid_before_utc.timestamp(),
        not_after_s=loaded.not_valid_after_utc.timestamp(),
        hosts=_hosts(loaded),
        is_ca=_is_ca(loaded),
    )


def is_issued_by(cert: bytes, ca_cert: bytes) -> bool:
    """Whether this authority signed the certificate; validity times are not looked at."""
    try:
        _load_cert(cert).verify_directly_issued_by(_load_cert(ca_cert))
    except (InvalidSignature, ValueError, TypeError, X509Error):
        return False
    return True


def is_of_same_key(cert: bytes, other: bytes) -> bool:
    """Whether two certificates are of one key."""
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    one, two = (_load_cert(found).public_key().public_bytes(encoding, form) for found in (cert, other))
    return one == two


def is_pair(credential: Credential) -> bool:
    """Whether key and certificate belong together."""
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    public = _load_key(credential.key_der).public_key().public_bytes(encoding, form)
    return public == _load_cert(credential.cert_der).public_key().public_bytes(encoding, form)


def normalized_key(key: bytes) -> bytes:
    """A private key, SEC1 or PKCS#8, DER or PEM under any label, as SEC1 DER.

    Raises:
        X509Error: not a private EC key.
    """
    return _key_der(_load_key(key))


def pair(cert: bytes, key: bytes) -> Credential:
    """A certificate (DER or PEM) and its key in any form.

    Raises:
        X509Error: one cannot be read, or (``NotTogether``) the two do not belong together.
    """
    credential = Credential(from_pem(cert), normalized_key(key))
    if not is_pair(credential):
        raise NotTogether("key and certificate do not belong together")
    return credential


def load(cert_file: Path, key_file: Path) -> Credential:
    """Read a pair that ``save`` or another program has written (PEM or DER).

    Raises:
        X509Error: a file is missing or unreadable, or the two do not belong together.
    """
    try:
        return pair(cert_file.read_bytes(), key_file.read_bytes())
    except OSError as exc:
        raise X509Error(f"cannot read {exc.filename}: {exc.strerror}") from exc
    except NotTogether as exc:
        raise X509Error(f"{cert_file} and {key_file} do not belong together") from exc


def _leaf(
    ca: Credential,
    subject: x509.Name,
    public_key: Any,
    extensions: list[tuple[Any, bool]],
    *,
    days: int,
    now_s: float | None,
) -> bytes:
    issuer, key = _load_cert(ca.cert_der), _load_key(ca.key_der)
    builder = _builder(subject, issuer.subject, public_key, serial=None, days=days, now_s=now_s)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(is_ca=False), critical=True)
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, critical=is_critical)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return _der(builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256()))


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: Any, *, serial: int | None, days: int, now_s: float | None
) -> x509.CertificateBuilder:
    now = datetime.fromtimestamp(int(time.time() if now_s is None else now_s), UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=BACKDATE_S))
        .not_valid_after(now + timedelta(days=days))
    )


def _name(common_name: str, organizations: Iterable[str]) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, text) for text in organizations]
    with _long_names():
        return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name, _validate=False)])


def _subject(thing: x509.Certificate | x509.CertificateSigningRequest) -> x509.Name:
    with _long_names():
        return thing.subject


@contextlib.contextmanager
def _long_names() -> Iterator[None]:
    """Upstream's names of nodes may be longer than the 64 characters of the standard; the library warns then."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_encipherment=True, key_cert_sign=is_ca, content_commitment=False,
        data_encipherment=False, key_agreement=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _client_usage() -> tuple[Any, bool]:
    return x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host.encode("idna").decode())


def _load_cert(data: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(from_pem(data))
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise X509Error(f"not a certificate: {exc}") from exc


def _load_key(data: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_der_private_key(from_pem(data), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise X509Error("not a private key in SEC1 or PKCS#8 form") from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise X509Error("not an EC private key")
    return key


def _load_csr(csr_der: bytes) -> x509.CertificateSigningRequest:
    try:
        csr = x509.load_der_x509_csr(csr_der)
        is_signed = csr.is_signature_valid
        key = csr.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as exc:
        raise X509Error(f"not a certificate request in DER form: {exc}") from exc
    if not is_signed:
        raise X509Error("the certificate request is not signed by its own key")
    is_ec = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size >= 256
    is_rsa = isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS
    if not is_ec and not is_rsa:
        raise X509Error("the certificate request's key is too weak; use EC P-256 or RSA with 2048 bits or more")
    return csr


def _key_der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _der(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(serialization.Encoding.DER)


def _first(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
    found = name.get_attributes_for_oid(oid)
    return str(found[0].value) if found else ""


def _organizations(name: x509.Name) -> tuple[str, ...]:
    return tuple(str(part.value) for part in name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))


def _hosts(cert: x509.Certificate) -> tuple[str, ...]:
    try:
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress))


def _is_ca(cert: x509.Certificate) -> bool:
    try:
        return cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False
