"""Failure mail: one mail per dead letter to ADMINS, a digest for many, none about mail jobs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import transaction
from django.utils import timezone

from wellos_jobs import operations
from wellos_jobs.alerts import failure_mail
from wellos_jobs.broker import job_hash
from wellos_jobs.enqueueing import dependencies
from wellos_jobs.maintenance import prune
from wellos_jobs.models import DeadLetter, JobRecord, NoticeWindow
from wellos_jobs.states import JobState

from .. import jobs
from ..support.engine import Books, work

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def notice_jobs(using: str = "default") -> list[JobRecord]:
    return list(JobRecord.objects.using(using).filter(name=failure_mail.JOB_NAME))


def test_admins_are_mailed(books: Books, settings: Any) -> None:
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


def test_one_mail_per_dead_letter(books: Books) -> None:
    jobs.fail.enqueue_bulk([{}, {}, {}])
    work()
    books.fold()
    letters = list(DeadLetter.objects.all())
    with transaction.atomic():
        failure_mail.notify_of(letters, "default")  # as if the same batch were folded again
    assert len(notice_jobs()) == 3
    work()
    assert len(mail.outbox) == 3


def test_a_job_that_failed_because_a_needed_one_did_is_mailed(books: Books) -> None:
    """One after the other, through a chain of them."""
    first = jobs.fail.enqueue()
    second = jobs.noop.using(depends_on=[first]).enqueue()
    jobs.add.using(depends_on=[second]).enqueue(a=1)
    JobRecord.objects.update(on_failure="fail")  # as in a flow with this policy
    work()
    books.fold()
    assert DeadLetter.objects.count() == len(notice_jobs()) == 3
    work()
    bodies = [message.body for message in mail.outbox]
    assert sum("Error: NeededJobFailed: A job it needs did not complete" in b for b in bodies) == 2

    dependencies.release([first.id], "default")
    assert len(notice_jobs()) == 3


def test_a_job_that_heals_into_a_failure_is_mailed(books: Books) -> None:
    """The process that ended the needed job has died before it released the others."""
    needed = jobs.noop.enqueue()
    jobs.noop.using(depends_on=[needed]).enqueue()
    JobRecord.objects.update(on_failure="fail")
    JobRecord.objects.filter(pk=needed.id).update(state=JobState.FAILED)
    dependencies.heal("default")
    assert DeadLetter.objects.count() == len(notice_jobs()) == 1


def test_a_replay_that_fails_again_is_mailed_again(books: Books) -> None:
    jobs.fail.enqueue()
    work()
    books.fold()
    operations.replay(DeadLetter.objects.get())
    work()
    books.fold()
    work()
    assert len(mail.outbox) == 2


def test_a_rollback_sends_no_mail(books: Books) -> None:
    jobs.fail.enqueue()
    work()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        books.fold()
        raise ZeroDivisionError
    assert notice_jobs() == []
    work()
    assert mail.outbox == []


def test_a_failing_mail_job_makes_no_mail_job(books: Books, settings: Any) -> None:
    jobs.fail.enqueue()
    work()
    books.fold()
    JobRecord.objects.filter(name=failure_mail.JOB_NAME).update(max_attempts=1)
    DeadLetter.objects.all().delete()  # so that the notice finds nothing to tell
    (notice,) = notice_jobs()
    from wellos_jobs import broker
    from wellos_jobs.broker import keys

    broker.client("default").hset(keys.job(notice.pk), job_hash.MAX_ATTEMPTS, 1)
    work()
    books.fold()
    (notice,) = notice_jobs()
    assert notice.state == JobState.FAILED
    assert DeadLetter.objects.count() == 1
    assert mail.outbox == []


@pytest.mark.parametrize("off", ["no admins", "notify_admins"])
def test_no_recipients(books: Books, settings: Any, off: str) -> None:
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
    assert failure_mail.recipients() == ["ada@wellos.example"]
    settings.ADMINS = ["grace@wellos.example"]
    assert failure_mail.recipients() == ["grace@wellos.example"]


def test_the_mail_job_is_in_the_dead_letter_s_database() -> None:
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
    settings.RQ_QUEUES = {
        name: queue for name, queue in settings.RQ_QUEUES.items() if name != "default"
    }
    letter = DeadLetter.objects.get()
    JobRecord.objects.filter(name=failure_mail.JOB_NAME).delete()
    failure_mail.notify_of([letter], "default")
    assert notice_jobs()[0].queue == next(iter(settings.RQ_QUEUES))


def test_secrets_are_not_mailed(books: Books) -> None:
    jobs.secret.enqueue(token="open sesame", fail=True)
    work()
    books.fold()
    work()
    assert "the service refused ********" in mail.outbox[0].body
    assert "sesame" not in mail.outbox[0].body


# --- many of one fault ----------------------------------------------------------------------------


def fail(count: int, books: Books, message: str = "the server refuses a{n}@wellos.example") -> None:
    jobs.fail.using(max_attempts=1).enqueue_bulk(
        [{"message": message.replace("{n}", str(n))} for n in range(count)]
    )
    work()
    books.fold()


def digests() -> list[JobRecord]:
    return list(JobRecord.objects.filter(name=failure_mail.DIGEST_NAME).order_by("created_at"))


def later(minutes: float = 11) -> None:
    """Let a window go by."""
    earlier = timezone.now() - timedelta(minutes=minutes)
    NoticeWindow.objects.update(since=earlier)


def test_further_dead_letters_of_a_fault_are_held_back_for_a_digest(
    books: Books, settings: Any
) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "BASE_URL": "https://wellos.example"}
    fail(100, books)
    assert len(notice_jobs()) == failure_mail.MAILS

    (digest,) = digests()
    assert digest.state == JobState.DELAYED
    assert digest.run_at - timezone.now() > failure_mail.WINDOW - timedelta(minutes=1)

    fail(30, books)
    assert (len(notice_jobs()), len(digests())) == (failure_mail.MAILS, 1)

    work()
    assert len(mail.outbox) == failure_mail.MAILS

    operations.promote(digest)
    work()
    message = mail.outbox[-1]
    fault = DeadLetter.objects.values_list("fingerprint", flat=True).first()
    assert message.subject == "Job Failed After All Retries: 120 more"
    assert "120 further failures of job test-fail since" in message.body
    assert f"https://wellos.example/admin/wellos_jobs/deadletter/faults/{fault}/" in message.body
    assert len(mail.outbox) == failure_mail.MAILS + 1


def test_one_digest_per_window_then_individual_mails_again(books: Books) -> None:
    fail(failure_mail.MAILS + 2, books)
    failure_mail.notify_admins_of_many(digests()[0].data["fingerprint"])
    fail(3, books)
    assert len(digests()) == 2
    assert NoticeWindow.objects.get().pending == 3
    failure_mail.notify_admins_of_many(digests()[1].data["fingerprint"])
    told = [message.subject for message in mail.outbox if message.subject != failure_mail.SUBJECT]
    assert told == [f"{failure_mail.SUBJECT}: 2 more", f"{failure_mail.SUBJECT}: 3 more"]
    later()
    fail(1, books)
    assert (len(notice_jobs()), len(digests())) == (failure_mail.MAILS + 1, 2)


def test_each_fault_has_its_own_mails(books: Books) -> None:
    fail(failure_mail.MAILS + 1, books)
    fail(2, books, "something else")
    assert len(notice_jobs()) == failure_mail.MAILS + 2
    assert len(digests()) == 1


def test_a_digest_that_failed_is_sent_again(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(failure_mail.MAILS + 4, books)
    fault = digests()[0].data["fingerprint"]

    def killed(*args: Any) -> None:
        raise ConnectionError("in the middle of it")

    with monkeypatch.context() as broken:
        broken.setattr(failure_mail, "send_mail", killed)
        with pytest.raises(ConnectionError):
            failure_mail.notify_admins_of_many(fault)
    fail(1, books)
    assert failure_mail.notify_admins_of_many(fault) == 5
    assert mail.outbox[-1].subject.endswith(": 5 more")
    window = NoticeWindow.objects.get()
    assert (window.pending, window.sending) == (0, 0)
    sent = len(mail.outbox)
    assert failure_mail.notify_admins_of_many(fault) == 0
    assert len(mail.outbox) == sent


def test_a_deleted_digest_is_enqueued_again(books: Books) -> None:
    fail(failure_mail.MAILS + 1, books)
    JobRecord.objects.filter(name=failure_mail.DIGEST_NAME).delete()
    fail(1, books)
    assert NoticeWindow.objects.get().pending == 2
    assert len(digests()) == 1


def test_the_pending_count_is_part_of_the_transaction(books: Books) -> None:
    fail(failure_mail.MAILS, books)
    jobs.fail.enqueue_bulk([{"message": "the server refuses a1@wellos.example"}] * 5)
    work()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        books.fold()
        raise ZeroDivisionError
    assert NoticeWindow.objects.get().pending == 0
    assert digests() == []


def test_a_failing_digest_makes_no_mail_job(books: Books) -> None:
    fail(failure_mail.MAILS + 1, books)
    (digest,) = digests()
    told = len(notice_jobs())
    letter = DeadLetter.objects.create(
        job=digest, reason="exhausted", fingerprint="x", created_at=timezone.now()
    )
    with transaction.atomic():
        failure_mail.notify_of([letter], "default")
    assert (len(notice_jobs()), len(digests())) == (told, 1)


def test_old_windows_are_pruned(books: Books) -> None:
    fail(failure_mail.MAILS + 1, books)
    fail(1, books, "something else")
    later(minutes=60 * 25)
    prune.prune("default")
    assert NoticeWindow.objects.get().pending == 1
