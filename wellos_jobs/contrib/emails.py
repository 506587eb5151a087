"""Mail jobs: welcome, password reset, and many at once. Sent through Django's mail backends.

A message is made from the templates ``wellos_jobs/email/<template>.txt`` and, where there is one, ``.html``; a
project overrides them, or adds its own, in its template folders. Retried are connection errors and an SMTP
server's passing refusals (4xx); what it refuses for good (5xx) ends as a dead letter at once.
"""

from __future__ import annotations

import re
import smtplib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.core.mail import DNS_NAME, EmailMultiAlternatives
from django.core.validators import validate_email
from django.template import TemplateDoesNotExist, TemplateSyntaxError
from django.template.loader import render_to_string

from .. import Discard, JobHandle, Priority, current_job, job

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

QUEUE = "email"
WELCOME_SUBJECT = "Welcome to WellOS"
PASSWORD_RESET_SUBJECT = "Reset Your Password"  # noqa: S105

_TEMPLATE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")
_TEMPLATE_FAULTS = (TemplateDoesNotExist, TemplateSyntaxError)
_ITEM_KEYS = ("to", "subject", "template", "data")


@job("send-welcome-email", queue=QUEUE, max_attempts=3, discard_on=_TEMPLATE_FAULTS)
def welcome_job(to: str, subject: str, template: str, data: dict[str, Any]) -> dict[str, Any]:
    """Send the welcome mail."""
    return deliver(to, subject, template, data)


@job(
    "send-password-reset",
    queue=QUEUE,
    priority=Priority.HIGH,
    max_attempts=3,
    sensitive=("data",),
    discard_on=_TEMPLATE_FAULTS,
)
def password_reset_job(to: str, subject: str, template: str, data: dict[str, Any]) -> dict[str, Any]:
    """Send the password reset mail. ``data`` holds the token, so all of it is encrypted."""
    return deliver(to, subject, template, data)


@job("send-email", queue=QUEUE, max_attempts=3, discard_on=_TEMPLATE_FAULTS)
def email_job(to: str, subject: str, template: str, data: dict[str, Any] | None = None) -> dict[str, Any]:
    """Send one mail."""
    return deliver(to, subject, template, data or {})


def send_welcome_email(user: AbstractBaseUser, **using: Any) -> JobHandle:
    """Enqueue the welcome mail to ``user``; ``using`` are options of the job, such as ``organization``.

    Raises:
        ValidationError: the user has no valid address.
    """
    to = address_of(user)
    data = {"user_id": str(user.pk), "name": name_of(user)}
    return welcome_job.using(**using).enqueue(to=to, subject=WELCOME_SUBJECT, template="welcome", data=data)


def send_password_reset_email(email: str, token: str, *, link: str = "", **using: Any) -> JobHandle:
    """Enqueue the password reset mail. ``link`` is the page that takes the token; without it the mail shows the token.

    Token and link are readable in the mail only: not in Redis, rows, logs or admin.

    Raises:
        ValidationError: the address is not valid.
    """
    validate_email(email)
    return password_reset_job.using(**using).enqueue(
        to=email,
        subject=PASSWORD_RESET_SUBJECT,
        template="password-reset",
        data={"token": token, "link": link},
    )


def send_bulk_emails(emails: Iterable[Mapping[str, Any]], **using: Any) -> list[JobHandle]:
    """Enqueue a mail for each ``{"to", "subject", "template", "data"}`` (``data`` may be left out): all or none.

    Raises:
        ValueError: an item is not of that form; the text names its place.
    """
    rows = [_checked_item(place, item) for place, item in enumerate(emails)]
    return email_job.using(**using).enqueue_bulk(rows)


def deliver(to: str, subject: str, template: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Send one mail here and now and return what was sent to whom.

    A second run of the same job sends the same ``Message-ID``, by which mail systems drop a copy.

    Raises:
        ValidationError: the address is not valid.
        Discard: the mail server refuses the message for good, or the subject has a line break.
    """
    validate_email(to)
    if "\n" in subject or "\r" in subject:
        raise Discard(f"The subject {subject!r} has a line break")
    context = {**data, "to": to, "subject": subject}
    message = EmailMultiAlternatives(
        subject, render_to_string(_path(template, "txt"), context), to=[to], headers=_headers()
    )
    html = _html(template, context)
    if html is not None:
        message.attach_alternative(html, "text/html")
    try:
        message.send()
    except smtplib.SMTPRecipientsRefused as error:
        _discard_if_permanent(max((code for code, _ in error.recipients.values()), default=550), error)
    except smtplib.SMTPResponseException as error:
        _discard_if_permanent(error.smtp_code, error)
    return {"to": to, "subject": subject}


def address_of(user: AbstractBaseUser) -> str:
    """Return the user's mail address.

    Raises:
        ValidationError: there is none, or it is not valid.
    """
    address = str(getattr(user, user.get_email_field_name(), "") or "")
    if not address:
        raise ValidationError(f"The user {user.pk} has no mail address")
    validate_email(address)
    return address


def name_of(user: AbstractBaseUser) -> str:
    """Return how the user is greeted: full name, else user name."""
    full_name = getattr(user, "get_full_name", str)()
    return str(full_name).strip() or user.get_username()


def _checked_item(place: int, item: Mapping[str, Any]) -> dict[str, Any]:
    missing = [key for key in _ITEM_KEYS[:3] if not item.get(key)]
    unknown = [str(key) for key in item if key not in _ITEM_KEYS]
    if missing or unknown:
        fault = f"has no {missing[0]!r}" if missing else f"has an unknown key {unknown[0]!r}"
        raise ValueError(f"emails[{place}] {fault}: its keys are {', '.join(_ITEM_KEYS)}")
    try:
        validate_email(item["to"])
        _path(item["template"], "txt")
    except (ValidationError, Discard) as error:
        raise ValueError(f"emails[{place}]: {item['to']!r}, template {item['template']!r}: {error}") from error
    return {**item, "data": dict(item.get("data") or {})}


def _path(template: str, kind: str) -> str:
    if not _TEMPLATE_NAME.match(template):
        raise Discard(f"{template!r} is not the name of a mail template: use letters, digits, '-' and '_'")
    return f"wellos_jobs/email/{template}.{kind}"


def _html(template: str, context: dict[str, Any]) -> str | None:
    path = _path(template, "html")
    try:
        return render_to_string(path, context)
    except TemplateDoesNotExist as error:
        if error.args[:1] != (path,):  # the template is there, but extends or includes one that is not
            raise
        return None


def _headers() -> dict[str, str]:
    headers = {"Auto-Submitted": "auto-generated"}
    running = current_job(default=None)
    if running is not None:
        headers["Message-ID"] = f"<{running.id}@{DNS_NAME}>"
    return headers


def _discard_if_permanent(code: int, error: smtplib.SMTPException) -> None:
    """Raise Discard for what a mail server refuses for good (5xx), else the error itself."""
    if 500 <= code < 600:
        raise Discard(f"The mail server refused the message: {error}") from error
    raise error
