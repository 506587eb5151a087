"""Email jobs: welcome, password reset and bulk email, sent through Django's email backends.

A message is rendered from the template ``wellos_jobs/email/<template>.txt`` and, if it exists, from
``<template>.html``. A project can override these templates and add others. The sender is the one
that ``ORGANIZATION_RESOLVER`` returns for the job's organization, if any.

Each email is a job with one recipient, bulk email included, so each has its own state and history.
The worker reuses one connection to the mail server for all of them.
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

_TEMPLATE_ERRORS = (TemplateDoesNotExist, TemplateSyntaxError)
_ITEM_KEYS = ("to", "subject", "template", "data", "attachments")


@job("send-welcome-email", queue=QUEUE, max_attempts=3, discard_on=_TEMPLATE_ERRORS)
def welcome_job(to: str, subject: str, template: str, data: dict[str, Any]) -> dict[str, Any]:
    """Send the welcome email."""
    return deliver(to, subject, template, data)


@job(
    "send-password-reset",
    queue=QUEUE,
    priority=Priority.HIGH,
    max_attempts=3,
    sensitive=("data",),
    discard_on=_TEMPLATE_ERRORS,
)
def password_reset_job(
    to: str, subject: str, template: str, data: dict[str, Any]
) -> dict[str, Any]:
    """Send the password reset email. ``data`` includes the token, so all of it is encrypted."""
    return deliver(to, subject, template, data)


@job("send-email", queue=QUEUE, max_attempts=3, discard_on=_TEMPLATE_ERRORS)
def email_job(
    to: str,
    subject: str,
    template: str,
    data: dict[str, Any] | None = None,
    attachments: Sequence[str] = (),
) -> dict[str, Any]:
    """Send one email. ``attachments`` are names of files in the storage, read when it is sent."""
    return deliver(to, subject, template, data or {}, attachments)


def send_welcome_email(user: AbstractBaseUser, **using: Any) -> JobHandle:
    """Enqueue the welcome email to ``user``. ``using`` are job options such as ``organization``.

    Raises:
        ValidationError: the user has no valid email address.
    """
    return welcome_job.using(**using).enqueue(**welcome_data(user))


def welcome_data(user: AbstractBaseUser) -> dict[str, Any]:
    """Return the arguments of ``welcome_job`` for a user, for use in triggers and flows.

    Raises:
        ValidationError: the user has no valid email address.
    """
    data = {"user_id": str(user.pk), "name": name_of(user)}
    return {"to": address_of(user), "subject": WELCOME_SUBJECT, "template": "welcome", "data": data}


def send_password_reset_email(email: str, token: str, *, link: str = "", **using: Any) -> JobHandle:
    """Enqueue the password reset email.

    ``link`` is the URL of the reset page. Without it, the email shows the token instead. Token and
    link are readable only in the email: not in Redis, the database, logs or the admin.

    Raises:
        ValidationError: the address is invalid.
    """
    validate_email(email)
    return password_reset_job.using(**using).enqueue(
        to=email,
        subject=PASSWORD_RESET_SUBJECT,
        template="password-reset",
        data={"token": token, "link": link},
    )


def send_bulk_emails(emails: Iterable[Mapping[str, Any]], **using: Any) -> list[JobHandle]:
    """Enqueue many emails, all or none.

    Each item is a mapping with ``to``, ``subject``, ``template`` and optionally ``data`` and
    ``attachments``. ``mailings.outcome(handles)`` returns the results. With
    ``priority=Priority.BULK`` other email does not wait behind them.

    Raises:
        ValueError: an item is invalid; the message gives its index.
    """
    rows = [_checked_item(index, item) for index, item in enumerate(emails)]
    return email_job.using(**using).enqueue_bulk(rows)


def address_of(user: AbstractBaseUser) -> str:
    """Return the user's email address.

    Raises:
        ValidationError: it is missing or invalid.
    """
    address = str(getattr(user, user.get_email_field_name(), "") or "")
    if not address:
        raise ValidationError(f"User {user.pk} has no email address")
    validate_email(address)
    return address


def name_of(user: AbstractBaseUser) -> str:
    """Return the user's full name, or the username if there is none."""
    full_name = getattr(user, "get_full_name", str)()
    return str(full_name).strip() or user.get_username()


def _checked_item(index: int, item: Mapping[str, Any]) -> dict[str, Any]:
    missing = [key for key in _ITEM_KEYS[:3] if not item.get(key)]
    unknown = [str(key) for key in item if key not in _ITEM_KEYS]
    if missing or unknown:
        problem = f"has no {missing[0]!r}" if missing else f"has an unknown key {unknown[0]!r}"
        raise ValueError(f"emails[{index}] {problem}: the keys are {', '.join(_ITEM_KEYS)}")

    try:
        validate_email(item["to"])
        path_of(item["template"], "txt")
    except (ValidationError, Discard) as error:
        raise ValueError(
            f"emails[{index}]: {item['to']!r}, template {item['template']!r}: {error}"
        ) from error

    return {**item, "data": dict(item.get("data") or {})}
