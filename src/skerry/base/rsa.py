"""RSA keys that sign and verify as JWT's ``RS256`` (RSASSA-PKCS1-v1_5, SHA-256), by the libcrypto that ``ssl`` loads.

Not ``cryptography``: it brings a second OpenSSL, 11 MB for a process that has one. Not here: tokens.
"""

from __future__ import annotations

import ctypes
import weakref

from skerry.base import libcrypto
from skerry.base.certificates import from_pem, to_pem
from skerry.base.errors import SkerryError

_RSA = 6  # EVP_PKEY_RSA
_BITS = b"2048"
_OID = bytes.fromhex("06092a864886f70d010101")
"""rsaEncryption, DER."""


class RsaKey:
    """A private key.

    Args:
        pem: PKCS#1 or PKCS#8, without a password.

    Raises:
        X509Error, ValueError: it is no private RSA key.
        SkerryError: Python's OpenSSL lacks what is needed.
    """

    def __init__(self, pem: bytes) -> None:
        self._crypto = crypto = _functions()
        der = from_pem(pem)
        place = ctypes.c_char_p(der)
        pointer = crypto.d2i_AutoPrivateKey(None, ctypes.byref(place), len(der))
        if not pointer:
            crypto.ERR_clear_error()
            raise ValueError("not a private key in PKCS#1 or PKCS#8 form, without a password")
        self._key = ctypes.c_void_p(pointer)
        weakref.finalize(self, crypto.EVP_PKEY_free, self._key).atexit = False
        self.public_der = _der(crypto.i2d_PUBKEY, self._key)
        """The public key, SubjectPublicKeyInfo."""
        if _OID not in self.public_der[:32]:
            raise ValueError("not an RSA key")

    @staticmethod
    def generate() -> bytes:
        """A fresh key of 2048 bits, PEM (PKCS#1)."""
        crypto = _functions()
        context = ctypes.c_void_p(crypto.EVP_PKEY_CTX_new_id(_RSA, None))
        key = ctypes.c_void_p()
        try:
            _check(crypto, crypto.EVP_PKEY_keygen_init(context))
            _check(crypto, crypto.EVP_PKEY_CTX_ctrl_str(context, b"rsa_keygen_bits", _BITS))
            _check(crypto, crypto.EVP_PKEY_keygen(context, ctypes.byref(key)))
            return to_pem("RSA PRIVATE KEY", _der(crypto.i2d_PrivateKey, key))
        finally:
            crypto.EVP_PKEY_free(key)
            crypto.EVP_PKEY_CTX_free(context)

    def numbers(self) -> tuple[int, int]:
        """Modulus and exponent of the public key."""
        rest = _value(_der(self._crypto.i2d_PublicKey, self._key))[0]
        modulus, rest = _value(rest)
        exponent, _ = _value(rest)
        return int.from_bytes(modulus, "big"), int.from_bytes(exponent, "big")

    def sign(self, message: bytes) -> bytes:
        """The signature, as long as the key."""
        crypto = self._crypto
        context = ctypes.c_void_p(crypto.EVP_MD_CTX_new())
        try:
            _check(crypto, crypto.EVP_DigestSignInit(context, None, crypto.EVP_sha256(), None, self._key))
            size = ctypes.c_size_t()
            _check(crypto, crypto.EVP_DigestSign(context, None, ctypes.byref(size), message, len(message)))
            out = ctypes.create_string_buffer(size.value)
            _check(crypto, crypto.EVP_DigestSign(context, out, ctypes.byref(size), message, len(message)))
            return out.raw[: size.value]
        finally:
            crypto.EVP_MD_CTX_free(context)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether this key signed the message."""
        crypto = self._crypto
        context = ctypes.c_void_p(crypto.EVP_MD_CTX_new())
        try:
            _check(crypto, crypto.EVP_DigestVerifyInit(context, None, crypto.EVP_sha256(), None, self._key))
            answer: int = crypto.EVP_DigestVerify(context, signature, len(signature), message, len(message))
        finally:
            crypto.EVP_MD_CTX_free(context)
        if answer != 1:
            crypto.ERR_clear_error()  # else ``ssl`` takes what is left there for an error of its own
        return answer == 1


def _check(crypto: ctypes.CDLL, answer: int) -> None:
    if answer != 1:
        crypto.ERR_clear_error()
        raise SkerryError("OpenSSL refused an RSA operation")


def _der(function: ctypes._NamedFuncPointer, key: ctypes.c_void_p) -> bytes:
    size = function(key, None)
    if size <= 0:
        raise SkerryError("OpenSSL cannot write down this key")
    out = ctypes.create_string_buffer(size)
    function(key, ctypes.byref(ctypes.c_void_p(ctypes.addressof(out))))
    return out.raw


def _value(der: bytes) -> tuple[bytes, bytes]:
    """The value of the first element of DER that OpenSSL wrote, and what follows it."""
    size, at = der[1], 2
    if size & 0x80:
        at += size & 0x7F
        size = int.from_bytes(der[2:at], "big")
    return der[at : at + size], der[at + size :]


def _functions() -> ctypes.CDLL:
    pointer, number, text, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t
    start = (number, [pointer, pointer, pointer, pointer, pointer])
    write = (number, [pointer, pointer])
    forms: dict[str, libcrypto.Form] = {
        "ERR_clear_error": (None, []),
        "EVP_sha256": (pointer, []),
        "EVP_MD_CTX_new": (pointer, []),
        "EVP_MD_CTX_free": (None, [pointer]),
        "EVP_DigestSignInit": start,
        "EVP_DigestSign": (number, [pointer, pointer, pointer, text, size]),
        "EVP_DigestVerifyInit": start,
        "EVP_DigestVerify": (number, [pointer, text, size, text, size]),
        "EVP_PKEY_free": (None, [pointer]),
        "EVP_PKEY_CTX_new_id": (pointer, [number, pointer]),
        "EVP_PKEY_CTX_ctrl_str": (number, [pointer, text, text]),
        "EVP_PKEY_CTX_free": (None, [pointer]),
        "EVP_PKEY_keygen_init": (number, [pointer]),
        "EVP_PKEY_keygen": (number, [pointer, pointer]),
        "d2i_AutoPrivateKey": (pointer, [pointer, pointer, ctypes.c_long]),
        "i2d_PrivateKey": write,
        "i2d_PublicKey": write,
        "i2d_PUBKEY": write,
    }
    return libcrypto.functions(forms)
