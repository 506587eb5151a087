"""Each language the package comes in is complete, and says what the English text says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import django
import polib
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from wellos_jobs.models import AuditEntry
from wellos_jobs.states import AuditAction

from ..support import translations

LANGUAGES = sorted(translations.catalogues())
UPDATE = "run `python -m tests.support.translations`, then translate what it has added"
PLACEHOLDERS = re.compile(r"%%|%\(\w+\)[#0-9.]*[a-z]|%[a-z]|\{\w*\}|<[^>]+>|`[^`]+`")

DIFFERENT_ON_PURPOSE = {"No, take me back", "Show all", "Views"}
"""Texts of Django whose translation here also fits Django's pages."""


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


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_of_django_gets_another_meaning(language: str) -> None:
    """A project has one catalogue: a text without context also replaces Django's, e.g. "Run"."""
    sources = _texts_of_django("en")
    theirs = _texts_of_django(language)
    ours = polib.pofile(str(translations.catalogues()[language]))

    for entry in ours:
        key = (entry.msgctxt, entry.msgid)
        if key in sources and entry.msgid not in DIFFERENT_ON_PURPOSE:
            assert entry.msgstr.casefold() == theirs.get(key, "").casefold(), entry.msgid


def _texts_of_django(language: str) -> dict[tuple[str | None, str], str]:
    folder = Path(django.__file__).parent
    return {
        (entry.msgctxt, entry.msgid): entry.msgstr
        for path in folder.rglob(f"locale/{language}/LC_MESSAGES/django.po")
        for entry in polib.pofile(str(path))
    }


@pytest.mark.django_db(transaction=True)
def test_the_admin_in_german(settings: Any) -> None:
    settings.LANGUAGE_CODE = "de"
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    shown = client.get("/admin/wellos_jobs/queues/").content.decode()
    assert "Übersicht" in shown
    assert "Längste Wartezeit" in shown
    assert "Oldest wait" not in shown


@pytest.mark.django_db(transaction=True)
def test_the_audit_log_in_german(settings: Any) -> None:
    settings.LANGUAGE_CODE = "de"
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    AuditEntry.objects.create(
        at=timezone.now(), action=AuditAction.PAUSED, target_type="queue", target_id="email"
    )

    shown = client.get("/admin/wellos_jobs/auditentry/").content.decode()
    assert ">pausiert<" in shown
    assert "Warteschlange email" in shown
