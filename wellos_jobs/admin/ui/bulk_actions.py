"""Actions of lists that ask before they do: what will happen to how many, and why; many rows are left to a job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from ...models import BulkOperation
from ...operations import bulk
from ...operations.audit import Actor, BulkResult
from ...operations.verbs import Verb
from . import search_window
from .action_page import ReasonForm, run_operation
from .page import Text
from .paginator import MAX_COUNT, Capped

if TYPE_CHECKING:  # the stubs know type arguments, Django's classes take none
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = object

MAX_ROWS_LISTED = 20
"""How many of the chosen rows the page lists by name."""
MAX_INLINE = 100
"""How many rows are treated while the browser waits; more are left to a job."""
MAX_REFUSALS = 5
"""How many refusals are told one by one."""
Sentence = Callable[[int], str]
"""Gives a text, in the number of its argument, with a ``%d`` where the count goes."""


@dataclass(frozen=True)
class Effect:
    """What will happen to some of the chosen rows. The text has a ``%d`` where the count goes.

    ``at_least``: there may be more of these rows than were counted.
    """

    count: int
    text: str
    applies: bool = True
    at_least: bool = False

    def __str__(self) -> str:
        count = f"{self.count:,}+" if self.at_least else str(Capped(self.count))
        return self.text.replace("%d", "%s") % count


def effects(
    rows: QuerySet[Any],
    column: str,
    *acting: tuple[Collection[Any], Sentence],
    unchanged: Callable[[Any], Sentence],
) -> list[Effect]:
    """Count rows by a column: some values are acted on, a sentence for each; ``unchanged`` gives that of another value.

    Of each kind no more are counted than a list counts. One query for each, one for those that stay
    as they are.
    """
    rows = rows.order_by()
    sums = [
        (rows.filter(**{f"{column}__in": list(values)})[: MAX_COUNT + 1].count(), sentence)
        for values, sentence in acting
    ]
    others = rows.exclude(
        **{f"{column}__in": [value for values, _sentence in acting for value in values]}
    )
    counts = Counter(others.values_list(column, flat=True)[: MAX_COUNT + 1])
    is_cut = counts.total() > MAX_COUNT
    return [
        *(Effect(n, sentence(n)) for n, sentence in sums),
        *(
            Effect(n, unchanged(value)(n), applies=False, at_least=is_cut)
            for value, n in sorted(counts.items())
        ),
    ]


def already(label: Text) -> Sentence:
    """Give the sentence about rows that are there already; ``label`` is their state."""
    return lambda n: ngettext("%%d is %s already", "%%d are %s already", n) % label


def with_rate_field(form: ReasonForm) -> ReasonForm:
    """Let a form ask, too, how fast it is to go: for what a job does."""
    form.fields["rate"] = forms.FloatField(
        label=_("At most so many a second"),
        help_text=_("Empty: as fast as it goes."),
        required=False,
        min_value=0.1,
        max_value=1000,
    )
    return form


@dataclass(frozen=True)
class BulkAction:
    """One action of a list, in words and deeds. The attribute of the ``ModelAdmin`` that holds it has its name."""

    verb: Verb
    operation: Callable[..., BulkResult]
    short_description: Text
    """Its text in the list's menu."""
    button: Text
    effects: Callable[[QuerySet[Any]], Sequence[Effect]]
    done: Callable[[int], str]
    form: type[ReasonForm] = ReasonForm
    out_of_scope: Callable[[HttpRequest, QuerySet[Any]], QuerySet[Any]] | None = None
    """Gives those of the rows that this person may see but not act on; ``out_of_scope_text`` says why."""
    out_of_scope_text: Sentence = str

    @property
    def name(self) -> str:
        return self.verb.list_action

    def __call__(
        self, site_admin: Any, request: HttpRequest, rows: QuerySet[Any], back: str = ""
    ) -> HttpResponse | None:
        """Show the page, or, when it comes back with a reason, do what it says and tell how it went.

        ``back`` is the address for those who think better of it: by default the page that the
        request was sent to.
        """
        rows, told = self._in_scope(request, rows)
        total = Capped(sum(effect.count for effect in told))
        across = request.POST.get("select_across") == "1"
        as_job = across and self.verb.name in bulk.OPERATIONS and total > MAX_INLINE
        confirmed = "confirm" in request.POST
        form = self.form(request.POST if confirmed else None)
        form = with_rate_field(form) if as_job else form
        if not confirmed or not form.is_valid():
            asked = {
                "form": form,
                "as_job": as_job,
                "across": across,
                "return_url": back or request.get_full_path(),
            }
            return self._page(site_admin, request, rows, told, asked | {"total": total})
        if as_job:
            return run_operation(
                request, form, partial(self._begin, site_admin, request, rows, form, total)
            )
        result = run_operation(request, form, partial(self.operation, rows, **form.choice()))
        if result is not None:
            self._show_result(request, result)
        return None

    def _in_scope(
        self, request: HttpRequest, rows: QuerySet[Any]
    ) -> tuple[QuerySet[Any], Sequence[Effect]]:
        """Return the rows that this person may act on, and what will happen to those and to the others."""
        if self.out_of_scope is None:
            return rows, self.effects(rows)
        out_of_scope = list(self.out_of_scope(request, rows).values_list("pk", flat=True))
        within = rows.exclude(pk__in=out_of_scope) if out_of_scope else rows
        return within, [
            *self.effects(within),
            Effect(len(out_of_scope), self.out_of_scope_text(len(out_of_scope)), applies=False),
        ]

    def _begin(
        self,
        site_admin: Any,
        request: HttpRequest,
        rows: QuerySet[Any],
        form: ReasonForm,
        total: int,
        **who: Any,
    ) -> HttpResponse:
        site, counted = site_admin.admin_site, None if total > MAX_COUNT else total
        told = {"rate": form.cleaned_data["rate"], "total": counted, "choice": form.choice()}
        query = search_window.pinned_query(request)
        operation = bulk.begin(
            self.verb, rows, site=site.name, query=query, actor=Actor(**who), **told
        )
        messages.success(request, gettext("A job does this now: here you see how far it is."))
        return HttpResponseRedirect(
            operation_url(operation, site, otherwise=request.get_full_path())
        )

    def _show_result(self, request: HttpRequest, result: BulkResult) -> None:
        if result.done:
            messages.success(request, self.done(result.done))
        for sentence in result.messages[:MAX_REFUSALS]:
            messages.warning(request, sentence)
        if (more := len(result.messages) - MAX_REFUSALS) > 0:
            messages.warning(
                request, ngettext("%d more was left alone", "%d more were left alone", more) % more
            )

    def _page(
        self,
        site_admin: Any,
        request: HttpRequest,
        rows: QuerySet[Any],
        told: Sequence[Effect],
        asked: dict[str, Any],
    ) -> HttpResponse:
        total, across = asked["total"], asked["across"]
        chosen = request.POST.getlist(ACTION_CHECKBOX_NAME)
        acts = any(effect.applies and effect.count for effect in told)
        context = {
            **site_admin.admin_site.each_context(request),
            "title": self.verb.title,
            "opts": site_admin.model._meta,
            "media": site_admin.media,
            "hidden": {
                "action": self.name,
                "select_across": "1" if across else "0",
                "confirm": "yes",
            },
            "effects": [effect for effect in told if effect.count],
            "rows": rows[:MAX_ROWS_LISTED],
            "more": max(0, total - MAX_ROWS_LISTED),
            "is_cut": total > MAX_COUNT,
            "address": f"{request.path}?{search_window.pinned_query(request)}",
            "refusal": "" if acts else gettext("There is nothing to do for these."),
            "button": self.button,
            "is_destructive": self.verb.is_destructive,
            "chosen": chosen[:1] if across else chosen,
            "checkbox_name": ACTION_CHECKBOX_NAME,
            **asked,
        }
        request.current_app = site_admin.admin_site.name
        return TemplateResponse(request, "admin/wellos_jobs/confirm.html", context)


class BulkActionsMixin(_ModelAdmin):
    """For a ``ModelAdmin``: shows the actions that this person may do, and refuses the others with 403."""

    def has_action_permission(self, request: HttpRequest, action: str) -> bool:
        """Tell whether this person may do an action of the list."""
        act = getattr(type(self), action, None)
        if not isinstance(act, BulkAction):
            return True
        return request.user.has_perm(act.verb.permission_on(str(self.opts.model_name)))

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> dict[str, Any]:
        """Return the actions in the list's menu. Django 6.1 asks for those of a page, too, by ``action_location``."""
        options = {} if action_location is None else {"action_location": action_location}
        actions: dict[str, Any] = super().get_actions(request, **options)
        return {
            name: action
            for name, action in actions.items()
            if self.has_action_permission(request, name)
        }

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method == "POST" and not self.has_action_permission(
            request, request.POST.get("action", "")
        ):
            raise PermissionDenied
        return super().changelist_view(request, extra_context)


def operation_url(operation: BulkOperation, site: admin.AdminSite, *, otherwise: str) -> str:
    """Return the address of an operation's page, or the other one where a site has no such page."""
    try:
        return reverse(
            "admin:wellos_jobs_bulkoperation_change", args=[operation.pk], current_app=site.name
        )
    except NoReverseMatch:
        return otherwise
