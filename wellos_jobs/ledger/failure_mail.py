"""Notices: the jobs that tell ADMINS by mail of dead letters.

Each letter has a mail of its own, at once, until ``MAILS`` letters of one fault have had one within
``WINDOW``. Further ones are gathered, and a *digest* says how many there were and where to find
them, a window later and then each window for as long as more come. What is gathered stands in a row
(``NoticeWindow``) that is written with the letters, so no letter goes untold whoever dies.
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
from ..definitions import ids
from ..enqueueing.context import current_job
from ..enqueueing.decorator import job
from ..enqueueing.enqueue import JobOptions, enqueue_bulk
from ..models import DeadLetter, JobAttempt, JobRecord, NoticeWindow
from ..states import FINAL_STATES

JOB_NAME = "wellos-notify-admins"
DIGEST_NAME = "wellos-notify-admins-digest"
OWN_NAMES = (JOB_NAME, DIGEST_NAME)
SUBJECT = "Job Failed After All Retries"
MAILS = 10
"""How many letters of one fault have a mail each within a window."""
WINDOW = timedelta(minutes=10)
"""How long a fault has to be quiet until its letters have a mail each again, and how far digests are apart."""

Item = tuple[str, dict[str, object], JobOptions]


def letters_created(letters: Sequence[DeadLetter], using: str) -> None:
    """Enqueue a notice for each new dead letter, or gather it; called inside the transaction that creates the letters.

    A notice has an id made from its letter, so a batch that is folded twice tells once. The letters
    of notices themselves are passed over: mail that cannot be sent must not make more mail.
    """
    if not letters or not recipients():
        return
    job_ids = {letter.job_id for letter in letters}
    notices = JobRecord.objects.using(using).filter(pk__in=job_ids, name__in=OWN_NAMES)
    own = set(notices.values_list("pk", flat=True))
    by_fault: dict[str, list[DeadLetter]] = defaultdict(list)
    for letter in letters:
        if letter.job_id not in own:
            by_fault[letter.fingerprint].append(letter)
    with transaction.atomic(using=using, savepoint=False):
        _tell(by_fault, using)


def _tell(by_fault: Mapping[str, Sequence[DeadLetter]], using: str) -> None:
    now = timezone.now()
    windows = _locked(by_fault, using, now)
    open_digests = _open_digests(windows.values(), using)
    items = [
        item
        for fault, some in sorted(by_fault.items())
        for item in _take(windows[fault], some, open_digests, using, now)
    ]
    NoticeWindow.objects.using(using).bulk_update(
        windows.values(), ["since", "mails", "gathered", "digest"]
    )
    if items:
        enqueue_bulk(items)


def _locked(faults: Iterable[str], using: str, now: datetime) -> dict[str, NoticeWindow]:
    """Return the window of each fault, locked, always in the same order; a new one where there is none."""
    rows = NoticeWindow.objects.using(using)
    wanted = sorted(faults)
    found = {row.pk: row for row in rows.filter(pk__in=wanted).order_by("pk").select_for_update()}
    if len(found) < len(wanted):
        new = [NoticeWindow(fingerprint=fault, since=now) for fault in wanted if fault not in found]
        rows.bulk_create(new, ignore_conflicts=True)  # another ledger may be making the same
        found = {
            row.pk: row for row in rows.filter(pk__in=wanted).order_by("pk").select_for_update()
        }
    return found


def _open_digests(windows: Iterable[NoticeWindow], using: str) -> set[object]:
    wanted = [window.digest for window in windows if window.digest is not None]
    if not wanted:
        return set()
    jobs = JobRecord.objects.using(using).filter(pk__in=wanted).exclude(state__in=FINAL_STATES)
    return set(jobs.values_list("pk", flat=True))


def _take(
    window: NoticeWindow,
    letters: Sequence[DeadLetter],
    open_digests: set[object],
    using: str,
    now: datetime,
) -> list[Item]:
    """Count the letters of one fault; return the jobs that tell of them."""
    if window.gathered == 0 and now - window.since >= WINDOW:
        window.since, window.mails = now, 0
    singly = letters[: max(0, MAILS - window.mails)]
    window.mails += len(singly)
    window.gathered += len(letters) - len(singly)
    items: list[Item] = [
        (JOB_NAME, {"letter_id": letter.pk}, _options(letter, using)) for letter in singly
    ]
    if len(singly) < len(letters) and window.digest not in open_digests:
        due = max(now, window.since + WINDOW)
        window.digest = ids.new_id()
        items.append(
            (
                DIGEST_NAME,
                {"fingerprint": window.fingerprint},
                JobOptions(id=str(window.digest), queue=_queue(), database=using, run_at=due),
            )
        )
    return items


def recipients() -> list[str]:
    """Return the addresses in ``ADMINS``; none when ``NOTIFY_ADMINS`` is off. Django 6 has plain addresses there."""
    if not conf.current().notify_admins:
        return []
    admins = conf.django_setting("ADMINS", [])
    return [admin if isinstance(admin, str) else str(admin[1]) for admin in admins]


@job(JOB_NAME, max_attempts=5)
def notify_admins(letter_id: int) -> None:
    """Mail one dead letter to ADMINS."""
    running = current_job(default=None)
    using = running.database if running else "default"
    letter = DeadLetter.objects.using(using).select_related("job").get(pk=letter_id)
    sender = str(conf.django_setting("SERVER_EMAIL"))
    send_mail(SUBJECT, body(letter), sender, recipients())


@job(DIGEST_NAME, max_attempts=5)
def notify_admins_of_many(fingerprint: str) -> int:
    """Mail ADMINS how many dead letters of one fault have been gathered; return how many.

    A run that died, or could not send, leaves the number to the next one: the mail may come twice,
    never not at all.
    """
    running = current_job(default=None)
    using = running.database if running else "default"
    rows = NoticeWindow.objects.using(using).filter(pk=fingerprint)
    with transaction.atomic(using=using):
        window = rows.select_for_update().get()
        if window.gathered:
            window.telling += window.gathered
            window.gathered, window.since, window.digest = 0, timezone.now(), None
            window.save(using=using)
    newest = (
        DeadLetter.objects.using(using)
        .filter(fingerprint=fingerprint)
        .order_by("-created_at", "-pk")
        .first()
    )
    if window.telling and newest is not None:  # none: somebody has deleted them
        sender = str(conf.django_setting("SERVER_EMAIL"))
        send_mail(
            f"{SUBJECT}: {window.telling} more",
            digest_body(newest, window.telling),
            sender,
            recipients(),
        )
    rows.filter(telling__gte=window.telling).update(
        telling=F("telling") - window.telling
    )  # else another run has told
    return int(window.telling)


def digest_body(newest: DeadLetter, count: int) -> str:
    """Return the text of the mail about ``count`` letters of the fault of ``newest``."""
    lines = [
        f"Job {newest.name} failed, and {count} more like it than you were told of one by one.",
        "",
        f"The last error: {newest.error_class}: {newest.message}".replace(": :", ":"),
        f"When: {newest.created_at:%Y-%m-%d %H:%M:%S %Z}",
        f"Fault: {newest.fingerprint}",
    ]
    if link := _fault_link(newest.fingerprint):
        lines += ["", f"All of them in the admin: {link}"]
    return "\n".join(lines) + "\n"


def body(letter: DeadLetter) -> str:
    """Return the text of the mail. Sensitive values were masked when the letter was written."""
    record, attempts = letter.job, _attempts(letter)
    lines = [
        f"Job {record.name} failed after {'1 attempt' if attempts == 1 else f'{attempts} attempts'}.",
        "",
        f"Error: {letter.error_class}: {letter.message}"
        if letter.error_class
        else f"Error: {letter.message}",
        f"Reason: {letter.get_reason_display()}",
        f"When: {letter.created_at:%Y-%m-%d %H:%M:%S %Z}",
        f"Job id: {record.pk}",
        f"Queue: {record.queue}",
    ]
    if record.organization_id:
        lines.append(f"Organization: {record.organization_id}")
    if link := _link(letter):
        lines += ["", f"In the admin: {link}"]
    return "\n".join(lines) + "\n"


def _attempts(letter: DeadLetter) -> int:
    """Return the number of the attempt that failed for good: by now a replay may have reset the job's own count."""
    attempts = JobAttempt.objects.using(letter._state.db).filter(
        job=letter.job_id, ended_at=letter.created_at
    )
    return max(attempts.values_list("number", flat=True), default=letter.job.attempts)


def _options(letter: DeadLetter, using: str) -> JobOptions:
    return JobOptions(
        id=ids.derived_id("notice", using, str(letter.pk)), queue=_queue(), database=using
    )


def _queue() -> str:
    queues = conf.queues()
    return "default" if "default" in queues else next(iter(queues))


def _link(letter: DeadLetter) -> str:
    try:
        return conf.current().base_url + reverse(
            "admin:wellos_jobs_deadletter_change", args=[letter.pk]
        )
    except NoReverseMatch:  # a project without the admin
        return ""


def _fault_link(fingerprint: str) -> str:
    try:
        return conf.current().base_url + reverse("admin:wellos_jobs_fault", args=[fingerprint])
    except NoReverseMatch:
        return ""
