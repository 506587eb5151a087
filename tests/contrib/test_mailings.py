"""A thousand emails through real workers and a real, unreliable SMTP server."""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import Any

import pytest

from wellos_jobs import JobState
from wellos_jobs.contrib import emails, mailings
from wellos_jobs.models import DeadLetter, JobAttempt, JobRecord

from ..support.processes import Fleet, children_of
from ..support.smtp import SmtpServer

pytestmark = pytest.mark.any_database

GOOD = [f"user{number}@b.example" for number in range(1_000)]
GONE = [f"gone{number}@b.example" for number in range(10)]
LONG = 150.0


def items(addresses: list[str]) -> list[dict[str, Any]]:
    return [
        {"to": to, "subject": "News", "template": "welcome", "data": {"name": to}}
        for to in addresses
    ]


def taken(server: SmtpServer, count: int) -> bool:
    return len(server.messages) >= count


@pytest.mark.system
def test_a_thousand_emails_are_delivered_and_possible_duplicates_are_listed(
    processes: Fleet,
) -> None:
    server = SmtpServer(
        dict.fromkeys(GONE, "550 5.1.1 No such user"),
        greylist=GOOD[:900:9],
        cut=GOOD[1:900:90],
        swallow=GOOD[2:900:45],
        hang_up=GOOD[3:900:30],
    )
    swallowed, cut = set(server.swallow), set(server.cut)
    handles = emails.send_bulk_emails(items(GOOD + GONE))
    environment = {"WELLOS_TEST_SMTP_PORT": str(server.port)}
    worker = processes.worker("email", "--processes", "2", environment=environment)
    worker.wait_for_output(
        "waits for the mail server"
    )  # it was not started yet: nothing is lost by that
    with server:
        processes.wait_until(lambda: taken(server, 200), LONG, "200 mails")
        server.stop()
        server.start()
        processes.wait_until(lambda: taken(server, 400), LONG, "400 mails")
        os.kill(children_of(worker.pid)[0], signal.SIGKILL)
        processes.wait_until(lambda: taken(server, 600), LONG, "600 mails")
        server.stop()
        told = worker.output().count("waits for the mail server")
        processes.wait_until(
            lambda: worker.output().count("waits for the mail server") > told + 5, LONG, "an outage"
        )
        server.start()
        open_jobs = JobRecord.objects.filter(name="send-email", finished_at=None)
        processes.wait_until(lambda: not open_jobs.exists(), LONG, "the end of all mails")
    copies, mailing = server.copies(), mailings.outcome(handles)

    # each recipient at least once, but those that the server rejected permanently
    assert set(copies) == set(GOOD) == set(mailing.sent)
    assert set(mailing.failed) == set(GONE)
    assert all("550 5.1.1 No such user" in said for said in mailing.failed.values())
    assert (mailing.open, mailing.canceled) == ([], [])
    letters = DeadLetter.objects.filter(job__name="send-email")
    assert {(letter.reason, letter.job.attempts) for letter in letters} == {("not_retryable", 1)}

    # nobody twice but those whose answer was lost; there is an attempt in the ledger for each
    # further copy
    twice = {to for to, count in copies.items() if count > 1}
    assert swallowed <= twice <= set(mailing.possible_duplicates)
    assert cut <= set(mailing.possible_duplicates)
    told_of = Counter(
        attempt.job.data["to"]
        for attempt in JobAttempt.objects.filter(job__name="send-email").select_related("job")
        if attempt.error_class.endswith("AnswerLost") or attempt.outcome == "crashed"
    )
    assert {to: count for to, count in copies.items() if count - 1 > told_of[to]} == {}
    assert len(mailing.possible_duplicates) < 100

    # over a few connections, not a thousand
    assert server.connections < 150, server.connections


def test_only_the_temporarily_rejected_email_is_sent_again(processes: Fleet) -> None:
    addresses = [f"user{number}@b.example" for number in range(5)]
    with SmtpServer(greylist=[addresses[2]]) as server:
        handles = emails.send_bulk_emails(items(addresses))
        processes.worker("email", environment={"WELLOS_TEST_SMTP_PORT": str(server.port)})
        processes.wait_until(
            lambda: {handle.record().state for handle in handles} == {JobState.COMPLETED}
        )
    assert server.copies() == dict.fromkeys(addresses, 1)
    assert server.messages[-1].to == addresses[2]
    (attempt,) = JobAttempt.objects.filter(job__name="send-email")
    assert (attempt.outcome, attempt.job.pk) == ("retried", handles[2].id)
    assert "451 4.7.1 Greylisted" in attempt.message


def test_a_worker_stopped_before_the_reply_records_an_attempt(
    processes: Fleet,
) -> None:
    with SmtpServer(hang=GOOD[:1]) as server:
        handles = emails.send_bulk_emails(items(GOOD[:1]))
        environment = {"WELLOS_TEST_SMTP_PORT": str(server.port)}
        first = processes.worker(
            "email", "--processes", "1", "--shutdown-timeout", "0.5", environment=environment
        )
        processes.wait_until(lambda: taken(server, 1), what="the message")
        first.terminate()
        first.wait(40)
        assert server.copies()[GOOD[0]] == 1
        processes.worker("email", environment=environment)
        processes.wait_until(
            lambda: handles[0].record().state == JobState.COMPLETED, 60, "the second copy"
        )
    assert server.copies() == {GOOD[0]: 2}
    assert mailings.outcome(handles) == mailings.Mailing(
        sent=GOOD[:1], possible_duplicates=GOOD[:1]
    )


def test_the_outcome_of_emails_not_sent_yet(db: None, django_assert_num_queries: Any) -> None:
    handles = emails.send_bulk_emails(items(GOOD[:3]))
    JobRecord.objects.filter(pk=handles[0].id).update(state=JobState.CANCELED)
    with django_assert_num_queries(2):
        mailing = mailings.outcome(handles)
    assert mailing == mailings.Mailing(canceled=GOOD[:1], open=GOOD[1:3])
