"""The first page: a card or a row for each queue, with its buttons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from .. import conf, health, overview, queue_operations
from ..errors import InvalidOperation, RedisUnavailable, UnknownQueue
from ..health import Status
from ..views import address_of
from .confirm import ReasonForm
from .pages import Page, Text
from .queue_cards import QueueCards

MOST_CARDS = 24
"""How many queues are shown as cards; more are rows of a table, unless somebody asks for cards."""
QUIET = {Status.OK, Status.UNKNOWN}
"""What is not told at the head of the page. Unknown is what could not be asked because of a fault that is told."""
PER_QUEUE = {"workers", "backlog"}
COUNTED = ("waiting", "active", "delayed", "blocked")


class Overview(Page):
    """How full each queue is, who serves it, what went through; pause, resume, empty."""

    name = "queues"
    path = ""
    title = _("Overview")
    template = "admin/wellos_jobs/parts/overview.html"

    verbs: ClassVar[dict[str, tuple[str, Text, Text]]] = {
        "pause": ("pause_queue", _("Pause"), _("No worker takes jobs from this queue any more; what runs, runs on.")),
        "resume": ("pause_queue", _("Resume"), _("Workers take jobs from this queue again.")),
        "empty": (
            "empty_queue",
            _("Empty"),
            _("Every job that waits in this queue is canceled. Delayed and active jobs stay."),
        ),
    }
    """What can be done to a queue: the permission, the button, and what will happen."""

    def context(self, request: HttpRequest, **values: Any) -> dict[str, Any]:
        as_cards = self._as_cards(request)
        cards, report = overview.cards(with_throughput=as_cards), health.report()
        can_ask = all(check.status == Status.OK for check in report.named("redis"))
        jobs_url = self._url("wellos_jobs_jobrecord_changelist")
        drawn = QueueCards.for_request(request, jobs_url, {verb: self._may(request, verb) for verb in self.verbs})
        return {
            "columns": drawn.columns,
            "queues": drawn.cards(cards) if as_cards else drawn.rows(cards),
            "as_cards": as_cards,
            "sums": self._sums(cards),
            "problems": sorted({card.problem for card in cards if card.problem}) if can_ask else [],
            "health": report.status,
            "troubles": [check for check in report.checks if check.status not in QUIET],
            "checks": [check for check in report.checks if check.name not in PER_QUEUE],
            "rq_pages": self._rq_pages(request),
        }

    def do_ask(self, request: HttpRequest, **values: Any) -> HttpResponse:
        """Say what a button of a queue will do, and ask why."""
        verb, queue = self._chosen(request)
        return self._ask(request, verb, queue, ReasonForm())

    def do_confirm(self, request: HttpRequest, **values: Any) -> HttpResponse:
        """Do it, if there is a reason."""
        verb, queue = self._chosen(request)
        form = ReasonForm(request.POST)
        if not form.is_valid():
            return self._ask(request, verb, queue, form)
        acts: dict[str, Callable[..., Any]] = {
            "pause": queue_operations.pause_queue,
            "resume": queue_operations.resume_queue,
            "empty": queue_operations.empty_queue,
        }
        try:
            count = acts[verb](queue, by=request.user, reason=form.cleaned_data["reason"], address=address_of(request))
        except (InvalidOperation, RedisUnavailable) as error:
            messages.error(request, str(error))
        else:
            messages.success(request, self._told(verb, queue, count))
        return self.back(request)

    def _chosen(self, request: HttpRequest) -> tuple[str, str]:
        verb, queue = request.POST.get("verb", ""), request.POST.get("queue", "")
        if verb not in self.verbs:
            raise self.refused(gettext("There is no such action: %(verb)s") % {"verb": verb})
        self.require(request, f"wellos_jobs.{self.verbs[verb][0]}")
        try:
            conf.queue(queue)
        except UnknownQueue as error:
            raise self.refused(str(error)) from error
        return verb, queue

    def _ask(self, request: HttpRequest, verb: str, queue: str, form: ReasonForm) -> HttpResponse:
        _permission, button, effect = self.verbs[verb]
        context = {"verb": verb, "queue": queue, "button": button, "effect": effect, "form": form}
        return self.show(request, "admin/wellos_jobs/parts/queue_act.html", context)

    def _told(self, verb: str, queue: str, count: int | None) -> str:
        if verb == "empty":
            n = count or 0
            return ngettext("Queue %(queue)s: %(n)d job canceled", "Queue %(queue)s: %(n)d jobs canceled", n) % {
                "queue": queue,
                "n": n,
            }
        told = {"pause": gettext("Queue %(queue)s is paused"), "resume": gettext("Queue %(queue)s runs again")}
        return told[verb] % {"queue": queue}

    def _as_cards(self, request: HttpRequest) -> bool:
        return request.GET.get("as", "cards" if len(conf.queues()) <= MOST_CARDS else "table") == "cards"

    def _rq_pages(self, request: HttpRequest) -> str:
        """Return the URL of django-rq's own pages, for those who may open them."""
        return self._url("django_rq_dashboard_changelist") if request.user.has_module_perms("django_rq") else ""

    def _url(self, name: str) -> str:
        """Return the address of a page of this site, '' if it has none."""
        try:
            return reverse(f"admin:{name}", current_app=self.site.name)
        except NoReverseMatch:
            return ""

    def _may(self, request: HttpRequest, verb: str) -> bool:
        return request.user.has_perm(f"wellos_jobs.{self.verbs[verb][0]}")

    def _sums(self, cards: list[overview.QueueCard]) -> dict[str, int]:
        sums = {name: sum(getattr(card, name) or 0 for card in cards) for name in COUNTED}
        return sums | {"completed": sum(card.completed for card in cards), "failed": sum(card.failed for card in cards)}
