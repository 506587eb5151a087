"""Confirming an address: a signed link in the welcome mail, good for as long as an account may stay
unconfirmed.

The link is no part of the job's data, where whoever looks at jobs could read it: the mail's
template makes it when the mail is sent.
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
    """Return the link with which a user confirms the address that the account has now."""
    token = signing.dumps({"user": user.pk, "email": user.email}, salt=SALT)
    return f"{settings.WELLOS_JOBS['BASE_URL']}{reverse('confirm', args=[token])}"


def user_of(token: str) -> User | None:
    """Return whose link it is; None if it is too old, no link of ours, or for an address that has
    been changed."""
    try:
        told = signing.loads(token, salt=SALT, max_age=PENDING_FOR)
    except signing.BadSignature:
        return None
    return User.objects.filter(pk=told["user"], email=told["email"]).first()


def mail_again(user: User, day: str) -> JobHandle:
    """Enqueue the welcome mail once more, at most once a day: the handle's ``duplicate`` tells."""
    return send_welcome_email(
        user, organization=user.organization_id or "", id=f"welcome:{user.pk}:{day}"
    )
