"""URLs of a project whose admin is django-unfold: our classes, mixed with unfold's, registered
anew.

``python -m tests.support.unfold_site`` asks for each page as a superuser and says how it answered.
"""

from __future__ import annotations

import sys
from typing import Any

import django

if __name__ == "__main__":
    django.setup()

from django.conf import settings
from django.contrib import admin as django_admin
from django.urls import include, path
from unfold.admin import ModelAdmin

from wellos_jobs import admin, models

NAVIGATION = "wj-navigation"

if settings.ROOT_URLCONF == "tests.support.unfold_site":  # in a process of its own
    for name in models.__all__:
        model, ours = getattr(models, name), getattr(admin, f"{name}Admin", None)
        if ours is not None:
            django_admin.site.unregister(model)
            django_admin.site.register(model, type(f"Unfold{name}", (ours, ModelAdmin), {}))
urlpatterns = [path("admin/", django_admin.site.urls), path("jobs/", include("wellos_jobs.urls"))]


def main() -> int:
    from django.contrib.auth.models import User
    from django.test import Client

    from .admin_pages import PAGES

    client = Client()
    client.force_login(User.objects.get(username="root"))
    for page in PAGES:
        url = page.url()
        response = client.get(url)
        content: Any = response.content.decode()
        is_unfold, has_ours = "unfold/css/styles.css" in content, NAVIGATION in content
        has_ours |= page.is_django_s or page.name.endswith(("_add", "_delete", "_change"))
        print(
            response.status_code,
            "unfold" if is_unfold else "plain",
            "ours" if has_ours else "bare",
            url,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
