"""``org-report``: the report of one organization, made by its schedule, stored, and mailed as a link.

    schedule_organization_reports("acme", "0 7 * * 1", report_type="hours", format="csv",
    recipients=["a@acme.example"])

The report types are those of ``contrib.reports`` whose ``fetch`` takes an ``organization``.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils import timezone

from .. import CurrentJob, JobOptions, conf, cron, current_job, enqueue_bulk, job
from ..errors import ConfigurationError
from ..models import JobRecord, Schedule
from ..models.report_data import REPORT_FORMATS, REPORT_PREFIX
from ..organizations import organization_details, organization_time_zone
from ..schedules import REPORT_JOB
from . import report_types
from .emails import email_job
from .files import StoredFile, absolute
from .report_types import DateRange, ReportType
from .reports import announce, make

QUEUE = "dynamic"
WITHOUT_SCHEDULE = timedelta(days=30)
"""How long a time a report is about that no schedule made."""


@job(REPORT_JOB, queue=QUEUE, max_attempts=3, discard_on=(ConfigurationError,))
def org_report(
    organization_id: str, report_type: str = "", format: str = "pdf", recipients: Sequence[str] = ()
) -> dict[str, Any]:
    """Make an organization's report for the days up to when it was due; return ``{"url", "size"}``, size in bytes.

    ``report_type`` '' is the first registered type that organizations may have; ``format`` is
    ``pdf`` or ``csv``. Each of ``recipients`` gets a mail of their own, once, however often the job
    is run.

    Raises:
        UnknownReport: the type does not exist, or shows everybody's data.
        ValidationError: the organization, the format or an address cannot be meant.
    """
    kind = report_types.find_for_organizations(report_type)
    addresses = _checked(organization_id, format, recipients)
    days = _days(organization_id)
    organization = _label(organization_id)
    file = make(
        kind, days, f"{kind.title}, {organization}", organization=organization_id, format=format
    )
    return announce(
        file, lambda _message: _mail(addresses, kind, organization_id, organization, days, file)
    )


def days_until(
    due: datetime, schedule: Schedule | None, organization_id: str, *, by_hand: bool = False
) -> DateRange:
    """Return the days that a report due at ``due`` is about: those since the run before it, the day of ``due`` not
    counted unless the run before was on that day, too. So each day is in exactly one of the daily
    (or rarer) reports.

    A run by hand is about as long a time as the last one of the calendar was.
    """
    zone = cron.zone(
        schedule.zone if schedule else organization_time_zone(organization_id) or _project_zone()
    )
    start = _start(due, schedule, by_hand=by_hand)
    first, last = start.astimezone(zone).date(), due.astimezone(zone).date() - timedelta(days=1)
    return DateRange(first, max(first, last))


def _start(due: datetime, schedule: Schedule | None, *, by_hand: bool) -> datetime:
    if schedule is None:
        return due - WITHOUT_SCHEDULE
    line = (schedule.cron, schedule.zone)
    before = cron.previous_run(*line, due, anchor=schedule.starts_at)
    if before is None or not by_hand:
        return before or due - WITHOUT_SCHEDULE
    earlier = cron.previous_run(*line, before, anchor=schedule.starts_at)
    return due - (before - earlier if earlier else WITHOUT_SCHEDULE)


def _days(organization_id: str) -> DateRange:
    running = current_job(default=None)
    due = (running.due_at if running else None) or timezone.now()
    by_hand = running is None or bool(running.context.get("run_now"))
    return days_until(due, _schedule(running, organization_id), organization_id, by_hand=by_hand)


def _schedule(running: CurrentJob | None, organization_id: str) -> Schedule | None:
    """Return the schedule that made the running job, or else the organization's."""
    using = running.database if running else None
    if running is not None:
        record = (
            JobRecord.objects.using(using).select_related("schedule").filter(pk=running.id).first()
        )
        if record is not None and record.schedule is not None:
            return record.schedule
    return Schedule.objects.using(using).filter(name=f"{REPORT_PREFIX}{organization_id}").first()


def _checked(organization_id: str, format: str, recipients: Sequence[str]) -> list[str]:
    """Check the job's arguments and return the addresses, each once."""
    if not organization_id:
        raise ValidationError("organization_id is empty: the report would show everybody's data")
    if format not in REPORT_FORMATS:
        raise ValidationError(
            f"format is {format!r}: reports are made as {' or '.join(REPORT_FORMATS)}"
        )
    if isinstance(recipients, str):
        raise ValidationError("recipients must be a list of mail addresses")
    addresses: dict[str, str] = {}
    for address in recipients:
        try:
            validate_email(address)
        except ValidationError as error:
            raise ValidationError(f"{address!r} in recipients is not a mail address") from error
        addresses.setdefault(address.casefold(), address)
    return list(addresses.values())


def _mail(
    addresses: Sequence[str],
    kind: ReportType,
    organization_id: str,
    organization: str,
    days: DateRange,
    file: StoredFile,
) -> None:
    """Enqueue a mail to each address. Its id is made from the report's, so that a report made again sends no second."""
    running = current_job(default=None)
    report = running.id if running else str(uuid.uuid4())
    data = {
        "title": kind.title,
        "organization": organization,
        "days": str(days),
        "url": absolute(file.url),
    }
    enqueue_bulk(
        [
            (
                email_job.name,
                {
                    "to": to,
                    "subject": f"{kind.title}: {days}",
                    "template": "organization-report",
                    "data": data,
                },
                JobOptions(
                    id=f"{REPORT_JOB}:{report}:{to}",
                    organization=organization_id,
                    database=running.database if running else None,
                ),
            )
            for to in addresses
        ]
    )


def _label(organization_id: str) -> str:
    return str(organization_details(organization_id).get("label") or organization_id)


def _project_zone() -> str:
    return str(conf.django_setting("TIME_ZONE"))
