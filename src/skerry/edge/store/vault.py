"""The machine's vault by ``systemd-creds``, which speaks to the TPM: a short-lived program, of which nothing stays.

Not ``LoadCredentialEncrypted=`` of the unit: a unit whose credential cannot be opened does not start, so a TPM that was
reset far from home would end the node; the agent goes on without its old key (see ``rowkey``).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

from skerry.edge.store.ports import VaultError

NAME = "skerry-store-key"
_PROGRAM = "systemd-creds"
_TIMEOUT_S = 60.0
_LONGEST_BYTES = 65_536
_BINDINGS = {
    "host": (["--with-key=host"],),
    # An update of the firmware changes the registers that systemd binds to by itself, and must not lock the node out,
    # so none of them. systemd 252 makes that and cannot open it: then the one for debugging, which stays as it is.
    "tpm2": (["--with-key=tpm2", "--tpm2-pcrs="], ["--with-key=tpm2", "--tpm2-pcrs=16"]),
}


class SystemdVault:
    """``systemd-creds encrypt`` and ``decrypt``. Blocks for as long as the TPM takes, a second or two."""

    def wrap(self, kind: str, secret: bytes) -> bytes:
        """See ``KeyVault``."""
        failed = VaultError(f"there is no way to wrap a key with {kind!r}")
        for binding in _BINDINGS.get(kind, ()):
            try:
                wrapped = _run(["encrypt", f"--name={NAME}", *binding], secret)
                if self.open(wrapped) == secret:
                    return wrapped
                failed = VaultError(f"{_PROGRAM} gave another secret than it was given")
            except VaultError as exc:
                failed = exc
        raise failed

    def open(self, wrapped: bytes) -> bytes:
        """See ``KeyVault``."""
        return _run(["decrypt", f"--name={NAME}"], wrapped)


def _run(arguments: Sequence[str], given: bytes) -> bytes:
    program = shutil.which(_PROGRAM)
    if program is None:
        raise VaultError(f"the program {_PROGRAM} is not on this machine", hint="it comes with systemd 250 or newer")
    command = [program, *arguments, "-", "-"]
    try:
        done = subprocess.run(command, input=given, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise VaultError(f"{_PROGRAM} {arguments[0]}: {exc}") from exc
    if done.returncode or not done.stdout or len(done.stdout) > _LONGEST_BYTES:
        said = " ".join(done.stderr.decode(errors="replace").split())[-400:]
        raise VaultError(f"{_PROGRAM} {arguments[0]}: {said or f'exit code {done.returncode}'}")
    return done.stdout
