"""Limits and circuit breakers: who holds them, who waits; changing a number, resetting and tripping a breaker."""

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
from ...monitoring.limits import Holder, LimitLine
from ...operations.verbs import VERBS
from ..ui import display
from ..ui.action_page import PageVerb, PageWithActions, ReasonForm
from ..ui.page import Text

LIMITS = 50
"""How many limits a page shows."""


class LimitForm(ReasonForm):
    """The number of a limit that shall be in force."""

    most = forms.IntegerField(
        label=_("Most"),
        min_value=0,
        max_value=1_000_000,
        help_text=_("Runs at once, or starts in the period; 0 lets nothing start."),
    )
    field_order = ("most", "reason")


class LimitsPage(PageWithActions):
    """All limits in use, the busiest first, and the breakers. The target of a button is the id of a limit."""

    name = "limits"
    path = "limits/"
    title = _("Limits and breakers")
    template = "admin/wellos_jobs/parts/limits.html"
    styles = ("wellos_jobs/boards.css",)

    verbs: ClassVar[Mapping[str, PageVerb]] = {
        "change": PageVerb(
            VERBS["set_limit"],
            _(
                "The number is in force for all workers at once, until it is taken back; the code keeps its own."
            ),
            LimitForm,
        ),
        "restore": PageVerb(
            VERBS["set_limit"],
            _("What the jobs declare is in force again."),
            text=_("Back to the code's"),
        ),
        "reset": PageVerb(
            VERBS["reset_breaker"], _("The breaker closes, and the jobs that wait for it run.")
        ),
        "trip": PageVerb(
            VERBS["trip_breaker"],
            _("The breaker opens: its jobs wait until somebody resets it."),
        ),
    }

    def context(self, request: HttpRequest, **values: Any) -> dict[str, Any]:
        sought = request.GET.get("q", "").strip()[:180]
        page = self._page(request)
        board = limits.board(sought, page * LIMITS, LIMITS)
        pages = range(max(1, -(-board.total // LIMITS)))
        return {
            "board": board,
            "limits": [self._line(line) for line in board.limits],
            "breakers": [self._line(line) for line in board.breakers],
            "sought": sought,
            "many_sources": len(broker.sources()) > 1,
            "previous": self._link(sought, page - 1) if page - 1 in pages else "",
            "next": self._link(sought, page + 1) if page + 1 in pages else "",
            "may": self.allowed_verbs(request),
        }

    def target(self, request: HttpRequest, verb: str, **values: Any) -> str:
        kinds = ("b:",) if verb in {"reset", "trip"} else ("c:", "r:")
        target = request.POST.get("target", "")
        if not target.startswith(kinds) or not target[2:]:
            raise self.bad_request(gettext("There is no such limit: %(limit)s") % {"limit": target})
        return target

    def target_name(self, target: str) -> Text:
        return target[2:]

    def perform(self, verb: str, target: str, form: ReasonForm, **who: Any) -> Text:
        name = target[2:]
        if verb == "change":
            most = form.cleaned_data["most"]
            operations.set_limit(target, most, **who)
            return gettext("Limit %(limit)s: at most %(most)d now") % {"limit": name, "most": most}
        if verb == "restore":
            operations.set_limit(target, None, **who)
            return gettext("Limit %(limit)s: what the jobs declare is in force again") % {
                "limit": name
            }
        if verb == "reset":
            was_open = operations.reset_breaker(name, **who)
            if not was_open:
                return gettext("Breaker %(name)s was closed already") % {"name": name}
            return gettext("Breaker %(name)s is closed") % {"name": name}
        if verb == "trip":
            operations.trip_breaker(name, **who)
            return gettext("Breaker %(name)s is open until it is reset") % {"name": name}
        raise self.not_implemented(verb)

    def _page(self, request: HttpRequest) -> int:
        text = request.GET.get("page", "0")
        return min(int(text), 1_000) if text.isdigit() and text.isascii() else 0

    def _link(self, sought: str, page: int) -> str:
        return "?" + urlencode({"q": sought, "page": page} if sought else {"page": page})

    def _line(self, line: LimitLine) -> dict[str, Any]:
        return {
            "line": line,
            "declared": " / ".join(map(str, line.declared)) or display.NOTHING,
            "holders": self._named(line.holders),
            "waiting": self._named(line.line),
            "more_holders": max(0, line.used - len(line.holders))
            if line.kind == "concurrency"
            else 0,
            "more_waiting": max(0, line.waiting - len(line.line)),
        }

    def _named(self, jobs: Sequence[Holder]) -> list[tuple[Any, str]]:
        return [
            (
                display.link(self.site, "jobrecord", job.id, job.name)
                if ids.parse_id(job.id)
                else job.name,
                display.duration(job.since),
            )
            for job in jobs
        ]
