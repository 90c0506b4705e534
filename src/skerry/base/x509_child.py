"""Keys, requests and certificate inspection for the edge agent, in a short-lived child process.

The library behind ``base.x509`` costs 13 MB of resident memory and is needed twice a year.
"""

from __future__ import annotations

import asyncio
import base64
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from skerry.base import json
from skerry.base.errors import SkerryError

_TIMEOUT_S = 60.0


class ChildError(SkerryError):
    """The child could not do it."""


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """A fresh key (PEM) and the request (DER) for it."""

    csr_der: bytes
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says. Times are Unix seconds."""

    common_name: str
    organizations: tuple[str, ...]
    fingerprint: str
    not_before_s: float
    not_after_s: float


async def new_request(common_name: str, *, organizations: Sequence[str] = ()) -> CertificateRequest:
    """Make a key and a certificate request.

    Raises:
        ChildError: neither the library nor the program openssl is there, or the child failed.
    """
    answer = await _ask("csr", {"common_name": common_name, "organizations": list(organizations)})
    return CertificateRequest(base64.b64decode(answer["csr_der"]), answer["key_pem"].encode())


async def inspect(cert_pem: bytes) -> Certificate:
    """Read a certificate.

    Raises:
        ChildError: as ``new_request``, or the certificate cannot be read.
    """
    answer = await _ask("inspect", {"cert_pem": cert_pem.decode("ascii", errors="replace")})
    answer["organizations"] = tuple(answer["organizations"])
    return Certificate(**answer)


async def _ask(command: str, order: dict[str, Any]) -> dict[str, Any]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "skerry.base.x509_service",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            out, err = await child.communicate(json.dumps({"do": command} | order) + b"\n")
    except TimeoutError as exc:
        raise ChildError(f"the certificate helper did not answer within {_TIMEOUT_S:g} s") from exc
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    try:
        answer = json.loads(out)
    except json.JsonError as exc:
        last = err.decode(errors="replace").strip().splitlines()[-1:]
        raise ChildError(f"the certificate helper failed: {' '.join(last) or child.returncode}") from exc
    if "error" in answer:
        raise ChildError(answer["error"], hint=answer["hint"])
    return dict(answer["is"])
