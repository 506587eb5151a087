"""The queues of the overview, as cards or table rows.

Rendered in Python: with hundreds of queues, redrawn at each refresh, a template took most of the
time of the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from django.http import HttpRequest
from django.middleware.csrf import get_token
from django.utils import formats
from django.utils.functional import cached_property
from django.utils.html import conditional_escape, format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ...monitoring.queues import QueueCard
from ...operations.verbs import VERBS
from ..ui import charts, display

Html = SafeString | str
Fact = tuple[str, SafeString, Callable[[QueueCard], Html]]
"""Name, escaped label, and function that returns the value for a queue."""
COLUMNS = (
    "waiting",
    "oldest_wait",
    "active",
    "delayed",
    "blocked",
    "completed",
    "failed",
    "workers",
)
"""The names of the facts in the table."""


@dataclass(frozen=True)
class QueueCards:
    """Render queues for one request; texts, URL and token are computed once.

    ``jobs_url`` is the URL of the list of jobs, '' if there is none; ``may`` tells which verbs of
    the overview the user may use.
    """

    jobs_url: str
    may: Mapping[str, bool]
    token: str

    @classmethod
    def for_request(
        cls, request: HttpRequest, jobs_url: str, may: Mapping[str, bool]
    ) -> QueueCards:
        """Return an instance for the user; it gets a CSRF token only if there are forms."""
        return cls(jobs_url, may, get_token(request) if any(may.values()) else "")

    def cards(self, queues: Sequence[QueueCard]) -> SafeString:
        """Return the list items."""
        fact = "<div><dt>{}</dt><dd>{}</dd></div>"
        return format_html_join(
            "\n",
            '<li class="wj-card" id="queue-{}"><h2 class="wj-queue">{}</h2>'
            '<dl class="wj-facts">{}</dl>{}</li>',
            (
                (number, self._head(queue), _each(fact, self._facts, queue), self._form(queue))
                for number, queue in enumerate(queues, 1)
            ),
        )

    def rows(self, queues: Sequence[QueueCard]) -> SafeString:
        """Return the table rows, with the columns of ``columns``."""
        return format_html_join(
            "\n",
            '<tr><th scope="row"><span class="wj-queue">{}</span></th>{}'
            '<td class="wj-acts">{}</td></tr>',
            (
                (
                    self._head(queue),
                    _each('<td data-label="{}">{}</td>', self._columns, queue),
                    self._form(queue),
                )
                for queue in queues
            ),
        )

    @property
    def columns(self) -> list[Html]:
        """The column headings of ``rows``."""
        return [_("Queue"), *(label for _name, label, _value in self._columns), _("Actions")]

    @cached_property
    def _facts(self) -> Sequence[Fact]:
        return (
            ("waiting", _escaped(_("Waiting")), lambda queue: _counted(queue.waiting)),
            ("active", _escaped(_("Active")), lambda queue: _counted(queue.active)),
            (
                "oldest_wait",
                _escaped(_("Oldest wait")),
                lambda queue: display.duration(queue.oldest_wait),
            ),
            ("delayed", _escaped(_("Delayed")), lambda queue: _counted(queue.delayed)),
            ("blocked", _escaped(_("Blocked")), lambda queue: _counted(queue.blocked)),
            ("workers", _escaped(_("Workers")), lambda queue: _counted(queue.workers)),
            (
                "completed",
                _escaped(_("Completed, 24\N{NO-BREAK SPACE}h")),
                lambda queue: _counted(queue.completed),
            ),
            ("failed", _escaped(_("Failed, 24\N{NO-BREAK SPACE}h")), self._failed),
            ("last_hour", _escaped(_("Last hour")), _spark),
        )

    @cached_property
    def _columns(self) -> Sequence[Fact]:
        facts = {fact[0]: fact for fact in self._facts}
        return [facts[name] for name in COLUMNS]

    def _head(self, queue: QueueCard) -> SafeString:
        name: Any = queue.name
        if self.jobs_url:
            name = format_html(
                '<a href="{}?queue={}">{}</a>',
                self.jobs_url,
                quote(queue.name, safe=""),
                queue.name,
            )
        paused = display.badge("delayed", _("paused")) if queue.paused else ""
        built_up = display.badge("overdue", _("backlog")) if queue.has_backlog else ""
        return format_html("{} {}{}", name, paused, built_up)

    def _failed(self, queue: QueueCard) -> Html:
        number = _counted(queue.failed)
        if not queue.failed or not self.jobs_url:
            return number
        return format_html(
            '<a class="wj-alarm" href="{}?queue={}&amp;state__exact=failed">{}</a>',
            self.jobs_url,
            quote(queue.name, safe=""),
            number,
        )

    @cached_property
    def _buttons(self) -> Mapping[str, SafeString]:
        """The buttons the user may use, by verb."""
        verbs = {
            "pause": VERBS["pause_queue"],
            "resume": VERBS["resume_queue"],
            "empty": VERBS["empty_queue"],
        }
        return {
            name: format_html(
                '<button class="wj-button{}" name="verb" value="{}">{}</button>',
                " wj-danger" if verb.is_destructive else "",
                name,
                verb.label,
            )
            for name, verb in verbs.items()
            if self.may.get(name)
        }

    def _form(self, queue: QueueCard) -> Html:
        if not self._buttons:
            return ""

        verbs = ("resume" if queue.paused else "pause", "empty")
        buttons = ((self._buttons[verb],) for verb in verbs if verb in self._buttons)
        return format_html(
            '<form method="post" class="wj-buttons">'
            '<input type="hidden" name="csrfmiddlewaretoken" value="{}">'
            '<input type="hidden" name="action" value="ask">'
            '<input type="hidden" name="target" value="{}">{}</form>',
            self.token,
            queue.name,
            format_html_join(" ", "{}", buttons),
        )


def _each(html: str, facts: Iterable[Fact], queue: QueueCard) -> SafeString:
    return format_html_join("", html, ((label, value(queue)) for _name, label, value in facts))


def _escaped(label: str) -> SafeString:
    return conditional_escape(label)


def _counted(number: int | None) -> str:
    """Format a number, or a question mark if it is unknown. Small ones need no localization."""
    if number is None:
        return "?"
    return str(number) if number < 1000 else str(formats.localize(number))


def _spark(queue: QueueCard) -> SafeString:
    n = sum(queue.throughput)
    label = ngettext(
        "%(queue)s: %(n)d job completed in the last hour, minute by minute",
        "%(queue)s: %(n)d jobs completed in the last hour, minute by minute",
        n,
    ) % {"queue": queue.name, "n": n}
    return charts.sparkline(queue.throughput, label)
