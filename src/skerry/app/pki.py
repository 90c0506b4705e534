"""Keys and credentials of the embedded API server: its authority, its certificate, the administrator's kubeconfig."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from pathlib import Path

from skerry.base import yaml
from skerry.base.certificates import Certifier, Credential, X509Error, save
from skerry.base.files import make_private_dir, write_secret
from skerry.base.values import Struct

ADMIN_USER = "skerry-admin"
ADMIN_GROUP = "system:masters"
_FIXED_HOSTS = (
    "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
    "localhost", "127.0.0.1", "10.96.0.1",
)  # fmt: skip


class ApiFiles(Struct, frozen=True):
    """Where the files of the API server lie."""

    directory: Path

    @property
    def ca_cert(self) -> Path:
        """The cluster's authority, PEM."""
        return self.directory / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """Its key."""
        return self.directory / "ca.key"

    @property
    def cert(self) -> Path:
        """The API server's certificate."""
        return self.directory / "apiserver.crt"

    @property
    def key(self) -> Path:
        """Its key."""
        return self.directory / "apiserver.key"

    @property
    def token_key(self) -> Path:
        """The key that signs service account tokens."""
        return self.directory / "sa.key"

    @property
    def admin_cert(self) -> Path:
        """The administrator's certificate."""
        return self.directory / "admin.crt"

    @property
    def admin_key(self) -> Path:
        """Its key."""
        return self.directory / "admin.key"


async def prepare(directory: Path, *, hosts: Sequence[str], certs: Certifier) -> ApiFiles:
    """Make what is missing and renew what does not fit ``hosts`` or will end within 30 days.

    Args:
        directory: made with mode 0700.
        hosts: further names and addresses of the API server.
        certs: makes and reads certificates.
    """
    files = ApiFiles(make_private_dir(directory))
    if not files.ca_cert.exists():
        save(await certs.new_ca("kubernetes"), files.ca_cert, files.ca_key)
    ca = await authority(files, certs)
    wanted = tuple(dict.fromkeys((*_FIXED_HOSTS, *hosts)))
    if not await _fits(files.cert, wanted, certs):
        credential = await certs.issue_server(ca, wanted, common_name="kube-apiserver", organizations=("skerry",))
        save(credential, files.cert, files.key)
    if not await _fits(files.admin_cert, (), certs):
        credential = await certs.issue_client(ca, ADMIN_USER, organizations=(ADMIN_GROUP,))
        save(credential, files.admin_cert, files.admin_key)
    return files


async def authority(files: ApiFiles, certs: Certifier) -> Credential:
    """The cluster's authority, with its key.

    Raises:
        X509Error: a file is missing or cannot be used, or the two do not belong together.
    """
    try:
        return await certs.pair(files.ca_cert.read_bytes(), files.ca_key.read_bytes())
    except OSError as exc:
        raise X509Error(f"cannot read {exc.filename}: {exc.strerror}") from exc
    except X509Error as exc:
        raise X509Error(f"{files.ca_cert} with {files.ca_key}: {exc}", hint=exc.hint) from exc


def write_kubeconfig(path: Path, files: ApiFiles, *, server: str) -> None:
    """Write the administrator's kubeconfig with everything embedded, mode 0600."""

    def embedded(file: Path) -> str:
        return base64.b64encode(file.read_bytes()).decode()

    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "skerry", "cluster": {"server": server, "certificate-authority-data": embedded(files.ca_cert)}}
        ],
        "users": [
            {
                "name": ADMIN_USER,
                "user": {
                    "client-certificate-data": embedded(files.admin_cert),
                    "client-key-data": embedded(files.admin_key),
                },
            }
        ],
        "contexts": [{"name": "skerry", "context": {"cluster": "skerry", "user": ADMIN_USER}}],
        "current-context": "skerry",
    }
    write_secret(path, yaml.dump(document).encode())


async def _fits(cert: Path, hosts: Sequence[str], certs: Certifier) -> bool:
    if not cert.exists():
        return False
    info = await certs.read_certificate(cert.read_bytes())
    return info.not_after_s - time.time() > 30 * 86_400 and set(hosts) <= set(info.hosts)
