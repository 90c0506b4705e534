"""Who may use the embedded API server, as the settings say: OpenID Connect, and the audit log.

OpenID Connect is imported where it is wanted: its library takes 11 MB (``docs/decisions/0070``).
"""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

from skerry.api.config.cloud import CloudConfig
from skerry.apiserver.audit import AuditLog
from skerry.apiserver.auth.authn import TokenCheck
from skerry.base.aio.clock import Clock
from skerry.base.errors import ConfigError
from skerry.base.net.http_client import HttpBroken, HttpClient, HttpRequest

_DOCUMENT_BYTES = 1 << 20


def token_checks(config: CloudConfig, *, clock: Clock) -> list[TokenCheck]:
    """Checks of bearer tokens that are not our own.

    Raises:
        ConfigError: the issuer is no https URL, or something about it is missing.
    """
    if not config.oidc_issuer:
        return []
    if not config.oidc_issuer.startswith("https://"):
        raise ConfigError(
            f"oidc_issuer must be an https URL, got {config.oidc_issuer!r}",
            hint="give the issuer exactly as it stands in the tokens' claim iss",
        )
    if not config.oidc_client_ids:
        raise ConfigError("oidc_client_ids is empty", hint="name the client id that tokens are made for")
    required: dict[str, str] = {}
    for text in config.oidc_required_claims:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise ConfigError(f"oidc_required_claims: {text!r} is not NAME=VALUE", hint="such as hd=example.com")
        required[name] = value
    from skerry.apiserver.auth.oidc import OidcSettings, OidcTokens

    settings = OidcSettings(
        issuer=config.oidc_issuer, client_ids=config.oidc_client_ids, username_claim=config.oidc_username_claim,
        username_prefix=config.oidc_username_prefix, groups_claim=config.oidc_groups_claim,
        groups_prefix=config.oidc_groups_prefix, required_claims=required, algorithms=config.oidc_algorithms,
    )  # fmt: skip
    return [OidcTokens(settings, fetch=_Fetcher(config), clock=clock)]


def audit_log(config: CloudConfig, *, clock: Clock) -> AuditLog | None:
    """The audit log; None when the settings say that there is none."""
    if config.audit_max_mb <= 0:
        return None
    path = config.audit_file or config.data / "audit.log"
    return AuditLog(path, clock=clock, max_bytes=config.audit_max_mb << 20, keep=max(0, config.audit_keep))


class _Fetcher:
    """Reads documents of the issuer over HTTPS."""

    def __init__(self, config: CloudConfig) -> None:
        try:
            self._tls = ssl.create_default_context(cafile=str(config.oidc_ca_file) if config.oidc_ca_file else None)
        except OSError as exc:
            raise ConfigError(f"cannot use oidc_ca_file {config.oidc_ca_file}: {exc}") from exc

    async def __call__(self, url: str) -> bytes:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.netloc:
            raise HttpBroken(f"{url} is no https URL")
        client = HttpClient(f"https://{parts.netloc}", tls=self._tls)
        try:
            answer = await client.send(HttpRequest("GET", parts.path or "/", parts.query), limit_bytes=_DOCUMENT_BYTES)
        finally:
            await client.aclose()
        if answer.status != 200:
            raise HttpBroken(f"{url} answered {answer.status}")
        return answer.body
