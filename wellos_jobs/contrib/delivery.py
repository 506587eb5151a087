"""Render and send one email, and map the mail server's reply to the outcome of the job.

A permanent rejection (5xx) fails the job at once. A temporary one (4xx) is retried after
``MAIL_WAITS["deferred"]`` seconds, with backoff. While the server is unreachable the job snoozes,
which does not count as an attempt.
"""

from __future__ import annotations

import contextlib
import logging
import re
import smtplib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from email.utils import parseaddr
from typing import Any

from django.core.exceptions import SuspiciousFileOperation, ValidationError
from django.core.mail import DNS_NAME, EmailMultiAlternatives
from django.core.validators import validate_email
from django.template import TemplateDoesNotExist
from django.template.loader import render_to_string
from django.utils import timezone

from .. import CurrentJob, Discard, Retry, Snooze, conf, cron, current_job
from ..models import JobRecord
from ..organizations import organization_details
from . import mail_connection
from .files import storage
from .mail_connection import MailServerUnavailable

logger = logging.getLogger("wellos_jobs.contrib")

MAX_SNOOZE_AGE = timedelta(days=1)
"""Once an email is this old, an unreachable server counts as a failed attempt."""
BACKOFF_FACTOR = 4
MAX_ATTACHMENT_BYTES = 20 * 1024 * 1024
"""Size limit of all attachments of an email. Few servers accept more."""

_TEMPLATE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")


def deliver(
    to: str, subject: str, template: str, data: Mapping[str, Any], attachments: Sequence[str] = ()
) -> dict[str, Any]:
    """Send one email synchronously and return its recipient and subject.

    ``attachments`` are names of files in the storage. Each run of a job sends the same
    ``Message-ID``, so that mail systems can drop duplicates.

    Raises:
        ValidationError: the address is invalid.
        Discard: the server rejected the message permanently (5xx), the subject has a line break, or
            an attachment is missing or too large.
        Retry: the server rejected the message temporarily (4xx).
        Snooze: the server is unreachable; nothing was sent.
        AnswerLost: the server's reply was lost, so the message may have been sent.
    """
    validate_email(to)
    if "\n" in subject or "\r" in subject:
        raise Discard(f"The subject {subject!r} has a line break")

    message = _message(to, subject, template, data)
    attach(message, attachments)

    try:
        mail_connection.send(message)
    except MailServerUnavailable as error:
        raise _wait_for_server(error) from error
    except smtplib.SMTPException as error:
        raise _rejection(to, error) from error
    return {"to": to, "subject": subject}


def attach(message: EmailMultiAlternatives, names: Sequence[str]) -> None:
    """Attach files from the storage to a message.

    Raises:
        Discard: a file is missing, or the files exceed ``MAX_ATTACHMENT_BYTES``.
    """
    files, total = storage(), 0
    for name in names:
        try:
            with files.open(name) as file:
                content = file.read(MAX_ATTACHMENT_BYTES + 1)
        except (FileNotFoundError, IsADirectoryError, SuspiciousFileOperation) as error:
            raise Discard(
                f"The attachment {name!r} is not in the storage {conf.current().files_storage!r}"
            ) from error
        total += len(content)
        if total > MAX_ATTACHMENT_BYTES:
            raise Discard(
                f"With {name!r} the attachments exceed {MAX_ATTACHMENT_BYTES} bytes: "
                "send a link instead"
            )
        message.attach(name.rpartition("/")[2], content)


def path_of(template: str, kind: str) -> str:
    """Return the path of an email template; ``kind`` is ``txt`` or ``html``.

    Raises:
        Discard: the template name is invalid.
    """
    if not _TEMPLATE_NAME.match(template):
        raise Discard(f"Invalid email template name {template!r}: use letters, digits, '-' and '_'")
    return f"wellos_jobs/email/{template}.{kind}"


def _message(
    to: str, subject: str, template: str, data: Mapping[str, Any]
) -> EmailMultiAlternatives:
    running = current_job(default=None)
    organization = organization_details(running.organization_id) if running is not None else {}
    sender = _sender(organization)
    context = {**data, "to": to, "subject": subject}

    with _time_zone_of(organization):
        text = render_to_string(path_of(template, "txt"), context)
        html = _html(template, context)

    message = EmailMultiAlternatives(
        subject,
        text,
        from_email=sender,
        to=[to],
        reply_to=[organization["reply_to"]] if organization.get("reply_to") else None,
        headers=_headers(running, sender),
    )
    if html is not None:
        message.attach_alternative(html, "text/html")
    return message


def _html(template: str, context: dict[str, Any]) -> str | None:
    path = path_of(template, "html")
    try:
        return render_to_string(path, context)
    except TemplateDoesNotExist as error:
        if error.args[:1] != (path,):
            raise  # the template exists, but one that it extends or includes does not
        return None


def _sender(organization: Mapping[str, Any]) -> str:
    """Return the organization's sender address, or ``DEFAULT_FROM_EMAIL``."""
    for key in ("sender", "reply_to"):
        address = str(organization.get(key) or "")
        if address and not (address.isprintable() and _is_address(parseaddr(address)[1])):
            raise Discard(
                f"ORGANIZATION_RESOLVER returned an invalid email address for {key!r}: {address!r}"
            )
    return str(organization.get("sender") or conf.django_setting("DEFAULT_FROM_EMAIL"))


def _is_address(text: str) -> bool:
    try:
        validate_email(text)
    except ValidationError:
        return False
    return True


def _time_zone_of(organization: Mapping[str, Any]) -> contextlib.AbstractContextManager[None]:
    zone = organization.get("time_zone")
    return timezone.override(cron.zone(zone)) if zone else contextlib.nullcontext()


def _headers(running: CurrentJob | None, sender: str) -> dict[str, str]:
    headers = {"Auto-Submitted": "auto-generated"}
    if running is not None:
        # Use the sender's domain, not the host name: a repeated run may be on another machine.
        domain = parseaddr(sender)[1].rpartition("@")[2] or DNS_NAME
        headers["Message-ID"] = f"<{running.id}@{domain}>"
    return headers


# --- from the server's reply to the outcome of the job --------------------------------------------


def _rejection(to: str, error: smtplib.SMTPException) -> Exception:
    """Return the exception that a job raises when the server rejects its message."""
    codes = mail_connection.codes_of(error)
    if not codes:
        return error
    reply = _server_reply(error)
    if max(codes) >= 500:
        return Discard(f"The mail server rejected the message to {to} permanently: {reply}")

    running = current_job(default=None)
    retries = running.attempt - 1 if running is not None else 0
    wait = conf.current().mail_waits["deferred"] * BACKOFF_FACTOR**retries
    return Retry(wait, f"The mail server rejected the message to {to} temporarily: {reply}")


def _wait_for_server(error: MailServerUnavailable) -> Exception:
    """Return the exception that a job raises while the server is unreachable."""
    running = current_job(default=None)
    if running is None:
        return error

    logger.warning("job=%s waits for the mail server: %s", running.id, error)
    created_at = (
        JobRecord.objects.using(running.database)
        .filter(pk=running.id)
        .values_list("created_at", flat=True)
        .first()
    )
    waits = conf.current().mail_waits
    if created_at is None or timezone.now() - created_at < MAX_SNOOZE_AGE:
        return Snooze(waits["unreachable"], str(error))
    return Retry(waits["deferred"] * BACKOFF_FACTOR ** (running.attempt - 1), str(error))


def _server_reply(error: smtplib.SMTPException) -> str:
    """Return the codes and texts of the server's reply."""
    replies: list[tuple[int, bytes | str]]
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        replies = [*error.recipients.values()]
    elif isinstance(error, smtplib.SMTPResponseException):
        replies = [(error.smtp_code, error.smtp_error)]
    else:
        return str(error)

    return "; ".join(f"{code} {_decoded(text)}" for code, text in replies)


def _decoded(text: bytes | str) -> str:
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
