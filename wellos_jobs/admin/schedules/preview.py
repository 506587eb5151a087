"""Preview of a schedule: description, next runs, and the effect of clock changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminSplitDateTime
from django.http import QueryDict
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ... import conf, cron
from ...errors import CronError
from ...models import Schedule
from ..ui import display

RUNS = 10
CLOCK_CHANGE_DAYS = 400
MAX_CLOCK_CHANGES = 4


@dataclass(frozen=True)
class Run:
    """An upcoming run: its time in the zone, and relative to now."""

    at: str
    away: str


@dataclass(frozen=True)
class Preview:
    """The context of the preview."""

    words: str = ""
    zone: str = ""
    whose: str = ""
    runs: Sequence[Run] = ()
    edges: Sequence[str] = ()
    notes: Sequence[str] = ()
    faults: Sequence[str] = ()


class PreviewForm(forms.Form):
    """The fields of the schedule form that the preview depends on."""

    cron = forms.CharField(max_length=120, required=False)
    time_zone = forms.CharField(max_length=64, required=False)
    organization_id = forms.CharField(max_length=64, required=False)
    starts_at = forms.SplitDateTimeField(widget=AdminSplitDateTime, required=False)
    ends_at = forms.SplitDateTimeField(widget=AdminSplitDateTime, required=False)


def preview_of_query(query: QueryDict) -> Preview:
    """Return the preview for the current input of the form."""
    form = PreviewForm(query)
    if not form.is_valid():
        faults = [
            f"{form[name].label}: {error}"
            for name, errors in form.errors.items()
            for error in errors
        ]
        return Preview(faults=faults)
    return preview(Schedule(**form.cleaned_data))


def preview(schedule: Schedule) -> Preview:
    """Return the preview of a schedule, which may be unsaved or invalid."""
    if not schedule.cron.strip():
        return Preview(notes=[_("Enter a cron expression to see the next runs.")])

    zone, whose = zone_of(schedule)
    dated = copy(schedule)
    dated.time_zone = zone
    now = timezone.now()
    try:
        words = cron.describe(schedule.cron)
        runs = dated.runs_after(now, RUNS)
        edges = cron.edges(schedule.cron, zone, now, days=CLOCK_CHANGE_DAYS)
    except (CronError, ValueError) as error:
        return Preview(faults=[str(error)])

    return Preview(
        words=words[:1].upper() + words[1:],
        zone=zone,
        whose=whose,
        runs=[Run(display.moment_in(run), display.away(now, run)) for run in runs],
        edges=[note for at, note in edges if _within(schedule, at)][:MAX_CLOCK_CHANGES],
        notes=_notes(schedule, runs),
    )


def zone_of(schedule: Schedule, found: Mapping[str, Any] | None = None) -> tuple[str, str]:
    """Return the effective time zone, and whose it is ('' for the schedule's own).

    ``found`` is what the resolver returned for the organization; without it, the resolver is
    called. If that fails, the project's zone is used.
    """
    if schedule.time_zone:
        return schedule.time_zone, ""
    if found is None:
        found = display.resolved([schedule.organization_id]).get(schedule.organization_id, {})
    if found.get("time_zone"):
        return str(found["time_zone"]), _("the organization's")
    return str(conf.django_setting("TIME_ZONE")), _("the project's")


def rendered(shown: Preview) -> SafeString:
    """Return a preview as an HTML fragment."""
    return render_to_string("admin/wellos_jobs/schedule/preview.html", {"preview": shown})


def _within(schedule: Schedule, at: datetime) -> bool:
    after = schedule.starts_at is None or at >= schedule.starts_at
    return after and (schedule.ends_at is None or at <= schedule.ends_at)


def _notes(schedule: Schedule, runs: Sequence[datetime]) -> list[str]:
    notes = []
    if not runs:
        notes.append(_("There are no further runs."))
    elif len(runs) < RUNS:
        notes.append(_("There are no runs after these."))
    if schedule.pk is not None and not schedule.enabled:
        notes.append(_("The schedule is disabled and does not run."))
    return notes
