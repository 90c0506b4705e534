"""The file kind ``CloudConfig`` (``config.skerry.dev/v1alpha1``): settings of ``skerry cloud run``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from skerry.base.conf import setting
from skerry.base.obs.levels import FORMS, LEVELS

API_VERSION = "config.skerry.dev/v1alpha1"
KIND = "CloudConfig"
ENVIRONMENT_PREFIX = "SKERRY_CLOUD_"


@dataclass(frozen=True)
class CloudConfig:
    """Settings of the cloud process; each is also a flag and an environment variable."""

    data: Path = setting(Path("/var/lib/skerry/cloud"), "directory of database, keys and run.json")
    listen: str = setting("0.0.0.0", "address that every server listens on")
    ports: str = setting("default", "default, any (free ports), or a base number to count up from")
    advertise: tuple[str, ...] = setting((), "addresses, host or host:port, under which edge nodes reach the cloud")
    node_grace_s: float = setting(50.0, "seconds without a heartbeat until a node is NotReady")
    mass_loss_grace_s: float = setting(600.0, "seconds after a cloud start in which nothing is evicted")
    revoke_deleted_nodes: bool = setting(True, "revoke a node's certificate when its Node is deleted")
    pod_range: str = setting("10.244.0.0/16", "network out of which each node gets a range for its pods")
    node_prefix: int = setting(24, "length of the prefix of a node's range")
    controllers: tuple[str, ...] = setting(("*",), "control loops that run here: *, NAME, -NAME")
    backup_every_s: float = setting(0.0, "seconds between backups of the embedded cluster; 0 writes none")
    backup_directory: Path | None = setting(None, "where backups go; empty means backups/ in the data directory")
    backup_keep: int = setting(7, "how many backups are kept")
    kubeconfig: Path | None = setting(None, "use this cluster instead of the embedded API server")
    event_ttl_s: float = setting(3600.0, "seconds after which an Event that was not seen again is removed; 0 keeps all")
    audit_file: Path | None = setting(None, "the audit log; empty means audit.log in the data directory")
    audit_max_mb: int = setting(64, "size in MiB at which the audit log is put aside; 0 writes none")
    audit_keep: int = setting(8, "how many older files of the audit log are kept")
    oidc_issuer: str = setting("", "https URL of an OpenID Connect issuer whose ID tokens are accepted; empty for none")
    oidc_client_ids: tuple[str, ...] = setting((), "client ids; a token must be for one of them")
    oidc_username_claim: str = setting("sub", "claim that names the user")
    oidc_username_prefix: str = setting("", "before user names; empty means ISSUER# (none for email), - means none")
    oidc_groups_claim: str = setting("", "claim that lists groups; empty for no groups")
    oidc_groups_prefix: str = setting("", "before group names")
    oidc_required_claims: tuple[str, ...] = setting((), "claims that a token must have, each as NAME=VALUE")
    oidc_algorithms: tuple[str, ...] = setting(("RS256",), "signatures accepted in ID tokens")
    oidc_ca_file: Path | None = setting(None, "authority of the issuer's certificate; empty means the system's")
    log_level: str = setting("info", "debug, info, warning or error", among=LEVELS)
    log_format: str = setting("auto", "text, json, or auto (text on a terminal)", among=FORMS)


DEFAULT_PORTS = {"api": 6443, "hub": 10000, "join": 10002, "tunnel": 10004}
"""Order matters: with ``--ports BASE`` the servers count up from BASE in this order."""


def port_plan(ports: str) -> dict[str, int]:
    """The port of each server by name; 0 means any free one.

    Raises:
        ValueError: neither default, any, nor a number from 1 to 65000.
    """
    if ports == "default":
        return dict(DEFAULT_PORTS)
    if ports == "any":
        return dict.fromkeys(DEFAULT_PORTS, 0)
    if not ports.isdigit() or not 1 <= int(ports) <= 65_000:
        raise ValueError(f"ports must be default, any, or a number from 1 to 65000, got {ports!r}")
    return {name: int(ports) + i for i, name in enumerate(DEFAULT_PORTS)}
