"""``contrib.emails``: enqueueing, sending, retries, and secrecy of the token."""

from __future__ import annotations

import email
import email.policy
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import django
import pytest
import redis
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.template import TemplateDoesNotExist
from django.test.utils import override_settings
from django.utils import timezone

from wellos_jobs import Discard, JobState, Priority, Retry, Snooze
from wellos_jobs.contrib import delivery, emails, mail_connection
from wellos_jobs.contrib.files import store
from wellos_jobs.definitions.retry import RetryAfter
from wellos_jobs.enqueueing.context import CurrentJob, running
from wellos_jobs.models import DeadLetter, JobRecord

from ..support.processes import Fleet, wait_until
from ..support.redis_contents import contents_of_redis
from ..support.smtp import SmtpServer

TOKEN = "s3cret-t0ken-9f8e7d6c5b4a"
LINK = f"https://wellos.example/reset/{TOKEN}"


@pytest.fixture
def user(db: None) -> Any:
    return get_user_model().objects.create_user(
        "ada", email="ada@wellos.example", first_name="Ada", last_name="<Berg>"
    )


# --- what is enqueued -----------------------------------------------------------------------------


def test_welcome_email_is_one_normal_job_with_three_attempts(user: Any) -> None:
    record = emails.send_welcome_email(user).record()
    assert (record.name, record.queue, record.max_attempts) == ("send-welcome-email", "email", 3)
    assert record.priority == Priority.NORMAL
    assert record.data == {
        "to": "ada@wellos.example",
        "subject": "Welcome to WellOS",
        "template": "welcome",
        "data": {"user_id": str(user.pk), "name": "Ada <Berg>"},
    }


def test_password_reset_has_high_priority_and_encrypted_data(db: None) -> None:
    record = emails.send_password_reset_email("ada@wellos.example", TOKEN, link=LINK).record()
    assert (record.name, record.queue, record.max_attempts) == ("send-password-reset", "email", 3)
    assert record.priority == Priority.HIGH
    assert (record.data["subject"], record.data["template"]) == (
        "Reset Your Password",
        "password-reset",
    )
    assert list(record.data["data"]) == ["$encrypted"]


def test_bulk_emails_are_one_job_each_in_order(db: None) -> None:
    items = [
        {
            "to": f"user{n}@wellos.example",
            "subject": f"News {n}",
            "template": "welcome",
            "data": {"name": f"User {n}"},
        }
        for n in range(3)
    ]
    handles = emails.send_bulk_emails(items)
    assert [handle.record().data for handle in handles] == items
    assert {handle.record().name for handle in handles} == {"send-email"}
    assert {handle.record().priority for handle in handles} == {Priority.NORMAL}
    (urgent,) = emails.send_bulk_emails(items[:1], priority=Priority.HIGH)
    assert urgent.record().priority == Priority.HIGH


def test_options_of_the_job_are_passed_on(user: Any) -> None:
    record = emails.send_welcome_email(
        user, organization="acme", requested_by=user, delay=60
    ).record()
    assert (record.organization_id, record.requested_by, record.state) == (
        "acme",
        user,
        JobState.DELAYED,
    )


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        ({"subject": "S", "template": "welcome"}, "emails[1] has no 'to'"),
        ({"to": "a@b.example", "subject": "", "template": "welcome"}, "emails[1] has no 'subject'"),
        (
            {"to": "a@b.example", "subject": "S", "template": "welcome", "cc": "x"},
            "emails[1] has an unknown key 'cc'",
        ),
        ({"to": "nobody", "subject": "S", "template": "welcome"}, "emails[1]: 'nobody'"),
        (
            {"to": "a@b.example", "subject": "S", "template": "../secret"},
            "Invalid email template name",
        ),
    ],
)
def test_one_invalid_item_and_no_email_is_enqueued(
    db: None, item: dict[str, Any], fault: str
) -> None:
    good = {"to": "a@b.example", "subject": "S", "template": "welcome"}
    with pytest.raises(ValueError, match="emails") as error:
        emails.send_bulk_emails([good, item])
    assert fault in str(error.value)
    assert not JobRecord.objects.exists()


@pytest.mark.parametrize("address", ["", "not an address"])
def test_a_user_without_a_valid_address_is_refused(user: Any, address: str) -> None:
    user.email = address
    with pytest.raises(ValidationError):
        emails.send_welcome_email(user)
    assert not JobRecord.objects.exists()


# --- what is sent ---------------------------------------------------------------------------------


def test_a_mail_has_text_and_html_and_html_is_escaped(mailoutbox: list[Any]) -> None:
    emails.welcome_job("ada@wellos.example", "Welcome to WellOS", "welcome", {"name": "Ada <Berg>"})
    (message,) = mailoutbox
    assert (message.to, message.subject) == (["ada@wellos.example"], "Welcome to WellOS")
    assert "Hello Ada <Berg>," in message.body
    (html,) = message.alternatives
    assert html.mimetype == "text/html"
    assert "Hello Ada &lt;Berg&gt;," in html.content
    assert message.extra_headers["Auto-Submitted"] == "auto-generated"


@pytest.mark.parametrize(("link", "shown"), [(LINK, LINK), ("", TOKEN)])
def test_the_reset_mail_shows_the_link_or_else_the_token(
    mailoutbox: list[Any], link: str, shown: str
) -> None:
    data = {"token": TOKEN, "link": link}
    emails.password_reset_job("ada@wellos.example", "Reset Your Password", "password-reset", data)
    (message,) = mailoutbox
    assert shown in message.body
    assert shown in message.alternatives[0].content


def _templates(folder: Path, **files: str) -> Any:
    for name, content in files.items():
        path = folder / "wellos_jobs" / "email" / name.replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (engine,) = django_settings.TEMPLATES
    return override_settings(TEMPLATES=[{**engine, "DIRS": [folder]}])


def test_a_project_overrides_brand_and_templates(tmp_path: Path, mailoutbox: list[Any]) -> None:
    with _templates(tmp_path, brand__txt="Acme", note__txt="{{ subject }} to {{ to }}: {{ text }}"):
        emails.deliver("ada@wellos.example", "Hello", "welcome", {})
        emails.deliver("ada@wellos.example", "Note", "note", {"text": "hi", "to": "somebody else"})
    branded, note = mailoutbox
    assert "Welcome to Acme" in branded.body
    assert "WellOS" not in branded.alternatives[0].content
    assert note.body == "Note to ada@wellos.example: hi"
    assert note.alternatives == []


def test_html_that_extends_a_missing_template_is_an_error_not_a_mail_without_html(
    tmp_path: Path, mailoutbox: list[Any]
) -> None:
    files = {"note__txt": "text", "note__html": '{% extends "wellos_jobs/email/gone.html" %}'}
    with _templates(tmp_path, **files), pytest.raises(TemplateDoesNotExist):
        emails.deliver("ada@wellos.example", "Note", "note", {})
    assert mailoutbox == []


@pytest.mark.parametrize("subject", ["Hello\nBcc: all@wellos.example", "Hello\r"])
def test_a_subject_cannot_add_headers(mailoutbox: list[Any], subject: str) -> None:
    with pytest.raises(Discard, match="line break"):
        emails.deliver("ada@wellos.example", subject, "welcome", {})
    assert mailoutbox == []


def _smtp(port: int, user: str = "") -> Any:
    if django.VERSION >= (6, 1):
        options = {"host": "127.0.0.1", "port": port, "username": user, "password": user}
        backend = {"BACKEND": "django.core.mail.backends.smtp.EmailBackend", "OPTIONS": options}
        return override_settings(MAILERS={"default": backend})
    return override_settings(
        EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend",
        EMAIL_HOST="127.0.0.1",
        EMAIL_PORT=port,
        EMAIL_HOST_USER=user,
        EMAIL_HOST_PASSWORD=user,
    )


@pytest.fixture
def _closed() -> Iterator[None]:
    """Close this thread's connection."""
    yield
    mail_connection.close()


def in_job(attempt: int = 1, organization: str = "", id: object = "") -> Any:
    """Set a job of the queue ``email`` as the current job."""
    return running(
        CurrentJob(
            id=str(id or uuid.uuid4()),
            name="send-email",
            queue="email",
            attempt=attempt,
            max_attempts=3,
            organization_id=organization,
        )
    )


def welcome(to: str) -> None:
    emails.deliver(to, "Welcome", "welcome", {})


def test_permanent_rejections_are_discarded_and_temporary_ones_retried() -> None:
    refuse = {"gone@b.example": "550 no such user", "busy@b.example": "451 try again later"}
    with SmtpServer(refuse) as server, _smtp(server.port):
        emails.deliver("ada@b.example", "Welcome", "welcome", {})
        with pytest.raises(Discard, match="no such user"):
            emails.deliver("gone@b.example", "Welcome", "welcome", {})
        with pytest.raises(
            Retry, match="rejected the message to busy@b.example temporarily: 451 try again later"
        ) as error:
            emails.deliver("busy@b.example", "Welcome", "welcome", {})
    assert emails.email_job.definition.policy.decide(error.value, 1) == RetryAfter(300)
    (received,) = server.received
    message = email.message_from_bytes(received, policy=email.policy.default)
    assert message["To"] == "ada@b.example"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]


def test_the_wait_grows_with_each_temporary_rejection() -> None:
    with SmtpServer({"busy@b.example": "451 later"}) as server, _smtp(server.port):
        for attempt, seconds in ((1, 300), (2, 1200)):
            with in_job(attempt), pytest.raises(Retry) as error:
                welcome("busy@b.example")
            assert error.value.after == seconds


@pytest.mark.usefixtures("_closed")
def test_jobs_share_a_connection_in_chunks_and_a_rejection_does_not_close_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mail_connection, "MAILS_PER_CONNECTION", 10)
    with SmtpServer({"gone@b.example": "550 no such user"}) as server, _smtp(server.port):
        for number in range(25):
            with in_job():
                welcome(f"user{number}@b.example")
                with pytest.raises(Discard):
                    welcome("gone@b.example")
    over = [message.connection for message in server.messages]
    assert over == [1] * 10 + [2] * 10 + [3] * 5


def test_outside_a_job_no_connection_stays_open() -> None:
    with SmtpServer() as server, _smtp(server.port):
        welcome("a@b.example")
        welcome("b@b.example")
        assert [message.connection for message in server.messages] == [1, 2]
        wait_until(lambda: not server.is_connected(), what="the end of the connections")


@pytest.mark.usefixtures("_closed")
def test_an_idle_connection_that_the_server_closed_is_reopened() -> None:
    with SmtpServer(hang_up={"a@b.example"}) as server, _smtp(server.port), in_job():
        welcome("a@b.example")
        wait_until(lambda: not server.is_connected(), what="the server to hang up")
        welcome("b@b.example")
        server.stop()
        server.start()
        welcome("c@b.example")
    assert server.copies() == {"a@b.example": 1, "b@b.example": 1, "c@b.example": 1}


@pytest.mark.usefixtures("_closed")
@pytest.mark.parametrize(("mood", "copies"), [("swallow", 1), ("cut", 0)])
def test_a_lost_reply_is_reported_and_retried(mood: str, copies: int) -> None:
    with SmtpServer(**{mood: {"a@b.example"}}) as server, _smtp(server.port):
        with (
            in_job(),
            pytest.raises(mail_connection.AnswerLost, match="before its reply") as error,
        ):
            welcome("a@b.example")
        assert server.copies()["a@b.example"] == copies
    assert emails.email_job.definition.policy.decide(error.value, 1, random=0.5) == RetryAfter(2)


def test_while_the_server_is_unreachable_no_attempts_are_counted(db: None) -> None:
    server = SmtpServer()
    handle = emails.email_job.enqueue(to="a@b.example", subject="S", template="welcome")
    with _smtp(server.port), in_job(id=handle):
        with pytest.raises(Snooze, match="is unreachable") as error:
            welcome("a@b.example")
        assert error.value.after == 30
        JobRecord.objects.update(
            created_at=timezone.now() - delivery.MAX_SNOOZE_AGE - timedelta(seconds=1)
        )
        with pytest.raises(Retry, match="is unreachable"):
            welcome("a@b.example")


def test_a_rejected_login_loses_no_email(db: None) -> None:
    with (
        SmtpServer() as server,
        _smtp(server.port, "wellos"),
        in_job(),
        pytest.raises(Snooze, match="AUTH"),
    ):
        welcome("a@b.example")


def test_a_server_that_is_shutting_down_has_accepted_nothing(db: None) -> None:
    with (
        SmtpServer({"a@b.example": "421 closing"}) as server,
        _smtp(server.port),
        in_job(),
        pytest.raises(Snooze),
    ):
        welcome("a@b.example")


# --- who it is from, and what goes with it --------------------------------------------------------


def resolver(organization_id: str) -> dict[str, str] | None:
    known = {
        "acme": {
            "sender": "Acme <mail@acme.example>",
            "reply_to": "desk@acme.example",
            "time_zone": "Asia/Tokyo",
        },
        "plain": {"label": "Plain"},
        "odd": {"sender": "Nobody\nBcc: all@b.example"},
    }
    return known.get(organization_id)


@pytest.fixture
def _resolver(settings: Any) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "ORGANIZATION_RESOLVER": f"{__name__}.resolver"}
    settings.DEFAULT_FROM_EMAIL = "WellOS <hello@wellos.example>"


@pytest.mark.usefixtures("_resolver")
@pytest.mark.parametrize(
    ("organization", "sender", "reply_to"),
    [
        ("acme", "Acme <mail@acme.example>", ["desk@acme.example"]),
        ("plain", "WellOS <hello@wellos.example>", []),
        ("gone", "WellOS <hello@wellos.example>", []),
        ("", "WellOS <hello@wellos.example>", []),
    ],
)
def test_the_sender_is_the_organization_of_the_job(
    mailoutbox: list[Any], organization: str, sender: str, reply_to: list[str]
) -> None:
    with in_job(organization=organization, id="7"):
        welcome("ada@b.example")
    (message,) = mailoutbox
    assert (message.from_email, message.reply_to) == (sender, reply_to)
    domain = sender.partition("@")[2].rstrip(">")
    assert message.extra_headers["Message-ID"] == f"<7@{domain}>"  # the same from every machine


@pytest.mark.usefixtures("_resolver")
def test_an_invalid_sender_fails_at_once(mailoutbox: list[Any]) -> None:
    with (
        in_job(organization="odd"),
        pytest.raises(Discard, match="invalid email address for 'sender': 'Nobody"),
    ):
        welcome("ada@b.example")
    assert mailoutbox == []


@pytest.mark.usefixtures("_resolver")
def test_times_are_in_the_time_zone_of_the_organization(mailoutbox: list[Any]) -> None:
    data = {"trial_ends_at": datetime(2030, 5, 4, 12, 30, tzinfo=UTC)}
    with in_job(organization="acme"):
        emails.deliver("ada@b.example", "Your trial ends soon", "trial-expiration-warning", data)
    assert "on 4 May 2030, 21:30 JST." in mailoutbox[0].body


def test_attachments_are_names_in_the_storage(
    mailoutbox: list[Any], tmp_path: Path, settings: Any
) -> None:
    settings.MEDIA_ROOT = tmp_path
    store("invoices/7.pdf", b"%PDF-1.4")
    emails.email_job("ada@b.example", "Invoice", "welcome", {}, attachments=["invoices/7.pdf"])
    ((name, content, kind),) = mailoutbox[0].attachments
    assert (name, content, kind) == ("7.pdf", b"%PDF-1.4", "application/pdf")


@pytest.mark.parametrize("name", ["invoices/8.pdf", "../secret", "invoices"])
def test_a_missing_attachment_fails_at_once(
    mailoutbox: list[Any], tmp_path: Path, settings: Any, name: str
) -> None:
    settings.MEDIA_ROOT = tmp_path
    (tmp_path / "invoices").mkdir()
    with pytest.raises(Discard, match=f"'{name}' is not in the storage 'default'"):
        emails.email_job("ada@b.example", "Invoice", "welcome", {}, attachments=[name])
    assert mailoutbox == []


def test_attachments_that_are_too_large_are_refused(
    mailoutbox: list[Any], tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MEDIA_ROOT = tmp_path
    monkeypatch.setattr(delivery, "MAX_ATTACHMENT_BYTES", 10)
    for name in ("a.bin", "b.bin"):
        store(name, b"123456")
    with pytest.raises(
        Discard, match="With 'b.bin' the attachments exceed 10 bytes: send a link instead"
    ):
        emails.email_job("ada@b.example", "Files", "welcome", {}, attachments=["a.bin", "b.bin"])
    assert mailoutbox == []


# --- with a real worker ---------------------------------------------------------------------------


def test_mails_are_sent_by_a_worker_and_the_token_is_readable_in_the_mail_only(
    processes: Fleet, redis_client: redis.Redis
) -> None:
    ada = get_user_model().objects.create_user("ada", email="ada@wellos.example")
    handles = [
        emails.send_password_reset_email("ada@wellos.example", TOKEN, link=LINK),
        emails.send_welcome_email(ada),
        *emails.send_bulk_emails(
            [{"to": "b@wellos.example", "subject": "News", "template": "no-such-template"}]
        ),
    ]
    before = " ".join(contents_of_redis(redis_client))
    worker = processes.worker("email", "default", environment={"WELLOS_TEST_LOG_LEVEL": "DEBUG"})
    states = [JobState.COMPLETED, JobState.COMPLETED, JobState.FAILED]
    processes.wait_until(
        lambda: [handle.record().state for handle in handles] == states, 60, f"{states}"
    )

    mails = "".join(path.read_text() for path in Path(django_settings.MAIL_FOLDER).iterdir())
    assert mails.count(TOKEN) >= 2
    assert f"<{handles[0]}@" in mails  # the Message-ID is the job's
    rows = repr(list(JobRecord.objects.values())) + repr(list(DeadLetter.objects.values()))
    places = {
        "Redis before": before,
        "Redis after": " ".join(contents_of_redis(redis_client)),
        "rows": rows,
        "log": worker.output(),
    }
    assert [place for place, text in places.items() if TOKEN in text] == []
    letter = DeadLetter.objects.get(job=handles[2].id)
    assert (letter.reason, letter.job.attempts) == ("not_retryable", 1)


def test_a_token_in_an_error_is_masked(processes: Fleet) -> None:
    handle = emails.password_reset_job.using(max_attempts=1).enqueue(
        to="ada@wellos.example", subject=f"Reset {TOKEN}", template=TOKEN, data={"token": TOKEN}
    )
    worker = processes.worker("email")
    processes.wait_until(
        lambda: DeadLetter.objects.filter(job=handle.id).exists(), what="the dead letter"
    )
    letter = DeadLetter.objects.get(job=handle.id)
    assert "********" in letter.message
    assert TOKEN not in letter.message + letter.traceback + worker.output() + handle.record().error
