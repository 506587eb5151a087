"""Notices: ADMINS are told of each dead letter by mail, once, and never of a notice that failed."""

from __future__ import annotations

from typing import Any

import pytest
from django.core import mail
from django.db import transaction

from wellos_jobs import notices, operations
from wellos_jobs.models import DeadLetter, JobRecord
from wellos_jobs.states import JobState

from . import jobs
from .engine import Books, work

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def notice_jobs(using: str = "default") -> list[JobRecord]:
    return list(JobRecord.objects.using(using).filter(name=notices.JOB_NAME))


def test_admins_are_told(books: Books, settings: Any) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "BASE_URL": "https://wellos.example"}
    jobs.fail.using(organization="acme").enqueue(message="the partner is away")
    work()
    books.fold()
    work()
    (message,) = mail.outbox
    letter = DeadLetter.objects.get()
    assert message.subject == "Job Failed After All Retries"
    assert message.to == ["ops@wellos.example"]
    assert message.from_email == settings.SERVER_EMAIL
    for part in (
        "Job test-fail failed after 1 attempt.",
        "Error: ValueError: the partner is away",
        "Reason: all attempts failed",
        f"When: {letter.created_at:%Y-%m-%d %H:%M}",
        f"Job id: {letter.job_id}",
        "Organization: acme",
        f"In the admin: https://wellos.example/admin/wellos_jobs/deadletter/{letter.pk}/change/",
    ):
        assert part in message.body, part


def test_once_for_each_letter(books: Books) -> None:
    jobs.fail.enqueue_bulk([{}, {}, {}])
    work()
    books.fold()
    letters = list(DeadLetter.objects.all())
    with transaction.atomic():
        notices.letters_created(letters, "default")  # as if the same batch were folded again
    assert len(notice_jobs()) == 3
    work()
    assert len(mail.outbox) == 3


def test_a_replay_that_fails_again_is_told_again(books: Books) -> None:
    jobs.fail.enqueue()
    work()
    books.fold()
    operations.replay(DeadLetter.objects.get())
    work()
    books.fold()
    work()
    assert len(mail.outbox) == 2


def test_nothing_is_told_after_a_rollback(books: Books) -> None:
    jobs.fail.enqueue()
    work()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        books.fold()
        raise ZeroDivisionError
    assert notice_jobs() == []
    work()
    assert mail.outbox == []


def test_a_notice_that_fails_makes_no_notice(books: Books, settings: Any) -> None:
    jobs.fail.enqueue()
    work()
    books.fold()
    JobRecord.objects.filter(name=notices.JOB_NAME).update(max_attempts=1)
    DeadLetter.objects.all().delete()  # so that the notice finds nothing to tell
    (notice,) = notice_jobs()
    from wellos_jobs import keys, redis

    redis.client("default").hset(keys.job(notice.pk), "w:max", 1)
    work()
    books.fold()
    (notice,) = notice_jobs()
    assert notice.state == JobState.FAILED
    assert DeadLetter.objects.count() == 1
    assert mail.outbox == []


@pytest.mark.parametrize("off", ["no admins", "notify_admins"])
def test_nobody_to_tell(books: Books, settings: Any, off: str) -> None:
    if off == "no admins":
        settings.ADMINS = []
    else:
        settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "NOTIFY_ADMINS": False}
    jobs.fail.enqueue()
    work()
    books.fold()
    assert DeadLetter.objects.count() == 1
    assert notice_jobs() == []


def test_both_forms_of_admins(settings: Any) -> None:
    settings.ADMINS = [("Ada", "ada@wellos.example")]
    assert notices.recipients() == ["ada@wellos.example"]
    settings.ADMINS = ["grace@wellos.example"]
    assert notices.recipients() == ["grace@wellos.example"]


def test_in_the_database_of_the_letter() -> None:
    jobs.fail.using(database="other").enqueue(message="over there")
    work()
    Books("other").fold()
    assert len(notice_jobs("other")) == 1
    assert notice_jobs() == []
    work()
    assert "over there" in mail.outbox[0].body


def test_without_a_queue_named_default(books: Books, settings: Any) -> None:
    jobs.fail.using(queue="email").enqueue()
    work()
    books.fold()
    settings.RQ_QUEUES = {name: queue for name, queue in settings.RQ_QUEUES.items() if name != "default"}
    letter = DeadLetter.objects.get()
    JobRecord.objects.filter(name=notices.JOB_NAME).delete()
    notices.letters_created([letter], "default")
    assert notice_jobs()[0].queue == next(iter(settings.RQ_QUEUES))


def test_secrets_are_not_mailed(books: Books) -> None:
    jobs.secret.enqueue(token="open sesame", fail=True)
    work()
    books.fold()
    work()
    assert "the service refused ********" in mail.outbox[0].body
    assert "sesame" not in mail.outbox[0].body
