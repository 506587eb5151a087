"""Arguments and results as JSON: encode, decode, encrypt, mask; and what is stored of a failure.

Pure: no Redis, no database. Imports only ``conf`` and ``errors``. Users need nothing from here.
"""

from __future__ import annotations

from .codec import (
    canonical,
    decode,
    decode_result,
    encode,
    encode_result,
    mask,
    mask_value,
    redact,
    rotate,
    secrets_in,
    to_json,
)

__all__ = [
    "canonical",
    "decode",
    "decode_result",
    "encode",
    "encode_result",
    "mask",
    "mask_value",
    "redact",
    "rotate",
    "secrets_in",
    "to_json",
]
