"""Hosts as URLs write them. Pure."""

from __future__ import annotations


def in_url(host: str) -> str:
    """A name or an IPv4 address as it is; an IPv6 address without its brackets gets them. Source: RFC 3986, 3.2.2."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
