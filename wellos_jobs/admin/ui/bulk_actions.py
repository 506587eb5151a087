"""Change list actions with a confirmation page and a reason; large selections run as a job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

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
from .safe_list import SafeList

MAX_ROWS_LISTED = 20
"""How many of the selected rows the confirmation page lists by name."""
MAX_INLINE = 100
"""How many rows are processed within the request; larger selections run as a job."""
MAX_REFUSALS = 5
"""How many refusals are shown one by one."""
Sentence = Callable[[int], str]
"""Return a text for a count, with a ``%d`` as its placeholder."""


@dataclass(frozen=True)
class Effect:
    """What will happen to some of the selected rows. The text has a ``%d`` for the count.

    ``applies`` is False for rows that stay unchanged. With ``at_least``, there may be more rows
    than were counted.
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
    """Count rows by a column, with a sentence for each group.

    Each item of ``acting`` is a collection of values that the action applies to, and its sentence;
    ``unchanged`` returns the sentence for any other value. Each group is counted up to
    ``MAX_COUNT``. One query for each group, and one for the unchanged rows.
    """
    rows = rows.order_by()
    groups = [
        (rows.filter(**{f"{column}__in": list(values)})[: MAX_COUNT + 1].count(), sentence)
        for values, sentence in acting
    ]

    acted_on = [value for values, _sentence in acting for value in values]
    others = rows.exclude(**{f"{column}__in": acted_on})
    counts = Counter(others.values_list(column, flat=True)[: MAX_COUNT + 1])
    is_cut = counts.total() > MAX_COUNT

    return [
        *(Effect(n, sentence(n)) for n, sentence in groups),
        *(
            Effect(n, unchanged(value)(n), applies=False, at_least=is_cut)
            for value, n in sorted(counts.items())
        ),
    ]


def already(label: Text) -> Sentence:
    """Return the sentence for rows that already have the state ``label``."""
    return lambda n: ngettext("%%d is already %s", "%%d are already %s", n) % label


def with_rate_field(form: ReasonForm) -> ReasonForm:
    """Add a field for the rate limit of the job that runs the action."""
    form.fields["rate"] = forms.FloatField(
        label=_("Maximum rows per second"),
        help_text=_("Leave empty for no limit."),
        required=False,
        min_value=0.1,
        max_value=1000,
    )
    return form


@dataclass(frozen=True)
class BulkAction:
    """One action of a change list: its texts, form, effects and operation.

    It must be assigned to the attribute ``name`` of the ``ModelAdmin``.
    """

    verb: Verb
    operation: Callable[..., BulkResult]
    short_description: Text
    """The label in the action menu."""
    button: Text
    effects: Callable[[QuerySet[Any]], Sequence[Effect]]
    done: Callable[[int], str]
    form: type[ReasonForm] = ReasonForm
    out_of_scope: Callable[[HttpRequest, QuerySet[Any]], QuerySet[Any]] | None = None
    """Return the rows that the user may see but not act on; ``out_of_scope_text`` says why."""
    out_of_scope_text: Sentence = str

    @property
    def name(self) -> str:
        return self.verb.list_action

    def __call__(
        self, site_admin: Any, request: HttpRequest, rows: QuerySet[Any], back: str = ""
    ) -> HttpResponse | None:
        """Show the confirmation page; once confirmed with a reason, run the action.

        ``back`` is the URL of the cancel link, by default the one of the request.
        """
        rows, effects = self._in_scope(request, rows)
        total = Capped(sum(effect.count for effect in effects))
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
                "total": total,
                "return_url": back or request.get_full_path(),
            }
            return self._page(site_admin, request, rows, effects, asked)

        if as_job:
            return run_operation(
                request, form, partial(self._begin, site_admin, request, rows, form, total)
            )

        operation = partial(self.operation, rows, **form.choice())
        result = run_operation(request, form, operation)
        if result is not None:
            self._show_result(request, result)
        return None

    def _in_scope(
        self, request: HttpRequest, rows: QuerySet[Any]
    ) -> tuple[QuerySet[Any], Sequence[Effect]]:
        """Return the rows that the user may act on, and the effects on all selected rows."""
        if self.out_of_scope is None:
            return rows, self.effects(rows)

        outside = list(self.out_of_scope(request, rows).values_list("pk", flat=True))
        inside = rows.exclude(pk__in=outside) if outside else rows
        n = len(outside)
        return inside, [
            *self.effects(inside),
            Effect(n, self.out_of_scope_text(n), applies=False),
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
        """Enqueue the job that runs the action, and redirect to its page."""
        site = site_admin.admin_site
        operation = bulk.begin(
            self.verb,
            rows,
            site=site.name,
            query=search_window.pinned_query(request),
            rate=form.cleaned_data["rate"],
            total=None if total > MAX_COUNT else total,
            actor=Actor(**who),
            choice=form.choice(),
        )

        messages.success(
            request, gettext("The action runs as a job. This page shows its progress.")
        )
        return HttpResponseRedirect(
            operation_url(operation, site, otherwise=request.get_full_path())
        )

    def _show_result(self, request: HttpRequest, result: BulkResult) -> None:
        if result.done:
            messages.success(request, self.done(result.done))

        for sentence in result.messages[:MAX_REFUSALS]:
            messages.warning(request, sentence)

        if (more := len(result.messages) - MAX_REFUSALS) > 0:
            text = ngettext("%d more row was skipped", "%d more rows were skipped", more)
            messages.warning(request, text % more)

    def _page(
        self,
        site_admin: Any,
        request: HttpRequest,
        rows: QuerySet[Any],
        effects: Sequence[Effect],
        asked: dict[str, Any],
    ) -> HttpResponse:
        total, across = asked["total"], asked["across"]
        selected = request.POST.getlist(ACTION_CHECKBOX_NAME)
        applies = any(effect.applies and effect.count for effect in effects)

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
            "effects": [effect for effect in effects if effect.count],
            "rows": rows[:MAX_ROWS_LISTED],
            "more": max(0, total - MAX_ROWS_LISTED),
            "is_cut": total > MAX_COUNT,
            "address": f"{request.path}?{search_window.pinned_query(request)}",
            "refusal": "" if applies else gettext("The action does not apply to any selected row."),
            "button": self.button,
            "is_destructive": self.verb.is_destructive,
            "selected": selected[:1] if across else selected,
            "checkbox_name": ACTION_CHECKBOX_NAME,
            **asked,
        }
        request.current_app = site_admin.admin_site.name
        return TemplateResponse(request, "admin/wellos_jobs/confirm.html", context)


class BulkActionsMixin(SafeList):
    """Show only the actions that the user has permission for; refuse the others with 403."""

    def has_action_permission(self, request: HttpRequest, action: str) -> bool:
        """Return whether the user may run an action of the list."""
        bulk_action = getattr(type(self), action, None)
        if not isinstance(bulk_action, BulkAction):
            return True

        permission = bulk_action.verb.permission_on(str(self.opts.model_name))
        return request.user.has_perm(permission)

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> dict[str, Any]:
        """Return the actions of the menu. Django 6.1 passes ``action_location``."""
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
        action = request.POST.get("action", "")
        if request.method == "POST" and not self.has_action_permission(request, action):
            raise PermissionDenied
        return super().changelist_view(request, extra_context)


def operation_url(operation: BulkOperation, site: admin.AdminSite, *, otherwise: str) -> str:
    """Return the URL of an operation's page, or ``otherwise`` if the site does not have it."""
    try:
        return reverse(
            "admin:wellos_jobs_bulkoperation_change", args=[operation.pk], current_app=site.name
        )
    except NoReverseMatch:
        return otherwise
