"""Fernet encryption of sensitive values. The first key encrypts, all keys decrypt.

``keys`` defaults to ``WELLOS_JOBS["ENCRYPTION_KEYS"]`` in all functions. No error text
contains a value or a key.
"""

from __future__ import annotations

import functools

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from .. import conf
from ..errors import EncryptionError

MAKE_A_KEY = (
    'python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'
)


def encrypt(text: str, keys: tuple[str, ...] | None = None) -> str:
    """Encrypt a text with the first key and return the token.

    Raises:
        EncryptionError: there are no keys, one is malformed, or the text is not valid Unicode.
    """
    try:
        plain = text.encode()
    except UnicodeEncodeError:
        raise EncryptionError(
            "A sensitive text contains a lone surrogate, which is not valid Unicode: "
            "decode the text correctly"
        ) from None
    return _all_keys(_chosen(keys)).encrypt(plain).decode("ascii")


def decrypt(token: str, keys: tuple[str, ...] | None = None) -> str:
    """Return the text of a token.

    Raises:
        EncryptionError: there are no keys, or none of them made this token.
    """
    return _open(_all_keys(_chosen(keys)), token).decode()


def needs_rotation(token: str, keys: tuple[str, ...] | None = None) -> bool:
    """Return whether a token was made with another key than the first.

    Raises:
        EncryptionError: there are no keys, or none of them made this token.
    """
    chosen = _chosen(keys)
    try:
        _open(_first_key(chosen), token)
    except EncryptionError:
        _open(_all_keys(chosen), token)
        return True
    return False


def rotate(token: str, keys: tuple[str, ...] | None = None) -> str:
    """Return the token under the first key; unchanged if it is already.

    Raises:
        EncryptionError: there are no keys, or none of them made this token.
    """
    chosen = _chosen(keys)
    return encrypt(decrypt(token, chosen), chosen) if needs_rotation(token, chosen) else token


def _chosen(keys: tuple[str, ...] | None) -> tuple[str, ...]:
    return conf.current().encryption_keys if keys is None else tuple(keys)


def _open(fernet: Fernet | MultiFernet, token: str) -> bytes:
    try:
        return fernet.decrypt(token)
    except (InvalidToken, TypeError, ValueError):
        raise EncryptionError(
            "A sensitive value cannot be decrypted: it was encrypted with a key that is not in "
            'WELLOS_JOBS["ENCRYPTION_KEYS"], or was changed since; keep old keys behind the first '
            "one until jobs_rotate_keys has run"
        ) from None


@functools.lru_cache(maxsize=16)
def _all_keys(keys: tuple[str, ...]) -> MultiFernet:
    if not keys:
        raise EncryptionError(
            'A sensitive value needs a key in WELLOS_JOBS["ENCRYPTION_KEYS"]: '
            f"make one with {MAKE_A_KEY}"
        )
    return MultiFernet([_fernet(position, key) for position, key in enumerate(keys)])


@functools.lru_cache(maxsize=16)
def _first_key(keys: tuple[str, ...]) -> Fernet | MultiFernet:
    return _all_keys(keys[:1])


def _fernet(position: int, key: str) -> Fernet:
    try:
        return Fernet(key)
    except (TypeError, ValueError):
        raise EncryptionError(
            f'WELLOS_JOBS["ENCRYPTION_KEYS"][{position}] is not a Fernet key: '
            f"make one with {MAKE_A_KEY}"
        ) from None
