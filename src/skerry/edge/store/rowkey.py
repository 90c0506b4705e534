"""Where the key of sealed rows comes from: systemd's credentials, which may be bound to a TPM, else a file of ours.

``$CREDENTIALS_DIRECTORY/skerry-store-key`` is what ``LoadCredentialEncrypted=skerry-store-key`` of the unit gives; it
never lies on the disk in the clear. Without it the key is ``store.key`` (0600) beside the database: that protects
copies of the database (a backup, a support bundle, a disk image without the file), not a stolen disk.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from skerry.base.aesgcm import KEY_BYTES
from skerry.base.errors import ConfigError
from skerry.base.files import write_secret

CREDENTIAL = "skerry-store-key"
FILE = "store.key"


def row_key(directory: Path, environment: Mapping[str, str] = os.environ) -> bytes:
    """The key for the database in ``directory``; made at the first call.

    Returns:
        32 bytes: of the credential (any text of 32 bytes or more), else of the file.

    Raises:
        ConfigError: the credential is too short, or the file is damaged.
    """
    if place := environment.get("CREDENTIALS_DIRECTORY"):
        credential = Path(place) / CREDENTIAL
        if credential.exists():
            return _of_credential(credential)
    path = directory / FILE
    if not path.exists():
        write_secret(path, os.urandom(KEY_BYTES))
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ConfigError(
            f"{path} has {len(key)} bytes, not {KEY_BYTES}",
            hint=f"remove {path}: the node then asks the cloud for its secrets and tokens again",
        )
    return key


def _of_credential(path: Path) -> bytes:
    text = path.read_bytes()
    if len(text) < KEY_BYTES:
        raise ConfigError(
            f"credential {CREDENTIAL} has {len(text)} bytes", hint=f"make one of {KEY_BYTES} random bytes or more"
        )
    return hashlib.sha256(b"skerry row key\x00" + text).digest()
