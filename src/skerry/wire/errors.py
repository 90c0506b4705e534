"""Errors of every protocol that we speak.

ProtocolError       the peer broke the format; the shell closes that link
├── Malformed       bytes or members that cannot be read
├── TooLarge        over a stated limit
└── OutOfOrder      readable, but not at this point of the exchange
"""

from __future__ import annotations

from skerry.base.errors import SkerryError


class ProtocolError(SkerryError):
    """The peer broke the format."""


class Malformed(ProtocolError):
    """Bytes or members that cannot be read."""


class TooLarge(ProtocolError):
    """Over a stated limit."""


class OutOfOrder(ProtocolError):
    """Readable, but not at this point of the exchange."""
