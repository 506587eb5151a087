"""The page between an action and its doing: it says what will happen to how many, and asks for the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from .. import bulk
from ..acts import Act, Report
from ..errors import InvalidOperation
from ..models import BulkOperation
from ..views import address_of

SHOWN = 20
"""How many of the chosen rows the page lists by name."""
MOST_AT_ONCE = 100
"""How many rows are treated while the browser waits; more are left to a job."""
TOLD = 5
"""How many refusals are told one by one."""


class ReasonForm(forms.Form):
    """Why somebody does something; it stands in the audit log."""

    reason = forms.CharField(
        label=_("Reason"),
        help_text=_("Stands in the audit log beside your name."),
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 3, "autofocus": True}),
    )


class BulkForm(ReasonForm):
    """Why, and how fast, for what a job does."""

    rate = forms.FloatField(
        label=_("At most so many a second"),
        help_text=_("Empty: as fast as it goes."),
        required=False,
        min_value=0.1,
        max_value=1000,
    )


@dataclass(frozen=True)
class Effect:
    """What will happen to some of the chosen rows. The text has a ``%d`` where the count goes."""

    count: int
    text: str
    acts: bool = True

    def __str__(self) -> str:
        return self.text % self.count


@dataclass(frozen=True)
class Confirmation:
    """One action, in the words of its page."""

    action: str
    title: str
    button: str
    effects: Sequence[Effect]
    done: Callable[[int], str]

    @property
    def total(self) -> int:
        """How many rows were chosen."""
        return sum(effect.count for effect in self.effects)


def ask_or_do(
    site_admin: admin.ModelAdmin[Any],
    request: HttpRequest,
    queryset: QuerySet[Any],
    confirmation: Confirmation,
    operation: Callable[..., Report],
    *,
    back: str = "",
) -> HttpResponse | None:
    """Show the page, or, when it comes back with a reason, do what it says and tell how it went.

    ``back`` is the address for those who think better of it: by default the page that the request was sent to.
    """
    confirmed = "confirm" in request.POST
    as_job = _is_for_a_job(request, confirmation)
    form = (BulkForm if as_job else ReasonForm)(request.POST if confirmed else None)
    if not confirmed or not form.is_valid():
        return _page(site_admin, request, queryset, confirmation, form, back)
    if as_job:
        return _begin(site_admin, request, queryset, confirmation, form)
    try:
        report = operation(queryset, by=request.user, reason=form.cleaned_data["reason"], address=address_of(request))
    except InvalidOperation as error:
        messages.error(request, str(error))
        return None
    if report.done:
        messages.success(request, confirmation.done(report.done))
    for refusal in report.refused[:TOLD]:
        messages.warning(request, refusal)
    if (more := len(report.refused) - TOLD) > 0:
        messages.warning(request, ngettext("%d more was left alone", "%d more were left alone", more) % more)
    return None


def _is_for_a_job(request: HttpRequest, confirmation: Confirmation) -> bool:
    """Tell whether it is done by a job: all that match, and more than a page shows."""
    across = request.POST.get("select_across") == "1"
    return across and confirmation.action in bulk.VERBS and confirmation.total > MOST_AT_ONCE


def _begin(
    site_admin: admin.ModelAdmin[Any],
    request: HttpRequest,
    queryset: QuerySet[Any],
    confirmation: Confirmation,
    form: forms.Form,
) -> HttpResponse:
    operation = bulk.begin(
        confirmation.action,
        queryset,
        site=site_admin.admin_site.name,
        query=request.META.get("QUERY_STRING", ""),
        rate=form.cleaned_data["rate"],
        total=confirmation.total,
        act=Act(request.user, form.cleaned_data["reason"], address_of(request)),
    )
    messages.success(request, gettext("A job does this now: here you see how far it is."))
    page = page_of(operation, site_admin.admin_site, otherwise=request.get_full_path())
    return HttpResponseRedirect(page)


def page_of(operation: BulkOperation, site: admin.AdminSite, *, otherwise: str) -> str:
    """Return the address of an operation's page, or the other one where a site has no such page."""
    try:
        return reverse("admin:wellos_jobs_bulkoperation_change", args=[operation.pk], current_app=site.name)
    except NoReverseMatch:
        return otherwise


def _page(
    site_admin: admin.ModelAdmin[Any],
    request: HttpRequest,
    queryset: QuerySet[Any],
    confirmation: Confirmation,
    form: ReasonForm,
    back: str,
) -> HttpResponse:
    across = request.POST.get("select_across") == "1"
    chosen = request.POST.getlist(ACTION_CHECKBOX_NAME)
    total = confirmation.total
    context = {
        **site_admin.admin_site.each_context(request),
        "title": confirmation.title,
        "opts": site_admin.model._meta,
        "media": site_admin.media,
        "confirmation": confirmation,
        "effects": [effect for effect in confirmation.effects if effect.count],
        "acts": any(effect.acts and effect.count for effect in confirmation.effects),
        "rows": queryset[:SHOWN],
        "more": max(0, total - SHOWN),
        "total": total,
        "form": form,
        "back": back or request.get_full_path(),
        "across": across,
        "as_job": _is_for_a_job(request, confirmation),
        "chosen": chosen[:1] if across else chosen,
        "checkbox_name": ACTION_CHECKBOX_NAME,
    }
    request.current_app = site_admin.admin_site.name
    return TemplateResponse(request, "admin/wellos_jobs/confirm.html", context)
