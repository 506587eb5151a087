"""The code that a job needs: its name, the version of its data, the names of its arguments."""

from __future__ import annotations

import functools
import hashlib


@functools.lru_cache(maxsize=4096)
def code_of(name: str, version: int, arguments: tuple[str, ...]) -> str:
    """Return a text that is the same for jobs that the same workers know. It contains no bar."""
    names = "\x1f".join(sorted(arguments)).encode()
    digest = hashlib.blake2b(names, digest_size=6).hexdigest()
    return f"{name}@{version}:{digest}"
