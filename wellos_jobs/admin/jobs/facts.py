"""The list of facts on the page of a job: labels and values."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib.admin import AdminSite
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from ...enqueueing import uniqueness
from ...errors import EncryptionError, PayloadError
from ...models import JobRecord
from ..ui import display

Fact = tuple[str, Any]


def facts(site: AdminSite, job: JobRecord) -> list[Fact]:
    """Return the non-empty facts. At most two queries: requester and unique key."""
    organization = display.organizations([job.organization_id]).get(job.organization_id, "")

    found: list[Fact] = [
        (_("Id"), format_html("<code>{}</code>", job.pk)),
        (_("RQ id"), job.rq_id),
        (_("Queue"), job.queue),
        (_("Priority"), job.get_priority_display()),
        (_("Attempts"), f"{job.attempts}/{job.max_attempts}"),
        (_("Replays"), job.replays or ""),
        (_("Version of the data"), job.version if job.version > 1 else ""),
        (_("Wait"), _shown(display.wait_time(job))),
        (pgettext("duration", "Run"), _shown(display.run_time(job))),
        (_("Timeout"), display.duration(job.timeout)),
        (_("Organization"), organization),
        (_("Requested by"), job.requested_by or ""),
        (_("Worker"), job.worker),
        *((label, _moment(at)) for label, at in _times(job)),
        (_("Schedule"), _linked(site, "schedule", job.schedule_id, job.schedule)),
        (_("Batch"), _linked(site, "batch", job.batch_id, job.batch)),
        (_("Flow"), _flow(site, job)),
        (_("Unique key"), _unique(site, job)),
    ]

    return [(label, value) for label, value in found if value not in ("", None)]


def _times(job: JobRecord) -> list[tuple[str, datetime | None]]:
    return [
        (_("Created"), job.created_at),
        (_("Runs at"), job.run_at),
        (_("Enqueued"), job.enqueued_at),
        (_("Started"), job.started_at),
        (_("Finished"), job.finished_at),
    ]


def _shown(text: str) -> str:
    return "" if text == display.NOTHING else text


def _moment(at: datetime | None) -> str:
    return display.moment_in(timezone.localtime(at)) if at else ""


def _linked(site: AdminSite, model: str, pk: Any, label: object) -> Any:
    return display.link(site, model, pk, label) if pk else ""


def _flow(site: AdminSite, job: JobRecord) -> Any:
    if job.flow_id is None:
        return ""
    try:
        url = reverse("admin:wellos_jobs_jobrecord_changelist", current_app=site.name)
    except NoReverseMatch:
        return str(job.flow_id)
    return format_html('<a href="{}?flow_id__exact={}">{}</a>', url, job.flow_id, job.flow_id)


def _unique(site: AdminSite, job: JobRecord) -> Any:
    try:
        claim = uniqueness.reservation_of(job)
    except (EncryptionError, PayloadError) as error:
        return _("unknown: %(error)s") % {"error": error}
    if claim is None:
        return ""

    key = claim.key[:12]
    until = _(" until %(when)s") % {"when": _moment(claim.expires)} if claim.expires else ""
    if claim.job == job.pk:
        return _("%(key)s…, held by this job%(until)s") % {"key": key, "until": until}
    return format_html(
        _("{}…, held by {}{}"), key, display.link(site, "jobrecord", claim.job, claim.job), until
    )
