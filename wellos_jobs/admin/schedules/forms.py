"""Forms of schedules: one for any job, one for organization reports without raw data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.validators import validate_email
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ... import cron
from ...contrib import report_types
from ...definitions import registry
from ...errors import CronError, EncryptionError, PayloadError
from ...models import OrganizationReportSchedule, Schedule
from ...models.report_data import REPORT_FORMATS, REPORT_PREFIX
from ...operations import edits, texts
from ...schedules import REPORT_JOB
from ..ui import display, organization_scope
from ..ui.json_field import BoundedJSONField
from ..ui.organization_scope import may_start

if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[Schedule]
else:
    _ModelForm = forms.ModelForm

ZONES_LIST = "wj-zones"
"""HTML id of the datalist of time zones."""

TIMING = ("cron", "time_zone", "starts_at", "ends_at", "catch_up", "catch_up_limit", "overlap")
"""The fields that say when a schedule makes jobs."""
WHEN_HELP = {
    "cron": _(
        "Five fields (minute hour day month weekday), six with seconds first, @daily, or"
        " @every 90, 15m, 2h."
    ),
    "time_zone": _(
        "An IANA name such as Europe/Paris. Leave empty for the organization's or project's zone."
    ),
    "enabled": _("A disabled schedule does not run, and does not catch up on these runs later."),
    "catch_up": _("What to do about runs that were due while no scheduler was running."),
    "catch_up_limit": _(
        "Maximum number of missed runs to catch up on at once; the latest are run."
    ),
    "overlap": _("What to do when the job of the previous run has not finished."),
    "starts_at": _("No runs before this time. Intervals count from here."),
    "ends_at": _("No runs after this time."),
}


SHORTEST_INTERVAL = 60
"""Seconds between two runs that a person may choose. Superusers may choose less."""


class BaseScheduleForm(_ModelForm):
    """Shared by both forms: widgets, help texts, and where model errors are shown."""

    shortest_interval: ClassVar[float] = SHORTEST_INTERVAL
    """The lower bound in seconds for a line that is changed; 0 for none but the setting's."""

    reason = forms.CharField(
        label=_("Reason"),
        help_text=_("Recorded in the audit log with your name. At most 1,000 characters."),
        max_length=texts.MAX_REASON,
        widget=forms.Textarea(attrs={"rows": 2, "class": "vLargeTextField"}),
    )

    class Meta:
        model = Schedule
        fields: tuple[str, ...] = ()
        help_texts: Mapping[str, Any] = WHEN_HELP
        widgets: ClassVar[dict[str, forms.Widget]] = {
            "cron": forms.TextInput(attrs={"class": "vTextField wj-cron", "spellcheck": "false"}),
            "time_zone": forms.TextInput(
                attrs={"class": "vTextField", "list": ZONES_LIST, "spellcheck": "false"}
            ),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "reason" in self.fields:  # not required for a new schedule
            self.fields["reason"].required = self.instance.pk is not None
        for name in ("starts_at", "ends_at"):
            if name in self.fields:
                _name_parts(self.fields[name])

    def clean_cron(self) -> str:
        """Refuse a new line that runs too often; the model checks the rest."""
        line = " ".join(str(self.cleaned_data["cron"]).split())
        if line == self.instance.cron:
            return line

        try:
            gap = cron.shortest_gap(line).total_seconds()
        except CronError:
            return line  # the model reports the error
        if gap < self.shortest_interval:
            text = gettext("It runs every %(gap)s seconds: choose at least %(shortest)s.")
            params = {"gap": f"{gap:g}", "shortest": f"{self.shortest_interval:g}"}
            raise ValidationError(text, params=params)
        return line

    def add_error(self, field: str | None, error: Any) -> None:
        """Show errors of fields that the form lacks above the form, with the field name."""
        if field is None and hasattr(error, "error_dict"):
            known: dict[str, Any] = {}
            for name, errors in error.error_dict.items():
                if name in self.fields or name == NON_FIELD_ERRORS:
                    known.setdefault(name, []).extend(errors)
                else:
                    texts = [text for one in errors for text in one.messages]
                    known.setdefault(NON_FIELD_ERRORS, []).extend(
                        ValidationError(f"{name}: {text}") for text in texts
                    )
            error = ValidationError(known)
        super().add_error(field, error)


class ScheduleForm(BaseScheduleForm):
    """Form for a schedule of any job."""

    class Meta(BaseScheduleForm.Meta):
        fields = (
            "name",
            "job_name",
            "data",
            "organization_id",
            "enabled",
            *TIMING,
        )
        help_texts = {
            **WHEN_HELP,
            "data": _("The job's arguments as a JSON object. Sensitive ones are stored encrypted."),
            "organization_id": _("The organization the jobs belong to. Optional."),
        }
        field_classes: ClassVar[dict[str, type[forms.Field]]] = {"data": BoundedJSONField}
        widgets: ClassVar[dict[str, forms.Widget]] = {
            **BaseScheduleForm.Meta.widgets,
            "data": forms.Textarea(
                attrs={"rows": 4, "class": "vLargeTextField wj-json", "spellcheck": "false"}
            ),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "job_name" in self.fields:
            names = {job.name for job in registry.all_jobs()} | {self.instance.job_name}
            choices = [("", "---------"), *((name, name) for name in sorted(filter(None, names)))]
            self.fields["job_name"] = forms.ChoiceField(label=_("Job"), choices=choices)
        if "data" in self.fields and self.instance.data:
            self.initial["data"] = edits.editable(self._stored())

    def _stored(self) -> Mapping[str, Any]:
        """Return the stored data in the declared version; as they are if that cannot be."""
        try:
            return self.instance.current_data()
        except (PayloadError, EncryptionError):
            return self.instance.data or {}

    def clean_data(self) -> Any:
        """Keep the stored value of sensitive arguments that are still masked."""
        data = self.cleaned_data["data"]
        if not isinstance(data, dict):
            return data  # the model reports the error

        job_name = self.cleaned_data.get("job_name", self.instance.job_name)
        definition = registry.find(job_name)
        # Another job would do something else with the secret.
        stored = self._stored() if job_name == self.instance.job_name else {}
        try:
            return edits.merged(stored, data, definition.sensitive if definition else ())
        except PayloadError as error:
            raise ValidationError(str(error)) from error


class OrganizationReportForm(BaseScheduleForm):
    """Form for the schedule of an organization's report."""

    report_type = forms.CharField(label=_("Report"), max_length=100, required=False)
    format = forms.ChoiceField(
        label=_("Format"), choices=[(name, name.upper()) for name in REPORT_FORMATS]
    )
    recipients = forms.CharField(
        label=_("Recipients"),
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 3, "class": "vLargeTextField"}),
        help_text=_(
            "Email addresses, one per line or separated by commas. Each recipient gets a separate"
            " email with the link."
        ),
    )

    class Meta(BaseScheduleForm.Meta):
        model = OrganizationReportSchedule
        fields = (
            "organization_id",
            "enabled",
            *TIMING,
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "organization_id" in self.fields:
            self.fields["organization_id"].required = True
        if "report_type" in self.fields:
            self._offer_reports()

    def _offer_reports(self) -> None:
        """Fill the report fields from the row, with the registered reports as choices."""
        row = cast(OrganizationReportSchedule, self.instance)
        recipients = "\n".join(map(str, row.recipients))
        self.initial.update(report_type=row.report_type, format=row.format, recipients=recipients)
        kinds = report_types.for_organizations()
        if not kinds:
            return  # the project has its own report job: any text is valid

        choices = [("", gettext("default (%(title)s)") % {"title": kinds[0].title})]
        choices += [(kind.name, kind.title) for kind in kinds]
        if row.report_type not in dict(choices):
            label = gettext("%(name)s (not registered)") % {"name": row.report_type}
            choices.append((row.report_type, label))

        self.fields["report_type"] = forms.ChoiceField(
            label=_("Report"), choices=choices, required=False
        )

    def clean_organization_id(self) -> str:
        """Refuse an organization unknown to the resolver, and one that already has a schedule."""
        organization_id = str(self.cleaned_data["organization_id"]).strip()
        if display.has_resolver() and not display.resolved([organization_id])[organization_id]:
            raise ValidationError(
                _("Organization “%(id)s” does not exist."), params={"id": organization_id}
            )
        if OrganizationReportSchedule.objects.filter(
            name=f"{REPORT_PREFIX}{organization_id}"
        ).exists():
            raise ValidationError(
                _("This organization already has a report schedule; change that one.")
            )
        return organization_id

    def clean_recipients(self) -> list[str]:
        """Return the addresses without duplicates."""
        addresses: dict[str, str] = {}
        errors = []
        for address in re.split(r"[\s,;]+", self.cleaned_data["recipients"].strip()):
            if not address:
                continue
            try:
                validate_email(address)
            except ValidationError:
                text = _("“%(text)s” is not a valid email address.")
                errors.append(ValidationError(text, params={"text": address}))
            addresses.setdefault(address.casefold(), address)

        if errors:
            raise ValidationError(errors)
        return list(addresses.values())

    def clean(self) -> dict[str, Any] | None:
        """Store the report fields in the row's data."""
        super().clean()
        given, row = self.cleaned_data, self.instance

        organization = given.get("organization_id", row.organization_id)
        row.name, row.job_name = f"{REPORT_PREFIX}{organization}", REPORT_JOB

        names = ("report_type", "format", "recipients")
        options = {name: given[name] for name in names if name in given}
        row.data = {**(row.data or {}), "organization_id": organization, **options}
        return given


def _name_parts(field: forms.Field) -> None:
    """Label the date and time inputs for screen readers, which Django does not do."""
    parts = getattr(field.widget, "widgets", ())
    for part, text in zip(parts, (_("date"), _("time")), strict=False):
        part.attrs["aria-label"] = f"{field.label}: {text}"


def limited_to_organizations(form: Any, request: HttpRequest) -> Any:
    """Return a subclass of the form for users who are limited to organizations.

    It accepts only organizations that they may see, and jobs that they may start.
    """

    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        form.__init__(self, *args, **kwargs)
        if "job_name" in self.fields:
            self.fields["job_name"].choices = [
                (name, label)
                for name, label in self.fields["job_name"].choices
                if name in ("", self.instance.job_name) or may_start(request, name)
            ]

    def clean(self: Any) -> Any:
        before = _work_of(self.instance)
        cleaned = form.clean(self)

        organization_id = self.cleaned_data.get("organization_id")
        is_given = "organization_id" in self.fields and organization_id is not None
        if is_given and not organization_scope.may_see(request, organization_id):
            text = _("You may not create schedules for this organization.")
            self.add_error("organization_id", text)

        after = tuple(
            self.cleaned_data.get(name, value)
            for name, value in zip(_WORK, _work_of(self.instance), strict=True)
        )
        if after[0] and not edits.same_json(after, before) and not may_start(request, after[0]):
            self.add_error(
                None,
                gettext("You may not schedule “%(name)s” with other data.") % {"name": after[0]},
            )
        return cleaned

    methods = {"__init__": construct, "clean": clean, "__module__": form.__module__}
    return type(form.__name__, (form,), methods)


_WORK = ("job_name", "data", "organization_id")
"""What a schedule does; the other columns say when."""


def _work_of(row: Schedule) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in _WORK)
