"""Edit a copy of a job and enqueue it as a new job; the original is unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ... import operations
from ...enqueueing.enqueue import JobOptions
from ...errors import BadOption, EncryptionError, InvalidOperation, PayloadError
from ...models import JobRecord
from ...operations import edits
from ...operations.verbs import VERBS
from ...permissions import may_see_payload
from ...states import Priority
from ..ui.action_page import PageVerb, ReasonForm
from ..ui.lookup import find_job
from ..ui.page import Text
from .actions import OneJobPage
from .data_form import CopyForm


class JobCopy(OneJobPage):
    """The form, initially with the data and options of the copied job."""

    name = "job_copy"
    path = "<str:job_id>/copy/"
    title = gettext_lazy("Edit a copy and enqueue")

    verbs: ClassVar[Mapping[str, PageVerb]] = {
        "copy": PageVerb(
            VERBS["enqueue_copy"],
            gettext_lazy(
                "Enqueues a new job. It does not belong to the flow, batch or schedule of this job."
            ),
        ),
    }

    def heading(self, request: HttpRequest, **values: Any) -> Text:
        return _("Copy of %(name)s") % {"name": find_job(request, values["job_id"]).name}

    def target(self, request: HttpRequest, verb: str, **values: Any) -> JobRecord:
        job = find_job(request, values["job_id"])
        if not may_see_payload(request, job):
            raise PermissionDenied
        return job

    def form(
        self, verb: str, target: JobRecord, request: HttpRequest, data: Any = None
    ) -> ReasonForm:
        return CopyForm(data, job=target, request=request)

    def details(self, verb: str, target: JobRecord) -> dict[str, Any]:
        try:
            edits.definition_of(target)
        except InvalidOperation as error:
            return {"refusal": str(error)}
        return {}

    def perform(self, verb: str, target: JobRecord, form: ReasonForm, **who: Any) -> Text:
        fields = form.cleaned_data
        options = JobOptions(
            queue=fields["queue"],
            priority=Priority(fields["priority"]),
            delay=fields["delay"] or None,
            organization=fields["organization"],
        )

        try:
            handle = operations.enqueue_copy(target, fields["data"], options, **who)
        except (BadOption, PayloadError, EncryptionError, TypeError) as error:
            raise ValidationError(str(error)) from error  # found only when enqueueing

        if handle.duplicate:
            text = _("Not enqueued: job %(job)s already holds the unique key of this data")
            raise ValidationError(text % {"job": handle.id})
        return _("Job %(job)s was enqueued") % {"job": handle.id}
