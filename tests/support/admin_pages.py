"""The one table of the admin's pages, and a database and a Redis with something on each of them.

A page that is registered and not in the table fails ``test_admin_pages``. Pages that make one
answer for a script (``FILES``) and addresses that only act (``ACTS``) are listed, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.db import models as django_models
from django.urls import reverse

from wellos_jobs import Batch, Flow, Priority, operations
from wellos_jobs.admin.dead_letters.fault_page import FaultActionPage
from wellos_jobs.admin.dead_letters.page import DeadLetterActionPage
from wellos_jobs.admin.jobs.actions import JobActionPage
from wellos_jobs.contrib import report_types, reports
from wellos_jobs.models import (
    AuditEntry,
    BulkOperation,
    DeadLetter,
    JobAttempt,
    JobRecord,
    OrganizationReportSchedule,
    SavedView,
    Schedule,
)
from wellos_jobs.models import Batch as BatchRow
from wellos_jobs.operations import bulk
from wellos_jobs.operations.audit import Actor
from wellos_jobs.operations.verbs import VERBS
from wellos_jobs.schedules import schedule_organization_reports
from wellos_jobs.states import JobState

from .. import jobs
from . import guarded_jobs
from .engine import Books, Hand, work

PREFIX = "wellos_jobs_"
Arguments = Callable[[], Sequence[Any]]


@dataclass(frozen=True)
class AdminPage:
    """One page: the name of its URL without the app's, what the URL is made of, and what it asks of
    Redis."""

    name: str
    arguments: Arguments = tuple
    query: str = ""
    asks_redis: bool = False
    label: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.name, self.label, self.query)))

    @property
    def is_django_s(self) -> bool:
        """Return whether nothing on the page is this app's but its texts."""
        return self.name == "app_list" or self.name.endswith("_history")

    def url(self, site: str = "admin") -> str:
        """Return its address on an admin site, from the rows of ``fill``."""
        name = self.name if self.name == "app_list" else PREFIX + self.name
        return reverse(f"admin:{name}", args=list(self.arguments()), current_app=site) + self.query


def first(rows: django_models.QuerySet[Any]) -> Any:
    """Return the first row; there has to be one."""
    row = rows.order_by("pk").first()
    assert row is not None, f"fill() made no {rows.model.__name__} for {rows.query.where}"
    return row


def _row(model: Any) -> Arguments:
    return lambda: (first(model.objects.all()).pk,)


def _job(state: str, **fields: Any) -> Arguments:
    return lambda: (first(JobRecord.objects.filter(state=state, rq_id=None, **fields)).pk,)


def _letter(*more: Any) -> Arguments:
    return lambda: (first(DeadLetter.objects.filter(status="open", job__rq_id=None)).pk, *more)


def _fault(*more: Any) -> Arguments:
    return lambda: (first(DeadLetter.objects.filter(job__name="test-fail")).fingerprint, *more)


def _flow() -> Sequence[Any]:
    return (first(JobRecord.objects.exclude(flow_id=None)).flow_id,)


STATE_OF_VERB = {"retry": "failed", "promote": "delayed"}
"""In which state a job is shown that a verb is for; ``waiting`` for others."""


def _job_of_verb(verb: str) -> Arguments:
    find = _job(STATE_OF_VERB.get(verb, "waiting"))
    return lambda: (*find(), verb)


PAGES: tuple[AdminPage, ...] = (
    AdminPage("app_list", lambda: ("wellos_jobs",)),
    AdminPage("queues", asks_redis=True),
    AdminPage("queues", query="?as=table", asks_redis=True),
    AdminPage("queues_changelist", asks_redis=True),
    AdminPage("jobrecord_changelist"),
    AdminPage("jobrecord_changelist", query="?state__exact=failed&q=partner"),
    AdminPage("jobrecord_changelist", query="?q=data.message:nothing+is+like+this"),
    *(
        AdminPage("jobrecord_change", _job(state), label=state, asks_redis=True)
        for state in ("waiting", "delayed", "blocked", "active")
    ),
    *(
        AdminPage("jobrecord_change", _job(state), label=state)
        for state in ("completed", "failed", "canceled")
    ),
    AdminPage(
        "jobrecord_change",
        lambda: (first(JobRecord.objects.exclude(rq_id=None)).pk,),
        label="foreign",
    ),
    AdminPage("jobrecord_history", _row(JobRecord)),
    *(AdminPage("job_act", _job_of_verb(verb), label=verb) for verb in JobActionPage.verbs),
    AdminPage("job_copy", _job("failed")),
    AdminPage("jobattempt_changelist"),
    AdminPage("jobattempt_change", _row(JobAttempt)),
    AdminPage("jobattempt_history", _row(JobAttempt)),
    AdminPage("faults"),
    AdminPage("faults", query="?status=any"),
    AdminPage("fault", _fault()),
    *(AdminPage("fault_act", _fault(verb), label=verb) for verb in FaultActionPage.verbs),
    AdminPage("deadletter_changelist"),
    AdminPage("deadletter_change", _letter()),
    AdminPage("deadletter_history", _letter()),
    *(
        AdminPage("deadletter_act", _letter(verb), label=verb)
        for verb in DeadLetterActionPage.verbs
    ),
    AdminPage("schedule_changelist", asks_redis=True),
    AdminPage("schedule_add"),
    AdminPage("schedule_change", _row(Schedule)),
    AdminPage("schedule_delete", _row(Schedule)),
    AdminPage("schedule_history", _row(Schedule)),
    AdminPage("organizationreportschedule_changelist", asks_redis=True),
    AdminPage("organizationreportschedule_add"),
    AdminPage("organizationreportschedule_change", _row(OrganizationReportSchedule)),
    AdminPage("organizationreportschedule_delete", _row(OrganizationReportSchedule)),
    AdminPage("organizationreportschedule_history", _row(OrganizationReportSchedule)),
    AdminPage("batch_changelist"),
    AdminPage("batch_change", _row(BatchRow)),
    AdminPage("batch_history", _row(BatchRow)),
    AdminPage("flows"),
    AdminPage("flow", _flow),
    AdminPage("limits", asks_redis=True),
    AdminPage("limits", query="?q=nothing-is-called-so", asks_redis=True),
    AdminPage("workers", asks_redis=True),
    *(AdminPage("statistics", query=f"?window={window}") for window in ("1h", "24h", "90d")),
    AdminPage("auditentry_changelist"),
    AdminPage("auditentry_change", _row(AuditEntry)),
    AdminPage("auditentry_history", _row(AuditEntry)),
    AdminPage("erasure"),
    AdminPage("bulkoperation_changelist"),
    AdminPage("bulkoperation_change", _row(BulkOperation), asks_redis=True),
    AdminPage("bulkoperation_history", _row(BulkOperation)),
)
"""Every page for a person."""

FILES: tuple[AdminPage, ...] = (
    AdminPage("job_traceback", lambda: ((one := first(JobAttempt.objects.all())).job_id, one.pk)),
    AdminPage("deadletter_traceback", _letter()),
    AdminPage("auditentry_export"),
    AdminPage("statistics", query="?format=csv"),
    AdminPage("schedule_preview", query="?cron=0+2+*+*+*&time_zone=Europe/Paris"),
    AdminPage("organizationreportschedule_preview", query="?cron=0+2+*+*+*&time_zone=Europe/Paris"),
    AdminPage("queues_stats"),
)
"""What is no page: texts, tables, parts of a page, JSON."""

ACTS = {"jobrecord_views", "deadletter_views", "bulkoperation_stop"}
"""What takes a POST only."""
REFUSED = {
    f"{model}_{view}"
    for model in ("jobrecord", "jobattempt", "deadletter", "auditentry", "batch", "bulkoperation")
    for view in ("add", "delete")
}
"""What Django registers for every model and nobody may do: rows of the ledger are only read."""


@contextmanager
def report_kinds() -> Iterator[None]:
    """Let there be a kind of report, and afterwards those that there were."""
    before = dict(report_types._types)
    reports.register("hours", title="Hours worked", fetch=_fetch, columns={"a": "A"})
    try:
        yield
    finally:
        report_types._types.clear()
        report_types._types.update(before)


def _fetch(days: reports.DateRange, organization: str = "") -> list[Any]:
    return []


def fill() -> User:
    """Make rows and keys for all pages; return a superuser. Needs ``report_kinds`` and an empty
    Redis."""
    root = User.objects.create_superuser("root", "root@wellos.example")
    actor = Actor(root, "the partner asked for it", "192.0.2.1")
    _ended(root)
    _schedules()
    books = Books()
    books.fold()
    _open(root)
    books.fold()
    who = {"by": root, "reason": actor.reason, "address": actor.address}
    operations.pause_queue("slow", **who)
    operations.trip_breaker("picky", **who)
    letters = DeadLetter.objects.filter(job__name="test-fail")
    bulk.begin(
        VERBS["replay"],
        letters,
        site="admin",
        query="",
        rate=None,
        total=letters.count(),
        actor=actor,
    )
    SavedView.objects.create(
        owner=root, page="jobrecord", name="what failed", query="state__exact=failed"
    )
    return root


def _ended(root: User) -> None:
    jobs.fail.using(organization="acme", requested_by=root).enqueue(message="the partner is away")
    jobs.fail.enqueue_bulk([{"message": "the partner is away"}] * 2)
    jobs.secret.enqueue(token="s3cr3t-value", fail=True)
    jobs.scripted.enqueue(steps=["log:a line of the log", "progress:40:half way", "result:done"])
    with Batch(name="import", organization="acme") as batch:
        batch.enqueue_bulk(jobs.noop, [{}] * 2)
        batch.enqueue(jobs.fail, message="line 3 is broken")
    Flow(
        jobs.noop.with_data(), children=[jobs.add.with_data(a=1), jobs.add.with_data(a=2)]
    ).enqueue()
    guarded_jobs.partner.using(max_attempts=1).enqueue(steps=["raise:OSError:no route"])
    _foreign()
    jobs.noop.enqueue().cancel()
    work()


def _foreign() -> None:
    import django_rq

    django_rq.get_queue("default").enqueue(jobs.foreign_add, 1, b=2)


def _open(root: User) -> None:
    guarded_jobs.single.using(queue="reports").enqueue_bulk([{}] * 3)
    Hand("reports", name="busy").take()
    jobs.noop.using(queue="email", delay=3600).enqueue()
    jobs.scripted.using(max_attempts=3).enqueue(steps=["raise:OSError:no route"])
    Hand("default").run()
    Flow(jobs.noop.with_data(), children=[jobs.noop.with_data()]).enqueue()
    jobs.echo.using(
        queue="email", priority=Priority.HIGH, organization="acme", requested_by=root
    ).enqueue(value="x")


def _schedules() -> None:
    Schedule.objects.create(
        name="nightly", job_name="test-noop", cron="0 2 * * *", time_zone="Europe/Paris"
    )
    schedule_organization_reports(
        "acme", "0 7 * * 1", report_type="hours", format="csv", recipients=["a@acme.example"]
    )


def states() -> set[str]:
    """Return the states of jobs that there are: a table of pages has one for each."""
    return set(JobRecord.objects.values_list("state", flat=True)) & set(JobState.values)
