"""Pages with buttons: each asks what will happen and why before it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext

from ..errors import InvalidOperation, JobNotFound, RedisUnavailable
from ..views import address_of
from .confirm import ReasonForm
from .pages import Page, Text


@dataclass(frozen=True)
class Verb:
    """A button: the permission of this app that it needs, its text, what will happen, and the form that asks why."""

    permission: str
    button: Text
    effect: Text
    form: type[ReasonForm] = ReasonForm


class ActingPage(Page):
    """A page whose buttons send ``action=ask`` with a ``verb`` and the ``target`` it is meant for."""

    verbs: ClassVar[Mapping[str, Verb]]

    def subject(self, request: HttpRequest, verb: str, target: str, **values: Any) -> Text:
        """Return what the target is called. Raises ``refused`` if there is no such thing, or not for this person."""
        raise NotImplementedError

    def carry_out(self, verb: str, target: str, form: ReasonForm, act: Mapping[str, Any], **values: Any) -> Text:
        """Do it; return the sentence that tells so. ``act`` says who, why and from where, as the operations take it.

        Raises:
            InvalidOperation, JobNotFound, RedisUnavailable: it cannot be done; the text is shown.
        """
        raise NotImplementedError

    def form(self, request: HttpRequest, verb: str, target: str) -> ReasonForm:
        """Return the form of a button, with what was typed once it is sent."""
        return self.verbs[verb].form(request.POST if request.POST.get("action") == "confirm" else None)

    def may(self, request: HttpRequest) -> dict[str, bool]:
        """Return which buttons this person has."""
        return {name: self._has(request, verb) for name, verb in self.verbs.items()}

    def do_ask(self, request: HttpRequest, **values: Any) -> HttpResponse:
        """Say what a button will do, and ask why."""
        return self._ask(request, **values)

    def do_confirm(self, request: HttpRequest, **values: Any) -> HttpResponse:
        """Do it, if there is a reason."""
        name, target = self._chosen(request)
        self.subject(request, name, target, **values)
        form = self.form(request, name, target)
        if not form.is_valid():
            return self._ask(request, form, **values)
        act = {"by": request.user, "reason": form.cleaned_data["reason"], "address": address_of(request)}
        try:
            told = self.carry_out(name, target, form, act, **values)
        except (InvalidOperation, JobNotFound, RedisUnavailable) as error:
            messages.error(request, str(error))
        else:
            messages.success(request, str(told))
        return self.back(request)

    def _ask(self, request: HttpRequest, form: ReasonForm | None = None, **values: Any) -> HttpResponse:
        name, target = self._chosen(request)
        context = {
            "verb": self.verbs[name],
            "verb_name": name,
            "target": target,
            "subject": self.subject(request, name, target, **values),
            "form": form or self.form(request, name, target),
        }
        return self.show(request, "admin/wellos_jobs/parts/board_act.html", context, **values)

    def _chosen(self, request: HttpRequest) -> tuple[str, str]:
        name, target = request.POST.get("verb", ""), request.POST.get("target", "")
        if name not in self.verbs:
            raise self.refused(gettext("There is no such action: %(verb)s") % {"verb": name})
        self.require(request, f"wellos_jobs.{self.verbs[name].permission}")
        return name, target

    def _has(self, request: HttpRequest, verb: Verb) -> bool:
        return request.user.has_perm(f"wellos_jobs.{verb.permission}")
