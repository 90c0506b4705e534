"""Requests and inspection by the ``openssl`` program, for machines without the ``cryptography`` library.

Runs in the short-lived child of ``base.x509_child`` only. Keys travel through a private directory that is removed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from skerry.base.errors import SkerryError

_TIMEOUT_S = 30.0
_SAFE = re.compile(r"[A-Za-z0-9:._-]+")


class OpensslError(SkerryError):
    """The program is missing or failed."""


def new_csr(common_name: str, organizations: Sequence[str]) -> tuple[bytes, bytes]:
    """A fresh EC P-256 key and a request for it: ``(csr_der, key_pem)``.

    Raises:
        OpensslError: the program is missing or failed, or a name has characters that it would misread.
    """
    for text in (common_name, *organizations):
        if not _SAFE.fullmatch(text):
            raise OpensslError(f"{text[:80]!r} cannot be written into a certificate request")
    subject = "".join(f"/O={text}" for text in organizations) + f"/CN={common_name}"
    with tempfile.TemporaryDirectory(prefix="skerry-csr-") as folder:
        key_file = Path(folder, "key.pem")
        _run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key_file))
        csr_der = _run("req", "-new", "-key", str(key_file), "-subj", subject, "-outform", "DER", "-batch")
        return csr_der, key_file.read_bytes()


def inspect(cert_pem: bytes) -> dict[str, Any]:
    """Subject and validity of a certificate: ``common_name``, ``organizations``, ``not_before_s``, ``not_after_s``."""
    text = _run("x509", "-noout", "-subject", "-nameopt", "multiline,utf8", "-startdate", "-enddate", stdin=cert_pem)
    lines = text.decode(errors="replace").splitlines()
    names = [tuple(part.strip() for part in line.split("=", 1)) for line in lines if "=" in line]
    return {
        "common_name": next((value for key, value in names if key == "commonName"), ""),
        "organizations": [value for key, value in names if key == "organizationName"],
        "not_before_s": _seconds(next(value for key, value in names if key == "notBefore")),
        "not_after_s": _seconds(next(value for key, value in names if key == "notAfter")),
    }


def _seconds(text: str) -> float:
    return datetime.strptime(text, "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC).timestamp()


def _run(*arguments: str, stdin: bytes = b"") -> bytes:
    program = shutil.which("openssl")
    if program is None:
        raise OpensslError(
            "neither the Python package cryptography nor the program openssl is on this machine",
            hint="install one of them: pip install 'skerry[certs]', or apt-get install openssl",
        )
    done = subprocess.run([program, *arguments], input=stdin, capture_output=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise OpensslError(f"openssl {arguments[0]} failed: {' '.join(last)}")
    return done.stdout
