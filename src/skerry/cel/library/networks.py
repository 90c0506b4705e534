"""IP addresses, ranges and URLs.

Source: kubernetes apiserver/pkg/cel/library/{ip,cidr,urls}.go (v1.36).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

from skerry.cel.errors import EvalError
from skerry.cel.functions import Functions

_IP, _CIDR, _URL = "net.IP", "net.CIDR", "kubernetes.URL"
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class CelIp:
    """An address."""

    cel_type: ClassVar[str] = _IP
    address: Address


@dataclass(frozen=True, slots=True)
class CelCidr:
    """A range, with the address that was written."""

    cel_type: ClassVar[str] = _CIDR
    address: Address
    prefix: int

    @property
    def network(self) -> Network:
        """The range alone."""
        return ipaddress.ip_network((self.address, self.prefix), strict=False)


@dataclass(frozen=True, slots=True)
class CelUrl:
    """A URL."""

    cel_type: ClassVar[str] = _URL
    text: str

    @property
    def parts(self) -> SplitResult:
        """The URL taken apart."""
        return urlsplit(self.text)


def add_networks(table: Functions) -> None:
    """Put the functions on addresses and ranges into the table."""
    table.function("isIP", "string", "bool", lambda text: _address(text) is not None)
    table.function("ip", "string", _IP, _ip)
    table.function("ip.isCanonical", "string", "bool", lambda text: str(_ip(text).address) == text)
    table.function("string", _IP, "string", lambda ip: str(ip.address))
    table.method("family", _IP, "int", lambda ip: ip.address.version)
    table.method("isUnspecified", _IP, "bool", lambda ip: ip.address.is_unspecified)
    table.method("isLoopback", _IP, "bool", lambda ip: ip.address.is_loopback)
    table.method("isLinkLocalMulticast", _IP, "bool", _is_link_local_multicast)
    table.method("isLinkLocalUnicast", _IP, "bool", lambda ip: ip.address.is_link_local)
    table.method("isGlobalUnicast", _IP, "bool", _is_global_unicast)
    table.function("isCIDR", "string", "bool", lambda text: _range(text) is not None)
    table.function("cidr", "string", _CIDR, _cidr)
    table.function("string", _CIDR, "string", lambda cidr: f"{cidr.address}/{cidr.prefix}")
    table.method("containsIP", f"{_CIDR}, {_IP}", "bool", lambda cidr, ip: ip.address in cidr.network)
    table.method("containsIP", f"{_CIDR}, string", "bool", lambda cidr, text: _ip(text).address in cidr.network)
    table.method("containsCIDR", f"{_CIDR}, {_CIDR}", "bool", _contains)
    table.method("containsCIDR", f"{_CIDR}, string", "bool", lambda cidr, text: _contains(cidr, _cidr(text)))
    table.method("ip", _CIDR, _IP, lambda cidr: CelIp(cidr.address))
    table.method("masked", _CIDR, _CIDR, lambda cidr: CelCidr(cidr.network.network_address, cidr.prefix))
    table.method("prefixLength", _CIDR, "int", lambda cidr: cidr.prefix)


def add_urls(table: Functions) -> None:
    """Put the functions on URLs into the table."""
    table.function("url", "string", _URL, _url)
    table.function("isURL", "string", "bool", is_url)
    table.method("getScheme", _URL, "string", lambda url: url.parts.scheme)
    table.method("getHost", _URL, "string", lambda url: url.parts.netloc.rpartition("@")[2])
    table.method("getHostname", _URL, "string", _hostname)
    table.method("getPort", _URL, "string", _port)
    table.method("getEscapedPath", _URL, "string", lambda url: quote(url.parts.path, safe="/%:@!$&'()*+,;=~-._"))
    table.method(
        "getQuery",
        _URL,
        "map<string, list<string>>",
        lambda url: parse_qs(url.parts.query, keep_blank_values=True, max_num_fields=1000),
    )


def is_url(text: str) -> bool:
    """Whether a text is an absolute URI or an absolute path."""
    if not text or any(ord(char) < 0x20 or ord(char) == 0x7F for char in text):
        return False
    try:
        parts = urlsplit(text)
        port = parts.netloc.rpartition("@")[2].rpartition("]")[2].partition(":")[2]
    except ValueError:
        return False
    if (port and not port.isdigit()) or " " in parts.netloc:
        return False
    if parts.scheme:
        return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text))
    return text.startswith("/")


def _address(text: str) -> Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    if "%" in text or (isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None):
        return None
    return found


def _ip(text: str) -> CelIp:
    found = _address(text)
    if found is None:
        raise EvalError(f"IP Address {text!r} parse error during conversion from string")
    return CelIp(found)


def _range(text: str) -> CelCidr | None:
    address, slash, prefix = text.partition("/")
    found = _address(address)
    if (
        found is None
        or not slash
        or not prefix.isascii()
        or not prefix.isdigit()
        or (len(prefix) > 1 and prefix[0] == "0")
    ):
        return None
    return CelCidr(found, int(prefix)) if int(prefix) <= found.max_prefixlen else None


def _cidr(text: str) -> CelCidr:
    found = _range(text)
    if found is None:
        raise EvalError(f"network address parse error during conversion from string: {text}")
    return found


def _contains(outer: CelCidr, inner: CelCidr) -> bool:
    return outer.address.version == inner.address.version and (
        inner.prefix >= outer.prefix and inner.address in outer.network
    )


def _is_link_local_multicast(ip: CelIp) -> bool:
    text = "224.0.0.0/24" if ip.address.version == 4 else "ff02::/16"
    return ip.address in ipaddress.ip_network(text)


def _is_global_unicast(ip: CelIp) -> bool:
    address = ip.address
    is_broadcast = address.version == 4 and str(address) == "255.255.255.255"
    return not (
        is_broadcast or address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local
    )


def _url(text: str) -> CelUrl:
    if not is_url(text):
        raise EvalError(f"URL parse error during conversion from string: parse {text!r}: invalid URI for request")
    return CelUrl(text)


def _hostname(url: CelUrl) -> str:
    host = url.parts.netloc.rpartition("@")[2]
    if host.startswith("["):
        return host[1 : host.find("]")]
    return host.partition(":")[0]


def _port(url: CelUrl) -> str:
    return url.parts.netloc.rpartition("@")[2].rpartition("]")[2].partition(":")[2]
