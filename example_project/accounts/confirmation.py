"""Confirm an email address by the signed link in the welcome email.

The link is not part of the job's data, where staff could read it: the email's template creates it
when the email is sent.
"""

from __future__ import annotations

from django.conf import settings
from django.core import signing
from django.urls import reverse

from wellos_jobs import JobHandle
from wellos_jobs.contrib.emails import send_welcome_email

from .models import PENDING_FOR, User

SALT = "accounts.confirm"


def link_of(user: User) -> str:
    """Return the link that confirms the user's current email address."""
    token = signing.dumps({"user": user.pk, "email": user.email}, salt=SALT)
    return f"{settings.WELLOS_JOBS['BASE_URL']}{reverse('confirm', args=[token])}"


def user_of(token: str) -> User | None:
    """Return the user of a link, or None if it is invalid, expired or for a previous address."""
    try:
        values = signing.loads(token, salt=SALT, max_age=PENDING_FOR)
    except signing.BadSignature:
        return None
    return User.objects.filter(pk=values["user"], email=values["email"]).first()


def mail_again(user: User, day: str) -> JobHandle:
    """Enqueue the welcome email again, once a day: otherwise the handle is a ``duplicate``."""
    return send_welcome_email(
        user, organization=user.organization_id or "", id=f"welcome:{user.pk}:{day}"
    )
