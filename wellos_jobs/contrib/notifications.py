"""Delayed emails to users: reminders, and a warning three days before a trial ends.

A job stores only the user's primary key. When it runs, it loads the user and checks that the
message still applies.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.utils import timezone

from .. import JobHandle, job
from .emails import address_of, deliver, name_of

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

QUEUE = "notifications"
WARNING_PERIOD = timedelta(days=3)


@job("send-reminder", queue=QUEUE, max_attempts=3)
def reminder_job(user_id: Any, reminder_text: str) -> dict[str, Any]:
    """Send the reminder, unless the user was deleted or deactivated."""
    user = _active_user(user_id)
    if user is None:
        return _not_sent(f"user {user_id} was deleted or is not active")
    return _send(user, "Reminder", "reminder", {"reminder_text": reminder_text})


@job("trial-expiration-warning", queue=QUEUE, max_attempts=3)
def trial_expiration_warning_job(user_id: Any, trial_ends_at: datetime) -> dict[str, Any]:
    """Send the warning, unless the user was deleted or ``user.trial_ends_at`` has changed."""
    user = _active_user(user_id)
    if user is None:
        return _not_sent(f"user {user_id} was deleted or is not active")
    if getattr(user, "trial_ends_at", trial_ends_at) != trial_ends_at:
        return _not_sent("the end of the trial has changed")

    return _send(
        user, "Your trial ends soon", "trial-expiration-warning", {"trial_ends_at": trial_ends_at}
    )


def send_reminder(
    user: AbstractBaseUser, text: str, delay: float | timedelta, **using: Any
) -> JobHandle:
    """Email ``text`` to the user after ``delay`` (seconds or timedelta). ``using`` are job options.

    Raises:
        BadOption: the delay is negative or not a duration.
    """
    return reminder_job.using(delay=delay, **using).enqueue(user_id=user.pk, reminder_text=text)


def send_trial_expiration_warning(
    user: AbstractBaseUser, trial_ends_at: datetime, **using: Any
) -> JobHandle | None:
    """Warn the user three days before the trial ends. If that is in the past, return None.

    Raises:
        ValueError: ``trial_ends_at`` is a naive datetime.
    """
    if timezone.is_naive(trial_ends_at):
        raise ValueError(
            f"trial_ends_at is {trial_ends_at!r}, a naive datetime: give it a time zone"
        )

    warn_at = trial_ends_at - WARNING_PERIOD
    if warn_at <= timezone.now():
        return None
    return trial_expiration_warning_job.using(run_at=warn_at, **using).enqueue(
        user_id=user.pk, trial_ends_at=trial_ends_at
    )


def _active_user(user_id: Any) -> AbstractBaseUser | None:
    user = get_user_model()._default_manager.filter(pk=user_id).first()
    return user if user is not None and user.is_active else None


def _send(
    user: AbstractBaseUser, subject: str, template: str, data: dict[str, Any]
) -> dict[str, Any]:
    return {
        "sent": True,
        **deliver(address_of(user), subject, template, {"name": name_of(user), **data}),
    }


def _not_sent(why: str) -> dict[str, Any]:
    return {"sent": False, "why": why}
