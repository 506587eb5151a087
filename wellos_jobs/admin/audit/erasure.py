"""The page that erases a person: first what would be found, then the confirmation.

The texts to erase travel in the bodies of POST requests only. They are in no URL, message, session
or log, and in no error report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.apps import apps
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters

from ...database import default_database, migrated_databases
from ...errors import InvalidOperation
from ...operations import Person, erase_person, erasure, find_person
from ...operations.erasure import Erasure
from ...operations.texts import MAX_REASON
from ...operations.verbs import VERBS
from ...permissions import address_of
from ..ui import display
from ..ui.page import Page

MAX_ROWS = 20_000
"""How many rows a request reads at most; for more there is the command."""
MAX_TEXTS = 20
MAX_JOBS_LISTED = 50
"""How many open jobs are listed one by one."""


class PersonForm(forms.Form):
    """Whom to erase, and why."""

    user_id = forms.CharField(
        label=_("User id"),
        required=False,
        max_length=64,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autofocus": True}),
    )
    username = forms.CharField(
        label=_("Username"),
        required=False,
        max_length=150,
        help_text=_("Also of an account that was deleted."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    texts = forms.CharField(
        label=_("Texts to erase"),
        required=False,
        max_length=4_000,
        help_text=_(
            "One a line, such as an email address or a full name; upper and lower case are the "
            "same. Other spellings are not found."
        ),
        widget=forms.Textarea(attrs={"rows": 4, "autocomplete": "off"}),
    )
    reason = forms.CharField(
        label=_("Reason"),
        max_length=MAX_REASON,
        help_text=_("Recorded in the audit log with your name. It must not name the person."),
        widget=forms.Textarea(attrs={"rows": 2}),
    )

    person: Person
    """Of a valid form."""

    def clean(self) -> dict[str, Any]:
        """Check that this is a person, and that the reason does not name it."""
        given = self.cleaned_data
        lines = [line.strip() for line in given.get("texts", "").splitlines()]
        if len(lines) > MAX_TEXTS:
            text = ngettext("At most %(n)d line", "At most %(n)d lines", MAX_TEXTS)
            self.add_error("texts", text % {"n": MAX_TEXTS})
        if self.errors:
            return given

        try:
            self.person = Person(given["user_id"] or None, given["username"], lines)
            search = erasure.search_for(self.person)
        except InvalidOperation as error:
            raise forms.ValidationError(str(error)) from None
        if search.is_named_in(given["reason"]):
            self.add_error("reason", gettext("The reason names the person"))
        return given


@dataclass
class Outcome:
    """What was found or erased, by database; ``problem`` says why it ended early."""

    found: dict[str, Erasure] = field(default_factory=dict)
    problem: str = ""


class ErasurePage(Page):
    """Erase a person in all databases with jobs. Not for staff limited to organizations."""

    name = "erasure"
    path = "erase/"
    title = _("Erase a person")
    permission = VERBS["erase_person"].permission_on()
    template = "admin/wellos_jobs/parts/erasure.html"
    live = False
    styles = ("wellos_jobs/boards.css", "wellos_jobs/job.css")

    @method_decorator(sensitive_post_parameters())
    def answer(self, request: HttpRequest, **values: Any) -> HttpResponse:
        return super().answer(request, **values)

    def context(self, request: HttpRequest, **values: Any) -> dict[str, Any]:
        return {"step": "ask", "form": PersonForm()}

    def do_find(self, request: HttpRequest, **values: Any) -> HttpResponse:
        """Show what would be erased, and ask for confirmation."""
        return self._step(request, "confirm", lambda person, _reason: _in_each(person, find_person))

    def do_erase(self, request: HttpRequest, **values: Any) -> HttpResponse:
        """Erase the person and show the outcome."""
        who: dict[str, Any] = {"by": request.user, "address": address_of(request)}

        def erase(person: Person, reason: str) -> Outcome:
            return _in_each(
                person,
                lambda database, person: erase_person(database, person, reason=reason, **who),
            )

        return self._step(request, "done", erase)

    def _step(
        self, request: HttpRequest, step: str, run: Callable[[Person, str], Outcome]
    ) -> HttpResponse:
        """Run a step for a valid form; else show the form with its errors."""
        form = PersonForm(request.POST)
        context: dict[str, Any] = {"step": "ask", "form": form}
        if form.is_valid():
            if _is_too_large(form.person):
                text = gettext(
                    "More than %(n)s rows have to be read, which is too much for a page. Use the "
                    "command “manage.py jobs_erase”."
                )
                context["problem"] = text % {"n": f"{MAX_ROWS:,}"}
            else:
                outcome = run(form.person, form.cleaned_data["reason"])
                context |= {"step": step, **self._results(request, outcome)}
        return self.show(request, self.template, context)

    def _results(self, request: HttpRequest, outcome: Outcome) -> dict[str, Any]:
        jobs = [(alias, key) for alias, found in outcome.found.items() for key in found.open_jobs]
        return {
            "problem": outcome.problem,
            "lines": [
                (alias, capfirst(str(apps.get_model(label)._meta.verbose_name_plural)), rows)
                for alias, found in outcome.found.items()
                for label, rows in sorted(found.changed.items())
            ],
            "many_databases": len(outcome.found) > 1,
            "open_jobs": [self._link(request, *job) for job in jobs[:MAX_JOBS_LISTED]],
            "more_jobs": max(0, len(jobs) - MAX_JOBS_LISTED),
        }

    def _link(self, request: HttpRequest, database: str, key: Any) -> SafeString | str:
        """Return a link to a job. The admin shows those of one database only."""
        if database != default_database():
            return f"{database}: {key}"
        if not request.user.has_perm("wellos_jobs.view_jobrecord"):
            return str(key)
        return display.link(self.site, "jobrecord", key, key)


def _is_too_large(person: Person) -> bool:
    left = MAX_ROWS
    for database in migrated_databases():
        left -= erasure.rows_to_read(database, person, left)
        if left < 0:
            return True
    return False


def _in_each(person: Person, step: Callable[[str, Person], Erasure]) -> Outcome:
    """Run a step in each database; one that goes away ends it."""
    outcome = Outcome()
    for database in migrated_databases():
        try:
            outcome.found[database] = step(database, person)
        except (InterfaceError, OperationalError):
            text = gettext("The database %(name)s is unavailable: repeat this later")
            outcome.problem = text % {"name": database}
            break
    return outcome
