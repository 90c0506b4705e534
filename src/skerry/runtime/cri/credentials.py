"""Registry credentials for an image, out of pull secrets. Pure.

Source: kubernetes pkg/credentialprovider/{keyring,config}.go (1.32): most specific entry first, wildcards per label.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from skerry.base import json

_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


def registry_of(image: str) -> tuple[str, str]:
    """(registry host, repository) of an image as users write it: ``nginx`` → (``docker.io``, ``library/nginx``)."""
    name = image.partition("@")[0]
    host, slash, rest = name.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, rest = "docker.io", name if slash else f"library/{name}"
    head, colon, tag = rest.rpartition(":")
    return host, head if colon and "/" not in tag else rest


def auths_for(image: str, secrets: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """AuthConfigs of pull secrets that fit ``image``, most specific first; unreadable secrets are left out."""
    host, repository = registry_of(image)
    found: list[tuple[int, dict[str, str]]] = []
    for secret in secrets:
        for key, entry in _entries(secret).items():
            server, _, path = _plain(key).partition("/")
            if _is_host(server, host) and (not path or f"{repository}/".startswith(f"{path}/")):
                found.append((len(path), _auth(entry)))
    return [auth for _, auth in sorted(found, key=lambda pair: -pair[0])]


def _entries(secret: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    data = secret.get("data") or {}
    try:
        if text := data.get(".dockerconfigjson"):
            return json.loads(base64.b64decode(text)).get("auths") or {}
        if text := data.get(".dockercfg"):
            found: dict[str, Mapping[str, Any]] = json.loads(base64.b64decode(text))
            return found
    except (binascii.Error, ValueError, AttributeError):
        return {}
    return {}


def _plain(key: str) -> str:
    """``https://index.docker.io/v1/`` → ``index.docker.io``."""
    text = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    for version in ("/v1", "/v2"):
        text = text.removesuffix(version)
    return text


def _is_host(pattern: str, host: str) -> bool:
    if pattern in _DOCKER_HUB and host in _DOCKER_HUB:
        return True
    wanted, parts = pattern.split("."), host.split(".")
    return len(wanted) == len(parts) and all(fnmatchcase(p, w) for w, p in zip(wanted, parts, strict=True))


def _auth(entry: Mapping[str, Any]) -> dict[str, str]:
    # No server_address: containerd reads it as a URL, and a bare host then fits no registry.
    auth = {
        "username": str(entry.get("username") or ""),
        "password": str(entry.get("password") or ""),
        "identity_token": str(entry.get("identitytoken") or ""),
        "registry_token": str(entry.get("registrytoken") or ""),
    }
    if not auth["username"] and entry.get("auth"):
        auth["auth"] = str(entry["auth"])
    return {key: value for key, value in auth.items() if value}
