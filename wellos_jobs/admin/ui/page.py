"""Base class for admin pages that are not change lists, and the navigation between all pages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from django.contrib import admin
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django_htmx.middleware import HtmxDetails

from . import organization_scope
from .safe_list import clean_query

Text = str | Promise

ENTRIES: tuple[tuple[str, Text, str], ...] = (
    ("wellos_jobs_queues", _("Overview"), "view_queues"),
    ("wellos_jobs_jobrecord_changelist", _("Jobs"), "view_jobrecord"),
    ("wellos_jobs_jobattempt_changelist", _("Attempts"), "view_jobattempt"),
    ("wellos_jobs_faults", _("Dead letters"), "view_deadletter"),
    ("wellos_jobs_schedule_changelist", _("Schedules"), "view_schedule"),
    ("wellos_jobs_batch_changelist", _("Batches"), "view_batch"),
    ("wellos_jobs_flows", _("Flows"), "view_jobrecord"),
    ("wellos_jobs_limits", _("Limits and breakers"), "view_queues"),
    ("wellos_jobs_workers", _("Workers"), "view_queues"),
    ("wellos_jobs_statistics", _("Statistics"), "view_queues"),
    ("wellos_jobs_bulkoperation_changelist", _("Bulk operations"), "view_bulkoperation"),
    ("wellos_jobs_auditentry_changelist", _("Audit"), "view_auditentry"),
    ("wellos_jobs_erasure", _("Erase a person"), "erase_person"),
)
"""The navigation: URL name, label and required permission of this app."""
FIRST_OF_SECTION = "faults/"
"""URL suffix of the page whose entry is also current on its sibling pages."""


@dataclass(frozen=True)
class Entry:
    """A link of the navigation."""

    url: str
    text: Text
    is_here: bool


def navigation(request: HttpRequest) -> list[Entry]:
    """Return links to the pages that this admin site has and the user may open."""
    site_name = getattr(request, "current_app", None)
    found = []
    for name, text, permission in ENTRIES:
        if not request.user.has_perm(f"wellos_jobs.{permission}"):
            continue
        try:
            found.append((reverse(f"admin:{name}", current_app=site_name), text))
        except NoReverseMatch:
            continue

    parents = (
        url for url, _text in found if request.path.startswith(url.removesuffix(FIRST_OF_SECTION))
    )
    here = max(parents, key=len, default="")
    return [Entry(url, text, is_here=url == here) for url, text in found]


class Page(ABC):
    """A page below ``.../wellos_jobs/queues/``; its main part can refresh in place with htmx.

    Subclasses set the attributes and implement ``context``. A POST with ``action`` calls
    ``do_<action>``, which must check its permission with ``require``.
    """

    name: ClassVar[str]
    """The URL name is ``admin:wellos_jobs_<name>``."""
    path: ClassVar[str]
    """The route below ``queues/``; its converters' values are passed to all methods."""
    title: ClassVar[Text]
    permission: ClassVar[str] = "wellos_jobs.view_queues"
    template: ClassVar[str]
    """The template of the part that refreshes."""
    live: ClassVar[bool] = True
    is_organization_scoped: ClassVar[bool] = False
    """Whether staff limited to some organizations may open it; it must then filter all it shows."""
    styles: ClassVar[tuple[str, ...]] = ()
    """Additional style sheets, as static file paths."""

    def __init__(self, site_admin: admin.ModelAdmin[Any]) -> None:
        self.site_admin = site_admin
        self.site = site_admin.admin_site

    @abstractmethod
    def context(self, request: HttpRequest, **values: Any) -> dict[str, Any]:
        """Return the context of the template."""

    def heading(self, request: HttpRequest, **values: Any) -> Text:
        """Return the title of the page."""
        return self.title

    # --- serving ----------------------------------------------------------------------------------

    @classmethod
    def pattern(cls, site_admin: admin.ModelAdmin[Any]) -> URLPattern:
        """Return the URL pattern of the page."""
        page = cls(site_admin)
        return path(
            cls.path, site_admin.admin_site.admin_view(page.answer), name=f"wellos_jobs_{cls.name}"
        )

    def answer(self, request: HttpRequest, **values: Any) -> HttpResponse:
        """Show the page (only its part for htmx), or run the posted action."""
        request.current_app = self.site.name
        self.require(request, self.permission)
        clean_query(request)

        if not self.is_organization_scoped and not organization_scope.sees_everything(request):
            return self.show(request, "admin/wellos_jobs/parts/not_scoped.html", {}, **values)
        if request.method == "POST":
            return self._run_action(request, **values)
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        return self.show(request, self.template, self.context(request, **values), **values)

    def show(
        self, request: HttpRequest, part: str, context: dict[str, Any], **values: Any
    ) -> HttpResponse:
        """Render a part: alone for htmx, else within the page."""
        context = {"opts": self.site_admin.model._meta, "page": self, "part": part, **context}
        if HtmxDetails(request):
            return TemplateResponse(request, part, context)
        frame = {
            **self.site.each_context(request),
            "title": self.heading(request, **values),
            "media": self.site_admin.media,
            "page_styles": self.styles,
            "is_live": self.live and part == self.template,
        }
        return TemplateResponse(request, "admin/wellos_jobs/page.html", frame | context)

    def require(self, request: HttpRequest, permission: str) -> None:
        """Raise PermissionDenied if the user lacks a permission."""
        if not request.user.has_perm(permission):
            raise PermissionDenied

    def bad_request(self, text: str) -> BadRequest:
        """Return the exception to raise for an invalid request (status 400)."""
        return BadRequest(text)

    def redirect_to(self, request: HttpRequest, name: str, *values: object) -> HttpResponse:
        """Redirect to another page of this app on the same site, by URL name."""
        return HttpResponseRedirect(
            reverse(f"admin:{name}", args=values, current_app=self.site.name)
        )

    def _run_action(self, request: HttpRequest, **values: Any) -> HttpResponse:
        name = request.POST.get("action", "")
        action: Callable[..., HttpResponse] | None = getattr(self, f"do_{name}", None)
        if action is None:
            raise self.bad_request(f"The page {self.name} has no action {name!r}")
        return action(request, **values)
