"""The libcrypto that ``ssl`` has loaded already, called through ctypes: no library is loaded for what is used of it."""

from __future__ import annotations

import _ssl
import ctypes
from collections.abc import Mapping, Sequence

from skerry.base.errors import SkerryError

Form = tuple[object, Sequence[object]]
"""What a function answers, and its arguments; as ctypes has them."""


def functions(forms: Mapping[str, Form]) -> ctypes.CDLL:
    """The library with these functions; the loader finds it behind Python's own ``_ssl``, whatever that is linked to.

    Raises:
        SkerryError: one of them is missing.
    """
    crypto = ctypes.CDLL(getattr(_ssl, "__file__", None))
    try:
        for name, (answer, arguments) in forms.items():
            function = getattr(crypto, name)
            function.restype, function.argtypes = answer, list(arguments)
    except AttributeError as exc:
        raise SkerryError(
            f"Python's OpenSSL has no {exc}", hint="use a Python that is linked to OpenSSL 1.1.1 or later"
        ) from exc
    return crypto
