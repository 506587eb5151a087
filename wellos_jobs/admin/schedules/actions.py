"""What may be done to schedules in the admin: enable, disable, run now, delete. Each asks why first."""

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
from ...views.permissions import address_of
from ..ui.bulk_actions import BulkAction, BulkActionsMixin, Effect, effects


class ScheduleActions(BulkActionsMixin):
    """For an admin of schedules: ``admin.ModelAdmin`` stands behind it in the bases."""

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
                    "%d schedule runs again, from when it is due next",
                    "%d schedules run again, from when they are due next",
                    n,
                ),
            ),
            unchanged=lambda on: (
                lambda n: ngettext("%d is enabled already", "%d are enabled already", n)
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
                    "%d schedule makes no more jobs; those it has made go on",
                    "%d schedules make no more jobs; those they have made go on",
                    n,
                ),
            ),
            unchanged=lambda on: (
                lambda n: ngettext("%d is disabled already", "%d are disabled already", n)
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
    delete_selected = (
        BulkAction(  # in the place of Django's own action of that name, which asks for no reason
            VERBS["delete_schedule"],
            operations.delete_schedules,
            _("Delete selected schedules"),
            _("Delete"),
            lambda schedules: _deletions(schedules),
            lambda n: ngettext("%d schedule deleted", "%d schedules deleted", n) % n,
        )
    )

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Ask why, and delete one schedule; in the place of Django's own page."""
        site_admin: Any = self
        row = site_admin.get_object(request, unquote(object_id))
        if not site_admin.has_delete_permission(request, row):
            raise PermissionDenied
        if row is None:
            raise Http404(gettext("There is no schedule %(id)s") % {"id": object_id})
        pages = f"admin:wellos_jobs_{site_admin.opts.model_name}"
        back = reverse(f"{pages}_change", args=[row.pk], current_app=site_admin.admin_site.name)
        answer = self.delete_selected(
            site_admin, request, site_admin.get_queryset(request).filter(pk=row.pk), back
        )
        return answer or HttpResponseRedirect(
            reverse(f"{pages}_changelist", current_app=site_admin.admin_site.name)
        )

    def delete_model(self, request: HttpRequest, obj: Schedule) -> None:
        """Delete for code that calls this by itself; the pages here do not."""
        self.delete_queryset(request, [obj])

    def delete_queryset(self, request: HttpRequest, queryset: Iterable[Schedule]) -> None:
        operations.delete_schedules(queryset, by=request.user, address=address_of(request))


def _runs(n: int) -> Effect:
    text = ngettext(
        "%d job is enqueued now, beside the runs of its schedule",
        "%d jobs are enqueued now, beside the runs of their schedules",
        n,
    )
    return Effect(n, text)


def _deletions(schedules: QuerySet[Schedule]) -> list[Effect]:
    by_hand = schedules.filter(source="").count()
    declared = schedules.count() - by_hand
    return [Effect(by_hand, _deleted(by_hand)), Effect(declared, _declared_deleted(declared))]


def _deleted(n: int) -> str:
    return ngettext(
        "%d schedule is gone for good; the jobs that it made stay",
        "%d schedules are gone for good; the jobs that they made stay",
        n,
    )


def _declared_deleted(n: int) -> str:
    return ngettext(
        "%d schedule is declared in code or settings. Deleted here, it stays deleted: jobs_sync and a restart do not"
        " bring it back. To have it again, add a schedule of its name",
        "%d schedules are declared in code or settings. Deleted here, they stay deleted: jobs_sync and a restart do"
        " not bring them back. To have one again, add a schedule of its name",
        n,
    )
