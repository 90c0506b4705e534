"""Credentials: from a kubeconfig file or from the service account of the pod that we run in.

Errors name the file, the context and the remedy; secrets never show in them.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skerry.base import yaml
from skerry.base.errors import ConfigError
from skerry.base.net.hosts import in_url

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where a cluster is and who we are there.

    Args:
        server: ``https://host:port``.
        namespace: of the context; ``default`` when it names none.
        ca_pem: certificates that verify the server; empty for the system's.
        insecure: do not verify the server.
        server_name: checked in the certificate instead of the host.
        certificate_pem, key_pem: client certificate.
        token: bearer token.
        token_file: bearer token that is renewed by somebody else; read again when it changes.
        source: for messages.
    """

    server: str
    namespace: str = "default"
    ca_pem: str = ""
    insecure: bool = False
    server_name: str = ""
    certificate_pem: str = field(default="", repr=False)
    key_pem: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    source: str = ""


class TokenSource:
    """The bearer token now; a file is read again when it has changed."""

    def __init__(self, credentials: Credentials) -> None:
        self._token = credentials.token
        self._file = credentials.token_file
        self._seen: tuple[int, int] | None = None

    def current(self) -> str:
        """The token, empty when there is none.

        Raises:
            ConfigError: the file cannot be read.
        """
        if self._file is None:
            return self._token
        try:
            found = self._file.stat()
            stamp = (found.st_mtime_ns, found.st_size)
            if stamp != self._seen:
                self._token, self._seen = self._file.read_text().strip(), stamp
        except OSError as exc:
            raise ConfigError(f"token file {self._file}: {exc.strerror}", hint="check that it is mounted") from exc
        return self._token


def find(path: Path | None = None, *, context: str = "", environ: Mapping[str, str] | None = None) -> Credentials:
    """Credentials from ``path``, else ``$KUBECONFIG``, else the pod's service account, else ``~/.kube/config``.

    Raises:
        ConfigError: there are none, or they are wrong.
    """
    environ = os.environ if environ is None else environ
    if path is None and environ.get("KUBECONFIG"):
        candidates = [Path(part) for part in environ["KUBECONFIG"].split(os.pathsep) if part]
        path = next((part for part in candidates if part.exists()), candidates[0] if candidates else None)
    if path is not None:
        return load(path, context=context)
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return in_cluster(environ)
    home = Path(environ.get("HOME") or "/") / ".kube/config"
    if home.exists():
        return load(home, context=context)
    raise ConfigError(
        "no credentials for a cluster",
        hint="name a file with --kubeconfig or in KUBECONFIG; `skerry cloud run` prints where it put one",
    )


def in_cluster(environ: Mapping[str, str], *, root: Path = SERVICE_ACCOUNT) -> Credentials:
    """Credentials of the pod's service account."""
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ.get("KUBERNETES_SERVICE_PORT", "443")
    try:
        ca_pem = (root / "ca.crt").read_text()
        namespace = (root / "namespace").read_text().strip()
    except OSError as exc:
        raise ConfigError(
            f"service account in {root}: {exc.strerror}: {exc.filename}",
            hint="let the pod mount its token (automountServiceAccountToken) or name a kubeconfig",
        ) from exc
    return Credentials(
        f"https://{in_url(host)}:{port}", namespace, ca_pem, token_file=root / "token", source="service account"
    )


def load(path: Path, *, context: str = "") -> Credentials:
    """Credentials of one context of a kubeconfig file.

    Args:
        path: the file; relative names in it are relative to its folder.
        context: empty for the file's current one.

    Raises:
        ConfigError: names file, context, and what to do.
    """
    try:
        document = yaml.load(path.read_bytes())
    except OSError as exc:
        raise ConfigError(f"kubeconfig {path}: {exc.strerror}", hint="check the path and who may read it") from exc
    except yaml.YamlError as exc:
        raise ConfigError(f"kubeconfig {path}: {exc}", hint="mend the file, or fetch a new one") from exc
    if not isinstance(document, dict):
        raise ConfigError(f"kubeconfig {path}: it holds no configuration", hint="fetch a new one")
    return _File(path, document, context).credentials()


class _File:
    """One kubeconfig file, looked at through one context."""

    def __init__(self, path: Path, document: Mapping[str, Any], context: str) -> None:
        self._path = path
        self._document = document
        self._context = context or document.get("current-context") or ""

    def credentials(self) -> Credentials:
        if not self._context:
            raise self._error("it names no current-context", f"choose one of: {self._names('contexts')}")
        context = self._entry("contexts", "context", self._context)
        cluster = self._entry("clusters", "cluster", context.get("cluster") or "")
        user = self._entry("users", "user", context["user"]) if context.get("user") else {}
        if not cluster.get("server"):
            raise self._error(f"cluster {context.get('cluster')!r} has no server", "add its address")
        self._refuse_helpers(user)
        token_file = user.get("tokenFile")
        return Credentials(
            server=cluster["server"],
            namespace=context.get("namespace") or "default",
            ca_pem=self._pem(cluster, "certificate-authority"),
            insecure=bool(cluster.get("insecure-skip-tls-verify")),
            server_name=cluster.get("tls-server-name") or "",
            certificate_pem=self._pem(user, "client-certificate"),
            key_pem=self._pem(user, "client-key"),
            token=user.get("token") or "",
            token_file=self._path.parent / token_file if token_file else None,
            source=f"kubeconfig {self._path}, context {self._context!r}",
        )

    def _refuse_helpers(self, user: Mapping[str, Any]) -> None:
        for kind in ("exec", "auth-provider", "username"):
            if user.get(kind):
                raise self._error(
                    f"its user logs in by {kind!r}, which is not supported",
                    "use a token or a client certificate: `kubectl create token NAME` makes a token",
                )

    def _entry(self, section: str, member: str, name: str) -> Mapping[str, Any]:
        for entry in self._document.get(section) or ():
            if entry.get("name") == name:
                found: Mapping[str, Any] = entry.get(member) or {}
                return found
        raise self._error(f"{member} {name!r} is not in it", f"choose one of: {self._names(section)}")

    def _names(self, section: str) -> str:
        return ", ".join(str(entry.get("name")) for entry in self._document.get(section) or ()) or "(there is none)"

    def _pem(self, holder: Mapping[str, Any], key: str) -> str:
        data, file = holder.get(f"{key}-data"), holder.get(key)
        if data:
            try:
                return base64.b64decode(data, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError) as exc:
                raise self._error(f"{key}-data is not base64", "fetch a new file") from exc
        if not file:
            return ""
        try:
            return (self._path.parent / str(file)).read_text()
        except OSError as exc:
            raise self._error(f"{key} {file}: {exc.strerror}", "check the path and who may read it") from exc

    def _error(self, what: str, hint: str) -> ConfigError:
        context = f", context {self._context!r}" if self._context else ""
        return ConfigError(f"kubeconfig {self._path}{context}: {what}", hint=hint)


def tls_of(credentials: Credentials) -> ssl.SSLContext | None:
    """The TLS context for a server; None for plain http.

    Raises:
        ConfigError: a certificate or key cannot be used.
    """
    if not credentials.server.startswith("https:"):
        return None
    try:
        context = ssl.create_default_context(cadata=credentials.ca_pem or None)
        if credentials.insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if credentials.certificate_pem:
            _load_chain(context, credentials)
    except (ssl.SSLError, ValueError) as exc:
        raise ConfigError(f"{credentials.source}: certificate or key: {exc}", hint="fetch a new file") from exc
    return context


def _load_chain(context: ssl.SSLContext, credentials: Credentials) -> None:
    """The standard library takes a client certificate only from a file: a private one, gone at once."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # created with mode 0600
        file.write(f"{credentials.certificate_pem}\n{credentials.key_pem}\n")
        file.flush()
        context.load_cert_chain(file.name)
