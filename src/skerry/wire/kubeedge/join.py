"""Words of joining: the token, the headers of a certificate request, and whom a certificate names.

Token text: ``<hex sha256 of the CA certificate's DER>.<JWT>``; the edge compares the hash with the CA that it fetched
and sends only the JWT, as ``Authorization: Bearer <jwt>``. Nothing here verifies a signature.

``GET /ca.crt``    the CA certificate in DER.
``GET /edge.crt``  **with a body**: the certificate request in DER; the answer is the certificate in DER.

Source: kubeedge pkg/security/token/token.go, edge/pkg/edgehub/certificate/certmanager.go,
cloud/pkg/cloudhub/servers/httpserver (v1.23).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Any

from skerry.base import json
from skerry.base.values import Struct
from skerry.wire.errors import Malformed, TooLarge
from skerry.wire.kubeedge import constants as c

MAX_TOKEN_BYTES = 4096
MAX_CSR_BYTES = 1024 * 1024
MAX_NODE_NAME_BYTES = 253 - 37
"""A node name plus ``.<uid>`` is the name of a cursor object, which may hold 253 bytes."""

USAGE_SERVER = 1
USAGE_CLIENT = 2
"""Numbers of Go's ``x509.ExtKeyUsage``."""

PATH_CA = "/ca.crt"
PATH_CERTIFICATE = "/edge.crt"
PATH_NODE = "/node/"
PATH_HELLO = "/skerry/v1/hello"
"""Ours: version, time and addresses of the cloud, for the checks before a join."""

_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_HASH = re.compile(r"[0-9a-f]{64}")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


class JoinToken(Struct, frozen=True):
    """A token in its two halves."""

    ca_hash: str
    jwt: str

    @property
    def text(self) -> str:
        """As people copy it."""
        return f"{self.ca_hash}.{self.jwt}"


def parse_token(text: str) -> JoinToken:
    """Split a token.

    Raises:
        TooLarge: longer than 4096 bytes.
        Malformed: not four parts, or a part with wrong characters (a token cut off by a copy, most often).
    """
    text = text.strip()
    if len(text) > MAX_TOKEN_BYTES:
        raise TooLarge(f"join token of {len(text)} bytes is longer than {MAX_TOKEN_BYTES} bytes")
    parts = text.split(".")
    if len(parts) != 4 or not _HASH.fullmatch(parts[0]) or not all(map(_BASE64URL.fullmatch, parts[1:])):
        raise Malformed(
            "join token is not of the form <64 hex digits>.<header>.<claims>.<signature>",
            hint="copy the whole token; print a new one with: skerry token create --node NAME",
        )
    return JoinToken(parts[0], ".".join(parts[1:]))


def ca_hash(ca_der: bytes) -> str:
    """Lower-case hex SHA-256 of a CA certificate in DER."""
    return hashlib.sha256(ca_der).hexdigest()


def is_ca_of(token: JoinToken, ca_der: bytes) -> bool:
    """Whether this CA certificate is the one that the token pins."""
    return hmac.compare_digest(token.ca_hash, ca_hash(ca_der))


def unverified_claims(jwt: str) -> dict[str, Any]:
    """The claims of a JWT, for messages to people only: ``exp`` and, in ours, ``jti``, ``node`` or ``uses``.

    Raises:
        Malformed: it cannot be read.
    """
    parts = jwt.split(".")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (IndexError, binascii.Error, json.JsonError) as exc:
        raise Malformed("the claims of the join token cannot be read") from exc
    if not isinstance(claims, dict):
        raise Malformed("the claims of the join token are not an object")
    return claims


def request_headers(node: str, *, jwt: str = "", usages: Iterable[int] = (USAGE_CLIENT,)) -> dict[str, str]:
    """Headers of ``GET /edge.crt``. Without ``jwt`` the client certificate of the connection is the proof."""
    headers = {c.HEADER_NODE_NAME: node, c.HEADER_USAGES: json.dumps(list(usages)).decode()}
    if jwt:
        headers["Authorization"] = f"Bearer {jwt}"
    return headers


class CertificateRequest(Struct, frozen=True):
    """Who asks for a certificate, and by which proof; ``jwt`` is empty for a rotation by client certificate."""

    node: str
    jwt: str


def parse_request(headers: Mapping[str, str]) -> CertificateRequest:
    """Read the headers of ``GET /edge.crt``; names are compared without case.

    Raises:
        Malformed: no or a wrong node name, usages other than client authentication, or another kind of authorization.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    node = lowered.get(c.HEADER_NODE_NAME.lower(), "")
    check_node_name(node)
    _check_usages(lowered.get(c.HEADER_USAGES.lower(), ""))
    authorization = lowered.get("authorization", "")
    scheme, _, jwt = authorization.partition(" ")
    if authorization and (scheme.lower() != "bearer" or not jwt or len(jwt) > MAX_TOKEN_BYTES):
        raise Malformed(
            "header Authorization is not of the form: Bearer <token>",
            hint="send the token without the hash of the CA in front of it",
        )
    return CertificateRequest(node, jwt.strip())


def check_node_name(name: str) -> None:
    """A node name is an RFC 1123 subdomain of at most 216 bytes.

    Raises:
        Malformed: it is not; the hint names the characters.
    """
    if not name or len(name) > MAX_NODE_NAME_BYTES or not _NODE_NAME.fullmatch(name):
        raise Malformed(
            f"{name[:80]!r} is not a node name",
            hint=f"use lower-case letters, digits, '-' and '.', at most {MAX_NODE_NAME_BYTES} characters",
        )


def common_name(node: str) -> str:
    """The CN of a node's certificate."""
    return c.CERT_NAME_PREFIX + node


def node_of_subject(common: str, organizations: Iterable[str]) -> str:
    """The node that a certificate's subject names; empty when it names none.

    Upstream also lets O=KubeEdge, CN=kubeedge.io act as any node; we do not.
    """
    if c.CERT_ORGANIZATION not in organizations or not common.startswith(c.CERT_NAME_PREFIX):
        return ""
    return common.removeprefix(c.CERT_NAME_PREFIX)


def _check_usages(text: str) -> None:
    if not text:
        return
    try:
        usages = json.loads(text)
    except json.JsonError as exc:
        raise Malformed(f"header {c.HEADER_USAGES} is not a JSON list of numbers") from exc
    if usages != [USAGE_CLIENT]:
        raise Malformed(
            f"header {c.HEADER_USAGES} asks for usages {text[:80]}, an edge node gets [{USAGE_CLIENT}] only",
            hint="a node's certificate is for client authentication; leave the header out or send [2]",
        )
