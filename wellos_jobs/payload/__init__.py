"""Arguments and results as JSON: encode, decode, encrypt, mask; and what is stored of a failure.

Pure: no Redis, no database. Imports only ``conf`` and ``errors``. Users need nothing from here.
"""

from __future__ import annotations

from .codec import (
    Sealed,
    canonical,
    check_typed,
    decode,
    decode_result,
    encode,
    encode_result,
    is_sealed,
    mask,
    mask_value,
    redact,
    rotate,
    secrets_in,
    to_json,
    unseal,
)

__all__ = [
    "Sealed",
    "canonical",
    "check_typed",
    "decode",
    "decode_result",
    "encode",
    "encode_result",
    "is_sealed",
    "mask",
    "mask_value",
    "redact",
    "rotate",
    "secrets_in",
    "to_json",
    "unseal",
]
