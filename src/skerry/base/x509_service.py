"""The process that works with certificates for others: an order a line on stdin, an answer a line on stdout, to EOF.

An order is a JSON object: ``id``, ``do``, and what that needs; bytes are base64, credentials ``{"cert", "key"}``:

``csr``      ``common_name``, ``organizations`` → ``{"csr_der", "key_pem"}``; also by the program ``openssl``
``inspect``  ``cert_pem`` → ``{"common_name", "organizations", "fingerprint", "not_before_s", "not_after_s"}``; also so
the others   the arguments of the function of that name in ``base.x509``

The answer has the order's ``id`` and ``is``, the result; or ``error`` and ``hint`` when the order was a bad one.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn

from skerry.base import json, x509
from skerry.base.certificates import CertificateInfo, Credential, RequestInfo, fingerprint, from_pem, to_pem
from skerry.base.errors import SkerryError

_BINARY = ("ca_cert", "csr_der", "cert", "key", "other")


def _csr(common_name: str, organizations: list[str]) -> dict[str, Any]:
    if x509.HAS_LIBRARY:
        csr_der, key_der = x509.new_csr(common_name, organizations=organizations)
        key_pem = to_pem("EC PRIVATE KEY", key_der)
    else:
        from skerry.base import x509_openssl

        csr_der, key_pem = x509_openssl.new_csr(common_name, organizations)
    return {"csr_der": _text(csr_der), "key_pem": key_pem.decode()}


def _inspect(cert_pem: str) -> dict[str, Any]:
    pem = cert_pem.encode()
    if x509.HAS_LIBRARY:
        info = x509.read_certificate(pem)
        return {
            "common_name": info.common_name, "organizations": list(info.organizations),
            "fingerprint": info.fingerprint, "not_before_s": info.not_before_s, "not_after_s": info.not_after_s,
        }  # fmt: skip
    from skerry.base import x509_openssl

    return x509_openssl.inspect(pem) | {"fingerprint": fingerprint(from_pem(pem))}


_ORDERS: dict[str, Callable[..., Any]] = {
    "csr": _csr,
    "inspect": _inspect,
    "new_ca": x509.new_ca,
    "cross_sign": x509.cross_sign,
    "issue_server": x509.issue_server,
    "issue_client": x509.issue_client,
    "sign_csr": x509.sign_csr,
    "sign_request": x509.sign_request,
    "read_csr": x509.read_csr,
    "read_certificate": x509.read_certificate,
    "pair": x509.pair,
    "is_issued_by": x509.is_issued_by,
    "is_of_same_key": x509.is_of_same_key,
}


def serve(orders: BinaryIO, answers: BinaryIO) -> None:
    """Work until there are no more orders."""
    for line in orders:
        answers.write(json.dumps(_answer(line)) + b"\n")
        answers.flush()


def _answer(line: bytes) -> dict[str, Any]:
    number = None
    try:
        order = json.loads(line)
        number, do = order.pop("id", None), _ORDERS[order.pop("do")]
        return {"id": number, "is": _told(do(**{name: _read(name, value) for name, value in order.items()}))}
    except (SkerryError, AttributeError, KeyError, TypeError, ValueError) as exc:
        return {"id": number, "error": str(exc) or type(exc).__name__, "hint": getattr(exc, "hint", "")}


def _read(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return Credential(base64.b64decode(value["cert"]), base64.b64decode(value["key"]))
    return base64.b64decode(value) if name in _BINARY else value


def _told(found: Any) -> Any:
    if isinstance(found, bytes):
        return _text(found)
    if isinstance(found, Credential):
        return {"cert": _text(found.cert_der), "key": _text(found.key_der)}
    if isinstance(found, CertificateInfo | RequestInfo):
        told = {name: getattr(found, name) for name in found.__slots__}
        return told | ({"serial": str(found.serial)} if isinstance(found, CertificateInfo) else {})
    return found


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _exit() -> NoReturn:
    serve(sys.stdin.buffer, sys.stdout.buffer)
    sys.exit(0)


if __name__ == "__main__":
    _exit()
