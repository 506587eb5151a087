"""Action buttons with a confirmation page and a reason; the operation writes the audit entry."""

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
from ...operations import texts
from ...operations.verbs import Verb
from ...permissions import address_of
from .page import Page, Text

TEMPLATE = "admin/wellos_jobs/parts/confirm.html"
REFUSALS = (InvalidOperation, JobNotFound, RedisUnavailable, UnknownQueue)
"""Exceptions of an operation whose message is shown to the user."""

Answer = TypeVar("Answer")


class ReasonForm(forms.Form):
    """The reason for an operator action, for the audit log."""

    reason = forms.CharField(
        label=_("Reason"),
        help_text=_("Recorded in the audit log with your name. At most 1,000 characters."),
        max_length=texts.MAX_REASON,
        widget=forms.Textarea(attrs={"rows": 3, "autofocus": True}),
    )

    def choice(self) -> dict[str, Any]:
        """Return the values other than reason and rate, JSON-serializable."""
        return {
            name: value
            for name, value in self.cleaned_data.items()
            if name not in {"reason", "rate"}
        }


@dataclass(frozen=True)
class PageVerb:
    """A button of a page: operator verb, description of its effect, and confirmation form."""

    verb: Verb
    effect: Text = ""
    form: type[ReasonForm] = ReasonForm
    text: Text = ""
    """The button label, if it differs from the label of the verb."""

    @property
    def button(self) -> Text:
        return self.text or self.verb.label

    @property
    def permission(self) -> str:
        """The required permission, with app label."""
        return self.verb.permission_on()

    @property
    def is_destructive(self) -> bool:
        return self.verb.is_destructive


@dataclass(frozen=True)
class Redirect:
    """A success message, and the URL of the page that shows the outcome."""

    text: Text
    url: str


@dataclass(frozen=True)
class Button:
    """A link styled as a button."""

    url: str
    text: Text
    is_destructive: bool = False


def run_operation(
    request: HttpRequest, form: forms.Form, step: Callable[..., Answer]
) -> Answer | None:
    """Run ``step`` with the valid form; if it is refused, show why and return None.

    ``step`` is called with the keyword arguments of an operation: ``by``, ``reason``, ``address``.
    """
    try:
        return step(
            by=request.user, reason=form.cleaned_data["reason"], address=address_of(request)
        )
    except REFUSALS as error:
        messages.error(request, str(error))
        return None


class PageWithActions(Page):
    """A page whose buttons post ``action=ask`` with a ``verb`` and its ``target``."""

    verbs: ClassVar[Mapping[str, PageVerb]]
    """The buttons by the name under which their forms send them."""

    # --- for subclasses ---------------------------------------------------------------------------

    @abstractmethod
    def target(self, request: HttpRequest, verb: str, **values: Any) -> Any:
        """Return the object to act on.

        Raises:
            BadRequest: there is no such object.
            Http404: the user may not see it.
        """

    def target_name(self, target: Any) -> Text:
        """Return the name of the target in the heading."""
        return str(target)

    def form(self, verb: str, target: Any, request: HttpRequest, data: Any = None) -> ReasonForm:
        """Return the form of the confirmation page."""
        return self.verbs[verb].form(data)

    def details(self, verb: str, target: Any) -> dict[str, Any]:
        """Return extra context of the confirmation page.

        ``effects`` replaces the verb's effect; a ``refusal`` replaces the form.
        """
        return {}

    def refusal(self, request: HttpRequest, target: Any) -> str:
        """Return why the user may view but not change the target; '' if they may change it."""
        return ""

    @abstractmethod
    def perform(self, verb: str, target: Any, form: ReasonForm, **who: Any) -> Text | Redirect:
        """Run the operation and return the success message.

        ``who`` holds the operation's keyword arguments ``by``, ``reason`` and ``address``.

        Raises:
            InvalidOperation, JobNotFound, RedisUnavailable, UnknownQueue: it is not possible.
            ValidationError: the form is invalid for a reason only the operation can find.
        """

    def return_url(self, request: HttpRequest, target: Any) -> str:
        """Return the URL to go to afterwards, also the one of the cancel link."""
        return request.get_full_path()

    # --- shared -----------------------------------------------------------------------------------

    def allowed_verbs(self, request: HttpRequest) -> dict[str, bool]:
        """Return for each verb whether the user has its permission."""
        return {name: request.user.has_perm(verb.permission) for name, verb in self.verbs.items()}

    def do_ask(self, request: HttpRequest, **values: Any) -> HttpResponse:
        """Show the confirmation page."""
        return self.show(request, TEMPLATE, self.question(request, **values), **values)

    def do_confirm(self, request: HttpRequest, **values: Any) -> HttpResponse:
        """Run the operation if the form is valid; else show the form with its errors."""
        name = self.permitted_verb(request, **values)
        target = self.target(request, **values | {"verb": name})
        form = self.form(name, target, request, request.POST)

        if refusal := self.refusal(request, target):
            messages.error(request, refusal)
            return HttpResponseRedirect(self.return_url(request, target))

        if form.is_valid():
            try:
                outcome = run_operation(request, form, partial(self.perform, name, target, form))
            except forms.ValidationError as error:
                form.add_error(None, error)
            else:
                return self._after(request, target, outcome)

        return self.show(request, TEMPLATE, self.question(request, form, **values), **values)

    def question(
        self, request: HttpRequest, form: ReasonForm | None = None, **values: Any
    ) -> dict[str, Any]:
        """Return the context of the confirmation page."""
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
        """Return the requested verb. Raises PermissionDenied if the user lacks its permission."""
        name = self.requested_verb(request, **values)
        if name not in self.verbs:
            raise self.unknown_verb(gettext("Unknown action: %(verb)s") % {"verb": name})

        self.require(request, self.verbs[name].permission)
        return name

    def requested_verb(self, request: HttpRequest, **values: Any) -> str:
        """Return the verb that the request names."""
        return request.POST.get("verb", "")

    def not_implemented(self, verb: str) -> Exception:
        """Return the exception that ``perform`` raises for a verb it does not handle."""
        return NotImplementedError(f"{type(self).__name__}.perform does not handle {verb!r}")

    def unknown_verb(self, text: str) -> Exception:
        """Return the exception to raise for an unknown verb."""
        return self.bad_request(text)

    def _after(
        self, request: HttpRequest, target: Any, outcome: Text | Redirect | None
    ) -> HttpResponse:
        if isinstance(outcome, Redirect):
            messages.success(request, str(outcome.text))
            return HttpResponseRedirect(outcome.url)

        if outcome is not None:
            messages.success(request, str(outcome))
        return HttpResponseRedirect(self.return_url(request, target))


class ActionPage(PageWithActions):
    """A confirmation page with its own URL, which names the row and, of several verbs, the verb."""

    template = TEMPLATE
    live = False
    is_organization_scoped = True
    styles = ("wellos_jobs/job.css",)

    @classmethod
    def url(cls, site: AdminSite, *args: object) -> str:
        """Return the URL of a confirmation page."""
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
        """Return the buttons for one row: the verbs that fit it and that the user may use."""
        return [
            Button(cls.url(site, row, name) + query, verb.button, verb.is_destructive)
            for name, verb in cls.verbs.items()
            if request.user.has_perm(verb.permission) and fits(name)
        ]

    def heading(self, request: HttpRequest, **values: Any) -> Text:
        name = self.requested_verb(request, **values)
        target = self.target(request, **values | {"verb": name})
        return f"{self.verbs[name].button}: {self.target_name(target)}"

    def context(self, request: HttpRequest, **values: Any) -> dict[str, Any]:
        return self.question(request, **values)

    def question(
        self, request: HttpRequest, form: ReasonForm | None = None, **values: Any
    ) -> dict[str, Any]:
        context = super().question(request, form, **values)
        return context | {"hidden": {"action": "confirm"}, "heading": ""}

    def requested_verb(self, request: HttpRequest, **values: Any) -> str:
        return str(values.get("verb", next(iter(self.verbs))))

    def unknown_verb(self, text: str) -> Exception:
        return Http404(text)
