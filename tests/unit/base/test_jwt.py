"""Tokens of our own key, beside PyJWT and cryptography as judges."""

from __future__ import annotations

import base64
import hmac
import ssl
import time
from pathlib import Path
from typing import Any

import jwt as judge
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from skerry.base import json
from skerry.base.errors import ConfigError
from skerry.base.foreign_jwt import KeySet
from skerry.base.jwt import BadToken, SigningKey, issuer_of

NOW = int(time.time())
CLAIMS = {"iss": "us", "sub": "a", "aud": ["x", "y"], "iat": NOW, "nbf": NOW, "exp": NOW + 86_400}


@pytest.fixture(scope="module")
def private() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def key(private: rsa.RSAPrivateKey) -> SigningKey:
    return SigningKey(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def verify(key: SigningKey, token: str) -> dict[str, Any]:
    return key.verify(token, issuer="us", audiences=["y", "z"])


def test_what_we_sign_others_verify(key: SigningKey, private: rsa.RSAPrivateKey) -> None:
    token = key.sign(CLAIMS)
    assert judge.decode(token, private.public_key(), algorithms=["RS256"], audience="x", issuer="us") == CLAIMS
    assert judge.get_unverified_header(token) == {"alg": "RS256", "typ": "JWT", "kid": key.key_id}
    published = KeySet(key.jwks())
    assert published.verify(token, issuer="us", audiences=["y"], algorithms=["RS256"]) == CLAIMS
    assert verify(key, token) == CLAIMS


def test_what_others_sign_with_the_key_we_verify(key: SigningKey, private: rsa.RSAPrivateKey) -> None:
    assert verify(key, judge.encode({**CLAIMS, "aud": "z"}, private, algorithm="RS256"))["aud"] == "z"


def test_the_key_is_named_by_its_hash_and_published(key: SigningKey, private: rsa.RSAPrivateKey) -> None:
    [published] = key.jwks()["keys"]
    numbers = judge.PyJWK(published).key.public_numbers()
    assert numbers == private.public_key().public_numbers()
    der = private.public_key().public_bytes(Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert key._key.public_der == der


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"exp": NOW - 1}, "expired"),
        ({"exp": None}, "lacks exp"),
        ({"exp": "soon"}, "no number"),
        ({"exp": True}, "no number"),
        ({"nbf": NOW + 86_400}, "not valid yet"),
        ({"iat": NOW + 86_400}, "not valid yet"),
        ({"iss": "them"}, "another issuer"),
        ({"iss": ["us"]}, "another issuer"),
        ({"sub": None}, "lacks sub"),
        ({"sub": 7}, "of nobody"),
        ({"aud": "w"}, "another audience"),
        ({"aud": []}, "another audience"),
        ({"aud": {"y": 1}}, "another audience"),
        ({"aud": [["y"]]}, "another audience"),
    ],
)
def test_claims_that_are_not_good(key: SigningKey, change: dict[str, Any], why: str) -> None:
    with pytest.raises(BadToken, match=why):
        verify(key, key.sign(CLAIMS | change))


def test_a_token_without_an_end_needs_no_audience(key: SigningKey) -> None:
    assert key.verify_unbounded(key.sign({"iss": "us", "sub": "a"}), issuer="us")["sub"] == "a"
    with pytest.raises(BadToken, match="expired"):
        key.verify_unbounded(key.sign({"iss": "us", "sub": "a", "exp": NOW - 1}), issuer="us")
    with pytest.raises(BadToken):
        verify(key, key.sign({"iss": "us", "sub": "a"}))


def test_nothing_of_a_token_can_be_changed(key: SigningKey) -> None:
    head, claims, signature = key.sign(CLAIMS).split(".")
    more = text(json.dumps(CLAIMS | {"sub": "admin"}))
    other = SigningKey(rsa_pem(2048)).sign(CLAIMS).split(".")
    none = text(b'{"alg":"none","typ":"JWT"}')
    symmetric = text(b'{"alg":"HS256","typ":"JWT"}')
    by_public_key = hmac.digest(key._key.public_der, f"{symmetric}.{claims}".encode(), "sha256")
    for parts in (
        (head, claims, other[2]), (none, claims, ""), (none, claims, signature),
        (symmetric, claims, text(by_public_key)), (head, more, signature),
        (head, claims, signature[:-4]), (head, claims, ""), (head, claims, signature + "AAAA"),
        (text(b'{"alg":"RS256","crit":["b64"],"b64":false}'), claims, signature), (head, claims, signature + "="),
        (head, claims), (head, claims, signature, ""), (head + "\n", claims, signature),
        (head, claims + " ", signature),
    ):  # fmt: skip
        with pytest.raises(BadToken):
            verify(key, ".".join(parts))


@pytest.mark.parametrize("token", ["", "a.b", "..", "a.b.c", "é.é.é", "bnVsbA.bnVsbA.AA", "W10.W10.AA", "x" * 100_000])
def test_what_is_no_token(key: SigningKey, token: str) -> None:
    with pytest.raises(BadToken):
        verify(key, token)
    assert issuer_of(token) == ""


def test_the_issuer_is_read_before_the_token_is_verified(key: SigningKey) -> None:
    assert issuer_of(key.sign(CLAIMS)) == "us"


def test_a_failed_verification_leaves_tls_alone(key: SigningKey) -> None:
    """OpenSSL keeps errors for each thread, and ``ssl`` looks there: nothing may stay."""
    with pytest.raises(BadToken):
        verify(key, SigningKey(rsa_pem(2048)).sign(CLAIMS))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="a")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()


def rsa_pem(bits: int, form: PrivateFormat = PrivateFormat.TraditionalOpenSSL) -> bytes:
    made = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    return made.private_bytes(Encoding.PEM, form, NoEncryption())


def test_a_key_is_made_once_and_read_in_both_forms(tmp_path: Path) -> None:
    file = tmp_path / "sa.key"
    made = SigningKey.load_or_make(file)
    assert file.stat().st_mode & 0o777 == 0o600
    loaded = serialization.load_pem_private_key(file.read_bytes(), password=None)
    assert isinstance(loaded, rsa.RSAPrivateKey)
    assert (loaded.key_size, loaded.public_key().public_numbers().e) == (2048, 65537)
    assert SigningKey.load_or_make(file).key_id == made.key_id
    file.write_bytes(loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert SigningKey.load_or_make(file).verify(made.sign(CLAIMS), issuer="us", audiences=["x"]) == CLAIMS


def test_a_file_that_is_no_rsa_key_is_named(tmp_path: Path, private: rsa.RSAPrivateKey) -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    for pem in (
        b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")),
        private.public_key().public_bytes(Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    ):  # fmt: skip
        (tmp_path / "sa.key").write_bytes(pem)
        with pytest.raises(ConfigError, match=r"sa\.key"):
            SigningKey.load_or_make(tmp_path / "sa.key")
