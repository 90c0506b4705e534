"""Keys, certificates and certificate requests: the only door to ``cryptography``.

The cloud imports this module. The edge agent must not (13 MB of memory for twice a year): it runs it as a child
through ``base.x509_child``, and this module then falls back to the ``openssl`` program where the library is missing.

All keys are EC P-256. Private keys are kept as SEC1 DER (upstream's form) and read as SEC1 or PKCS#8 under any PEM
label. Every certificate starts one hour in the past, for clocks that are late.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import ipaddress
import re
import sys
import time
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from skerry.base import json
from skerry.base.errors import SkerryError
from skerry.base.files import write_atomic, write_secret

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
CLIENT_DAYS = 365
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
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s*(.+?)\s*-----END \1-----", re.DOTALL)


class X509Error(SkerryError):
    """A key, certificate or request that cannot be read, or must not be used."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate and its private key, both DER; the key in SEC1 form."""

    cert_der: bytes
    key_der: bytes = field(repr=False)

    @property
    def cert_pem(self) -> bytes:
        """The certificate as PEM."""
        return to_pem("CERTIFICATE", self.cert_der)

    @property
    def key_pem(self) -> bytes:
        """The key as PEM (``EC PRIVATE KEY``)."""
        return to_pem("EC PRIVATE KEY", self.key_der)


@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """What a certificate says. Times are Unix seconds; ``hosts`` are DNS names and IP addresses of the SAN."""

    common_name: str
    organizations: tuple[str, ...]
    fingerprint: str
    serial: int
    not_before_s: float
    not_after_s: float
    hosts: tuple[str, ...] = ()
    is_ca: bool = False


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """What a certificate request asks for.

    Args:
        common_name: CN.
        organizations: each O.
        names: alternative names of any kind.
        hosts: those of them that are DNS names or IP addresses.
    """

    common_name: str
    organizations: tuple[str, ...]
    names: tuple[str, ...]
    hosts: tuple[str, ...] = ()


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


def fingerprint(cert_der: bytes) -> str:
    """Lower-case hex SHA-256 of a certificate in DER."""
    return hashlib.sha256(cert_der).hexdigest()


def to_pem(label: str, der: bytes) -> bytes:
    """One PEM block with a line feed at the end."""
    text = base64.b64encode(der)
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return b"\n".join([f"-----BEGIN {label}-----".encode(), *lines, f"-----END {label}-----".encode(), b""])


def from_pem(data: bytes) -> bytes:
    """The DER of the first PEM block under any label; DER is passed through.

    Raises:
        X509Error: neither.
    """
    if data[:1] == b"\x30":
        return data
    found = _PEM.search(data)
    if not found:
        raise X509Error("neither PEM nor DER")
    try:
        return base64.b64decode(b"".join(found[2].split()), validate=True)
    except binascii.Error as exc:
        raise X509Error(f"broken PEM: {exc}") from exc


def normalized_key(key: bytes) -> bytes:
    """A private key, SEC1 or PKCS#8, DER or PEM under any label, as SEC1 DER.

    Raises:
        X509Error: not a private EC key.
    """
    return _key_der(_load_key(key))


def save(credential: Credential, cert_file: Path, key_file: Path) -> None:
    """Write both as PEM, each in one step; the key readable by its owner only."""
    write_secret(key_file, credential.key_pem)
    write_atomic(cert_file, credential.cert_pem)


def load(cert_file: Path, key_file: Path) -> Credential:
    """Read a pair that ``save`` or another program has written (PEM or DER).

    Raises:
        X509Error: a file is missing or unreadable, or the two do not belong together.
    """
    try:
        credential = Credential(from_pem(cert_file.read_bytes()), normalized_key(key_file.read_bytes()))
    except OSError as exc:
        raise X509Error(f"cannot read {exc.filename}: {exc.strerror}") from exc
    if not is_pair(credential):
        raise X509Error(f"{cert_file} and {key_file} do not belong together")
    return credential


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


def _csr_command(order: dict[str, Any]) -> dict[str, Any]:
    organizations = [str(text) for text in order.get("organizations", ())]
    if HAS_LIBRARY:
        csr_der, key_der = new_csr(str(order["common_name"]), organizations=organizations)
        key_pem = to_pem("EC PRIVATE KEY", key_der)
    else:
        from skerry.base import x509_openssl

        csr_der, key_pem = x509_openssl.new_csr(str(order["common_name"]), organizations)
    return {"csr_der": base64.b64encode(csr_der).decode(), "key_pem": key_pem.decode()}


def _inspect_command(order: dict[str, Any]) -> dict[str, Any]:
    pem = str(order["cert_pem"]).encode()
    if HAS_LIBRARY:
        info = read_certificate(pem)
        return {
            "common_name": info.common_name, "organizations": list(info.organizations),
            "fingerprint": info.fingerprint, "not_before_s": info.not_before_s, "not_after_s": info.not_after_s,
        }  # fmt: skip
    from skerry.base import x509_openssl

    return x509_openssl.inspect(pem) | {"fingerprint": fingerprint(from_pem(pem))}


_COMMANDS = {"csr": _csr_command, "inspect": _inspect_command}


def main(arguments: Sequence[str]) -> int:
    """The child's side of ``base.x509_child``: one JSON object on stdin, one on stdout; exit code 1 with ``error``.

    ``csr``      ``{"common_name", "organizations"}`` → ``{"csr_der": base64, "key_pem"}``
    ``inspect``  ``{"cert_pem"}`` → ``{"common_name", "organizations", "fingerprint", "not_before_s", "not_after_s"}``
    """
    if len(arguments) != 1 or arguments[0] not in _COMMANDS:
        sys.stderr.write(f"usage: python -m skerry.base.x509 {'|'.join(_COMMANDS)}\n")
        return 2
    try:
        answer = _COMMANDS[arguments[0]](json.loads(sys.stdin.buffer.read()))
        code = 0
    except (SkerryError, KeyError, TypeError, json.JsonError) as exc:
        answer, code = {"error": str(exc)}, 1
    sys.stdout.buffer.write(json.dumps(answer) + b"\n")
    return code


def _exit() -> NoReturn:
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    _exit()
