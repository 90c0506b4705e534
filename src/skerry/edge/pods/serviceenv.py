"""The variables that tell a container where the API server is, as every in-cluster client library expects them. Pure.

Variables of other Services are not made: their cluster addresses answer nobody on an edge without a mesh
(``docs/decisions/0032-pods-are-told-the-api-servers-own-address.md``).

Source: kubernetes pkg/kubelet/envvars/envvars.go (1.36).
"""

from __future__ import annotations

from skerry.base.net.hosts import in_url

_PREFIX = "KUBERNETES"


def api_variables(host: str, port: int) -> dict[str, str]:
    """Names and values.

    Args:
        host: name or address that works from this node; an IPv6 address has no brackets.
        port: TCP port.
    """
    url = f"tcp://{in_url(host)}:{port}"
    of_port = f"{_PREFIX}_PORT_{port}_TCP"
    return {
        f"{_PREFIX}_SERVICE_HOST": host,
        f"{_PREFIX}_SERVICE_PORT": str(port),
        f"{_PREFIX}_SERVICE_PORT_HTTPS": str(port),
        f"{_PREFIX}_PORT": url,
        of_port: url,
        f"{of_port}_PROTO": "tcp",
        f"{of_port}_PORT": str(port),
        f"{of_port}_ADDR": host,
    }
