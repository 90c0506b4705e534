"""AES-256-GCM by the libcrypto that ``ssl`` has loaded already; nothing else is loaded for it.

One key, a random nonce for each message. Sealed form: 12 bytes of nonce, the ciphertext, 16 bytes of tag. Not here:
where keys come from.
"""

from __future__ import annotations

import ctypes
import os

from skerry.base import libcrypto
from skerry.base.errors import SkerryError

KEY_BYTES = 32
_NONCE_BYTES, _TAG_BYTES = 12, 16
_SET_TAG, _GET_TAG = 0x11, 0x10  # EVP_CTRL_AEAD_SET_TAG, EVP_CTRL_AEAD_GET_TAG


class NotAuthentic(SkerryError):
    """The bytes were changed, belong to another name, or were sealed with another key."""


class AesGcm:
    """Seals and opens small messages with one key.

    Args:
        key: 32 bytes.

    Raises:
        SkerryError: Python's OpenSSL offers no AES-256-GCM.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"the key has {len(key)} bytes, not {KEY_BYTES}")
        self._key = key
        self._crypto = _functions()
        self._cipher = self._crypto.EVP_aes_256_gcm()

    def seal(self, message: bytes, name: bytes) -> bytes:
        """Encrypt ``message``; opening it needs the same ``name``."""
        nonce = os.urandom(_NONCE_BYTES)
        with _Context(self._crypto) as context:
            self._check(self._crypto.EVP_EncryptInit_ex(context, self._cipher, None, self._key, nonce))
            self._update(self._crypto.EVP_EncryptUpdate, context, None, name)
            out = ctypes.create_string_buffer(len(message) + _TAG_BYTES)
            size = self._update(self._crypto.EVP_EncryptUpdate, context, out, message)
            self._check(self._crypto.EVP_EncryptFinal_ex(context, None, ctypes.byref(ctypes.c_int())))
            tag = ctypes.create_string_buffer(_TAG_BYTES)
            self._check(self._crypto.EVP_CIPHER_CTX_ctrl(context, _GET_TAG, _TAG_BYTES, tag))
        return nonce + out.raw[:size] + tag.raw

    def open(self, sealed: bytes, name: bytes) -> bytes:
        """The message again.

        Raises:
            NotAuthentic: changed, of another name, or of another key.
        """
        if len(sealed) < _NONCE_BYTES + _TAG_BYTES:
            raise NotAuthentic("the sealed message is too short")
        nonce, body, tag = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:-_TAG_BYTES], sealed[-_TAG_BYTES:]
        with _Context(self._crypto) as context:
            self._check(self._crypto.EVP_DecryptInit_ex(context, self._cipher, None, self._key, nonce))
            self._update(self._crypto.EVP_DecryptUpdate, context, None, name)
            out = ctypes.create_string_buffer(len(body) + _TAG_BYTES)
            size = self._update(self._crypto.EVP_DecryptUpdate, context, out, body)
            self._check(self._crypto.EVP_CIPHER_CTX_ctrl(context, _SET_TAG, _TAG_BYTES, ctypes.c_char_p(tag)))
            if self._crypto.EVP_DecryptFinal_ex(context, None, ctypes.byref(ctypes.c_int())) != 1:
                raise NotAuthentic("the sealed message is not authentic")
        return out.raw[:size]

    def _update(self, function: ctypes._NamedFuncPointer, context: ctypes.c_void_p, out: object, data: bytes) -> int:
        if not data:
            return 0
        size = ctypes.c_int()
        self._check(function(context, out, ctypes.byref(size), data, len(data)))
        return size.value

    def _check(self, answer: int) -> None:
        if answer != 1:
            raise SkerryError("OpenSSL refused an AES-256-GCM operation")


class _Context:
    """An EVP_CIPHER_CTX, freed (and wiped) at the end."""

    def __init__(self, crypto: ctypes.CDLL) -> None:
        self._crypto = crypto
        self._context = ctypes.c_void_p(crypto.EVP_CIPHER_CTX_new())

    def __enter__(self) -> ctypes.c_void_p:
        return self._context

    def __exit__(self, *_: object) -> None:
        self._crypto.EVP_CIPHER_CTX_free(self._context)


def _functions() -> ctypes.CDLL:
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    ways = ("Encrypt", "Decrypt")
    forms: dict[str, libcrypto.Form] = {
        "EVP_aes_256_gcm": (pointer, []),
        "EVP_CIPHER_CTX_new": (pointer, []),
        "EVP_CIPHER_CTX_free": (None, [pointer]),
        "EVP_CIPHER_CTX_ctrl": (number, [pointer, number, number, pointer]),
        **{f"EVP_{way}Init_ex": (number, [pointer, pointer, pointer, text, text]) for way in ways},
        **{f"EVP_{way}Update": (number, [pointer, pointer, pointer, text, number]) for way in ways},
        **{f"EVP_{way}Final_ex": (number, [pointer, pointer, pointer]) for way in ways},
    }
    return libcrypto.functions(forms)
