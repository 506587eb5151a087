"""One mail, from its templates to the mail server's answer, and what follows from that answer.

What the server refuses for good (5xx) is given up at once. What it defers (4xx) is tried again
after ``MAIL_WAITS["deferred"]`` seconds and then longer. While it cannot be reached a mail waits
and burns no attempt.
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

PATIENCE = timedelta(days=1)
"""How old a mail may grow that waits, without burning attempts, for a server that cannot be reached."""
LONGER = 4
"""How much longer a mail that was deferred again waits each time."""
MOST_ATTACHED = 20 * 1024 * 1024
"""Bytes of attachments in one mail: more than that few servers take."""

_TEMPLATE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")


def deliver(
    to: str, subject: str, template: str, data: Mapping[str, Any], attachments: Sequence[str] = ()
) -> dict[str, Any]:
    """Send one mail here and now and return what was sent to whom. ``attachments`` are names of files in the storage.

    A second run of the same job sends the same ``Message-ID``, by which mail systems drop a copy.

    Raises:
        ValidationError: the address is not valid.
        Discard: the server refuses the message for good, the subject has a line break, or a file is
            not there.
        Retry: the server asks to try later (4xx).
        Snooze: the server cannot be reached; nothing was sent.
        AnswerLost: the server has the message, but its answer was lost.
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
        raise _refusal(to, error) from error
    return {"to": to, "subject": subject}


def attach(message: EmailMultiAlternatives, names: Sequence[str]) -> None:
    """Attach files of the storage to a message.

    Raises:
        Discard: a file is not there, or together they are larger than ``MOST_ATTACHED``.
    """
    files, total = storage(), 0
    for name in names:
        try:
            with files.open(name) as file:
                content = file.read(MOST_ATTACHED + 1)
        except (FileNotFoundError, IsADirectoryError, SuspiciousFileOperation) as error:
            raise Discard(
                f"The attachment {name!r} is not in the storage {conf.current().files_storage!r}"
            ) from error
        total += len(content)
        if total > MOST_ATTACHED:
            raise Discard(
                f"The attachment {name!r} makes the mail larger than {MOST_ATTACHED} bytes: send a link"
            )
        message.attach(name.rpartition("/")[2], content)


def path_of(template: str, kind: str) -> str:
    """Return where a mail's template is found.

    Raises:
        Discard: no template could have this name.
    """
    if not _TEMPLATE_NAME.match(template):
        raise Discard(
            f"{template!r} is not the name of a mail template: use letters, digits, '-' and '_'"
        )
    return f"wellos_jobs/email/{template}.{kind}"


def _message(
    to: str, subject: str, template: str, data: Mapping[str, Any]
) -> EmailMultiAlternatives:
    running = current_job(default=None)
    organization = organization_details(running.organization_id) if running is not None else {}
    sender = _sender(organization)
    context = {**data, "to": to, "subject": subject}
    with _times_of(organization):
        text, html = render_to_string(path_of(template, "txt"), context), _html(template, context)
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
        if error.args[:1] != (
            path,
        ):  # the template is there, but extends or includes one that is not
            raise
        return None


def _sender(organization: Mapping[str, Any]) -> str:
    """Return whom the mail is from: the organization, else ``DEFAULT_FROM_EMAIL``."""
    for key in ("sender", "reply_to"):
        given = str(organization.get(key) or "")
        if given and not (given.isprintable() and _is_address(parseaddr(given)[1])):
            raise Discard(
                f"ORGANIZATION_RESOLVER names the {key} {given!r}, which is no mail address"
            )
    return str(organization.get("sender") or conf.django_setting("DEFAULT_FROM_EMAIL"))


def _is_address(text: str) -> bool:
    try:
        validate_email(text)
    except ValidationError:
        return False
    return True


def _times_of(organization: Mapping[str, Any]) -> contextlib.AbstractContextManager[None]:
    zone = organization.get("time_zone")
    return timezone.override(cron.zone(zone)) if zone else contextlib.nullcontext()


def _headers(running: CurrentJob | None, sender: str) -> dict[str, str]:
    headers = {"Auto-Submitted": "auto-generated"}
    if (
        running is not None
    ):  # the sender's domain, not this machine's: another one may send the mail again
        headers["Message-ID"] = (
            f"<{running.id}@{parseaddr(sender)[1].rpartition('@')[2] or DNS_NAME}>"
        )
    return headers


# --- what follows from the answer -----------------------------------------------------------------


def _refusal(to: str, error: smtplib.SMTPException) -> Exception:
    """Return what a job raises for the server's refusal of a message."""
    codes = mail_connection.codes_of(error)
    if not codes:
        return error
    said = _said(error)
    if max(codes) >= 500:
        return Discard(f"The mail server refused the message to {to} for good: {said}")
    running = current_job(default=None)
    again = running.attempt - 1 if running is not None else 0
    wait = conf.current().mail_waits["deferred"] * LONGER**again
    return Retry(wait, f"The mail server deferred the message to {to}: {said}")


def _wait_for_server(error: MailServerUnavailable) -> Exception:
    """Return what a job raises while the server is away: it snoozes, unless the mail has grown old."""
    running = current_job(default=None)
    if running is None:
        return error
    logger.warning("job=%s waits for the mail server: %s", running.id, error)
    made = (
        JobRecord.objects.using(running.database)
        .filter(pk=running.id)
        .values_list("created_at", flat=True)
        .first()
    )
    waits = conf.current().mail_waits
    if made is None or timezone.now() - made < PATIENCE:
        return Snooze(waits["unreachable"], str(error))
    return Retry(waits["deferred"] * LONGER ** (running.attempt - 1), str(error))


def _said(error: smtplib.SMTPException) -> str:
    """Return code and text of the server's answer."""
    answers: list[tuple[int, bytes | str]]
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        answers = [*error.recipients.values()]
    elif isinstance(error, smtplib.SMTPResponseException):
        answers = [(error.smtp_code, error.smtp_error)]
    else:
        return str(error)
    texts = (
        text.decode(errors="replace") if isinstance(text, bytes) else str(text)
        for _, text in answers
    )
    return "; ".join(f"{code} {text}" for (code, _), text in zip(answers, texts, strict=True))
