"""Pages of one act on one row: GET says what it will do and asks why, POST does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from ..errors import InvalidOperation, RedisUnavailable, UnknownQueue
from ..views import address_of
from .confirm import ReasonForm
from .pages import Page

REFUSALS = (InvalidOperation, RedisUnavailable, UnknownQueue)


@dataclass(frozen=True)
class Elsewhere:
    """What to tell after an act whose outcome is seen on another page, and that page's address."""

    text: str
    url: str


class ActPage(Page):
    """An act on the row that the address names. A subclass says which, and does it."""

    template = "admin/wellos_jobs/parts/row_act.html"
    live = False
    for_everybody = True
    styles = ("wellos_jobs/job.css",)
    verb_permission: ClassVar[str]
    """What the act needs, beside what its page needs."""

    # --- what a subclass gives ----------------------------------------------------------------------

    def row(self, request: HttpRequest, **values: Any) -> Any:
        """Return what the act is on. Raises Http404 for what this person may not see."""
        raise NotImplementedError

    def form(self, request: HttpRequest, row: Any, data: Any = None, **values: Any) -> forms.Form:
        """Return what is asked for; it has a reason."""
        return ReasonForm(data)

    def told(self, request: HttpRequest, row: Any, **values: Any) -> dict[str, Any]:
        """Return ``effect``, what will happen, and ``button``; ``refusal`` instead if nothing can be done."""
        raise NotImplementedError

    def do(self, row: Any, form: forms.Form, who: dict[str, Any], **values: Any) -> str | Elsewhere:
        """Do it and return what to tell. ``who`` is for the operation: by, reason and address."""
        raise NotImplementedError

    def home(self, row: Any) -> str:
        """Return the address of the page of the row."""
        raise NotImplementedError

    # --- what all do --------------------------------------------------------------------------------

    def answer(self, request: HttpRequest, **values: Any) -> HttpResponse:
        self.require(request, self.permission)
        self.require(request, self.needed(**values))
        return super().answer(request, **values)

    def needed(self, **values: Any) -> str:
        """Return the permission of the act."""
        return self.verb_permission

    def context(self, request: HttpRequest, **values: Any) -> dict[str, Any]:
        row = self.row(request, **values)
        return self._asked(request, row, self.form(request, row, **values), **values)

    def do_confirm(self, request: HttpRequest, **values: Any) -> HttpResponse:
        """Do it, if the form is right; faults that show only then are shown at it, too."""
        row = self.row(request, **values)
        form = self.form(request, row, request.POST, **values)
        if form.is_valid():
            who = {"by": request.user, "reason": form.cleaned_data["reason"], "address": address_of(request)}
            url = self.home(row)
            try:
                done = self.do(row, form, who, **values)
                text, url = (done.text, done.url) if isinstance(done, Elsewhere) else (done, url)
                messages.success(request, text)
            except REFUSALS as error:
                messages.error(request, str(error))
            except forms.ValidationError as error:
                form.add_error(None, error)
            if not form.errors:
                return HttpResponseRedirect(url)
        return self.show(request, self.template, self._asked(request, row, form, **values), **values)

    def _asked(self, request: HttpRequest, row: Any, form: forms.Form, **values: Any) -> dict[str, Any]:
        told = {"refusal": "", "form": form, "home": self.home(row), "row": row}
        return told | self.told(request, row, **values)
