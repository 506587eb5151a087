"""Mail jobs: welcome, password reset, and many at once. Sent through Django's mail backends.

A message is made from the templates ``wellos_jobs/email/<template>.txt`` and, where there is one,
``.html``; a project overrides them, or adds its own, in its template folders. It comes from the
organization of the job, where ``ORGANIZATION_RESOLVER`` names a ``sender``. Each mail is a job with
one recipient, also of many at once, so each has an end and a history of its own; the worker keeps
its connection to the server open from one to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.template import TemplateDoesNotExist, TemplateSyntaxError

from .. import Discard, JobHandle, Priority, job
from .delivery import deliver, path_of

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

QUEUE = "email"
WELCOME_SUBJECT = "Welcome to WellOS"
PASSWORD_RESET_SUBJECT = "Reset Your Password"  # noqa: S105

__all__ = [
    "address_of",
    "deliver",
    "email_job",
    "name_of",
    "password_reset_job",
    "send_bulk_emails",
    "send_password_reset_email",
    "send_welcome_email",
    "welcome_data",
    "welcome_job",
]

_TEMPLATE_FAULTS = (TemplateDoesNotExist, TemplateSyntaxError)
_ITEM_KEYS = ("to", "subject", "template", "data", "attachments")


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
def password_reset_job(
    to: str, subject: str, template: str, data: dict[str, Any]
) -> dict[str, Any]:
    """Send the password reset mail. ``data`` holds the token, so all of it is encrypted."""
    return deliver(to, subject, template, data)


@job("send-email", queue=QUEUE, max_attempts=3, discard_on=_TEMPLATE_FAULTS)
def email_job(
    to: str,
    subject: str,
    template: str,
    data: dict[str, Any] | None = None,
    attachments: Sequence[str] = (),
) -> dict[str, Any]:
    """Send one mail. ``attachments`` are names of files in the storage, which are read when the mail is sent."""
    return deliver(to, subject, template, data or {}, attachments)


def send_welcome_email(user: AbstractBaseUser, **using: Any) -> JobHandle:
    """Enqueue the welcome mail to ``user``; ``using`` are options of the job, such as ``organization``.

    Raises:
        ValidationError: the user has no valid address.
    """
    return welcome_job.using(**using).enqueue(**welcome_data(user))


def welcome_data(user: AbstractBaseUser) -> dict[str, Any]:
    """Return the data of ``welcome_job`` for a user, for a trigger or a flow.

    Raises:
        ValidationError: the user has no valid address.
    """
    data = {"user_id": str(user.pk), "name": name_of(user)}
    return {"to": address_of(user), "subject": WELCOME_SUBJECT, "template": "welcome", "data": data}


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
    """Enqueue a mail for each ``{"to", "subject", "template", "data", "attachments"}`` (the last two may be left out):
    all or none. ``mailings.outcome(handles)`` tells how they went. Their priority is BULK, so that
    no single mail waits for them, unless ``using`` has another.

    Raises:
        ValueError: an item is not of that form; the text names its place.
    """
    rows = [_checked_item(place, item) for place, item in enumerate(emails)]
    return email_job.using(**{"priority": Priority.BULK, **using}).enqueue_bulk(rows)


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
        path_of(item["template"], "txt")
    except (ValidationError, Discard) as error:
        raise ValueError(
            f"emails[{place}]: {item['to']!r}, template {item['template']!r}: {error}"
        ) from error
    return {**item, "data": dict(item.get("data") or {})}
