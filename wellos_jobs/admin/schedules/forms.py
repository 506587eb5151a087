"""The forms of schedules: one for any job, one for an organization's report, which asks for no raw data."""

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

from ...contrib import report_types
from ...definitions import registry
from ...models import OrganizationReportSchedule, Schedule
from ...models.report_data import REPORT_FORMATS, REPORT_PREFIX
from ...payload.redaction import MASK
from ...payload.tags import ENCRYPTED
from ...schedules import REPORT_JOB
from ..ui import display, organization_scope

if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[Schedule]
else:
    _ModelForm = forms.ModelForm

ZONES_LIST = "wj-zones"
"""The id of the list of zones that a browser offers while somebody types one."""

WHEN_HELP = {
    "cron": _(
        "Five fields (minute hour day month weekday), six with seconds first, @daily, or @every 90, 15m, 2h."
    ),
    "time_zone": _(
        "An IANA name, such as Europe/Paris. Empty: the organization's, else the project's."
    ),
    "enabled": _(
        "While it is off no run is made; runs that fall into that time are not made up for."
    ),
    "catch_up": _("What to do about runs that fell into a time when no scheduler ran."),
    "catch_up_limit": _(
        "However many runs were missed, at most so many jobs are made at once: the latest."
    ),
    "overlap": _("What to do when the job of the run before has not ended."),
    "starts_at": _("No run before this. Intervals count from here."),
    "ends_at": _("No run after this."),
}


class BaseScheduleForm(_ModelForm):
    """What both forms share: fields that people know, and the model's faults shown where they belong."""

    reason = forms.CharField(
        label=_("Reason"),
        help_text=_("Stands in the audit log beside your name."),
        max_length=2000,
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
        if "reason" in self.fields:  # a new schedule says by itself what it is for
            self.fields["reason"].required = self.instance.pk is not None
        for name in ("starts_at", "ends_at"):
            if name in self.fields:
                _name_parts(self.fields[name])

    def add_error(self, field: str | None, error: Any) -> None:
        """Show a fault of a column that the form does not have above the form, under the column's name."""
        if field is None and hasattr(error, "error_dict"):
            known: dict[str, Any] = {}
            for name, faults in error.error_dict.items():
                if name in self.fields or name == NON_FIELD_ERRORS:
                    known.setdefault(name, []).extend(faults)
                else:
                    told = [
                        ValidationError(f"{name}: {text}")
                        for fault in faults
                        for text in fault.messages
                    ]
                    known.setdefault(NON_FIELD_ERRORS, []).extend(told)
            error = ValidationError(known)
        super().add_error(field, error)


class ScheduleForm(BaseScheduleForm):
    """A schedule of any job."""

    class Meta(BaseScheduleForm.Meta):
        fields = (
            "name",
            "job_name",
            "data",
            "organization_id",
            "enabled",
            "cron",
            "time_zone",
            "starts_at",
            "ends_at",
            "catch_up",
            "catch_up_limit",
            "overlap",
        )
        help_texts = {
            **WHEN_HELP,
            "data": _("The job's arguments as a JSON object. Sensitive ones are stored encrypted."),
            "organization_id": _("The organization that the jobs belong to. May stay empty."),
        }
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
            self.initial["data"] = {
                name: _unsealed(value) for name, value in self.instance.data.items()
            }

    def clean_data(self) -> Any:
        """Put back what is stored for sensitive arguments that were left as they are shown."""
        data, stored = self.cleaned_data["data"], self.instance.data or {}
        if not isinstance(data, dict):
            return data  # the model says what is wrong
        return {
            name: stored[name] if value == MASK and name in stored else value
            for name, value in data.items()
        }


class OrganizationReportForm(BaseScheduleForm):
    """The schedule of an organization's report."""

    report_type = forms.CharField(label=_("Report"), required=False)
    format = forms.ChoiceField(
        label=_("Format"), choices=[(name, name.upper()) for name in REPORT_FORMATS]
    )
    recipients = forms.CharField(
        label=_("Recipients"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "class": "vLargeTextField"}),
        help_text=_(
            "Mail addresses, one a line or with commas between. Each gets a mail of their own with the link."
        ),
    )

    class Meta(BaseScheduleForm.Meta):
        model = OrganizationReportSchedule
        fields = (
            "organization_id",
            "enabled",
            "cron",
            "time_zone",
            "starts_at",
            "ends_at",
            "catch_up",
            "catch_up_limit",
            "overlap",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "organization_id" in self.fields:
            self.fields["organization_id"].required = True
        if "report_type" in self.fields:
            self._offer_reports()

    def _offer_reports(self) -> None:
        """Fill the report fields from the row, and offer what is registered."""
        row = cast(OrganizationReportSchedule, self.instance)
        recipients = "\n".join(map(str, row.recipients))
        self.initial.update(report_type=row.report_type, format=row.format, recipients=recipients)
        kinds = report_types.for_organizations()
        if not kinds:
            return  # a project with a report job of its own: any text
        choices = [("", gettext("the usual one (%(title)s)") % {"title": kinds[0].title})]
        choices += [(kind.name, kind.title) for kind in kinds]
        if row.report_type not in dict(choices):
            choices.append(
                (
                    row.report_type,
                    gettext("%(name)s (nobody registers it)") % {"name": row.report_type},
                )
            )
        self.fields["report_type"] = forms.ChoiceField(
            label=_("Report"), choices=choices, required=False
        )

    def clean_organization_id(self) -> str:
        """Refuse an organization that the resolver does not know, and one that has a schedule."""
        chosen = str(self.cleaned_data["organization_id"]).strip()
        if display.has_resolver() and not display.resolved([chosen])[chosen]:
            raise ValidationError(_("There is no organization “%(id)s”."), params={"id": chosen})
        if OrganizationReportSchedule.objects.filter(name=f"{REPORT_PREFIX}{chosen}").exists():
            raise ValidationError(_("This organization has a report schedule: change that one."))
        return chosen

    def clean_recipients(self) -> list[str]:
        """Read the addresses, each once."""
        addresses: dict[str, str] = {}
        faults = []
        for address in re.split(r"[\s,;]+", self.cleaned_data["recipients"].strip()):
            if not address:
                continue
            try:
                validate_email(address)
            except ValidationError:
                faults.append(
                    ValidationError(
                        _("“%(text)s” is not a mail address."), params={"text": address}
                    )
                )
            addresses.setdefault(address.casefold(), address)
        if faults:
            raise ValidationError(faults)
        return list(addresses.values())

    def clean(self) -> dict[str, Any] | None:
        """Bring the report's fields into the row's data."""
        super().clean()
        given, row = self.cleaned_data, self.instance
        organization = given.get("organization_id", row.organization_id)
        row.name, row.job_name = f"{REPORT_PREFIX}{organization}", REPORT_JOB
        row.data = {
            **(row.data or {}),
            "organization_id": organization,
            **{
                name: given[name]
                for name in ("report_type", "format", "recipients")
                if name in given
            },
        }
        return given


def _name_parts(field: forms.Field) -> None:
    """Tell a screen reader which moment the two inputs of a date and a time are for: Django gives them no label."""
    parts = getattr(field.widget, "widgets", ())
    for part, text in zip(parts, (_("date"), _("time")), strict=False):
        part.attrs["aria-label"] = f"{field.label}: {text}"


def _unsealed(value: Any) -> Any:
    """Return a stored argument as it is shown in the form; an encrypted one as stars."""
    return MASK if isinstance(value, dict) and set(value) == {ENCRYPTED} else value


def limited_to_organizations(form: Any, request: HttpRequest) -> Any:
    """Return a form that takes no organization but those that this person sees."""

    def clean(self: Any) -> Any:
        cleaned = form.clean(self)
        chosen = self.cleaned_data.get("organization_id")
        if (
            "organization_id" in self.fields
            and chosen is not None
            and not organization_scope.may_see(request, chosen)
        ):
            self.add_error(
                "organization_id", _("You may not make schedules for this organization.")
            )
        return cleaned

    return type(form.__name__, (form,), {"clean": clean, "__module__": form.__module__})
