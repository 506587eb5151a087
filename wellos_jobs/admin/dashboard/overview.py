"""The overview: a card or table row for each queue, with its buttons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from ... import conf, operations
from ...errors import UnknownQueue
from ...monitoring import health, queues
from ...monitoring.health import Status
from ...operations.verbs import VERBS
from ..ui.action_page import PageVerb, PageWithActions, ReasonForm
from ..ui.page import Text
from .queue_cards import QueueCards

MAX_CARDS = 24
"""With more queues, the default is a table instead of cards."""
QUIET = {Status.OK, Status.UNKNOWN}
"""Not shown at the top. UNKNOWN follows from another problem, which is shown."""
PER_QUEUE = {"workers", "backlog"}
COUNTED = ("waiting", "active", "delayed", "blocked")


class OverviewPage(PageWithActions):
    """Depth, workers and throughput of each queue. The target of a button is a queue."""

    name = "queues"
    path = ""
    title = _("Overview")
    template = "admin/wellos_jobs/parts/overview.html"

    verbs: ClassVar[Mapping[str, PageVerb]] = {
        "pause": PageVerb(
            VERBS["pause_queue"],
            _("Workers take no more jobs from this queue. Running jobs continue."),
        ),
        "resume": PageVerb(VERBS["resume_queue"], _("Workers take jobs from this queue again.")),
        "empty": PageVerb(
            VERBS["empty_queue"],
            _("All waiting jobs of this queue are canceled. Delayed and active jobs are kept."),
        ),
    }

    def context(self, request: HttpRequest, **values: Any) -> dict[str, Any]:
        as_cards = self._as_cards(request)
        cards = queues.cards(with_throughput=as_cards)
        report = health.report()
        can_ask = all(check.status == Status.OK for check in report.named("redis"))
        jobs_url = self._url("wellos_jobs_jobrecord_changelist")
        drawn = QueueCards.for_request(request, jobs_url, self.allowed_verbs(request))

        return {
            "columns": drawn.columns,
            "queues": drawn.cards(cards) if as_cards else drawn.rows(cards),
            "as_cards": as_cards,
            "sums": self._sums(cards),
            "problems": sorted({card.problem for card in cards if card.problem}) if can_ask else [],
            "health": report.status,
            "troubles": [check for check in report.checks if check.status not in QUIET],
            "checks": [check for check in report.checks if check.name not in PER_QUEUE],
        }

    def target(self, request: HttpRequest, verb: str, **values: Any) -> str:
        queue = request.POST.get("target", "")
        try:
            conf.queue(queue)
        except UnknownQueue as error:
            raise self.bad_request(str(error)) from error
        return queue

    def perform(self, verb: str, target: str, form: ReasonForm, **who: Any) -> Text:
        match verb:
            case "empty":
                n = operations.empty_queue(target, **who)
                text = ngettext(
                    "Queue %(queue)s: %(n)d job canceled", "Queue %(queue)s: %(n)d jobs canceled", n
                )
                return text % {"queue": target, "n": n}
            case "pause":
                operations.pause_queue(target, **who)
                return gettext("Queue %(queue)s was paused") % {"queue": target}
            case "resume":
                operations.resume_queue(target, **who)
                return gettext("Queue %(queue)s was resumed") % {"queue": target}

        raise self.not_implemented(verb)

    def _as_cards(self, request: HttpRequest) -> bool:
        default = "cards" if len(conf.queues()) <= MAX_CARDS else "table"
        return request.GET.get("as", default) == "cards"

    def _url(self, name: str) -> str:
        """Return the URL of a page, '' if this site does not have it."""
        try:
            return reverse(f"admin:{name}", current_app=self.site.name)
        except NoReverseMatch:
            return ""

    def _sums(self, cards: list[queues.QueueCard]) -> dict[str, int]:
        sums = {name: sum(getattr(card, name) or 0 for card in cards) for name in COUNTED}
        return sums | {
            "completed": sum(card.completed for card in cards),
            "failed": sum(card.failed for card in cards),
        }
