"""The folder ``.demo/`` and its secrets, which are generated on first use."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def folder() -> Path:
    """Return the folder for all files of the example: ``WELLOS_DEMO_DIR`` or ``.demo``."""
    path = Path(os.environ.get("WELLOS_DEMO_DIR") or PROJECT / ".demo").resolve()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def secret(name: str, make: Callable[[], str]) -> str:
    """Return the secret ``name``, generated on first use and the same in every process."""
    path = folder() / "secrets" / name
    with contextlib.suppress(FileNotFoundError):
        return path.read_text()
    path.parent.mkdir(mode=0o700, exist_ok=True)

    descriptor, draft = tempfile.mkstemp(dir=path.parent)  # readable only by its owner
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(make())
        with contextlib.suppress(FileExistsError):  # another process was first: use its secret
            os.link(draft, path)
    finally:
        Path(draft).unlink()
    return path.read_text()


def has_secret(name: str) -> bool:
    """Return whether the secret ``name`` exists."""
    return (folder() / "secrets" / name).exists()
