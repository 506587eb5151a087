"""Edit a copy of a job and enqueue it: a new job, the old one stays as it is."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import amendments, operations
from ..enqueue import JobOptions
from ..errors import BadOption, EncryptionError, InvalidOperation, PayloadError
from ..models import JobRecord
from ..states import Priority
from ..views import may_see_payload
from .acts import ActPage
from .data_forms import CopyForm
from .job_acts import job_url
from .lookup import find_job
from .pages import Text


class JobCopy(ActPage):
    """The form, with the data and options of the job that is copied."""

    name = "job_copy"
    path = "<str:job_id>/copy/"
    title = gettext_lazy("Edit a copy and enqueue")
    permission = "wellos_jobs.view_jobrecord"
    verb_permission = "wellos_jobs.enqueue_job"

    def heading(self, request: HttpRequest, **values: Any) -> Text:
        return _("Copy of %(name)s") % {"name": find_job(request, values["job_id"]).name}

    def row(self, request: HttpRequest, **values: Any) -> JobRecord:
        job = find_job(request, values["job_id"])
        if not may_see_payload(request, job):
            raise PermissionDenied
        return job

    def form(self, request: HttpRequest, row: Any, data: Any = None, **values: Any) -> forms.Form:
        return CopyForm(data, job=row, request=request)

    def told(self, request: HttpRequest, row: Any, **values: Any) -> dict[str, Any]:
        told = {
            "button": _("Enqueue"),
            "effect": _("A new job is enqueued. It is no part of the flow, batch or schedule of this one."),
        }
        try:
            amendments.definition_of(row)
        except InvalidOperation as error:
            told["refusal"] = str(error)
        return told

    def do(self, row: Any, form: forms.Form, who: dict[str, Any], **values: Any) -> str:
        fields = form.cleaned_data
        options = JobOptions(
            queue=fields["queue"],
            priority=Priority(fields["priority"]),
            delay=fields["delay"] or None,
            organization=fields["organization"],
        )
        try:
            handle = operations.enqueue_copy(row, fields["data"], options, **who)
        except (BadOption, PayloadError, EncryptionError, TypeError) as error:  # what the form could not know
            raise ValidationError(str(error)) from error
        if handle.duplicate:
            raise ValidationError(
                _("Nothing was enqueued: job %(job)s holds the unique key of these data") % {"job": handle.id}
            )
        return _("Job %(job)s is enqueued") % {"job": handle.id}

    def home(self, row: Any) -> str:
        return job_url(self.site, row.pk)
