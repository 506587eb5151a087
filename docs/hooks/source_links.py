"""Links to source files are for readers of the repository: the built site shows them as code."""

from __future__ import annotations

import re
from typing import Any

SOURCE = re.compile(r"\[([^\]]+)\]\(\.\./(wellos_jobs/[^)]+)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each link to a file of the package by the file's path."""
    return SOURCE.sub(r"`\2`", markdown)
