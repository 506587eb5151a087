"""Triggers of accounts (welcome email, trial warning) and registered cleanups."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models.signals import post_save
from django.utils import timezone

from wellos_jobs import enqueue_on
from wellos_jobs.contrib import cleanup, emails, notifications

from .models import AccessToken, User

cleanup.register_expired_tokens(AccessToken.objects.expired)
cleanup.register_pending_users(User.overdue)


def warn_at(user: User) -> datetime | None:
    """Return when to warn the user about the end of the trial; None if not, or if it is past."""
    at = user.trial_ends_at and user.trial_ends_at - notifications.WARNING_PERIOD
    return at if at and at > timezone.now() else None


def warning_data(instance: User) -> dict[str, Any] | None:
    if warn_at(instance) is None:
        return None
    return {"user_id": instance.pk, "trial_ends_at": instance.trial_ends_at}


welcome = enqueue_on(
    post_save,
    sender=User,
    job=emails.welcome_job,
    when=lambda instance, created: created and instance.email,
    data=lambda instance: emails.welcome_data(instance),
    options=lambda instance: {"organization": instance.organization_id},
)
"""Sends a welcome email to new users."""

warn_before_trial_ends = enqueue_on(
    post_save,
    sender=User,
    job=notifications.trial_expiration_warning_job,
    data=warning_data,
    options=lambda instance: {
        "run_at": warn_at(instance),
        "organization": instance.organization_id,
    },
    replaces=lambda instance: instance.pk,
)
"""Schedules, moves or cancels the warning when the end of the trial changes."""
