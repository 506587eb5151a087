"""Forms: request a report, and edit an organization's report schedule."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from django import forms
from django.core.validators import validate_email
from django.utils import timezone

from example_project.organizations.models import Organization
from wellos_jobs import cron
from wellos_jobs.contrib import report_types
from wellos_jobs.errors import CronError
from wellos_jobs.models import OrganizationReportSchedule

CUSTOM = "custom"
OFTEN = {
    "* * *": "Every day",
    "* * 1-5": "Every weekday",
    "* * 1": "Every Monday",
    "1 * *": "On the first of the month",
}
"""Labels for the last three fields of a cron line."""
FORMATS = [("pdf", "PDF"), ("csv", "CSV")]
MOST_RECIPIENTS = 5
SHORTEST_INTERVAL = 60
"""Seconds between two reports."""


def report_choices() -> list[tuple[str, str]]:
    return [(kind.name, kind.title) for kind in report_types.for_organizations()]


class ReportForm(forms.Form):
    """A report type and its date range."""

    report_type = forms.ChoiceField(label="Report", choices=report_choices)
    start = forms.DateField(
        label="From", widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )
    end = forms.DateField(
        label="To", widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if "start" in values and "end" in values and values["end"] < values["start"]:
            self.add_error("end", "It ends before it starts.")
        return values


def last_month() -> dict[str, date]:
    """Return the first and last day of the previous month."""
    end = timezone.localdate().replace(day=1) - timedelta(days=1)
    return {"start": end.replace(day=1), "end": end}


class ScheduleForm(forms.Form):
    """An organization's report schedule. ``cleaned_data["cron"]`` is the resulting cron line."""

    often = forms.ChoiceField(label="When", choices=[*OFTEN.items(), (CUSTOM, "By a cron line")])
    at = forms.TimeField(
        label="At", required=False, widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M")
    )
    line = forms.CharField(
        label="Cron line",
        required=False,
        max_length=120,
        help_text="Minute, hour, day of the month, month, weekday. Only for “By a cron line”.",
    )
    time_zone = forms.ChoiceField(label="Time zone", required=False)
    report_type = forms.ChoiceField(label="Report", choices=report_choices)
    format = forms.ChoiceField(label="Format", choices=FORMATS)
    recipients = forms.CharField(
        label="Recipients",
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Email addresses of members, one on each line. Each gets an email with a link.",
    )
    enabled = forms.BooleanField(label="Enabled", required=False)

    def __init__(self, organization: Organization, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.organization = organization
        own = ("", f"{organization.time_zone} (the organization's)")
        self.fields["time_zone"].choices = [
            own,
            *((name, name) for name in sorted(available_timezones())),
        ]

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.cleaned_data.get("time_zone") or self.organization.time_zone)

    def clean_recipients(self) -> list[str]:
        addresses = list(dict.fromkeys(self.cleaned_data["recipients"].split()))
        if len(addresses) > MOST_RECIPIENTS:
            raise forms.ValidationError(
                f"{len(addresses)} addresses are too many: use at most {MOST_RECIPIENTS}."
            )
        for address in addresses:
            try:
                validate_email(address)
            except forms.ValidationError as error:
                raise forms.ValidationError(f"{address} is not an email address.") from error

        if strangers := self._strangers(addresses):
            raise forms.ValidationError(
                f"{strangers[0]} is not an address of a member of {self.organization}."
            )
        return addresses

    def _strangers(self, addresses: list[str]) -> list[str]:
        """Return the addresses that may not get a report.

        Those of members may, the organization's, and those that the schedule has already.
        """
        known = {self.organization.email, *str(self.initial.get("recipients", "")).split()}
        strangers = [address for address in addresses if address not in known]
        if not strangers:
            return []

        members = self.organization.users.filter(is_active=True)
        folded = {email.casefold() for email in members.values_list("email", flat=True)}
        return [address for address in strangers if address.casefold() not in folded]

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if (line := self._line(values)) is not None:
            values["cron"] = line
        return values

    def _line(self, values: dict[str, Any]) -> str | None:
        """Return the cron line for the choices, or None if they are invalid."""
        often = values.get("often")
        if often == CUSTOM:
            return self._custom_line(values.get("line", ""))
        elif often and values.get("at") is None and "at" not in self.errors:
            self.add_error("at", "Enter a time.")
        elif often and values.get("at") is not None:
            return f"{values['at'].minute} {values['at'].hour} {often}"
        return None

    def _custom_line(self, text: str) -> str | None:
        try:
            expression = cron.parse(text)
        except CronError as error:
            self.add_error("line", str(error))
            return None

        if expression.shortest_gap.total_seconds() < SHORTEST_INTERVAL:
            self.add_error("line", f"Leave at least {SHORTEST_INTERVAL} seconds between two runs.")
            return None
        return expression.line


def initial(schedule: OrganizationReportSchedule | None) -> dict[str, Any]:
    """Return the form's initial values for a schedule, or defaults if there is none."""
    if schedule is None:
        return {"often": "1 * *", "at": "07:00", "enabled": True}
    return {
        **_choices(schedule.cron),
        "line": schedule.cron,
        "time_zone": schedule.time_zone,
        "report_type": schedule.report_type,
        "format": schedule.format,
        "recipients": "\n".join(schedule.recipients),
        "enabled": schedule.enabled,
    }


def _choices(line: str) -> dict[str, str]:
    """Return the choices that are equivalent to a cron line."""
    found = re.fullmatch(r"(\d{1,2}) (\d{1,2}) (.+)", line)
    if found is None or found[3] not in OFTEN:
        return {"often": CUSTOM}
    return {"often": found[3], "at": f"{int(found[2]):02}:{int(found[1]):02}"}
