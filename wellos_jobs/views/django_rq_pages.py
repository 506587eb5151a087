"""Close django-rq's pages, which know neither permissions per action, organizations nor the audit.

Every view of django-rq is replaced, so it does not matter where a project mounts them: in the
admin, with ``include("django_rq.urls")``, or one by one. Their URLs can still be reversed.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from django.apps import apps
from django.contrib.auth.decorators import login_not_required
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    JsonResponse,
)
from django.urls import NoReverseMatch, reverse
from django.utils.crypto import constant_time_compare

from .. import conf
from ..permissions import has_permission_for_all

View = Callable[..., HttpResponse]
Function = TypeVar("Function", bound=Callable[..., Any])

COUNTS = frozenset({"stats_json", "prometheus_metrics"})
"""Views that return only counts, for monitoring systems. They stay open for ``RQ_API_TOKEN``."""


def close_django_rq_pages() -> None:
    """Replace all views of django-rq, if it is installed."""
    if not apps.is_installed("django_rq"):
        return

    from django_rq.urls import urlpatterns

    for pattern in urlpatterns:
        original = pattern.callback
        if not _is_replaced(original):
            setattr(sys.modules[original.__module__], original.__name__, _replacement(original))
        pattern.callback = getattr(sys.modules[original.__module__], original.__name__)

    if apps.is_installed("django.contrib.admin"):
        _close_in_admin()


def _close_in_admin() -> None:
    from django_rq.admin import QueueAdmin

    if not _is_replaced(QueueAdmin.get_urls):
        setattr(QueueAdmin, "get_urls", _without_model_pages(QueueAdmin.get_urls))  # noqa: B010
        setattr(QueueAdmin, "has_module_permission", _has_no_index_entry)  # noqa: B010


def _replacement(view: View) -> View:
    return _for_monitoring(view) if view.__name__ in COUNTS else _closed(view)


def _closed(view: View) -> View:
    """Return a view that redirects users of our pages there, and answers 404 to everyone else."""

    @functools.wraps(view)
    def answer(request: HttpRequest, *args: Any, **values: Any) -> HttpResponse:
        url = _our_page(request, values) if request.method in {"GET", "HEAD"} else ""
        if not url:
            raise Http404("The pages of django-rq are closed: use those of wellos_jobs")
        return HttpResponseRedirect(url)

    return _marked(answer)


def _for_monitoring(view: View) -> View:
    """Return a view that needs the token, or the permission to see all queues."""

    @functools.wraps(view)
    def answer(request: HttpRequest, token: str | None = None, **values: Any) -> HttpResponse:
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])

        if not _has_token(request, token) and not has_permission_for_all(request, "view_queues"):
            text = "Send RQ_API_TOKEN as a bearer token, or log in with the permission view_queues"
            return JsonResponse({"error": True, "description": text}, status=401)
        return view(request, **values, **({} if token is None else {"token": token}))

    return _marked(login_not_required(answer))


def _has_token(request: HttpRequest, in_path: str | None) -> bool:
    token = str(conf.django_setting("RQ_API_TOKEN") or "")
    scheme, _space, in_header = request.headers.get("Authorization", "").partition(" ")
    given = in_header.strip() if scheme == "Bearer" else in_path or ""
    return bool(token) and constant_time_compare(given, token)


def _our_page(request: HttpRequest, values: dict[str, Any]) -> str:
    """Return the URL of our page of the job or of the queues; '' if the user may not open it."""
    site = getattr(request, "current_app", None)
    try:
        if "job_id" in values and has_permission_for_all(request, "view_jobrecord"):
            name = "admin:wellos_jobs_jobrecord_change"
            return reverse(name, args=[values["job_id"]], current_app=site)
        if has_permission_for_all(request, "view_queues"):
            return reverse("admin:wellos_jobs_queues", current_app=site)
    except NoReverseMatch:
        pass  # our pages are not on this site
    return ""


def _without_model_pages(get_urls: Callable[[Any], list[Any]]) -> Callable[[Any], list[Any]]:
    """Close Django's own pages of the dashboard, too: its model has no table."""

    @functools.wraps(get_urls)
    def closed_urls(self: Any) -> list[Any]:
        patterns = get_urls(self)
        for pattern in patterns:
            if str(getattr(pattern, "name", "")).startswith("django_rq_dashboard_"):
                pattern.callback = self.admin_site.admin_view(_closed(pattern.callback))
        return patterns

    return _marked(closed_urls)


def _has_no_index_entry(self: Any, request: HttpRequest) -> bool:
    return False


def _marked(function: Function) -> Function:
    vars(function)["is_closed_by_wellos_jobs"] = True
    return function


def _is_replaced(function: Any) -> bool:
    return getattr(function, "is_closed_by_wellos_jobs", False)
