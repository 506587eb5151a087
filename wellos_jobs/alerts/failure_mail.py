"""Failure mail: jobs that email ADMINS about new dead letters.

Each dead letter is mailed individually and at once, up to ``MAILS`` per fingerprint within
``WINDOW``. Further ones are held back for a *digest* mail, sent when the window ends and then once
per window while more arrive. The state is a row (``NoticeWindow``) written in the same transaction
as the dead letters, so none goes unreported if a process dies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from django.core.mail import send_mail
from django.db import transaction
from django.db.models import F
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from .. import conf
from ..database import default_database
from ..definitions import ids
from ..enqueueing.context import current_job
from ..enqueueing.decorator import job
from ..enqueueing.dependencies import dead_letters_saved
from ..enqueueing.enqueue import JobOptions, enqueue_bulk
from ..models import DeadLetter, JobAttempt, JobRecord, NoticeWindow
from ..states import FINAL_STATES

JOB_NAME = "wellos-notify-admins"
DIGEST_NAME = "wellos-notify-admins-digest"
OWN_NAMES = (JOB_NAME, DIGEST_NAME)

SUBJECT = "Job Failed After All Retries"

MAILS = 10
"""Individual mails per fingerprint within one window."""

WINDOW = timedelta(minutes=10)
"""Length of a window, and the interval between digests."""

dead_letters_saved.connect(
    lambda letters, database, **_: notify_of(letters, database),
    weak=False,
    dispatch_uid="wellos_jobs.failure_mail",
)

NewJob = tuple[str, dict[str, object], JobOptions]


def notify_of(letters: Sequence[DeadLetter], using: str) -> None:
    """Enqueue a mail for each new dead letter, or hold it back for the digest.

    Call it inside the transaction that inserts them. A mail job's id is derived from its dead
    letter, so events that are applied twice send one mail. Dead letters of the mail jobs themselves
    are skipped: mail that cannot be sent must not create more mail.
    """
    if not letters or not recipients():
        return

    job_ids = {letter.job_id for letter in letters}
    mail_jobs = JobRecord.objects.using(using).filter(pk__in=job_ids, name__in=OWN_NAMES)
    own = set(mail_jobs.values_list("pk", flat=True))

    by_fingerprint: dict[str, list[DeadLetter]] = defaultdict(list)
    for letter in letters:
        if letter.job_id not in own:
            by_fingerprint[letter.fingerprint].append(letter)

    with transaction.atomic(using=using, savepoint=False):
        _enqueue_mails(by_fingerprint, using)


def _enqueue_mails(by_fingerprint: Mapping[str, Sequence[DeadLetter]], using: str) -> None:
    now = timezone.now()
    windows = _locked_windows(by_fingerprint, using, now)
    open_digests = _open_digests(windows.values(), using)

    jobs: list[NewJob] = []
    for fingerprint, letters in sorted(by_fingerprint.items()):
        jobs += _count(windows[fingerprint], letters, open_digests, using, now)

    NoticeWindow.objects.using(using).bulk_update(
        windows.values(), ["since", "mails", "pending", "digest"]
    )
    if jobs:
        enqueue_bulk(jobs)


def _locked_windows(
    fingerprints: Iterable[str], using: str, now: datetime
) -> dict[str, NoticeWindow]:
    """Return the window of each fingerprint, locked in a fixed order; create missing ones."""
    rows = NoticeWindow.objects.using(using)
    wanted = sorted(fingerprints)
    locked = rows.filter(pk__in=wanted).order_by("pk").select_for_update()

    found = {row.pk: row for row in locked.all()}
    if len(found) == len(wanted):
        return found

    missing = [
        NoticeWindow(fingerprint=fingerprint, since=now)
        for fingerprint in wanted
        if fingerprint not in found
    ]
    rows.bulk_create(missing, ignore_conflicts=True)  # another ledger may be creating the same
    return {row.pk: row for row in locked.all()}


def _open_digests(windows: Iterable[NoticeWindow], using: str) -> set[object]:
    wanted = [window.digest for window in windows if window.digest is not None]
    if not wanted:
        return set()

    jobs = JobRecord.objects.using(using).filter(pk__in=wanted).exclude(state__in=FINAL_STATES)
    return set(jobs.values_list("pk", flat=True))


def _count(
    window: NoticeWindow,
    letters: Sequence[DeadLetter],
    open_digests: set[object],
    using: str,
    now: datetime,
) -> list[NewJob]:
    """Count the dead letters of one fingerprint in its window; return the mail jobs to enqueue."""
    if window.pending == 0 and now - window.since >= WINDOW:
        window.since, window.mails = now, 0

    individual = letters[: max(0, MAILS - window.mails)]
    window.mails += len(individual)
    window.pending += len(letters) - len(individual)

    jobs: list[NewJob] = [
        (JOB_NAME, {"letter_id": letter.pk}, _mail_options(letter, using)) for letter in individual
    ]
    if len(individual) < len(letters) and window.digest not in open_digests:
        window.digest = ids.new_id()
        options = JobOptions(
            id=str(window.digest),
            queue=conf.default_queue(),
            database=using,
            run_at=max(now, window.since + WINDOW),
        )
        jobs.append((DIGEST_NAME, {"fingerprint": window.fingerprint}, options))
    return jobs


def recipients() -> list[str]:
    """Return the addresses in ``ADMINS``; none if ``NOTIFY_ADMINS`` is off.

    Django 6 lists plain addresses, earlier releases (name, address) pairs.
    """
    if not conf.current().notify_admins:
        return []

    admins = conf.django_setting("ADMINS", [])
    return [admin if isinstance(admin, str) else str(admin[1]) for admin in admins]


# --- the jobs -------------------------------------------------------------------------------------


@job(JOB_NAME, max_attempts=5)
def notify_admins(letter_id: int) -> None:
    """Email one dead letter to ADMINS."""
    using = _own_database()
    letter = DeadLetter.objects.using(using).select_related("job").get(pk=letter_id)
    _send(SUBJECT, body(letter))


@job(DIGEST_NAME, max_attempts=5)
def notify_admins_of_many(fingerprint: str) -> int:
    """Email ADMINS how many dead letters of one fingerprint were held back; return the number.

    If a run dies or cannot send, the next one includes its number: a mail may come twice, but none
    is lost.
    """
    using = _own_database()
    rows = NoticeWindow.objects.using(using).filter(pk=fingerprint)

    with transaction.atomic(using=using):
        window = rows.select_for_update().get()
        if window.pending:
            window.sending += window.pending
            window.pending, window.since, window.digest = 0, timezone.now(), None
            window.save(using=using)

    letters = DeadLetter.objects.using(using).filter(fingerprint=fingerprint)
    newest = letters.order_by("-created_at", "-pk").first()
    if window.sending and newest is not None:  # None: they were deleted meanwhile
        _send(f"{SUBJECT}: {window.sending} more", digest_body(newest, window.sending))

    # a lower number means that another run has sent them
    rows.filter(sending__gte=window.sending).update(sending=F("sending") - window.sending)
    return int(window.sending)


def _own_database() -> str:
    running = current_job(default=None)
    return running.database if running else default_database()


def _send(subject: str, text: str) -> None:
    send_mail(subject, text, str(conf.django_setting("SERVER_EMAIL")), recipients())


# --- the mails ------------------------------------------------------------------------------------


def digest_body(newest: DeadLetter, count: int) -> str:
    """Return the text of the mail about ``count`` more dead letters like ``newest``."""
    failures = "failure" if count == 1 else "failures"
    lines = [
        f"{count} further {failures} of job {newest.name} since the last individual mail.",
        "",
        f"Last error: {newest.error_class}: {newest.message}".replace(": :", ":"),
        f"When: {newest.created_at:%Y-%m-%d %H:%M:%S %Z}",
        f"Fault: {newest.fingerprint}",
    ]
    if link := _link("admin:wellos_jobs_fault", newest.fingerprint):
        lines += ["", f"All of them in the admin: {link}"]
    return "\n".join(lines) + "\n"


def body(letter: DeadLetter) -> str:
    """Return the text of the mail about one dead letter, whose sensitive values are masked."""
    record = letter.job
    attempts = _attempts(letter)
    error = f"{letter.error_class}: {letter.message}" if letter.error_class else letter.message

    lines = [
        f"Job {record.name} failed after {attempts} {'attempt' if attempts == 1 else 'attempts'}.",
        "",
        f"Error: {error}",
        f"Reason: {letter.get_reason_display()}",
        f"When: {letter.created_at:%Y-%m-%d %H:%M:%S %Z}",
        f"Job id: {record.pk}",
        f"Queue: {record.queue}",
    ]
    if record.organization_id:
        lines.append(f"Organization: {record.organization_id}")
    if link := _link("admin:wellos_jobs_deadletter_change", letter.pk):
        lines += ["", f"In the admin: {link}"]
    return "\n".join(lines) + "\n"


def _attempts(letter: DeadLetter) -> int:
    """Return the number of the final attempt. The job's own count may be reset by a replay."""
    attempts = JobAttempt.objects.using(letter._state.db).filter(
        job=letter.job_id, ended_at=letter.created_at
    )
    return max(attempts.values_list("number", flat=True), default=letter.job.attempts)


def _mail_options(letter: DeadLetter, using: str) -> JobOptions:
    return JobOptions(
        id=ids.derived_id("notice", using, str(letter.pk)),
        queue=conf.default_queue(),
        database=using,
    )


def _link(url_name: str, key: object) -> str:
    """Return an absolute admin URL; empty in a project without the admin."""
    try:
        return conf.current().base_url + reverse(url_name, args=[key])
    except NoReverseMatch:
        return ""
