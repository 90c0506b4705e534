"""Getting and renewing the node's certificate. Files lie in ``DATA/certs``, keys with mode 0600.

The join token pins the authority: its certificate is fetched from anybody and believed only when its hash is the
token's. Then a key is made on this machine (it never leaves it) and a certificate asked for over verified TLS.
"""

from __future__ import annotations

import base64
import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path

from skerry.base import x509_child
from skerry.base.errors import Refused, SkerryError
from skerry.base.files import make_private_dir, sync_directory, write_atomic, write_secret
from skerry.base.net import https_client
from skerry.base.net.edge_tls import ClientIdentity, client_context, pinned_context
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.base.x509_child import Certificate
from skerry.wire.kubeedge import join

log = get_log(__name__)

GROUP = "system:nodes"


class CertificateUnusable(SkerryError):
    """The node's certificate, its key or the authority is missing, damaged, or not to be read."""


class CertificateFiles(Struct, frozen=True):
    """The node's certificate files below one directory."""

    directory: Path

    @property
    def ca(self) -> Path:
        """The cloud's authority, PEM."""
        return self.directory / "ca.crt"

    @property
    def cert(self) -> Path:
        """The node's certificate, PEM."""
        return self.directory / "node.crt"

    @property
    def key(self) -> Path:
        """Its key, PEM."""
        return self.directory / "node.key"

    def context(self) -> ssl.SSLContext:
        """TLS with our certificate, trusting only the cloud's authority.

        Raises:
            CertificateUnusable: as ``pinned`` and ``certificate`` do.
        """
        with self._reading():
            self.recover()
            return client_context(self.ca, ClientIdentity(self.cert, self.key))

    def pinned(self, server_der: bytes) -> ssl.SSLContext:
        """TLS with our certificate alone, trusting only this server certificate."""
        with self._reading():
            return pinned_context(server_der, ClientIdentity(self.cert, self.key))

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:  # TLS errors are such too
            missing = next((path for path in (self.ca, self.cert, self.key) if not path.exists()), None)
            what = f"{missing} is missing" if missing else f"{exc.strerror or exc}"
            raise CertificateUnusable(
                f"the node's certificate in {self.directory} cannot be used: {what}",
                hint="put the files back from a copy; else `skerry reset`, and join again",
            ) from exc

    def trust(self, bundle_pem: bytes) -> bool:
        """Trust these authorities from now on; False when they are those already, or cannot be read."""
        if not bundle_pem or self.ca.read_bytes() == bundle_pem:
            return False
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=bundle_pem.decode("ascii"))
        except (ssl.SSLError, ValueError) as exc:
            log.warning("authorities.unusable", error=str(exc))
            return False
        write_atomic(self.ca, bundle_pem)
        return True

    def replace(self, cert_pem: bytes, key_pem: bytes) -> None:
        """Put a new certificate and its key in place; a crash leaves the old pair or the new one, never a mix."""
        write_secret(self._next_key, key_pem)
        write_atomic(self._next_cert, cert_pem)
        self.recover()

    def recover(self) -> None:
        """Finish a ``replace`` that a crash cut short. The new certificate is written last: then both are there."""
        if not self._next_cert.exists():
            return
        if self._next_key.exists():
            self._next_key.replace(self.key)
            sync_directory(self.directory)
        self._next_cert.replace(self.cert)
        sync_directory(self.directory)

    @property
    def _next_key(self) -> Path:
        return self.directory / "node.key.next"

    @property
    def _next_cert(self) -> Path:
        return self.directory / "node.crt.next"

    async def certificate(self) -> Certificate:
        """What the node's certificate says."""
        with self._reading():
            return await x509_child.inspect(self.cert.read_bytes())


async def fetch_authority(host: str, port: int, token: join.JoinToken) -> bytes:
    """The authority's certificate (DER), once it matches the token's hash.

    Raises:
        ConnectFailed: the join server cannot be reached.
        Refused: it has another authority than the one that the token names.
    """
    path = f"{join.PATH_CA}?sha256={token.ca_hash}"
    answer = await https_client.get(host, port, path, tls=client_context(None, None))
    if answer.status != 200 or not join.is_ca_of(token, answer.body):
        raise Refused(
            f"the cloud at {host}:{port} is not the one that made this token (its authority has another hash)",
            hint="check the address; if the cloud was installed anew, make a new token",
        )
    return answer.body


async def enrol(host: str, port: int, *, token: join.JoinToken, node: str, files: CertificateFiles) -> None:
    """Join: fetch the authority, make a key, get a certificate, write the files.

    Raises:
        ConnectFailed, PeerNotTrusted: the join server cannot be reached or is not what it claims.
        Refused: it refuses; with its reason.
    """
    ca_der = await fetch_authority(host, port, token)
    make_private_dir(files.directory)
    write_atomic(files.ca, _pem(ca_der))
    await _request(host, port, join.request_headers(node, jwt=token.jwt), client_context(files.ca, None), node, files)


async def renew(host: str, port: int, *, node: str, files: CertificateFiles, now_s: float | None = None) -> None:
    """Get a new certificate with the current one as the proof. ``now_s``: see ``edge_tls.check_server``."""
    await _request(host, port, join.request_headers(node), files.context(), node, files, now_s)


async def _request(
    host: str,
    port: int,
    headers: dict[str, str],
    tls: ssl.SSLContext,
    node: str,
    files: CertificateFiles,
    now_s: float | None = None,
) -> None:
    request = await x509_child.new_request(join.common_name(node), organizations=(GROUP,))
    answer = await https_client.get(
        host, port, join.PATH_CERTIFICATE, tls=tls, headers=headers, body=request.csr_der, timeout_s=60.0,
        now_s=now_s,
    )  # fmt: skip
    if answer.status != 200:
        raise Refused(f'the cloud refuses a certificate for node "{node}": {answer.text}')
    files.replace(_pem(answer.body), request.key_pem)
    log.info("certificate.received", node=node)


def _pem(der: bytes) -> bytes:
    text = base64.encodebytes(der).decode().replace("\n", "")
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n".encode()
