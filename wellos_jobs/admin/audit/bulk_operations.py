"""Bulk operations: progress, skipped rows, and a button to stop one."""

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
            1, gettext("%d bulk operation stops before its next rows. Finished rows are not undone")
        )
    ],
    lambda n: gettext("The operation stops before its next rows"),
)


class BulkOperationAdmin(ReadOnlyAdmin):
    """List and page of bulk operations; users limited to organizations see only their own."""

    list_display = ("title", "state_shown", "progress", "done", "refused", "actor_name", "created")
    search_fields = ("reason", "actor_name")
    change_form_template = "admin/wellos_jobs/bulkoperation/change_form.html"
    fields = ("action",)
    organization_path = ""

    def get_queryset(self, request: HttpRequest) -> Any:
        ordering = self.get_ordering(request) or ("-pk",)
        rows = BulkOperation.objects.select_related("job").order_by(*ordering)
        if organization_scope.sees_everything(request):
            return rows
        return rows.filter(actor=request.user.pk)

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
        """Ask for a reason and stop an operation; others' operations need ``cancel_job``."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        operation = self.get_object(request, str(pk))
        if operation is None:
            raise Http404

        is_own = operation.actor_id == request.user.pk
        if not is_own and not request.user.has_perm(STOP.verb.permission_on()):
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
        context = {} if operation is None else self._page(request, operation)
        return super().change_view(request, object_id, form_url, context | (extra_context or {}))

    def _page(self, request: HttpRequest, operation: BulkOperation) -> dict[str, Any]:
        job = operation.job
        open_job = job if operation.finished_at is None else None
        return {
            "operation": operation,
            "waits": waiting_reason(open_job) if open_job else "",
            "problem": redis_problem(open_job) if open_job else "",
            "action_name": bulk.title(operation.action),
            "options": _options(operation),
            "job_link": display.link(self.admin_site, "jobrecord", job.pk, job) if job else "",
            "may_stop": operation.finished_at is None and not operation.stopped_by,
            "state": self.state_shown(operation),
        }

    @admin.display(description=_("action"), ordering="action")
    def title(self, operation: BulkOperation) -> str:
        return bulk.title(operation.action)

    @admin.display(description=_("state"))
    def state_shown(self, operation: BulkOperation) -> SafeString:
        if operation.stopped_by:
            return display.badge("canceled", gettext("stopped"))
        if operation.finished_at:
            return display.badge("completed", gettext("done"))

        job = operation.job
        if job is None:
            return display.badge("failed", gettext("job deleted"))
        return display.badge(job.state, job.get_state_display())

    @admin.display(description=_("progress"))
    def progress(self, operation: BulkOperation) -> SafeString:
        return display.bar(operation.percent)

    @admin.display(description=_("created"), ordering="created_at")
    def created(self, operation: BulkOperation) -> str:
        return display.short_moment(operation.created_at)


def _options(operation: BulkOperation) -> list[tuple[str, str]]:
    """Return the options of the operation, as labels and values."""
    choice = operation.options.get("choice", {})
    users = get_user_model()._default_manager
    person = users.filter(pk=choice["person"]).first() if choice.get("person") else None

    values = {
        "priority": (gettext("Priority"), dict(PRIORITIES).get(choice.get("priority"))),
        "queue": (gettext("Queue"), choice.get("queue")),
        "person": (gettext("Person"), person.get_username() if person else gettext("no one")),
        "note": (gettext("Note"), choice.get("note")),
    }

    return [
        (label, value)
        for name, (label, value) in values.items()
        if choice.get(name, "") != "" and value
    ]
