"""Limits and circuit breakers: holders, waiting jobs, and actions to change them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import urlencode

from django import forms
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ... import broker, operations
from ...definitions import ids
from ...monitoring import limits
from ...monitoring.limits import LimitedJob, LimitRow
from ...operations.verbs import VERBS
from ..ui import display
from ..ui.action_page import PageVerb, PageWithActions, ReasonForm
from ..ui.page import Text

LIMITS = 50
"""Limits per page."""


class LimitForm(ReasonForm):
    """A new value for a limit."""

    most = forms.IntegerField(
        label=_("Maximum"),
        min_value=0,
        max_value=1_000_000,
        help_text=_("Concurrent runs, or starts per period. With 0, no job starts."),
    )
    field_order = ("most", "reason")


class LimitsPage(PageWithActions):
    """All limits in use, busiest first, and all breakers. The target of a button is a limit id."""

    name = "limits"
    path = "limits/"
    title = _("Limits and breakers")
    template = "admin/wellos_jobs/parts/limits.html"
    styles = ("wellos_jobs/boards.css",)

    verbs: ClassVar[Mapping[str, PageVerb]] = {
        "change": PageVerb(
            VERBS["set_limit"],
            _("The new value applies to all workers until it is reset. The code is not changed."),
            LimitForm,
        ),
        "restore": PageVerb(
            VERBS["set_limit"],
            _("The value declared in code applies again."),
            text=_("Reset to code"),
        ),
        "reset": PageVerb(
            VERBS["reset_breaker"], _("The breaker closes, and its waiting jobs run.")
        ),
        "trip": PageVerb(
            VERBS["trip_breaker"],
            _("The breaker opens, and its jobs wait until it is reset."),
        ),
    }

    def context(self, request: HttpRequest, **values: Any) -> dict[str, Any]:
        search = request.GET.get("q", "").strip()[:180]
        page = self._page(request)
        board = limits.board(search, page * LIMITS, LIMITS)
        pages = range(max(1, -(-board.total // LIMITS)))

        return {
            "board": board,
            "limits": [self._context_of(limit) for limit in board.limits],
            "breakers": [self._context_of(limit) for limit in board.breakers],
            "search": search,
            "many_sources": len(broker.sources()) > 1,
            "previous": self._page_link(search, page - 1) if page - 1 in pages else "",
            "next": self._page_link(search, page + 1) if page + 1 in pages else "",
            "may": self.allowed_verbs(request),
        }

    def target(self, request: HttpRequest, verb: str, **values: Any) -> str:
        kinds = ("b:",) if verb in {"reset", "trip"} else ("c:", "r:")
        target = request.POST.get("target", "")
        if not target.startswith(kinds) or not target[2:]:
            raise self.bad_request(gettext("Unknown limit: %(limit)s") % {"limit": target})
        return target

    def target_name(self, target: str) -> Text:
        return target[2:]

    def perform(self, verb: str, target: str, form: ReasonForm, **who: Any) -> Text:
        name = target[2:]
        match verb:
            case "change":
                most = form.cleaned_data["most"]
                operations.set_limit(target, most, **who)
                values = {"limit": name, "most": most}
                return gettext("Limit %(limit)s was changed to %(most)d") % values
            case "restore":
                operations.set_limit(target, None, **who)
                return gettext("Limit %(limit)s was reset to the value in code") % {"limit": name}
            case "reset":
                if operations.reset_breaker(name, **who):
                    return gettext("Breaker %(name)s was closed") % {"name": name}
                return gettext("Breaker %(name)s was already closed") % {"name": name}
            case "trip":
                operations.trip_breaker(name, **who)
                return gettext("Breaker %(name)s is open until it is reset") % {"name": name}

        raise self.not_implemented(verb)

    def _page(self, request: HttpRequest) -> int:
        text = request.GET.get("page", "0")
        return min(int(text), 1_000) if text.isdigit() and text.isascii() else 0

    def _page_link(self, search: str, page: int) -> str:
        return "?" + urlencode({"q": search, "page": page} if search else {"page": page})

    def _context_of(self, limit: LimitRow) -> dict[str, Any]:
        more_holders = limit.used - len(limit.holders) if limit.kind == "concurrency" else 0
        return {
            "limit": limit,
            "declared": " / ".join(map(str, limit.declared)) or display.NOTHING,
            "holders": self._named(limit.holders),
            "waiting": self._named(limit.waiting_jobs),
            "more_holders": max(0, more_holders),
            "more_waiting": max(0, limit.waiting - len(limit.waiting_jobs)),
        }

    def _named(self, jobs: Sequence[LimitedJob]) -> list[tuple[Any, str]]:
        """Return (link, duration) of each job; plain RQ jobs have no link."""
        return [(self._link(job), display.duration(job.since)) for job in jobs]

    def _link(self, job: LimitedJob) -> Any:
        if not ids.parse_id(job.id):
            return job.name
        return display.link(self.site, "jobrecord", job.id, job.name)
