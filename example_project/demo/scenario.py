"""The demo's scenario: enqueue all jobs, kill a worker, break and repair the partner's bookkeeping,
fix an invoice and replay its dead letter.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import django_rq
from django.contrib.auth.tokens import default_token_generator
from django.db import transaction
from django.utils import timezone
from rq import Worker

from example_project.accounts import jobs as account_jobs
from example_project.accounts.models import User
from example_project.invoices.bookkeeping import BREAKER
from example_project.invoices.jobs import generate_invoice, push_invoice
from example_project.timesheets.jobs import import_time_entries
from wellos_jobs import JobHandle, JobState, operations
from wellos_jobs.contrib import cleanup, emails, notifications, reports
from wellos_jobs.definitions import ids
from wellos_jobs.models import DeadLetter, JobRecord
from wellos_jobs.monitoring import limits
from wellos_jobs.states import DeadLetterStatus

from . import errands
from . import sample as sample_data
from .books import Mood
from .partner import Partner
from .sample import Sample
from .visitor import Visitor

NOTICE = "wellos-notify-admins"
REASON = "the missing line was added"
KILL_AT = 20
"""The percentage at which the worker of the import is killed."""


@dataclass
class Run:
    """One run of the demo: the enqueued jobs, and what was done to them."""

    sample: Sample
    partner: Partner
    worker_name: str
    reset_user: User
    token: str
    about: dict[uuid.UUID, str] = field(default_factory=dict)
    """A short description of each job."""
    delayed: set[uuid.UUID] = field(default_factory=set)
    """Jobs due in several days, which stay delayed."""
    started_at: datetime = field(default_factory=timezone.now)
    enqueue_seconds: float = 0.0
    flaky: JobHandle | None = None
    report: JobHandle | None = None
    broken: JobHandle | None = None
    imported: JobHandle | None = None
    asked_on_site: uuid.UUID | None = None
    cleanups: dict[str, JobHandle] = field(default_factory=dict)
    killed_at: datetime | None = None
    replayed: DeadLetter | None = None
    synced: list[JobHandle] = field(default_factory=list)
    """Jobs that post invoices to the bookkeeping while it is broken."""
    opened_at: datetime | None = None
    parked: int = 0
    """Number of jobs waiting at the open breaker."""
    errands: errands.Errands = field(default_factory=errands.Errands)

    def add(self, handle: JobHandle, about: str) -> JobHandle:
        self.about[handle.id] = about
        return handle

    def records(self) -> list[JobRecord]:
        """Return the rows of this run's jobs, and of the emails to the requester and to ADMINS."""
        with_link = ids.job_id(f"report-ready:{self.report}")
        own = JobRecord.objects.filter(pk__in=[*self.about, with_link])
        mine = DeadLetter.objects.filter(job_id__in=self.about)
        dead_letters = set(mine.values_list("pk", flat=True))
        notices = JobRecord.objects.filter(name=NOTICE, created_at__gte=self.started_at)
        own_notices = [notice for notice in notices if notice.data["letter_id"] in dead_letters]
        return sorted([*own, *own_notices], key=lambda record: (record.created_at, record.pk))


def enqueue_all(sample: Sample, worker_name: str, partner: Partner) -> Run:
    """Enqueue the jobs of the scenario in one transaction, as a view would."""
    user = sample.users[0]
    run = Run(
        sample,
        partner,
        worker_name,
        reset_user=user,
        token=default_token_generator.make_token(user),
    )
    started = time.perf_counter()
    with transaction.atomic():
        _mails(run)
        _notifications(run)
        _documents(run, partner.url)
        for job in (cleanup.cleanup_expired_tokens, cleanup.cleanup_pending_users):
            run.cleanups[job.name] = run.add(job.enqueue(), "")
        run.errands = errands.enqueue(sample, partner.url)
        run.about |= run.errands.about
    run.enqueue_seconds = time.perf_counter() - started
    errands.hurry(run.errands, sample)
    return run


def _mails(run: Run) -> None:
    users = run.sample.users
    for user, handle in zip(users, account_jobs.welcome.fire_for(users, created=True), strict=True):
        run.add(handle, user.username)
    link = f"http://127.0.0.1/password-reset/demo/{run.token}"
    reset = emails.send_password_reset_email(run.reset_user.email, run.token, link=link)
    run.add(reset, run.reset_user.username)
    news = [
        {
            "to": organization.email,
            "subject": "Invoices for October",
            "template": "announcement",
            "data": {
                "name": organization.name,
                "text": "Your invoices for October are being made.",
            },
        }
        for organization in run.sample.organizations
    ]
    for handle, item in zip(emails.send_bulk_emails(news), news, strict=True):
        run.add(handle, item["to"])


def _notifications(run: Run) -> None:
    warned = [user for user in run.sample.on_trial if account_jobs.warn_at(user)]
    for user, handle in zip(
        warned, account_jobs.warn_before_trial_ends.fire_for(warned), strict=True
    ):
        run.add(handle, user.username)
        run.delayed.add(handle.id)
    user = run.sample.users[1]
    reminder = notifications.send_reminder(
        user, "Please hand in your timesheet.", timedelta(seconds=1)
    )
    run.add(reminder, user.username)


def _documents(run: Run, partner_url: str) -> None:
    sample = run.sample
    assert sample.broken_invoice is not None and sample.import_into is not None
    project = sample.import_into
    run.imported = run.add(
        import_time_entries.using(organization=project.organization_id).enqueue(
            project_id=project.pk, url=f"{partner_url}/time-entries"
        ),
        project.name,
    )
    for organization in sample.organizations:
        invoices = [one for one in sample.invoices if one.organization_id == organization.pk]
        rows = [{"invoice_id": str(invoice.pk)} for invoice in invoices]
        handles = generate_invoice.using(organization=organization).enqueue_bulk(rows)
        for handle, invoice in zip(handles, invoices, strict=True):
            run.add(handle, invoice.number)
    days = {"start": sample_data.MONTH[0], "end": sample_data.MONTH[1]}
    report = reports.generate_report.using(requested_by=sample.admin).enqueue(
        report_type="hours", date_range=days
    )
    run.report = run.add(report, "hours")
    first = sample.invoices[0]
    flaky = push_invoice.enqueue(invoice_id=str(first.pk), url=f"{partner_url}/invoices")
    run.flaky = run.add(flaky, first.number)
    broken = sample.broken_invoice
    run.broken = run.add(generate_invoice.enqueue(invoice_id=str(broken.pk)), broken.number)


def act(run: Run, records: list[JobRecord], visitor: Visitor) -> str | None:
    """Take the next step of the scenario if it is time; return a description of it."""
    by_id = {record.pk: record for record in records}
    assert run.imported is not None and run.broken is not None
    importing = by_id[run.imported.id]
    if (
        run.killed_at is None
        and importing.state == JobState.ACTIVE
        and importing.progress >= KILL_AT
    ):
        return _kill_worker(run, importing)
    if run.asked_on_site is None and visitor.can_reach_site():
        return _ask_on_site(run, visitor)
    if line := _break_the_books(run, by_id):
        return line
    if run.replayed is None and by_id[run.broken.id].state == JobState.FAILED:
        return _fix_and_replay(run)
    return None


def is_over(run: Run, records: list[JobRecord]) -> bool:
    """Return whether all steps are taken and all jobs have ended."""
    if None in (run.killed_at, run.replayed, run.asked_on_site, run.opened_at):
        return False
    return all(JobState(record.state).is_final or record.pk in run.delayed for record in records)


def _ask_on_site(run: Run, visitor: Visitor) -> str:
    invoice = run.sample.invoices[-1]
    visitor.log_in()
    visitor.make_pdf(invoice.organization_id, invoice.pk)
    asked = JobRecord.objects.filter(
        name=generate_invoice.name, requested_by=run.sample.admin, created_at__gte=run.started_at
    ).get()
    run.about[asked.pk] = f"{invoice.number}, from the site"
    run.asked_on_site = asked.pk
    return f"the site is up; clicked 'Make PDF' for {invoice.number}"


def _break_the_books(run: Run, by_id: Mapping[uuid.UUID, JobRecord]) -> str | None:
    """After the flaky call, break the bookkeeping; repair it once the circuit breaker opens."""
    assert run.flaky is not None
    if not run.synced and by_id[run.flaky.id].state == JobState.COMPLETED:
        run.partner.books.misbehave(Mood.BROKEN)
        rows = [
            {"invoice_id": str(one.pk), "url": f"{run.partner.url}/books"}
            for one in run.sample.invoices
        ]
        run.synced = push_invoice.enqueue_bulk(rows)
        for handle, invoice in zip(run.synced, run.sample.invoices, strict=True):
            run.add(handle, f"{invoice.number} to bookkeeping")
        return f"broke the partner's bookkeeping; enqueued {len(run.synced)} invoices for it"

    breaker = next((line for line in limits.board().breakers if line.key == BREAKER.name), None)
    if (
        run.synced
        and run.opened_at is None
        and breaker is not None
        and breaker.is_open
        and breaker.waiting
    ):
        run.opened_at, run.parked = timezone.now(), breaker.waiting
        run.partner.books.behave()
        return f"the circuit breaker opened: {breaker.waiting} jobs wait; repaired the bookkeeping"
    return None


def _kill_worker(run: Run, importing: JobRecord) -> str | None:
    key = f"{Worker.redis_worker_namespace_prefix}{importing.worker}"
    worker = Worker.find_by_key(key, connection=django_rq.get_connection("default"))
    if worker is None or not importing.worker.startswith(run.worker_name):
        return None  # not a worker of the demo
    os.kill(worker.pid, signal.SIGKILL)
    run.killed_at = timezone.now()
    run.partner.let_pages_go()
    return (
        f"kill -9 of worker {importing.worker} (pid {worker.pid}), "
        f"during a job at {importing.progress} %"
    )


def _fix_and_replay(run: Run) -> str | None:
    assert run.broken is not None and run.sample.broken_invoice is not None
    still_open = DeadLetter.objects.filter(job_id=run.broken.id, status=DeadLetterStatus.OPEN)
    dead_letter = still_open.first()
    if dead_letter is None:
        return None
    sample_data.fix(run.sample.broken_invoice)
    operations.replay(dead_letter, by=run.sample.admin, reason=REASON)
    run.replayed = dead_letter
    return f'dead letter "{dead_letter.message}": fixed and replayed'
