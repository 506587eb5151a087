"""django-rq's own pages: still there under their URLs, but no second entry beside ours on the index of the admin."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest


def hide_index_entry() -> None:
    """Take the entry of django-rq's pages off the index, if django-rq has registered them on the default site."""
    if not apps.is_installed("django_rq"):
        return
    from django_rq.admin import (
        QueueAdmin,
    )  # the import registers the pages, which else would happen after this
    from django_rq.models import Dashboard

    pages: Any = (
        admin.site.get_model_admin(Dashboard) if admin.site.is_registered(Dashboard) else None
    )
    if isinstance(pages, QueueAdmin):
        setattr(pages, "has_module_permission", _no_entry)  # noqa: B010  # one registered object, not their class


def _no_entry(request: HttpRequest) -> bool:
    return False
