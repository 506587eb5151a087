"""Hide django-rq's entry on the admin index; its pages stay available under their URLs."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest


def hide_index_entry() -> None:
    """Remove django-rq's entry from the index of the default site, if it is registered there."""
    if not apps.is_installed("django_rq"):
        return

    # The import registers the pages, which would otherwise happen later.
    from django_rq.admin import QueueAdmin
    from django_rq.models import Dashboard

    pages: Any = (
        admin.site.get_model_admin(Dashboard) if admin.site.is_registered(Dashboard) else None
    )
    if isinstance(pages, QueueAdmin):
        # On the registered instance, not on django-rq's class.
        setattr(pages, "has_module_permission", _no_entry)  # noqa: B010


def _no_entry(request: HttpRequest) -> bool:
    return False
