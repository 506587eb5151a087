"""Notices: the job that tells ADMINS by mail of a dead letter, once for each letter."""

from __future__ import annotations

from collections.abc import Sequence

from django.core.mail import send_mail
from django.urls import NoReverseMatch, reverse

from . import conf, ids
from .context import current_job
from .declare import job
from .enqueue import JobOptions, enqueue_bulk
from .models import DeadLetter, JobAttempt, JobRecord

JOB_NAME = "wellos-notify-admins"
SUBJECT = "Job Failed After All Retries"


def letters_created(letters: Sequence[DeadLetter], using: str) -> None:
    """Enqueue one notice for each new dead letter; called inside the transaction that creates the letters.

    A notice has an id made from its letter, so a batch that is folded twice tells once. The letters of notices
    themselves are passed over: mail that cannot be sent must not make more mail.
    """
    if not letters or not recipients():
        return
    job_ids = {letter.job_id for letter in letters}
    notices = set(JobRecord.objects.using(using).filter(pk__in=job_ids, name=JOB_NAME).values_list("pk", flat=True))
    enqueue_bulk(
        [
            (JOB_NAME, {"letter_id": letter.pk}, _options(letter, using))
            for letter in letters
            if letter.job_id not in notices
        ]
    )


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


def body(letter: DeadLetter) -> str:
    """Return the text of the mail. Sensitive values were masked when the letter was written."""
    record, attempts = letter.job, _attempts(letter)
    lines = [
        f"Job {record.name} failed after {'1 attempt' if attempts == 1 else f'{attempts} attempts'}.",
        "",
        f"Error: {letter.error_class}: {letter.message}" if letter.error_class else f"Error: {letter.message}",
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
    attempts = JobAttempt.objects.using(letter._state.db).filter(job=letter.job_id, ended_at=letter.created_at)
    return max(attempts.values_list("number", flat=True), default=letter.job.attempts)


def _options(letter: DeadLetter, using: str) -> JobOptions:
    return JobOptions(id=ids.derived_id("notice", using, str(letter.pk)), queue=_queue(), database=using)


def _queue() -> str:
    queues = conf.queues()
    return "default" if "default" in queues else next(iter(queues))


def _link(letter: DeadLetter) -> str:
    try:
        return conf.current().base_url + reverse("admin:wellos_jobs_deadletter_change", args=[letter.pk])
    except NoReverseMatch:  # a project without the admin
        return ""
