"""django-rq's own pages: still there under their URLs, but no second entry beside ours on the index of the admin."""

from __future__ import annotations

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest


def take_their_place() -> None:
    """Register django-rq's pages again without their entry, if django-rq has registered them on the default site."""
    if not apps.is_installed("django_rq"):
        return
    from django_rq.admin import QueueAdmin  # registers itself on import
    from django_rq.models import Dashboard

    class RQPages(QueueAdmin):
        """The pages, without an entry of their own."""

        def has_module_permission(self, request: HttpRequest) -> bool:
            return False

    if admin.site.is_registered(Dashboard):
        admin.site.unregister(Dashboard)
        admin.site.register(Dashboard, RQPages)
