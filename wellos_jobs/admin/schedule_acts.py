"""What may be done to schedules in the admin: enable, disable, run now, delete. Each asks why first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from .. import operations
from ..models import Schedule
from ..views import address_of
from .confirm import Confirmation, Effect, ask_or_do


class ScheduleActs:
    """For an admin of schedules: ``admin.ModelAdmin`` stands behind it in the bases."""

    def has_run_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("wellos_jobs.run_schedule")

    @admin.action(description=_("Enable selected schedules"), permissions=["change"])
    def enable_schedules(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> HttpResponse | None:
        on = queryset.filter(enabled=True).count()
        off = queryset.count() - on
        confirmation = Confirmation(
            "enable_schedules",
            gettext("Enable schedules"),
            gettext("Enable"),
            [
                Effect(
                    off,
                    ngettext(
                        "%d schedule runs again, from when it is due next",
                        "%d schedules run again, from when they are due next",
                        off,
                    ),
                ),
                Effect(on, ngettext("%d is enabled already", "%d are enabled already", on), acts=False),
            ],
            lambda n: ngettext("%d schedule enabled", "%d schedules enabled", n) % n,
        )
        return self._ask(request, queryset, confirmation, operations.enable_schedules)

    @admin.action(description=_("Disable selected schedules"), permissions=["change"])
    def disable_schedules(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> HttpResponse | None:
        on = queryset.filter(enabled=True).count()
        off = queryset.count() - on
        confirmation = Confirmation(
            "disable_schedules",
            gettext("Disable schedules"),
            gettext("Disable"),
            [
                Effect(
                    on,
                    ngettext(
                        "%d schedule makes no more jobs; those it has made go on",
                        "%d schedules make no more jobs; those they have made go on",
                        on,
                    ),
                ),
                Effect(off, ngettext("%d is disabled already", "%d are disabled already", off), acts=False),
            ],
            lambda n: ngettext("%d schedule disabled", "%d schedules disabled", n) % n,
        )
        return self._ask(request, queryset, confirmation, operations.disable_schedules)

    @admin.action(description=_("Run selected schedules now"), permissions=["run"])
    def run_schedules(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> HttpResponse | None:
        count = queryset.count()
        effect = Effect(
            count,
            ngettext(
                "%d job is enqueued now, beside the runs of its schedule",
                "%d jobs are enqueued now, beside the runs of their schedules",
                count,
            ),
        )
        confirmation = Confirmation(
            "run_schedules",
            gettext("Run schedules now"),
            gettext("Run now"),
            [effect],
            lambda n: ngettext("%d job enqueued", "%d jobs enqueued", n) % n,
        )
        return self._ask(request, queryset, confirmation, operations.run_schedules_now)

    @admin.action(description=_("Delete selected schedules"), permissions=["delete"])
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> HttpResponse | None:
        """Stand in the place of Django's own action of that name, which asks for no reason."""
        return self._ask_delete(request, queryset)

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
        answer = self._ask_delete(request, site_admin.get_queryset(request).filter(pk=row.pk), back)
        return answer or HttpResponseRedirect(reverse(f"{pages}_changelist", current_app=site_admin.admin_site.name))

    def delete_model(self, request: HttpRequest, obj: Schedule) -> None:
        """Delete for code that calls this by itself; the pages here do not."""
        self.delete_queryset(request, [obj])

    def delete_queryset(self, request: HttpRequest, queryset: Iterable[Schedule]) -> None:
        operations.delete_schedules(queryset, by=request.user, address=address_of(request))

    def _ask_delete(self, request: HttpRequest, queryset: QuerySet[Schedule], back: str = "") -> HttpResponse | None:
        by_hand = queryset.filter(source="").count()
        declared = queryset.count() - by_hand
        confirmation = Confirmation(
            "delete_selected",
            gettext("Delete schedules"),
            gettext("Delete"),
            [Effect(by_hand, _deleted(by_hand)), Effect(declared, _declared_deleted(declared))],
            lambda n: ngettext("%d schedule deleted", "%d schedules deleted", n) % n,
        )
        return self._ask(request, queryset, confirmation, operations.delete_schedules, back)

    def _ask(
        self,
        request: HttpRequest,
        queryset: QuerySet[Schedule],
        confirmation: Confirmation,
        operation: Callable[..., operations.Report],
        back: str = "",
    ) -> HttpResponse | None:
        site_admin: Any = self
        return ask_or_do(site_admin, request, queryset, confirmation, operation, back=back)


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
