"""Forms for the data of a job as JSON, validated against its signature; secrets are masked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ...errors import EncryptionError, InvalidOperation, PayloadError
from ...models import JobRecord
from ...models.job import PRIORITIES
from ...operations import edits
from ..ui import organization_scope
from ..ui.action_page import ReasonForm
from ..ui.json_field import BoundedJSONField
from ..ui.read_only import queue_choices

MAX_DELAY = 366 * 24 * 3600.0


class _IndentedJSON(BoundedJSONField):
    empty_values = [None, ""]  # {} is valid: a job without arguments

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, str):  # the submitted text, valid or not
            return value
        return json.dumps(value, indent=2, ensure_ascii=False)


class DataForm(ReasonForm):
    """New data for a job and the reason."""

    field_order: tuple[str, ...] = ("data", "reason")
    data = _IndentedJSON(  # type: ignore[assignment]
        label=_("Data"),
        help_text=_(
            "The job's arguments as a JSON object. Sensitive values are masked, and kept unless you"
            " replace them. Types that JSON lacks use a tag such as $uuid, $date or $decimal."
        ),
        widget=forms.Textarea(attrs={"rows": 12, "class": "wj-json", "spellcheck": "false"}),
    )

    def __init__(
        self, data: Any = None, *, job: JobRecord, request: HttpRequest, **options: Any
    ) -> None:
        initial = {"data": edits.editable(_stored(job)), **options.pop("initial", {})}
        super().__init__(data, initial=initial, **options)
        self.fields["data"].widget.attrs["autofocus"] = True
        self.fields["reason"].widget.attrs.pop("autofocus", None)
        self.job = job
        self.request = request

    def clean_data(self) -> Any:
        """Validate the data as ``enqueue`` does."""
        edited = self.cleaned_data["data"]
        try:
            stored = edits.current_data(self.job)
            edits.new_arguments(edits.definition_of(self.job), stored, edited)
        except (TypeError, PayloadError, EncryptionError, InvalidOperation) as error:
            raise ValidationError(str(error)) from error

        if edits.changed_names(stored, edited):
            self.require_manual()
        return edited

    def require_manual(self) -> None:
        """Refuse a job that the user may not start by hand.

        Raises:
            ValidationError: the user is limited to organizations, and the job is not ``manual``.
        """
        if not organization_scope.may_start(self.request, self.job.name):
            text = gettext("You may run “%(name)s” only with its data and organization unchanged.")
            raise ValidationError(text, params={"name": self.job.name})


def _stored(job: JobRecord) -> Mapping[str, Any]:
    """Return the job's data in the declared version; as they are if that cannot be."""
    try:
        return edits.current_data(job)
    except (PayloadError, EncryptionError):
        stored: Mapping[str, Any] = job.data
        return stored


class CopyForm(DataForm):
    """A copy of a job: its data, queue, priority and delay."""

    field_order = ("data", "queue", "priority", "delay", "organization", "reason")
    queue = forms.ChoiceField(label=_("Queue"))
    priority = forms.TypedChoiceField(label=_("Priority"), choices=PRIORITIES, coerce=int)
    delay = forms.FloatField(
        label=_("Delay in seconds"),
        min_value=0,
        max_value=MAX_DELAY,
        required=False,
        help_text=_("Leave empty to run now."),
    )
    organization = forms.CharField(label=_("Organization"), max_length=64, required=False)

    def __init__(self, data: Any = None, *, job: JobRecord, request: HttpRequest) -> None:
        initial = {
            "queue": job.queue,
            "priority": job.priority,
            "organization": job.organization_id,
        }
        super().__init__(data, job=job, request=request, initial=initial)
        self.fields["queue"] = forms.ChoiceField(label=gettext("Queue"), choices=queue_choices())

    def clean_organization(self) -> str:
        """Refuse an organization whose rows the user may not see."""
        organization = str(self.cleaned_data["organization"]).strip()
        if not organization_scope.may_see(self.request, organization):
            text = gettext("You may not see jobs of organization “%(id)s”.")
            raise ValidationError(text, params={"id": organization})
        if organization != self.job.organization_id:
            self.require_manual()
        return organization
