"""Dead letters grouped by fault: count, first and last occurrence, organizations."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib.admin import AdminSite
from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ...definitions import registry
from ...models import DeadLetter
from ...monitoring import faults
from ...monitoring.faults import Fault, FaultFilter
from ...states import DeadLetterStatus
from ..ui import charts, organization_scope
from ..ui.page import Page
from ..ui.read_only import queue_choices

PER_PAGE = 25
CAP = 10_000
"""Dead letters are counted up to this number."""
WINDOWS = [
    ("", gettext_lazy("any time")),
    ("1h", gettext_lazy("last hour")),
    ("24h", gettext_lazy("last 24 hours")),
    ("7d", gettext_lazy("last 7 days")),
    ("30d", gettext_lazy("last 30 days")),
]
ORDERS = [
    ("count", gettext_lazy("most dead letters")),
    ("last", gettext_lazy("last seen")),
    ("first", gettext_lazy("first seen")),
]
KEYS = ("status", "queue", "name", "organization", "window")


class FilterForm(forms.Form):
    """The filters; all are optional."""

    status = forms.ChoiceField(label=gettext_lazy("Status"), required=False)
    queue = forms.ChoiceField(label=gettext_lazy("Queue"), required=False)
    name = forms.ChoiceField(label=gettext_lazy("Job"), required=False)
    organization = forms.CharField(
        label=gettext_lazy("Organization"), required=False, max_length=64
    )
    window = forms.ChoiceField(label=gettext_lazy("Time"), choices=WINDOWS, required=False)
    order = forms.ChoiceField(label=gettext_lazy("Order"), choices=ORDERS, required=False)

    def __init__(self, data: QueryDict) -> None:
        given = {"status": DeadLetterStatus.OPEN.value, "order": "count", **data.dict()}
        super().__init__(given)
        names = {job.name for job in registry.all_jobs()} | {str(given.get("name", ""))}
        self._set_choices("status", [("any", _("any")), *DeadLetterStatus.choices])
        self._set_choices("queue", [("", _("any")), *queue_choices()])
        self._set_choices(
            "name", [("", _("any")), *((name, name) for name in sorted(filter(None, names)))]
        )

    def _set_choices(self, field: str, choices: list[tuple[str, Any]]) -> None:
        self.fields[field].choices = choices  # type: ignore[attr-defined]


def filters_of(request: HttpRequest) -> FaultFilter:
    """Return the filters in the query string; the default is the open dead letters."""
    status = request.GET.get("status") or DeadLetterStatus.OPEN.value
    return FaultFilter(
        status if status in DeadLetterStatus.values else "",
        *(request.GET.get(key, "").strip() for key in KEYS[1:]),
    )


def query_of(request: HttpRequest) -> str:
    """Return the filters as a query string, for links to other pages."""
    given = {key: request.GET[key] for key in KEYS if request.GET.get(key)}
    return f"?{urlencode(given)}" if given else ""


def list_query(fingerprint: str, filters: FaultFilter) -> str:
    """Return the query string for the same dead letters of a fault in the change list."""
    since = ""
    if filters.window in faults.WINDOWS:
        since = (timezone.now() - faults.WINDOWS[filters.window]).isoformat()

    query = {
        "fingerprint__exact": fingerprint,
        "status__exact": filters.status,
        "queue": filters.queue,
        "name": filters.name,
        "organization_id__exact": filters.organization,
        "created_at__gte": since,
    }
    return urlencode({key: value for key, value in query.items() if value})


def dead_letters_of(request: HttpRequest, filters: FaultFilter) -> QuerySet[DeadLetter]:
    """Return the dead letters that match the filters and that the user may see."""
    return filters.apply(organization_scope.visible(request, DeadLetter.objects.all()))


def fault_url(site: AdminSite, fingerprint: str, query: str = "") -> str:
    """Return the URL of the page of a fault."""
    return reverse("admin:wellos_jobs_fault", args=[fingerprint], current_app=site.name) + query


def spark(fault: Fault) -> Any:
    """Return a sparkline of the dead letters per day."""
    n = sum(fault.days)
    label = ngettext(
        "%(n)d dead letter in the last %(days)d days",
        "%(n)d dead letters in the last %(days)d days",
        n,
    )
    return charts.sparkline(fault.days, label % {"n": n, "days": faults.DAYS})


class FaultsPage(Page):
    """All faults, those with the most dead letters first."""

    name = "faults"
    path = "faults/"
    title = gettext_lazy("Dead letters")
    permission = "wellos_jobs.view_deadletter"
    template = "admin/wellos_jobs/parts/faults.html"
    is_organization_scoped = True
    styles = ("wellos_jobs/job.css",)

    def context(self, request: HttpRequest, **values: Any) -> dict[str, Any]:
        dead_letters = dead_letters_of(request, filters_of(request))
        number = self._page_number(request)
        order = request.GET.get("order", "count")
        found = faults.faults_of(dead_letters, order, (number - 1) * PER_PAGE, PER_PAGE + 1)
        query = query_of(request)
        count = dead_letters.order_by()[: CAP + 1].count()

        return {
            "form": FilterForm(request.GET),
            "rows": [
                (fault, fault_url(self.site, fault.fingerprint, query), spark(fault))
                for fault in found[:PER_PAGE]
            ],
            "dead_letter_count": count,
            "dead_letters": f"{CAP:,}+" if count > CAP else f"{count:,}",
            "previous": self._page_url(request, number - 1) if number > 1 else "",
            "next": self._page_url(request, number + 1) if len(found) > PER_PAGE else "",
            "list_url": reverse(
                "admin:wellos_jobs_deadletter_changelist", current_app=self.site.name
            ),
        }

    def _page_number(self, request: HttpRequest) -> int:
        text = request.GET.get("page", "")
        return max(1, int(text)) if text.isdecimal() and len(text) < 7 else 1

    def _page_url(self, request: HttpRequest, number: int) -> str:
        given = request.GET.copy()
        given["page"] = str(number)
        return f"?{given.urlencode()}"
