"""Each language the package comes in is complete, and says what the English text says."""

from __future__ import annotations

import re
from typing import Any

import polib
import pytest
from django.contrib.auth.models import User
from django.test import Client

from ..support import translations

LANGUAGES = sorted(translations.catalogues())
UPDATE = "run `python -m tests.support.translations`, then translate what it has added"
PLACEHOLDERS = re.compile(r"%%|%\(\w+\)[#0-9.]*[a-z]|%[a-z]|\{\w*\}|<[^>]+>|`[^`]+`")


def test_there_is_one() -> None:
    assert LANGUAGES == ["de"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_translated(language: str) -> None:
    texts = polib.pofile(str(translations.catalogues()[language]))
    assert {translations.key(entry) for entry in texts} == set(translations.texts()), UPDATE
    assert [entry.msgid for entry in texts if not entry.translated() or entry.fuzzy] == [], UPDATE


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_filled_in_stays_the_same(language: str) -> None:
    for entry in polib.pofile(str(translations.catalogues()[language])):
        for said in entry.msgstr_plural.values() if entry.msgid_plural else [entry.msgstr]:
            original = entry.msgid_plural or entry.msgid
            assert sorted(PLACEHOLDERS.findall(said)) == sorted(PLACEHOLDERS.findall(original)), (
                entry.msgid
            )
            assert said[:1].isspace() == original[:1].isspace()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_compiled_catalogue_is_up_to_date(language: str) -> None:
    path = translations.catalogues()[language]
    compiled = polib.mofile(str(path.with_suffix(".mo")))
    source = polib.pofile(str(path))
    assert {(e.msgctxt, e.msgid): e.msgstr or e.msgstr_plural for e in compiled} == {
        (e.msgctxt, e.msgid): e.msgstr or e.msgstr_plural for e in source
    }, UPDATE


@pytest.mark.django_db(transaction=True)
def test_the_admin_in_german(settings: Any) -> None:
    settings.LANGUAGE_CODE = "de"
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    shown = client.get("/admin/wellos_jobs/queues/").content.decode()
    assert "Übersicht" in shown
    assert "Längste Wartezeit" in shown
    assert "Oldest wait" not in shown
