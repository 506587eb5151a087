"""User, who may be on trial or still to confirm, and AccessToken, which expires."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils import timezone

PENDING_FOR = timedelta(days=7)
"""How long a user may leave a new account unconfirmed before it is deleted."""

TRIAL = timedelta(days=14)


class User(AbstractUser):
    """A person. ``is_pending``: has not confirmed the address yet."""

    email = models.EmailField("email address", unique=True)
    organization = models.ForeignKey(
        "organizations.Organization",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="users",
    )
    trial_ends_at = models.DateTimeField(null=True, blank=True)
    is_pending = models.BooleanField(default=False)

    def begin_trial(self) -> None:
        """Save a new account on trial, still to be confirmed."""
        self.trial_ends_at = timezone.now() + TRIAL
        self.is_pending = True
        self.save()

    @property
    def confirm_by(self) -> datetime:
        """When a pending account is deleted."""
        return self.date_joined + PENDING_FOR

    def confirm(self) -> None:
        """The address is the user's own: the account stays. Whoever follows a link in a mail to it
        has shown so."""
        type(self).objects.filter(pk=self.pk, is_pending=True).update(is_pending=False)
        self.is_pending = False

    @classmethod
    def overdue(cls, now: datetime) -> models.QuerySet[User]:
        """Return the users who have been pending for too long."""
        return cls.objects.filter(is_pending=True, date_joined__lt=now - PENDING_FOR)


class AccessTokenQuerySet(models.QuerySet["AccessToken"]):
    def expired(self, now: datetime) -> AccessTokenQuerySet:
        return self.filter(expires_at__lt=now)


class AccessToken(models.Model):
    """A user's key to the API. Only its digest is kept, so that a stolen table opens nothing."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="access_tokens"
    )
    name = models.CharField(max_length=80)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(db_index=True)

    objects = AccessTokenQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def issue(cls, user: User, name: str, lifetime: timedelta) -> tuple[AccessToken, str]:
        """Make a token; return the row, and the text that is shown this once."""
        text = secrets.token_urlsafe(32)
        expires_at = timezone.now() + lifetime
        return cls.objects.create(
            user=user, name=name, digest=digest(text), expires_at=expires_at
        ), text


def digest(text: str) -> str:
    """Return what is stored of a token. Its text is random and long, so a plain hash is enough."""
    return hashlib.sha256(text.encode()).hexdigest()
