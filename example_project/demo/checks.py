"""Checks of the demo's results: rows, files, emails and the log."""

from __future__ import annotations

import email
import email.policy
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import TypeVar

from django.conf import settings
from django.core.files.storage import default_storage
from django.db.models import Sum

from example_project.accounts.models import AccessToken, User
from example_project.errands.tasks import clear_sessions
from example_project.invoices.bookkeeping import BREAKER
from example_project.invoices.models import Invoice
from wellos_jobs import JobState
from wellos_jobs.contrib import emails
from wellos_jobs.models import AuditEntry, DeadLetter, JobAttempt, JobRecord, JobStatistic
from wellos_jobs.states import AttemptOutcome, DeadLetterStatus

from . import partner as partner_module
from . import sample as sample_data
from .partner import Partner
from .scenario import REASON, Run
from .visitor import Visitor

RESCUE_WITHIN = timedelta(seconds=5)
PROGRESS_STEPS = [0, 20, 60, 80, 90, 100]


@dataclass(frozen=True)
class Facts:
    """The input of the checks."""

    run: Run
    records: list[JobRecord]
    partner: Partner
    visitor: Visitor
    worker_log: Path
    fresh: bool
    """Whether the databases were empty before, so that the statistics must match this run."""


class Wrong(Exception):
    """A check failed; the message says why."""


@dataclass(frozen=True)
class Result:
    """The result of one check."""

    name: str
    passed: bool
    detail: str


T = TypeVar("T")
Check = Callable[[Facts], str]
CHECKS: dict[str, Check] = {}


def check(name: str) -> Callable[[Check], Check]:
    def add(function: Check) -> Check:
        CHECKS[name] = function
        return function

    return add


def run_all(facts: Facts) -> Iterator[Result]:
    """Yield the result of each check."""
    for name, function in CHECKS.items():
        try:
            yield Result(name, True, function(facts))
        except (Wrong, OSError, LookupError, ValueError, AttributeError) as error:
            yield Result(name, False, f"{type(error).__name__}: {error}")


def expect(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise Wrong(f"{what}: {found!r}, expected {wanted!r}")


def given(value: T | None, what: str) -> T:
    if value is None:
        raise Wrong(f"there was no {what}")
    return value


@check("all jobs ended as expected")
def _states(facts: Facts) -> str:
    for record in facts.records:
        wanted = JobState.DELAYED if record.pk in facts.run.delayed else JobState.COMPLETED
        expect(record.state, wanted, f"{record.name} {record.pk}")
    counts = Counter(record.get_state_display() for record in facts.records)
    return ", ".join(f"{number} {state}" for state, number in counts.items())


@check("rows and statistics match")
def _ledger(facts: Facts) -> str:
    records = facts.records
    expect(
        len(records),
        len(facts.run.about) + 2,
        "rows (enqueued jobs, one notice, and the report's email)",
    )
    completed = sum(record.state == JobState.COMPLETED for record in records)
    unfinished = JobAttempt.objects.filter(job__in=records).count()
    if not facts.fresh:
        return f"{len(records)} jobs, {completed + unfinished} runs"
    columns = ("started", "completed", "retried", "failed", "rescued")
    sums = JobStatistic.objects.aggregate(**{column: Sum(column) for column in columns})
    expect(sums["completed"], completed, "completed, by the statistics")
    expect(sums["started"], completed + unfinished, "started, by the statistics")
    expect(
        sums["retried"] + sums["failed"] + sums["rescued"],
        unfinished,
        "attempts that did not complete",
    )
    return f"{len(records)} rows; {sums['started']} runs: {completed} completed, {unfinished} not"


@check("all emails were sent, as text and HTML")
def _mails(facts: Facts) -> str:
    sample = facts.run.sample
    wanted = Counter((user.email, emails.WELCOME_SUBJECT) for user in sample.users)
    wanted += Counter(
        (organization.email, "Invoices for October") for organization in sample.organizations
    )
    wanted[(facts.run.reset_user.email, emails.PASSWORD_RESET_SUBJECT)] += 1
    wanted[(sample.users[1].email, "Reminder")] += 1
    wanted[(sample.admin.email, "Report ready: Hours by project")] += 1
    mails = list(read_mails())
    from_jobs = [mail for mail in mails if mail["Auto-Submitted"]]
    expect(Counter((mail["To"], mail["Subject"]) for mail in from_jobs), wanted, "mails")
    for mail in from_jobs:
        kinds = [part.get_content_type() for part in mail.iter_parts()]
        expect(kinds, ["text/plain", "text/html"], f"parts of {mail['Subject']!r} to {mail['To']}")
    notices = [mail for mail in mails if mail["Subject"] == "Job Failed After All Retries"]
    expect([mail["To"] for mail in notices], ["ops@wellos.example"], "notices of the dead letter")
    return f"{len(from_jobs)} emails, and one to ADMINS"


@check("the reset token is only in its email")
def _token(facts: Facts) -> str:
    token = facts.run.token
    holders = [
        mail["Subject"] for mail in read_mails() if token in mail.get_body(("plain",)).get_content()
    ]
    expect(holders, [emails.PASSWORD_RESET_SUBJECT], "mails with the token")
    rows = [
        *JobRecord.objects.values_list("data", "result", "error"),
        *JobAttempt.objects.values_list("traceback"),
    ]
    if token in repr(rows) or token in facts.worker_log.read_text(errors="replace"):
        raise Wrong("the token can be read in the rows or in the log")
    return "not in the rows, not in the log"


@check("each invoice has its PDF")
def _invoices(facts: Facts) -> str:
    broken = given(facts.run.sample.broken_invoice, "broken invoice")
    size = 0
    for invoice in [*facts.run.sample.invoices, broken]:
        name = Invoice.objects.values_list("document", flat=True).get(pk=invoice.pk)
        expect(name, f"invoices/{invoice.pk}.pdf", f"file of {invoice.number}")
        with default_storage.open(name) as file:
            content = file.read()
        expect(content[:5], b"%PDF-", f"start of {name}")
        size += len(content)
    wanted = len(facts.run.sample.invoices) + 1
    expect(len(default_storage.listdir("invoices")[1]), wanted, "files in invoices/")
    return f"{wanted} files, {size // 1024} KiB"


@check("the report reported its five steps")
def _report(facts: Facts) -> str:
    handle = given(facts.run.report, "report")
    lines = [
        line
        for line in facts.worker_log.read_text(errors="replace").splitlines()
        if f"job={handle}" in line
    ]
    steps = [int(found[1]) for line in lines if (found := re.search(r"percent=(\d+)", line))]
    expect(steps, PROGRESS_STEPS, "progress in the log")
    record = handle.record()
    name = f"reports/{handle}.pdf"
    expect(record.result["size"], default_storage.size(name), "size")
    expect(facts.visitor.get(record.result["url"])[:5], b"%PDF-", "what the signed link leads to")
    expect(record.progress_message, f"Report ready: {record.result['url']}", "last message")
    return f"{', '.join(map(str, steps))} %; {record.result['size']} bytes"


@check("the flaky call was retried after Retry-After")
def _flaky(facts: Facts) -> str:
    handle = given(facts.run.flaky, "flaky call")
    calls = facts.partner.invoices.calls
    expect(facts.partner.invoices.statuses(), [503, 429, 200], "the partner's responses")
    waited = calls[2].at - calls[1].at
    if waited < partner_module.RETRY_AFTER:
        raise Wrong(f"waited {waited:.2f} s, less than Retry-After: {partner_module.RETRY_AFTER}")
    expect(handle.record().attempts, 3, "attempts")
    expect(list(_outcomes(handle.id)), [AttemptOutcome.RETRIED] * 2, "attempts in the ledger")
    return f"503, 429, 200; waited {waited:.2f} s for Retry-After: {partner_module.RETRY_AFTER}"


@check("the circuit breaker opened and closed again")
def _breaker(facts: Facts) -> str:
    synced, books = facts.run.synced, facts.partner.books
    given(facts.run.opened_at, "open breaker")
    statuses = books.statuses()
    broken = statuses.count(500)
    expect(statuses, [500] * broken + [200] * len(synced), "responses, in order")
    expect(len(books.entries), len(synced), "invoices in the bookkeeping")
    attempts = JobAttempt.objects.filter(job__in=[handle.id for handle in synced])
    expect(attempts.count(), broken, "attempts (one for each failed call, none for waiting)")
    waited = books.calls[broken].at - books.calls[broken - 1].at
    if waited < BREAKER.reset:
        raise Wrong(f"called again after {waited:.2f} s, while the breaker was open")
    return (
        f"{broken} calls failed, {facts.run.parked} jobs waited {waited:.1f} s, "
        f"then {len(synced)} succeeded"
    )


@check("calls to the bank were limited")
def _bank(facts: Facts) -> str:
    begun = [handle.record().started_at for handle in facts.run.errands.questions]
    asked = [at for at in begun if at is not None]
    if len(asked) < len(begun):
        raise Wrong(f"{len(begun) - len(asked)} of {len(begun)} calls were not made")
    second = timedelta(milliseconds=999)  # the rows have milliseconds
    most = max(sum(first <= at <= first + second for at in asked) for first in asked)
    counts = f"at most {facts.partner.bank.most_at_once} at a time and {most} a second"
    if facts.partner.bank.most_at_once > 2 or most > 10:
        raise Wrong(counts)
    return f"{len(asked)} calls, {counts}"


@check("four priorities and a batch")
def _errands(facts: Facts) -> str:
    errands = facts.run.errands
    rows = [handle.record() for handle in errands.by_urgency]
    expect(
        [row.get_priority_display() for row in rows],
        ["low", "normal", "high", "critical"],
        "priorities",
    )
    expect(rows[-1].result, {"revoked": 1}, "the leaked token")
    progress = given(errands.batch, "batch").progress
    expect(progress["completed"], progress["total"], "completed items")
    return f"{', '.join(row.name for row in reversed(rows))}; {progress['total']} items"


@check("a task of django.tasks has its result")
def _task(facts: Facts) -> str:
    result = clear_sessions.get_result(facts.run.errands.task_id)
    expect((result.status, result.attempts), ("SUCCESSFUL", 1), "status and attempts")
    return f"{result.task.module_path}: {result.return_value} sessions left"


@check("the dead letter was replayed")
def _dead_letter(facts: Facts) -> str:
    dead_letter = DeadLetter.objects.get(pk=given(facts.run.replayed, "replay").pk)
    expect(dead_letter.status, DeadLetterStatus.REPLAYED, "status")
    resolution = (dead_letter.resolved_by_id, dead_letter.note)
    expect(resolution, (facts.run.sample.admin.pk, REASON), "user and reason")
    expect(list(_outcomes(dead_letter.job_id)), [AttemptOutcome.FAILED], "attempts")
    entries = AuditEntry.objects.filter(
        action="replayed", target_id=str(dead_letter.pk), actor=facts.run.sample.admin
    )
    expect(entries.count(), 1, "audit entries")
    return f"by {facts.run.sample.admin}: {REASON}"


@check("the killed worker's job was rescued")
def _rescue(facts: Facts) -> str:
    killed_at = given(facts.run.killed_at, "kill")
    handle = given(facts.run.imported, "import")
    project = given(facts.run.sample.import_into, "project to import into")
    record = handle.record()
    expect(record.attempts, 2, "attempts")
    expect(list(_outcomes(handle.id)), [AttemptOutcome.CRASHED], "attempts in the ledger")
    again = record.started_at - killed_at
    if again > RESCUE_WITHIN:
        raise Wrong(f"started again after {again.total_seconds():.2f} s")
    wanted = partner_module.PAGES * partner_module.ENTRIES_A_PAGE
    expect(project.entries.exclude(external_id=None).count(), wanted, "imported entries")
    return f"restarted {again.total_seconds():.2f} s after the kill; {wanted} entries, none twice"


@check("expired rows were deleted")
def _cleanups(facts: Facts) -> str:
    found = {name: handle.record().result for name, handle in facts.run.cleanups.items()}
    wanted = {
        "cleanup-expired-tokens": sample_data.EXPIRED_TOKENS,
        "cleanup-pending-users": sample_data.OVERDUE_USERS,
    }
    expect(found, wanted, "deleted")
    expect(
        AccessToken.objects.filter(name__startswith="token ").count(),
        sample_data.VALID_TOKENS,
        "tokens left",
    )
    expect(
        User.objects.filter(username__startswith="pending.").count(),
        sample_data.RECENT_USERS,
        "users left",
    )
    return ", ".join(f"{number} by {name}" for name, number in found.items())


@check("the site shows a job's status and file")
def _site(facts: Facts) -> str:
    asked = given(facts.run.asked_on_site, "request on the site")
    status = facts.visitor.status(asked)
    expect(
        (status["id"], status["state"], status["progress"]),
        (str(asked), "completed", 100),
        "status",
    )
    expect(facts.visitor.get(status["result"]["url"])[:5], b"%PDF-", "start of the file")
    return f"/jobs/{asked}/status: {status['state']}, {status['progress']} %"


def read_mails() -> Iterator[EmailMessage]:
    """Yield the emails in the demo's folder, oldest first."""
    for path in sorted(Path(settings.MAIL_FOLDER).glob("*.eml")):
        yield email.message_from_bytes(path.read_bytes(), policy=email.policy.default)


def _outcomes(job_id: object) -> Iterator[str]:
    yield from (
        JobAttempt.objects.filter(job_id=job_id)
        .order_by("ended_at")
        .values_list("outcome", flat=True)
    )
