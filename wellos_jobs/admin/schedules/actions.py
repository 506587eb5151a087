"""Actions on schedules: enable, disable, run now, delete; each asks for a reason."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from ... import operations
from ...models import Schedule
from ...operations.verbs import VERBS
from ...permissions import address_of
from ..ui.bulk_actions import BulkAction, BulkActionsMixin, Effect, effects


class ScheduleActions(BulkActionsMixin):
    """Mixin for a schedule ``ModelAdmin``, listed before it in the bases."""

    enable_schedules = BulkAction(
        VERBS["enable_schedule"],
        operations.enable_schedules,
        _("Enable selected schedules"),
        _("Enable"),
        lambda schedules: effects(
            schedules,
            "enabled",
            (
                [False],
                lambda n: ngettext(
                    "%d schedule is enabled and runs when it is next due",
                    "%d schedules are enabled and run when they are next due",
                    n,
                ),
            ),
            unchanged=lambda on: (
                lambda n: ngettext("%d is already enabled", "%d are already enabled", n)
            ),
        ),
        lambda n: ngettext("%d schedule enabled", "%d schedules enabled", n) % n,
    )
    disable_schedules = BulkAction(
        VERBS["disable_schedule"],
        operations.disable_schedules,
        _("Disable selected schedules"),
        _("Disable"),
        lambda schedules: effects(
            schedules,
            "enabled",
            (
                [True],
                lambda n: ngettext(
                    "%d schedule enqueues no more jobs; its existing jobs continue",
                    "%d schedules enqueue no more jobs; their existing jobs continue",
                    n,
                ),
            ),
            unchanged=lambda on: (
                lambda n: ngettext("%d is already disabled", "%d are already disabled", n)
            ),
        ),
        lambda n: ngettext("%d schedule disabled", "%d schedules disabled", n) % n,
    )
    run_schedules = BulkAction(
        VERBS["run_schedule_now"],
        operations.run_schedules_now,
        _("Run selected schedules now"),
        _("Run now"),
        lambda schedules: [_runs(schedules.count())],
        lambda n: ngettext("%d job enqueued", "%d jobs enqueued", n) % n,
    )
    # Replaces Django's action of the same name, which does not ask for a reason.
    delete_selected = BulkAction(
        VERBS["delete_schedule"],
        operations.delete_schedules,
        _("Delete selected schedules"),
        _("Delete"),
        lambda schedules: _deletions(schedules),
        lambda n: ngettext("%d schedule deleted", "%d schedules deleted", n) % n,
    )

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Ask for a reason and delete one schedule; replaces Django's page."""
        site_admin: Any = self
        row = site_admin.get_object(request, unquote(object_id))
        if not site_admin.has_delete_permission(request, row):
            raise PermissionDenied
        if row is None:
            raise Http404(gettext("Schedule %(id)s does not exist") % {"id": object_id})

        pages = f"admin:wellos_jobs_{site_admin.opts.model_name}"
        back = reverse(f"{pages}_change", args=[row.pk], current_app=site_admin.admin_site.name)
        answer = self.delete_selected(
            site_admin, request, site_admin.get_queryset(request).filter(pk=row.pk), back
        )
        return answer or HttpResponseRedirect(
            reverse(f"{pages}_changelist", current_app=site_admin.admin_site.name)
        )

    def delete_model(self, request: HttpRequest, obj: Schedule) -> None:
        """Delete a schedule, for callers other than the pages of this admin."""
        self.delete_queryset(request, [obj])

    def delete_queryset(self, request: HttpRequest, queryset: Iterable[Schedule]) -> None:
        operations.delete_schedules(queryset, by=request.user, address=address_of(request))


def _runs(n: int) -> Effect:
    text = ngettext(
        "%d job is enqueued now, in addition to the scheduled runs",
        "%d jobs are enqueued now, in addition to the scheduled runs",
        n,
    )
    return Effect(n, text)


def _deletions(schedules: QuerySet[Schedule]) -> list[Effect]:
    by_hand = schedules.filter(source="").count()
    declared = schedules.count() - by_hand
    return [Effect(by_hand, _deleted(by_hand)), Effect(declared, _declared_deleted(declared))]


def _deleted(n: int) -> str:
    return ngettext(
        "%d schedule is deleted permanently; its jobs are kept",
        "%d schedules are deleted permanently; their jobs are kept",
        n,
    )


def _declared_deleted(n: int) -> str:
    return ngettext(
        "%d schedule is declared in code or settings. Once deleted here, neither jobs_sync nor a"
        " restart restores it. To restore it, add a schedule with the same name",
        "%d schedules are declared in code or settings. Once deleted here, neither jobs_sync nor a"
        " restart restores them. To restore one, add a schedule with the same name",
        n,
    )
