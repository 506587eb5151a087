"""The job ``org-report``: a scheduled report for one organization, emailed as a link.

    schedule_organization_reports(
        "acme", "0 7 * * 1", report_type="hours", format="csv", recipients=["a@acme.example"]
    )

It supports the report types of ``contrib.reports`` whose ``fetch`` takes ``organization``.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils import timezone

from .. import CurrentJob, Discard, JobOptions, conf, cron, current_job, enqueue_bulk, job
from ..errors import ConfigurationError
from ..models import JobRecord, Schedule
from ..models.report_data import REPORT_FORMATS, REPORT_PREFIX
from ..organizations import organization_details, organization_time_zone
from ..schedules import REPORT_JOB
from . import report_types
from .emails import email_job
from .files import StoredFile, absolute
from .report_content import DateRange
from .report_types import ReportType
from .reports import announce, make

QUEUE = "dynamic"
DEFAULT_PERIOD = timedelta(days=30)
"""The period that a report covers if there is no schedule."""


@job(REPORT_JOB, queue=QUEUE, max_attempts=3, discard_on=(ConfigurationError,), manual=True)
def org_report(
    organization_id: str, report_type: str = "", format: str = "pdf", recipients: Sequence[str] = ()
) -> dict[str, Any]:
    """Make an organization's report, up to the day before it is due; return its URL and size.

    ``report_type`` '' selects the first registered type for organizations. ``format`` is ``pdf`` or
    ``csv``. Each recipient gets one separate email, even if the job runs twice.

    Raises:
        Discard: the job belongs to another organization than its data.
        UnknownReport: the type is not registered, or includes the data of all organizations.
        ValidationError: the organization, the format or an address is invalid.
    """
    kind = report_types.find_for_organizations(report_type)
    addresses = _checked(organization_id, format, recipients)
    _check_owner(organization_id)
    days = _days(organization_id)
    organization = _label(organization_id)
    title = f"{kind.title}, {organization}"

    file = make(kind, days, title, organization=organization_id, format=format)
    return announce(
        file, lambda _message: _mail(addresses, kind, organization_id, organization, days, file)
    )


def days_until(
    due: datetime, schedule: Schedule | None, organization_id: str, *, by_hand: bool = False
) -> DateRange:
    """Return the days covered by the report due at ``due``.

    It covers the days from the previous run to the day before ``due``, so that each day is in
    exactly one daily (or less frequent) report. If both runs are on one day, it covers that day.

    A manual run (``by_hand``) covers a period as long as that of the last scheduled run.
    """
    zone = cron.zone(
        schedule.zone if schedule else organization_time_zone(organization_id) or _project_zone()
    )
    start = _start(due, schedule, by_hand=by_hand)
    first, last = start.astimezone(zone).date(), due.astimezone(zone).date() - timedelta(days=1)
    return DateRange(first, max(first, last))


def _start(due: datetime, schedule: Schedule | None, *, by_hand: bool) -> datetime:
    if schedule is None:
        return due - DEFAULT_PERIOD

    line = (schedule.cron, schedule.zone)
    last = cron.previous_run(*line, due, anchor=schedule.starts_at)
    if last is None or not by_hand:
        return last or due - DEFAULT_PERIOD

    last_but_one = cron.previous_run(*line, last, anchor=schedule.starts_at)
    return due - (last - last_but_one if last_but_one else DEFAULT_PERIOD)


def _days(organization_id: str) -> DateRange:
    running = current_job(default=None)
    due = (running.due_at if running else None) or timezone.now()
    by_hand = running is None or bool(running.context.get("run_now"))
    return days_until(due, _schedule(running, organization_id), organization_id, by_hand=by_hand)


def _schedule(running: CurrentJob | None, organization_id: str) -> Schedule | None:
    """Return the schedule of the running job, or else the organization's report schedule."""
    using = running.database if running else None
    if running is not None:
        record = (
            JobRecord.objects.using(using).select_related("schedule").filter(pk=running.id).first()
        )
        if record is not None and record.schedule is not None:
            return record.schedule
    return Schedule.objects.using(using).filter(name=f"{REPORT_PREFIX}{organization_id}").first()


def _check_owner(organization_id: str) -> None:
    """Compare the data with the job: whose report it may be is decided by the job's organization.

    Raises:
        Discard: they differ.
    """
    running = current_job(default=None)
    if running is not None and running.organization_id != organization_id:
        raise Discard(
            f"organization_id is {organization_id!r}, but the job belongs to organization "
            f"{running.organization_id!r}: enqueue it with that organization, as "
            "org_report.using(organization=...) does"
        )


def _checked(organization_id: str, format: str, recipients: Sequence[str]) -> list[str]:
    """Check the job's arguments and return the addresses without duplicates."""
    if not organization_id:
        raise ValidationError(
            "organization_id is empty: the report would include the data of all organizations"
        )
    if format not in REPORT_FORMATS:
        raise ValidationError(f"Unknown format {format!r}: use {' or '.join(REPORT_FORMATS)}")
    if isinstance(recipients, str):
        raise ValidationError("recipients must be a list of email addresses")

    addresses: dict[str, str] = {}
    for address in recipients:
        try:
            validate_email(address)
        except ValidationError as error:
            raise ValidationError(f"Invalid email address {address!r} in recipients") from error
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
    """Enqueue an email to each address.

    Its id is derived from the report job's, so that a repeated run sends no second email.
    """
    running = current_job(default=None)
    report = running.id if running else str(uuid.uuid4())
    mail = {
        "subject": f"{kind.title}: {days}",
        "template": "organization-report",
        "data": {
            "title": kind.title,
            "organization": organization,
            "days": str(days),
            "url": absolute(file.url),
        },
    }

    emails = []
    for to in addresses:
        options = JobOptions(
            id=f"{REPORT_JOB}:{report}:{to}",
            organization=organization_id,
            database=running.database if running else None,
        )
        emails.append((email_job.name, {"to": to, **mail}, options))
    enqueue_bulk(emails)


def _label(organization_id: str) -> str:
    return str(organization_details(organization_id).get("label") or organization_id)


def _project_zone() -> str:
    return str(conf.django_setting("TIME_ZONE"))
