"""TLS of listeners."""

from __future__ import annotations

import ctypes
import ssl
from pathlib import Path

from skerry.base.errors import ConfigError

TUNED_TLS_BYTES = 64 * 1024
_M_MMAP_THRESHOLD = -3
_MAPPED_FROM_BYTES = 128 * 1024
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which the standard library does not name."""


def server_tls(
    *,
    cert_file: Path,
    key_file: Path,
    client_ca_file: Path | None = None,
    require_client: bool = False,
    check_client_dates: bool = True,
) -> ssl.SSLContext:
    """TLS for a listener: 1.2 or newer, HTTP/1.1 only, no session tickets.

    Args:
        cert_file: our chain, PEM.
        client_ca_file: CA of client certificates; None asks for none.
        require_client: refuse clients without a certificate (else it is optional; a wrong one is always refused).
        check_client_dates: refuse client certificates out of their time in the handshake, without a reason. When
            False the handler must look at ``PeerCertificate.not_before_s`` and ``not_after_s``, and can say why.

    Raises:
        ConfigError: a file is missing or unusable.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert_file, key_file)
        if client_ca_file is not None:
            context.load_verify_locations(client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED if require_client else ssl.CERT_OPTIONAL
            if not check_client_dates:
                context.verify_flags |= _NO_CHECK_TIME
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(
            f"cannot use the TLS files {cert_file}, {key_file}, {client_ca_file}: {exc}",
            hint="check that the files exist, are readable, and that key and certificate belong together",
        ) from exc
    return context


def tune_tls_buffers() -> None:
    """Make TLS connections cheap; call once when a cloud process starts.

    asyncio's buffer shrinks from 256 to 64 KiB a connection. uvloop's is 256 KiB and cannot be changed, but of memory
    that the C library maps for it only the pages that are used count. So the size from which on it maps is fixed:
    glibc else raises it once such a buffer is given back, and carves later ones out of its heap, where they cost 12 KB
    more each.
    """
    from asyncio import sslproto  # its class attribute is the only switch there is

    sslproto.SSLProtocol.max_size = TUNED_TLS_BYTES
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none, and no such habit
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)
