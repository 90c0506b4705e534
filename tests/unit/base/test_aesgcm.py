import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from skerry.base.aesgcm import AesGcm, NotAuthentic

KEY = bytes(range(32))


@pytest.mark.parametrize("message", [b"", b"x", b"secret" * 5000])
@pytest.mark.parametrize("name", [b"", b"default/secret/a"])
def test_another_implementation_reads_and_writes_the_same(message: bytes, name: bytes) -> None:
    ours, theirs = AesGcm(KEY), AESGCM(KEY)
    sealed = ours.seal(message, name)
    assert theirs.decrypt(sealed[:12], sealed[12:], name) == message
    assert ours.open(bytes(12) + theirs.encrypt(bytes(12), message, name), name) == message


def test_a_change_of_any_byte_another_name_and_another_key_are_noticed() -> None:
    cipher = AesGcm(KEY)
    sealed = cipher.seal(b"message", b"name")
    for at in range(len(sealed)):
        with pytest.raises(NotAuthentic):
            cipher.open(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], b"name")
    for wrong in (
        lambda: cipher.open(sealed, b"eman"),
        lambda: AesGcm(bytes(32)).open(sealed, b"name"),
        lambda: cipher.open(b"short", b""),
    ):
        with pytest.raises(NotAuthentic):
            wrong()


def test_a_nonce_is_never_used_twice() -> None:
    cipher = AesGcm(KEY)
    assert len({cipher.seal(b"same", b"name") for _ in range(100)}) == 100


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        AesGcm(bytes(16))
