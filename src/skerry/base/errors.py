"""The root of every error that Skerry raises on purpose, and the mix-ins that say how to react.

The tree (each domain draws its own branch in the head of its module):

    SkerryError
    ├── ConfigError          the operator gave something wrong; the process exits 2 at start
    ├── ProtocolError        the peer broke the format               (``wire.errors``)
    ├── ApiError             from and to ``metav1.Status``           (``api.status``)
    ├── LinkError            LinkBroken, Offline                     (``edge.link.ports``)
    ├── EngineError          a fault of the container engine         (``runtime.ports``)
    ├── StoreError           a fault of a database
    │   └── StoreDamaged     its file is no sound database
    ├── DeviceError          a fault of a device or its mapper
    └── Refused              the other side said no: token, identity, version; the process exits 3

Mix-ins: ``Retryable`` (worth another try after ``after_s``), ``Permanent`` (never worth another try).
"""

from __future__ import annotations


class SkerryError(Exception):
    """Root of all errors raised on purpose. ``hint`` says what a person can do about it."""

    hint: str = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        if hint:
            self.hint = hint
            self.add_note(hint)  # so that a traceback tells it too

    def explained(self) -> str:
        """The message and, where there is one, the remedy, in one line."""
        return f"{self}; {self.hint}" if self.hint else str(self)


class ConfigError(SkerryError):
    """The operator gave something wrong. Names file, key and value, and the remedy in ``hint``."""


class Refused(SkerryError):
    """The other side answered and said no. Trying again with the same words will not help."""


class StoreError(SkerryError):
    """A database could not be opened, read or written."""


class StoreDamaged(StoreError):
    """The file is there and is no sound database."""


class DeviceError(SkerryError):
    """A device or its mapper failed; the text goes to the device's status."""


class Retryable:
    """Mix-in: another try may succeed, not before ``after_s`` seconds."""

    after_s: float = 1.0


class Permanent:
    """Mix-in: another try with the same input cannot succeed."""
