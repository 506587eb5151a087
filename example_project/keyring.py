"""The folder ``.demo/`` and the secrets made in it on first use, readable by their owner only."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def folder() -> Path:
    """Return the folder of everything that running the example leaves behind: ``WELLOS_DEMO_DIR``
    or ``.demo``."""
    path = Path(os.environ.get("WELLOS_DEMO_DIR") or PROJECT / ".demo").resolve()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def secret(name: str, make: Callable[[], str]) -> str:
    """Return the secret ``name``, made on first use and the same from then on, in every process."""
    path = folder() / "secrets" / name
    with contextlib.suppress(FileNotFoundError):
        return path.read_text()
    path.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(
        dir=path.parent
    )  # only its owner can read what mkstemp makes
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(make())
        with contextlib.suppress(FileExistsError):  # another process was first: its secret counts
            os.link(draft, path)
    finally:
        Path(draft).unlink()
    return path.read_text()


def has_secret(name: str) -> bool:
    """Tell whether the secret ``name`` was made."""
    return (folder() / "secrets" / name).exists()
