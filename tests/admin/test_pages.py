"""Every page in a real browser: light, dark, phone; strict CSP, clean console, axe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import URLPattern, get_resolver

from wellos_jobs.models import JobRecord
from wellos_jobs.states import JobState

from ..support import admin_pages
from ..support.admin_pages import ACTS, FILES, PAGES, REFUSED, AdminPage
from ..support.browser import axe
from ..support.shared_site import DESK, _empty_redis, filled, sheet, transactional_db  # fixtures

PHONE = {"width": 360, "height": 800}
OF_DJANGO = ("label-title-only",)
"""The rule that the search field of Django's lists breaks."""
FRAME_OF_DJANGO = (*OF_DJANGO, "link-in-text-block")
"""And the one that Django's breadcrumbs break, on pages that are all Django's."""


@pytest.mark.browser
@pytest.mark.parametrize("entry", PAGES, ids=str)
def test_each_page_in_the_browser(sheet: Any, entry: AdminPage) -> None:
    del sheet.complaints[:]
    sheet.emulate_media(color_scheme="light")
    response = sheet.goto(entry.url())
    assert response.status == 200
    assert "default-src 'self'" in response.headers["content-security-policy"]
    axe(sheet, without=FRAME_OF_DJANGO if entry.is_django_s else OF_DJANGO)
    sheet.emulate_media(color_scheme="dark")
    axe(sheet, only=("color-contrast",))
    sheet.set_viewport_size(PHONE)
    wide = sheet.evaluate("document.documentElement.scrollWidth")
    sheet.set_viewport_size(DESK)
    assert wide <= PHONE["width"], f"{sheet.url} is {wide} px wide on a phone"
    assert not sheet.complaints


def test_the_table_has_a_job_in_each_state(filled: Any) -> None:
    found = set(JobRecord.objects.values_list("state", flat=True))
    assert found == set(JobState)
    assert {page.label for page in PAGES if page.name == "jobrecord_change"} == {
        *JobState,
        "foreign",
    }


def test_the_table_has_every_page() -> None:
    named = {page.name for page in (*PAGES, *FILES)} | ACTS | REFUSED
    registered = set(_names(get_resolver().url_patterns))
    assert registered - named == set(), "what is registered and not in tests/admin_pages.py"
    assert named - registered - {"app_list"} == set(), (
        "what is in tests/admin_pages.py and not registered"
    )


def _names(patterns: list[Any]) -> Iterator[str]:
    for pattern in patterns:
        if not isinstance(pattern, URLPattern):
            yield from _names(pattern.url_patterns)
        elif (pattern.name or "").startswith(admin_pages.PREFIX):
            yield str(pattern.name).removeprefix(admin_pages.PREFIX)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_rows_are_neither_added_nor_deleted(filled: Any, client: Any, name: str) -> None:
    model = name.rpartition("_")[0]
    change = next(page for page in PAGES if page.name == f"{model}_change")
    arguments = () if name.endswith("_add") else change.arguments
    client.force_login(filled)
    assert client.get(AdminPage(name, arguments or tuple).url()).status_code == 403
