"""Phrases that read as translated, and second spellings of one thing, do not come back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = {".py", ".lua", ".html", ".js", ".css", ".md"}

PHRASES = {
    r"cannot be meant": "invalid",
    r"whoever": "the user who",
    r"nobody|no-one": "no user, no one",
    r"for ever\b": "forever",
    r"an act of": "an operator action",
    r"(?<!there )is no job\b": "is not a job",
    r"so many": "a number",
    r"is told|tell whether": "return whether, log, show",
    r"(put|puts) aside": "set aside",
    r"Redis (is|was) (away|down|unreachable)|Redis cannot be reached": "Redis is unavailable",
    r"cancelled|cancelling": "canceled, canceling",
    r"colour|behaviour|synchronis": "color, behavior, synchronize",
}


def texts() -> Iterator[tuple[Path, str]]:
    for folder in (ROOT / "wellos_jobs", ROOT / "docs"):
        for path in sorted(folder.rglob("*")):
            if path.suffix in SUFFIXES and "locale" not in path.parts:
                text = path.read_text(encoding="utf-8")
                yield path.relative_to(ROOT), re.sub(r"\s+(?:(?:--|#) )?", " ", text)


def test_no_phrase_reads_as_translated() -> None:
    found = [
        f"{path}: {match[0]!r} -> {better}"
        for path, text in texts()
        for phrase, better in PHRASES.items()
        for match in re.finditer(rf"\b(?:{phrase})", text, re.IGNORECASE)
    ]
    assert not found, "\n".join(found)
