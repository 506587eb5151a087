"""Pages of the admin that are no list of rows: what they share, and the order in which all pages are found."""

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
)
"""The navigation: the name of a URL, the text, and the permission of this app that opens it."""
FIRST_OF_SECTION = "faults/"
"""How the URL of a page ends that stands for all pages beside it."""


@dataclass(frozen=True)
class Entry:
    """One link of the navigation."""

    url: str
    text: Text
    is_here: bool


def navigation(request: HttpRequest) -> list[Entry]:
    """Return the pages that exist on this admin site and that this person may open."""
    found = []
    for name, text, permission in ENTRIES:
        if not request.user.has_perm(f"wellos_jobs.{permission}"):
            continue
        try:
            found.append(
                (reverse(f"admin:{name}", current_app=getattr(request, "current_app", None)), text)
            )
        except NoReverseMatch:
            continue
    above = (
        url for url, _text in found if request.path.startswith(url.removesuffix(FIRST_OF_SECTION))
    )
    here = max(above, key=len, default="")
    return [Entry(url, text, is_here=url == here) for url, text in found]


class Page(ABC):
    """A page below ``.../wellos_jobs/queues/``: a part, refreshed in place, within the frame that all pages share.

    A subclass sets the attributes and gives ``context``. An act on the page is a POST with
    ``action``, which calls ``do_<action>``; that method begins with ``require``.
    """

    name: ClassVar[str]
    """The name of its URL is ``admin:wellos_jobs_<name>``."""
    path: ClassVar[str]
    """Below ``queues/``; may hold converters, whose values ``context`` and the acts get."""
    title: ClassVar[Text]
    permission: ClassVar[str] = "wellos_jobs.view_queues"
    template: ClassVar[str]
    """The part of the page that is swapped."""
    live: ClassVar[bool] = True
    is_organization_scoped: ClassVar[bool] = False
    """Whether people who see some organizations only may open it: then all it shows goes through ``scope``."""
    styles: ClassVar[tuple[str, ...]] = ()
    """Further style sheets, as paths of static files."""

    def __init__(self, site_admin: admin.ModelAdmin[Any]) -> None:
        self.site_admin = site_admin
        self.site = site_admin.admin_site

    @abstractmethod
    def context(self, request: HttpRequest, **values: Any) -> dict[str, Any]:
        """Return what the part shows."""

    def heading(self, request: HttpRequest, **values: Any) -> Text:
        """Return the title of the page."""
        return self.title

    # --- what the pages need ----------------------------------------------------------------------

    @classmethod
    def pattern(cls, site_admin: admin.ModelAdmin[Any]) -> URLPattern:
        """Return the URL pattern that serves the page on a site."""
        page = cls(site_admin)
        return path(
            cls.path, site_admin.admin_site.admin_view(page.answer), name=f"wellos_jobs_{cls.name}"
        )

    def answer(self, request: HttpRequest, **values: Any) -> HttpResponse:
        """Show the page, its part alone if htmx asks, or act."""
        request.current_app = self.site.name
        self.require(request, self.permission)
        if not self.is_organization_scoped and not organization_scope.sees_everything(request):
            return self.show(request, "admin/wellos_jobs/parts/not_scoped.html", {}, **values)
        if request.method == "POST":
            return self._act(request, **values)
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        return self.show(request, self.template, self.context(request, **values), **values)

    def show(
        self, request: HttpRequest, part: str, context: dict[str, Any], **values: Any
    ) -> HttpResponse:
        """Render a part: alone for htmx, else within the frame."""
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
        """Raise PermissionDenied if this person lacks a permission."""
        if not request.user.has_perm(permission):
            raise PermissionDenied

    def bad_request(self, text: str) -> BadRequest:
        """Return the exception, to be raised, for a request that no button of the page makes: status 400."""
        return BadRequest(text)

    def redirect_to(self, request: HttpRequest, name: str, *values: object) -> HttpResponse:
        """Lead to another page of this app on the same site, by the name of its URL."""
        return HttpResponseRedirect(
            reverse(f"admin:{name}", args=values, current_app=self.site.name)
        )

    def back(self, request: HttpRequest) -> HttpResponse:
        """Return to the page after an act."""
        return HttpResponseRedirect(request.get_full_path())

    def _act(self, request: HttpRequest, **values: Any) -> HttpResponse:
        chosen = request.POST.get("action", "")
        act: Callable[..., HttpResponse] | None = getattr(self, f"do_{chosen}", None)
        if act is None:
            raise self.bad_request(f"The page {self.name} has no action {chosen!r}")
        return act(request, **values)
