"""TLS of the edge as a client: one private authority, TLS 1.2 or newer, names checked against the SAN.

OpenSSL adds the authority's certificate to the chain that we send when it finds it in the trust store, and a Go hub
with authorization switched on refuses chains of two. So a context for the hub trusts one server certificate instead of
the authority (``pinned_context``); that certificate was verified against the authority in a handshake before.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skerry.base.errors import SkerryError
from skerry.base.values import Struct

READ_BUFFER_BYTES = 16 * 1024
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which the standard library does not name: ``check_server`` looks at the dates,
and can say what the clock says."""


class PeerNotTrusted(SkerryError):
    """The server's certificate is not of our authority, not for this address, or not within its time."""


class ClientIdentity(Struct, frozen=True):
    """Files of our certificate and key, PEM."""

    cert_file: Path
    key_file: Path


def small_tls_buffers() -> None:
    """Let asyncio use 16 KiB per TLS connection instead of 256 KiB. Call once at the start of a process."""
    from asyncio import sslproto

    if hasattr(sslproto.SSLProtocol, "max_size"):
        sslproto.SSLProtocol.max_size = READ_BUFFER_BYTES


def client_context(ca_file: Path | None, identity: ClientIdentity | None, *, ca_der: bytes = b"") -> ssl.SSLContext:
    """A context for connections to the cloud: TLS 1.2 or newer, no ALPN.

    Args:
        ca_file: our authority, PEM; None trusts anybody (only for fetching the authority that a token pins).
        identity: our certificate; without one the server may still talk to us (join).
        ca_der: our authority instead of ``ca_file``, DER.
    """
    context = _context(identity)
    if ca_file is not None:
        context.load_verify_locations(str(ca_file))
    elif ca_der:
        context.load_verify_locations(cadata=ca_der)
    else:
        context.verify_mode = ssl.CERT_NONE
    return context


def pinned_context(server_der: bytes, identity: ClientIdentity) -> ssl.SSLContext:
    """A context that trusts exactly one server certificate and sends exactly one of our own.

    OpenSSL still checks that the server has its key.

    Args:
        server_der: a server certificate that was verified against our authority, DER.
        identity: our certificate; only its first certificate is sent.
    """
    context = _context(identity)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=server_der)
    return context


def _context(identity: ClientIdentity | None) -> ssl.SSLContext:
    """The server's names and dates are compared in ``check_server``, for addresses and names alike."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= _NO_CHECK_TIME
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    if identity is not None:
        context.load_cert_chain(str(identity.cert_file), str(identity.key_file))
    return context


def check_server(transport: asyncio.BaseTransport, host: str, *, now_s: float | None = None) -> None:
    """Compare the server's alternative names with the host that was dialled, and its dates with the clock.

    Args:
        now_s: Unix seconds by the agent's clock; None asks the machine's.

    Raises:
        PeerNotTrusted: no name matches, or the certificate is out of its time.
    """
    certificate = transport.get_extra_info("peercert") or {}
    _check_dates(certificate, host, time.time() if now_s is None else now_s)
    names = [value for _, value in certificate.get("subjectAltName", ())]
    if not any(_matches(name, host) for name in names):
        raise PeerNotTrusted(
            f'the server\'s certificate is for {", ".join(names) or "no address"}, not for "{host}"',
            hint=f"add {host} to the cloud's advertise setting, or use one of the addresses named",
        )


def _check_dates(certificate: Mapping[str, Any], host: str, now_s: float) -> None:
    begins, ends = certificate.get("notBefore"), certificate.get("notAfter")
    clock = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now_s))
    if begins and now_s < ssl.cert_time_to_seconds(begins):
        raise PeerNotTrusted(
            f"the certificate of {host} is not yet valid: it begins on {begins}, and this machine's clock says {clock}",
            hint="set this machine's clock (timedatectl set-ntp true); the agent then goes on by itself",
        )
    if ends and now_s > ssl.cert_time_to_seconds(ends):
        raise PeerNotTrusted(
            f"the certificate of {host} expired on {ends}; this machine's clock says {clock}",
            hint="check the clock; if it is right, the cloud has to renew its certificate",
        )


def explain(exc: ssl.SSLError, host: str) -> PeerNotTrusted:
    """A TLS failure in words, with the remedy."""
    text = getattr(exc, "verify_message", "") or exc.reason or str(exc)
    if "not yet valid" in text:
        return PeerNotTrusted(
            f"the certificate of {host} is not yet valid by this machine's clock",
            hint="set this machine's clock (timedatectl set-ntp true)",
        )
    if "expired" in text:
        return PeerNotTrusted(
            f"a certificate has expired by this machine's clock ({text})",
            hint="check the clock; if it is right, join again with a new token",
        )
    if "self-signed" in text or "unable to get local issuer" in text or "certificate verify failed" in text:
        return PeerNotTrusted(
            f"{host} is not the cloud that this node joined (its certificate is of another authority)",
            hint="check the address; after a new installation of the cloud, join again",
        )
    return PeerNotTrusted(f"TLS with {host} failed: {text}")


def fingerprint(transport: asyncio.BaseTransport) -> str:
    """SHA-256 of the server's certificate, hex; empty when there is none."""
    found = transport.get_extra_info("ssl_object")
    der = found.getpeercert(binary_form=True) if found is not None else None
    return hashlib.sha256(der).hexdigest() if der else ""


def _matches(name: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(name) == ipaddress.ip_address(host)
    except ValueError:
        pass
    if name.startswith("*."):
        return host.partition(".")[2].lower() == name[2:].lower()
    return name.lower() == host.lower()
