"""What happens when somebody joins: all of it in the transaction that makes the user."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from wellos_jobs import JobHandle
from wellos_jobs.contrib.emails import send_welcome_email
from wellos_jobs.contrib.notifications import send_trial_expiration_warning

from .models import TRIAL, User


@transaction.atomic
def join(user: User) -> list[JobHandle]:
    """Save a new user on trial; enqueue the welcome mail and the warning before the trial ends."""
    user.trial_ends_at = timezone.now() + TRIAL
    user.is_pending = True
    user.save()
    organization = user.organization_id or ""
    warning = send_trial_expiration_warning(user, user.trial_ends_at, organization=organization)
    welcome = send_welcome_email(user, organization=organization)
    return [welcome, warning] if warning is not None else [welcome]
