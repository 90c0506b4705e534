"""Keys and credentials of the embedded API server: its authority, its certificate, the administrator's kubeconfig."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skerry.base import x509, yaml
from skerry.base.files import make_private_dir, write_secret

ADMIN_USER = "skerry-admin"
ADMIN_GROUP = "system:masters"
_FIXED_HOSTS = (
    "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
    "localhost", "127.0.0.1", "10.96.0.1",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ApiFiles:
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


def prepare(directory: Path, *, hosts: Sequence[str]) -> ApiFiles:
    """Make what is missing and renew what does not fit ``hosts`` or will end within 30 days.

    Args:
        directory: made with mode 0700.
        hosts: further names and addresses of the API server.
    """
    files = ApiFiles(make_private_dir(directory))
    ca = _ca(files)
    wanted = tuple(dict.fromkeys((*_FIXED_HOSTS, *hosts)))
    if not _fits(files.cert, wanted):
        credential = x509.issue_server(ca, wanted, common_name="kube-apiserver", organizations=("skerry",))
        x509.save(credential, files.cert, files.key)
    if not _fits(files.admin_cert, ()):
        credential = x509.issue_client(ca, ADMIN_USER, organizations=(ADMIN_GROUP,))
        x509.save(credential, files.admin_cert, files.admin_key)
    return files


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


def _ca(files: ApiFiles) -> x509.Credential:
    if not files.ca_cert.exists():
        x509.save(x509.new_ca("kubernetes"), files.ca_cert, files.ca_key)
    return x509.load(files.ca_cert, files.ca_key)


def _fits(cert: Path, hosts: Sequence[str]) -> bool:
    if not cert.exists():
        return False
    info = x509.read_certificate(cert.read_bytes())
    return info.not_after_s - time.time() > 30 * 86_400 and set(hosts) <= set(info.hosts)
