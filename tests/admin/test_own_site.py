"""Every page on a custom admin site: no link leads to the default site."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib import admin as django_admin
from django.test import Client
from django.urls import include, path

from wellos_jobs import admin, models

from ..support import admin_pages
from ..support.admin_pages import FILES, PAGES
from ..support.users import client_of

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.admin.test_own_site"),
]

back_office = django_admin.AdminSite("backoffice")
for name in models.__all__:
    if ours := getattr(admin, f"{name}Admin", None):
        back_office.register(getattr(models, name), ours)
urlpatterns = [
    path("staff/area/", back_office.urls),
    path("admin/", django_admin.site.urls),
    path("jobs/", include("wellos_jobs.urls")),
]
AWAY = re.compile(r"""(?:href|action|data-[\w-]+|hx-\w+)="(/admin/[^"]*)""")
"""A URL on the other site."""


def test_all_links_of_all_pages_stay_on_the_site(no_notices: None) -> None:
    with admin_pages.report_kinds():
        client: Client = client_of(admin_pages.fill())
        faults, links = [], 0
        for page in (*PAGES, *FILES):
            url = page.url("backoffice")
            assert url.startswith("/staff/area/"), page
            response: Any = client.get(url)
            content = (
                b"".join(response.streaming_content) if response.streaming else response.content
            )
            links += content.count(b'href="/staff/area/')
            if response.status_code != 200 or (away := AWAY.findall(content.decode())):
                faults.append(f"{page}: {response.status_code} {away[:3]}")
    assert not faults, "\n".join(faults)
    assert links > 1000


def test_each_class_of_the_app_is_exported() -> None:
    registered = {
        type(found).__name__
        for model, found in django_admin.site._registry.items()
        if _is_ours(model)
    }
    assert registered == set(admin.__all__)


def _is_ours(model: Any) -> bool:
    return model._meta.app_label == "wellos_jobs"
