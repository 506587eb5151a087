"""Bulk operations in the admin: how far each is, what was left alone and why, and a button that stops it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ... import operations
from ...models import BulkOperation
from ...models.job import PRIORITIES
from ...operations import bulk
from ...operations.verbs import VERBS
from ..jobs.page import redis_problem, waiting_reason
from ..ui import display, organization_scope
from ..ui.bulk_actions import BulkAction, Effect
from ..ui.read_only import ReadOnlyAdmin

STOP = BulkAction(
    VERBS["stop_bulk_operation"],
    operations.stop_bulk_operations,
    _("Stop"),
    _("Stop"),
    lambda rows: [
        Effect(
            1, gettext("%d bulk operation ends before its next rows; what it has done stays done")
        )
    ],
    lambda n: gettext("It ends before its next rows"),
)


class BulkOperationAdmin(ReadOnlyAdmin):
    """What was done to many rows at once, by whom and why. Everybody sees their own; who sees all rows, all."""

    list_display = ("title", "state_shown", "progress", "done", "refused", "actor_name", "created")
    search_fields = ("reason", "actor_name")
    change_form_template = "admin/wellos_jobs/bulkoperation/change_form.html"
    fields = ("action",)
    organization_path = ""

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = BulkOperation.objects.select_related("job").order_by(
            *self.get_ordering(request) or ("-pk",)
        )
        return (
            rows
            if organization_scope.sees_everything(request)
            else rows.filter(actor=request.user.pk)
        )

    def get_urls(self) -> list[URLPattern]:
        stop = self.admin_site.admin_view(self.stop_view)
        return [
            path("<int:pk>/stop/", stop, name="wellos_jobs_bulkoperation_stop"),
            *super().get_urls(),
        ]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        own = obj is not None and obj.actor_id == request.user.pk
        return own or request.user.has_perm("wellos_jobs.view_bulkoperation")

    def stop_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask why, and stop an operation: one's own, or with the permission to cancel jobs."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        operation = self.get_object(request, str(pk))
        if operation is None:
            raise Http404
        if operation.actor_id != request.user.pk and not request.user.has_perm(
            STOP.verb.permission_on()
        ):
            raise PermissionDenied
        page = reverse(
            "admin:wellos_jobs_bulkoperation_change", args=[pk], current_app=self.admin_site.name
        )
        rows = self.get_queryset(request).filter(pk=pk)
        return STOP(self, request, rows, back=page) or HttpResponseRedirect(page)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        operation = self.get_object(request, object_id)
        told = {} if operation is None else self._told(request, operation)
        return super().change_view(request, object_id, form_url, told | (extra_context or {}))

    def _told(self, request: HttpRequest, operation: BulkOperation) -> dict[str, Any]:
        job = operation.job
        open_job = job if operation.finished_at is None else None
        return {
            "operation": operation,
            "waits": waiting_reason(open_job) if open_job else "",
            "problem": redis_problem(open_job) if open_job else "",
            "action_name": bulk.title(operation.action),
            "chosen": _chosen(operation),
            "job_link": display.link(self.admin_site, "jobrecord", job.pk, job) if job else "",
            "may_stop": operation.finished_at is None and not operation.stopped_by,
            "state": self.state_shown(operation),
        }

    @admin.display(description=_("what"), ordering="action")
    def title(self, operation: BulkOperation) -> str:
        return bulk.title(operation.action)

    @admin.display(description=_("state"))
    def state_shown(self, operation: BulkOperation) -> SafeString:
        if operation.stopped_by:
            return display.badge("canceled", gettext("stopped"))
        if operation.finished_at:
            return display.badge("completed", gettext("done"))
        job = operation.job
        return (
            display.badge(job.state, job.get_state_display())
            if job
            else display.badge("failed", gettext("gone"))
        )

    @admin.display(description=_("progress"))
    def progress(self, operation: BulkOperation) -> SafeString:
        return display.bar(operation.percent)

    @admin.display(description=_("created"), ordering="created_at")
    def created(self, operation: BulkOperation) -> str:
        return display.short_moment(operation.created_at)


def _chosen(operation: BulkOperation) -> list[tuple[str, str]]:
    """Return what the operation was told beside which rows: a label and a value each."""
    choice = operation.options.get("choice", {})
    users = get_user_model()._default_manager
    person = users.filter(pk=choice["person"]).first() if choice.get("person") else None
    values = {
        "priority": (gettext("Priority"), dict(PRIORITIES).get(choice.get("priority"))),
        "queue": (gettext("Queue"), choice.get("queue")),
        "person": (gettext("Person"), person.get_username() if person else gettext("nobody")),
        "note": (gettext("Note"), choice.get("note")),
    }
    return [
        (label, value)
        for name, (label, value) in values.items()
        if choice.get(name, "") != "" and value
    ]
