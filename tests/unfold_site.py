"""URLs of a project whose admin is django-unfold: our classes, mixed with unfold's, registered anew.

``python -m tests.unfold_site`` asks for each page as a superuser and says how it answered.
"""

from __future__ import annotations

import sys
from typing import Any

import django

if __name__ == "__main__":
    django.setup()

from django.conf import settings
from django.contrib import admin as django_admin
from django.urls import NoReverseMatch, include, path, reverse
from unfold.admin import ModelAdmin

from wellos_jobs import admin, models
from wellos_jobs.admin.pages import ENTRIES

NAVIGATION = "wj-navigation"

if settings.ROOT_URLCONF == "tests.unfold_site":  # in a process of its own
    for name in models.__all__:
        model, ours = getattr(models, name), getattr(admin, f"{name}Admin", None)
        if ours is not None:
            django_admin.site.unregister(model)
            django_admin.site.register(model, type(f"Unfold{name}", (ours, ModelAdmin), {}))
urlpatterns = [path("admin/", django_admin.site.urls), path("jobs/", include("wellos_jobs.urls"))]


def addresses() -> list[str]:
    """Return every page of the navigation, and a page of each kind of row there is."""
    found = []
    for name, _text, _permission in ENTRIES:
        try:
            found.append(reverse(f"admin:{name}"))
        except NoReverseMatch:
            continue
    for model in (models.JobRecord, models.DeadLetter, models.AuditEntry):
        found += [
            reverse(f"admin:{model._meta.label_lower.replace('.', '_')}_change", args=[model.objects.all()[0].pk])
        ]
    letter = models.DeadLetter.objects.all()[0]
    found.append(reverse("admin:wellos_jobs_fault", args=[letter.fingerprint]))
    found.append(reverse("admin:wellos_jobs_deadletter_act", args=[letter.pk, "edit"]))
    return found


def main() -> int:
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client()
    client.force_login(User.objects.get(username="root"))
    for url in addresses():
        response = client.get(url)
        content: Any = response.content.decode()
        is_unfold, has_ours = "unfold/css/styles.css" in content, NAVIGATION in content
        print(response.status_code, "unfold" if is_unfold else "plain", "ours" if has_ours else "bare", url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
