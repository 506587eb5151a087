"""What a schedule's line means: in words, as its next runs, and what clock changes do to it."""

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
    """One coming run: its time in the zone, and how far off it is."""

    at: str
    away: str


@dataclass(frozen=True)
class Preview:
    """All that the page says of a line."""

    words: str = ""
    zone: str = ""
    whose: str = ""
    runs: Sequence[Run] = ()
    edges: Sequence[str] = ()
    notes: Sequence[str] = ()
    faults: Sequence[str] = ()


class PreviewForm(forms.Form):
    """The fields of the page that a preview depends on, under the names they have there."""

    cron = forms.CharField(max_length=120, required=False)
    time_zone = forms.CharField(max_length=64, required=False)
    organization_id = forms.CharField(max_length=64, required=False)
    starts_at = forms.SplitDateTimeField(widget=AdminSplitDateTime, required=False)
    ends_at = forms.SplitDateTimeField(widget=AdminSplitDateTime, required=False)


def preview_of_query(query: QueryDict) -> Preview:
    """Return the preview for what somebody has typed so far."""
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
    """Return the preview of a schedule, stored or not, whether or not it can be meant."""
    if not schedule.cron.strip():
        return Preview(notes=[_("The next runs are shown here once there is a cron line.")])
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
    """Return the zone in force, and whose it is ('' when it is the schedule's own).

    ``found`` is what the resolver knows of the organization; without it, it is asked. If it fails,
    the project's zone is shown.
    """
    if schedule.time_zone:
        return schedule.time_zone, ""
    if found is None:
        found = display.resolved([schedule.organization_id]).get(schedule.organization_id, {})
    if found.get("time_zone"):
        return str(found["time_zone"]), _("the organization's")
    return str(conf.django_setting("TIME_ZONE")), _("the project's")


def rendered(shown: Preview) -> SafeString:
    """Return a preview as a piece of a page."""
    return render_to_string("admin/wellos_jobs/schedule/preview.html", {"preview": shown})


def _within(schedule: Schedule, at: datetime) -> bool:
    after = schedule.starts_at is None or at >= schedule.starts_at
    return after and (schedule.ends_at is None or at <= schedule.ends_at)


def _notes(schedule: Schedule, runs: Sequence[datetime]) -> list[str]:
    notes = []
    if not runs:
        notes.append(_("It never runs again."))
    elif len(runs) < RUNS:
        notes.append(_("Then it ends."))
    if schedule.pk is not None and not schedule.enabled:
        notes.append(_("It is switched off: these runs are not made."))
    return notes
