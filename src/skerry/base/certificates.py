"""Certificates as values: PEM and DER, what they say, their files; and the port to who makes and reads them.

Nothing of it needs a library. Two adapters implement ``Certifier``: ``base.x509.LocalCertifier`` in this process, and
``base.certifier.ChildCertifier`` in one of its own.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from skerry.base.errors import SkerryError
from skerry.base.files import write_atomic, write_secret

CLIENT_DAYS = 365
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


class Certifier(Protocol):
    """Makes and reads certificates. Certificates and requests are DER where they are answers, DER or PEM where they
    are given; ``now_s`` is Unix time, None for the system's.

    Every method raises ``X509Error`` when what it is given cannot be read or must not be used, and ``CertifierFailed``
    when the work could not be done for a reason that lies elsewhere.
    """

    async def new_ca(self, common_name: str, *, serial: int | None = None, now_s: float | None = None) -> Credential:
        """A self-signed authority."""

    async def cross_sign(self, issuer: Credential, ca_cert: bytes, *, now_s: float | None = None) -> bytes:
        """A certificate of one authority's key by another: who trusts the issuer can verify what it signs."""

    async def issue_server(
        self, ca: Credential, hosts: Iterable[str], *, common_name: str = "KubeEdge",
        organizations: Sequence[str] = ("KubeEdge",), now_s: float | None = None,
    ) -> Credential:  # fmt: skip
        """A server certificate for these DNS names and IP addresses."""

    async def issue_client(
        self, ca: Credential, common_name: str, *, organizations: Sequence[str] = (), now_s: float | None = None
    ) -> Credential:
        """A client certificate with a fresh key: CN is the user, each O a group."""

    async def sign_csr(
        self, ca: Credential, csr_der: bytes, *, common_name: str, organizations: Sequence[str] = (),
        days: int = CLIENT_DAYS, now_s: float | None = None,
    ) -> bytes:  # fmt: skip
        """A client certificate for the key of a request. Of the request only the key is taken."""

    async def sign_request(
        self, ca: Credential, csr_der: bytes, *, usages: Collection[str], valid_s: float, now_s: float | None = None
    ) -> bytes:
        """A certificate as a request asks for it, with the usages given; only for requests that were approved."""

    async def read_csr(self, csr_der: bytes) -> RequestInfo:
        """What a request asks for."""

    async def read_certificate(self, cert: bytes) -> CertificateInfo:
        """What a certificate says."""

    async def pair(self, cert: bytes, key: bytes) -> Credential:
        """A certificate and its key; the key may be SEC1 or PKCS#8. They must belong together."""

    async def is_issued_by(self, cert: bytes, ca_cert: bytes) -> bool:
        """Whether this authority signed the certificate; validity times are not looked at."""

    async def is_of_same_key(self, cert: bytes, other: bytes) -> bool:
        """Whether two certificates are of one key."""


class CertifierFailed(SkerryError):
    """The certifier could not work: its process could not be started, or ended twice over one order."""


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


def save(credential: Credential, cert_file: Path, key_file: Path) -> None:
    """Write both as PEM, each in one step; the key readable by its owner only."""
    write_secret(key_file, credential.key_pem)
    write_atomic(cert_file, credential.cert_pem)
