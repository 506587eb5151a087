"""Buttons that ask before they do: what will happen, and why. An operation then does it, and notes it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeVar

from django import forms
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ...errors import InvalidOperation, JobNotFound, RedisUnavailable, UnknownQueue
from ...operations.verbs import Verb
from ...views.permissions import address_of
from .page import Page, Text

TEMPLATE = "admin/wellos_jobs/parts/confirm.html"
REFUSALS = (InvalidOperation, JobNotFound, RedisUnavailable, UnknownQueue)
"""What an operation raises when it cannot be done; the text is shown."""
Answer = TypeVar("Answer")


class ReasonForm(forms.Form):
    """Why somebody does something; it stands in the audit log."""

    reason = forms.CharField(
        label=_("Reason"),
        help_text=_("Stands in the audit log beside your name."),
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 3, "autofocus": True}),
    )

    def choice(self) -> dict[str, Any]:
        """Return what was chosen beside reason and rate, as JSON can keep it."""
        return {
            name: value
            for name, value in self.cleaned_data.items()
            if name not in {"reason", "rate"}
        }


@dataclass(frozen=True)
class PageVerb:
    """A button of a page: the operator verb behind it, its effect, and the form that asks why."""

    verb: Verb
    effect: Text = ""
    form: type[ReasonForm] = ReasonForm
    text: Text = ""
    """The button's text, where it differs from that of the verb."""

    @property
    def button(self) -> Text:
        return self.text or self.verb.label

    @property
    def permission(self) -> str:
        """The permission it needs, with the app label."""
        return self.verb.permission_on()

    @property
    def is_destructive(self) -> bool:
        return self.verb.is_destructive


@dataclass(frozen=True)
class Redirect:
    """What to tell after an act whose outcome is seen on another page, and that page's address."""

    text: Text
    url: str


@dataclass(frozen=True)
class Button:
    """A link that looks like a button."""

    url: str
    text: Text
    is_destructive: bool = False


def run_operation(
    request: HttpRequest, form: forms.Form, step: Callable[..., Answer]
) -> Answer | None:
    """Do what the form, which is valid, was asked for; tell a refusal and return None.

    ``step`` gets who, why and from where, as the operations take it: by, reason and address.
    """
    try:
        return step(
            by=request.user, reason=form.cleaned_data["reason"], address=address_of(request)
        )
    except REFUSALS as error:
        messages.error(request, str(error))
        return None


class PageWithActions(Page):
    """A page whose buttons send ``action=ask`` with a ``verb`` and the ``target`` it is meant for."""

    verbs: ClassVar[Mapping[str, PageVerb]]
    """The buttons by the name under which their forms send them."""

    # --- what a subclass gives --------------------------------------------------------------------

    @abstractmethod
    def target(self, request: HttpRequest, verb: str, **values: Any) -> Any:
        """Return what the act is on.

        Raises ``refused`` if there is no such thing, or Http404 for what this person may not see.
        """

    def target_name(self, target: Any) -> Text:
        """Return what the target is called."""
        return str(target)

    def form(self, verb: str, target: Any, request: HttpRequest, data: Any = None) -> ReasonForm:
        """Return what is asked for."""
        return self.verbs[verb].form(data)

    def details(self, verb: str, target: Any) -> dict[str, Any]:
        """Return what the question says instead of the verb's ``effect``, with a ``refusal`` if nothing can be done."""
        return {}

    def refusal(self, request: HttpRequest, target: Any) -> str:
        """Return why this person may do nothing to the target, though they see it; '' if they may."""
        return ""

    @abstractmethod
    def perform(self, verb: str, target: Any, form: ReasonForm, **who: Any) -> Text | Redirect:
        """Do it; return the sentence that tells so. ``who`` is for the operation: by, reason and address.

        Raises:
            InvalidOperation, JobNotFound, RedisUnavailable, UnknownQueue: it cannot be done.
            ValidationError: the form is at fault, which shows only now.
        """

    def return_url(self, request: HttpRequest, target: Any) -> str:
        """Return the address to go to afterwards, and of the way back."""
        return request.get_full_path()

    # --- what all do ------------------------------------------------------------------------------

    def allowed_verbs(self, request: HttpRequest) -> dict[str, bool]:
        """Return which buttons this person has."""
        return {name: request.user.has_perm(verb.permission) for name, verb in self.verbs.items()}

    def do_ask(self, request: HttpRequest, **values: Any) -> HttpResponse:
        """Say what a button will do, and ask why."""
        return self.show(request, TEMPLATE, self.question(request, **values), **values)

    def do_confirm(self, request: HttpRequest, **values: Any) -> HttpResponse:
        """Do it, if the form is right; faults that show only then are shown at it, too."""
        name = self.permitted_verb(request, **values)
        target = self.target(request, **values | {"verb": name})
        form = self.form(name, target, request, request.POST)
        if refusal := self.refusal(request, target):
            messages.error(request, refusal)
            return HttpResponseRedirect(self.return_url(request, target))
        if form.is_valid():
            try:
                told = run_operation(request, form, partial(self.perform, name, target, form))
            except forms.ValidationError as error:
                form.add_error(None, error)
            else:
                return self._after_success(request, target, told)
        return self.show(request, TEMPLATE, self.question(request, form, **values), **values)

    def question(
        self, request: HttpRequest, form: ReasonForm | None = None, **values: Any
    ) -> dict[str, Any]:
        """Return what the page between a button and its doing shows."""
        name = self.permitted_verb(request, **values)
        verb, target = self.verbs[name], self.target(request, **values | {"verb": name})
        return {
            "hidden": {"action": "confirm", "verb": name, "target": request.POST.get("target", "")},
            "heading": f"{verb.button}: {self.target_name(target)}",
            "effects": [verb.effect],
            "button": verb.button,
            "is_destructive": verb.is_destructive,
            "form": form or self.form(name, target, request),
            "return_url": self.return_url(request, target),
            "refusal": self.refusal(request, target),
            **self.details(name, target),
        }

    def permitted_verb(self, request: HttpRequest, **values: Any) -> str:
        """Return the name of the verb, if this person may do that."""
        name = self.requested_verb(request, **values)
        if name not in self.verbs:
            raise self.unknown_verb(gettext("There is no such action: %(verb)s") % {"verb": name})
        self.require(request, self.verbs[name].permission)
        return name

    def requested_verb(self, request: HttpRequest, **values: Any) -> str:
        """Return the name of the verb that was asked for."""
        return request.POST.get("verb", "")

    def not_implemented(self, verb: str) -> Exception:
        """Return what ``perform`` raises for a verb that it does not handle: a programming error."""
        return NotImplementedError(f"{type(self).__name__}.perform does not handle {verb!r}")

    def unknown_verb(self, text: str) -> Exception:
        """Return what to raise for a verb that there is not."""
        return self.bad_request(text)

    def _after_success(
        self, request: HttpRequest, target: Any, told: Text | Redirect | None
    ) -> HttpResponse:
        if isinstance(told, Redirect):
            messages.success(request, str(told.text))
            return HttpResponseRedirect(told.url)
        if told is not None:
            messages.success(request, str(told))
        return HttpResponseRedirect(self.return_url(request, target))


class ActionPage(PageWithActions):
    """A question with an address of its own, which names the row and, if there are several, the verb."""

    template = TEMPLATE
    live = False
    is_organization_scoped = True
    styles = ("wellos_jobs/job.css",)

    @classmethod
    def url(cls, site: AdminSite, *args: object) -> str:
        """Return the address of a question."""
        return reverse(f"admin:wellos_jobs_{cls.name}", args=args, current_app=site.name)

    @classmethod
    def buttons(
        cls,
        site: AdminSite,
        request: HttpRequest,
        row: object,
        fits: Callable[[str], bool],
        query: str = "",
    ) -> list[Button]:
        """Return the buttons that lead to the questions about one row: those that fit it and that this person has."""
        return [
            Button(cls.url(site, row, name) + query, verb.button, verb.is_destructive)
            for name, verb in cls.verbs.items()
            if request.user.has_perm(verb.permission) and fits(name)
        ]

    def heading(self, request: HttpRequest, **values: Any) -> Text:
        name = self.requested_verb(request, **values)
        return f"{self.verbs[name].button}: {self.target_name(self.target(request, **values | {'verb': name}))}"

    def context(self, request: HttpRequest, **values: Any) -> dict[str, Any]:
        return self.question(request, **values)

    def question(
        self, request: HttpRequest, form: ReasonForm | None = None, **values: Any
    ) -> dict[str, Any]:
        return super().question(request, form, **values) | {
            "hidden": {"action": "confirm"},
            "heading": "",
        }

    def requested_verb(self, request: HttpRequest, **values: Any) -> str:
        return str(values.get("verb", next(iter(self.verbs))))

    def not_implemented(self, verb: str) -> Exception:
        """Return what ``perform`` raises for a verb that it does not handle: a programming error."""
        return NotImplementedError(f"{type(self).__name__}.perform does not handle {verb!r}")

    def unknown_verb(self, text: str) -> Exception:
        return Http404(text)
