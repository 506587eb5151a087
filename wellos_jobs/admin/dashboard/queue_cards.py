"""The queues of the overview, each a card or a row of a table.

Made in Python, not by a template: with hundreds of queues, which all are drawn anew at each
refresh, templates took most of the page's time.
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
"""Its name, its label, already escaped, and what it is for a queue."""
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
"""The facts that the table has, by their names."""


@dataclass(frozen=True)
class QueueCards:
    """Draws queues for one request: texts, address and token are made once for all of them.

    ``jobs_url`` is the address of the list of jobs, '' where there is none; ``may`` tells which of
    the verbs of the overview this person has.
    """

    jobs_url: str
    may: Mapping[str, bool]
    token: str

    @classmethod
    def for_request(
        cls, request: HttpRequest, jobs_url: str, may: Mapping[str, bool]
    ) -> QueueCards:
        """Return what draws for this person; the token that forms need is asked for if they have one."""
        return cls(jobs_url, may, get_token(request) if any(may.values()) else "")

    def cards(self, queues: Sequence[QueueCard]) -> SafeString:
        """Return the items of a list."""
        fact = "<div><dt>{}</dt><dd>{}</dd></div>"
        return format_html_join(
            "\n",
            '<li class="wj-card" id="queue-{}"><h2 class="wj-queue">{}</h2><dl class="wj-facts">{}</dl>{}</li>',
            (
                (number, self._head(queue), _each(fact, self._facts, queue), self._form(queue))
                for number, queue in enumerate(queues, 1)
            ),
        )

    def rows(self, queues: Sequence[QueueCard]) -> SafeString:
        """Return the rows of a table, whose columns are ``columns``."""
        return format_html_join(
            "\n",
            '<tr><th scope="row"><span class="wj-queue">{}</span></th>{}<td class="wj-acts">{}</td></tr>',
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
        """What stands over the columns of ``rows``."""
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
        paused = display.badge("delayed", _("paused")) if queue.is_paused else ""
        built_up = display.badge("overdue", _("built up")) if queue.has_backlog else ""
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
        """The buttons of this person, by verb."""
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
        verbs = ("resume" if queue.is_paused else "pause", "empty")
        return format_html(
            '<form method="post" class="wj-buttons"><input type="hidden" name="csrfmiddlewaretoken" value="{}">'
            '<input type="hidden" name="action" value="ask"><input type="hidden" name="target" value="{}">{}</form>',
            self.token,
            queue.name,
            format_html_join(
                " ", "{}", ((self._buttons[verb],) for verb in verbs if verb in self._buttons)
            ),
        )


def _each(html: str, facts: Iterable[Fact], queue: QueueCard) -> SafeString:
    return format_html_join("", html, ((label, value(queue)) for _name, label, value in facts))


def _escaped(label: str) -> SafeString:
    return conditional_escape(label)


def _counted(number: int | None) -> str:
    """A number as people write it; a question mark if nobody could be asked. Small ones, which most are, look alike."""
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
