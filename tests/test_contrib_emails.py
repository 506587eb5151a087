"""``contrib.emails``: what is enqueued, what is sent, what is retried, and where the token is not."""

from __future__ import annotations

import email
import email.policy
import smtplib
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

from wellos_jobs import Discard, JobState, Priority
from wellos_jobs.contrib import emails
from wellos_jobs.models import DeadLetter, JobRecord

from .processes import Fleet
from .smtp import SmtpServer

TOKEN = "s3cret-t0ken-9f8e7d6c5b4a"
LINK = f"https://wellos.example/reset/{TOKEN}"


@pytest.fixture
def user(db: None) -> Any:
    return get_user_model().objects.create_user("ada", email="ada@wellos.example", first_name="Ada", last_name="<Berg>")


# --- what is enqueued ------------------------------------------------------------------------------------


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


def test_password_reset_is_urgent_and_its_data_encrypted(db: None) -> None:
    record = emails.send_password_reset_email("ada@wellos.example", TOKEN, link=LINK).record()
    assert (record.name, record.queue, record.max_attempts) == ("send-password-reset", "email", 3)
    assert record.priority == Priority.HIGH
    assert (record.data["subject"], record.data["template"]) == ("Reset Your Password", "password-reset")
    assert list(record.data["data"]) == ["$encrypted"]


def test_bulk_emails_are_one_job_each_in_order(db: None) -> None:
    items = [
        {"to": f"user{n}@wellos.example", "subject": f"News {n}", "template": "welcome", "data": {"name": f"User {n}"}}
        for n in range(3)
    ]
    handles = emails.send_bulk_emails(items)
    assert [handle.record().data for handle in handles] == items
    assert {handle.record().name for handle in handles} == {"send-email"}


def test_options_of_the_job_are_passed_on(user: Any) -> None:
    record = emails.send_welcome_email(user, organization="acme", requested_by=user, delay=60).record()
    assert (record.organization_id, record.requested_by, record.state) == ("acme", user, JobState.DELAYED)


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        ({"subject": "S", "template": "welcome"}, "emails[1] has no 'to'"),
        ({"to": "a@b.example", "subject": "", "template": "welcome"}, "emails[1] has no 'subject'"),
        ({"to": "a@b.example", "subject": "S", "template": "welcome", "cc": "x"}, "emails[1] has an unknown key 'cc'"),
        ({"to": "nobody", "subject": "S", "template": "welcome"}, "emails[1]: 'nobody'"),
        ({"to": "a@b.example", "subject": "S", "template": "../secret"}, "is not the name of a mail template"),
    ],
)
def test_one_bad_item_and_no_mail_is_enqueued(db: None, item: dict[str, Any], fault: str) -> None:
    good = {"to": "a@b.example", "subject": "S", "template": "welcome"}
    with pytest.raises(ValueError, match="emails") as error:
        emails.send_bulk_emails([good, item])
    assert fault in str(error.value)
    assert not JobRecord.objects.exists()


@pytest.mark.parametrize("address", ["", "not an address"])
def test_a_user_without_a_good_address_is_refused_at_once(user: Any, address: str) -> None:
    user.email = address
    with pytest.raises(ValidationError):
        emails.send_welcome_email(user)
    assert not JobRecord.objects.exists()


# --- what is sent ----------------------------------------------------------------------------------------


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
def test_the_reset_mail_shows_the_link_or_else_the_token(mailoutbox: list[Any], link: str, shown: str) -> None:
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
    assert "welcome to Acme" in branded.body
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


def _smtp(port: int) -> Any:
    if django.VERSION >= (6, 1):
        options = {"host": "127.0.0.1", "port": port}
        backend = {"BACKEND": "django.core.mail.backends.smtp.EmailBackend", "OPTIONS": options}
        return override_settings(MAILERS={"default": backend})
    return override_settings(
        EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend", EMAIL_HOST="127.0.0.1", EMAIL_PORT=port
    )


def test_smtp_refusals_for_good_are_discarded_and_passing_ones_retried() -> None:
    refuse = {"gone@b.example": "550 no such user", "busy@b.example": "451 try again later"}
    with SmtpServer(refuse) as server, _smtp(server.port):
        emails.deliver("ada@b.example", "Welcome", "welcome", {})
        with pytest.raises(Discard, match="no such user"):
            emails.deliver("gone@b.example", "Welcome", "welcome", {})
        with pytest.raises(smtplib.SMTPRecipientsRefused) as error:
            emails.deliver("busy@b.example", "Welcome", "welcome", {})
    assert emails.email_job.definition.policy.decide(error.value, 1, random=0.5).seconds == 2
    (received,) = server.received
    message = email.message_from_bytes(received, policy=email.policy.default)
    assert message["To"] == "ada@b.example"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]


# --- with a real worker ----------------------------------------------------------------------------------


def test_mails_are_sent_by_a_worker_and_the_token_is_readable_in_the_mail_only(
    processes: Fleet, redis_client: redis.Redis
) -> None:
    ada = get_user_model().objects.create_user("ada", email="ada@wellos.example")
    handles = [
        emails.send_password_reset_email("ada@wellos.example", TOKEN, link=LINK),
        emails.send_welcome_email(ada),
        *emails.send_bulk_emails([{"to": "b@wellos.example", "subject": "News", "template": "no-such-template"}]),
    ]
    before = _dump(redis_client)
    worker = processes.worker("email", "default", environment={"WELLOS_TEST_LOG_LEVEL": "DEBUG"})
    states = [JobState.COMPLETED, JobState.COMPLETED, JobState.FAILED]
    processes.wait_until(lambda: [handle.record().state for handle in handles] == states, what=f"{states}")

    mails = "".join(path.read_text() for path in Path(django_settings.MAIL_FOLDER).iterdir())
    assert mails.count(TOKEN) >= 2
    assert f"<{handles[0]}@" in mails  # the Message-ID is the job's
    rows = repr(list(JobRecord.objects.values())) + repr(list(DeadLetter.objects.values()))
    places = {"Redis before": before, "Redis after": _dump(redis_client), "rows": rows, "log": worker.output()}
    assert [place for place, text in places.items() if TOKEN in text] == []
    letter = DeadLetter.objects.get(job=handles[2].id)
    assert (letter.reason, letter.job.attempts) == ("not_retryable", 1)


def test_a_token_in_an_error_is_masked(processes: Fleet) -> None:
    handle = emails.password_reset_job.using(max_attempts=1).enqueue(
        to="ada@wellos.example", subject=f"Reset {TOKEN}", template=TOKEN, data={"token": TOKEN}
    )
    worker = processes.worker("email")
    processes.wait_until(lambda: DeadLetter.objects.filter(job=handle.id).exists(), what="the dead letter")
    letter = DeadLetter.objects.get(job=handle.id)
    assert "********" in letter.message
    assert TOKEN not in letter.message + letter.traceback + worker.output() + handle.record().error


def _dump(client: redis.Redis) -> str:
    """Return all that Redis holds, as text."""
    found: list[Any] = []
    for key in client.scan_iter():
        kind = client.type(key).decode()
        read = {
            "string": lambda key: client.get(key),
            "hash": lambda key: client.hgetall(key),
            "list": lambda key: client.lrange(key, 0, -1),
            "set": lambda key: client.smembers(key),
            "zset": lambda key: client.zrange(key, 0, -1),
            "stream": lambda key: client.xrange(key),
        }[kind]
        found.append((key, read(key)))
    return repr(found)
