"""``python -m tests.support.translations`` brings the translation catalogues up to date.


It finds what the package marks for translation, adds what is new to each
``locale/*/LC_MESSAGES/django.po`` (untranslated), takes out what is gone, and compiles. Needs no
gettext tools.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import polib
from babel.messages.extract import extract
from django.utils.translation.template import templatize

PACKAGE = Path(__file__).resolve().parents[2] / "wellos_jobs"
LOCALES = PACKAGE / "locale"
KEYWORDS = {
    "_": None,
    "gettext": None,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext": (1, 2),
    "ngettext_lazy": (1, 2),
    "pgettext": ((1, "c"), 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3),
}
Text = tuple[str, str, str]
"""Context, text and plural; '' for what there is not."""


def texts() -> dict[Text, list[str]]:
    """Return every text that is marked, with the places where it stands."""
    found: dict[Text, list[str]] = {}
    for path in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.html"), *PACKAGE.rglob("*.txt")]):
        for text in _texts_of(path):
            found.setdefault(text, []).append(str(path.relative_to(PACKAGE)))
    return found


def _texts_of(path: Path) -> Iterator[Text]:
    source = path.read_text()
    if path.suffix != ".py":
        # what it gives is read line by line as Python, and a template is indented as it likes
        source = "\n".join(line.strip() for line in templatize(source).splitlines())
    for _line, message, _comments, context in extract("python", BytesIO(source.encode()), KEYWORDS):
        singular, plural = message if isinstance(message, tuple) else (message, "")
        if singular:
            yield context or "", singular, plural


def catalogues() -> dict[str, Path]:
    """Return the catalogue of each language."""
    return {
        path.parent.parent.name: path for path in sorted(LOCALES.glob("*/LC_MESSAGES/django.po"))
    }


def key(entry: polib.POEntry) -> Text:
    return entry.msgctxt or "", entry.msgid, entry.msgid_plural or ""


def update(path: Path) -> None:
    """Let a catalogue have what is marked, and no more; compile it."""
    catalogue = polib.pofile(str(path))
    wanted = texts()
    known = {key(entry): entry for entry in catalogue}
    for gone in known.keys() - wanted.keys():
        catalogue.remove(known[gone])
    for text in wanted.keys() - known.keys():
        catalogue.append(_new_entry(text))
    for entry in catalogue:
        entry.occurrences = [(place, "") for place in sorted(set(wanted[key(entry)]))]
    catalogue.sort(key=lambda entry: (entry.occurrences[0][0], entry.msgid))
    catalogue.save(str(path))
    path.with_suffix(".mo").write_bytes(catalogue.to_binary())
    left = len(catalogue.untranslated_entries()) + len(catalogue.fuzzy_entries())
    print(f"{path.parent.parent.name}: {len(catalogue)} texts, {left} to translate")


def _new_entry(text: Text) -> polib.POEntry:
    context, singular, plural = text
    entry = polib.POEntry(msgid=singular, msgctxt=context or None)
    if plural:
        entry.msgid_plural, entry.msgstr_plural = plural, {0: "", 1: ""}
    if "%(" in singular or "%d" in singular or "%s" in singular:
        entry.flags.append("python-format")
    return entry


def main() -> int:
    for path in catalogues().values():
        update(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
