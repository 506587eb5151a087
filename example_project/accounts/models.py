"""User, with trial and confirmation, and AccessToken."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils import timezone

PENDING_FOR = timedelta(days=7)
"""An account that is not confirmed within this time is deleted."""

TRIAL = timedelta(days=14)


class User(AbstractUser):
    """A user. ``is_pending``: the email address is not confirmed yet."""

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
        """Save a new account, on trial and unconfirmed."""
        self.trial_ends_at = timezone.now() + TRIAL
        self.is_pending = True
        self.save()

    @property
    def confirm_by(self) -> datetime:
        """When an unconfirmed account is deleted."""
        return self.date_joined + PENDING_FOR

    def confirm(self) -> None:
        """Mark the email address as confirmed."""
        type(self).objects.filter(pk=self.pk, is_pending=True).update(is_pending=False)
        self.is_pending = False

    @classmethod
    def overdue(cls, now: datetime) -> models.QuerySet[User]:
        """Return the unconfirmed users whose time has run out."""
        return cls.objects.filter(is_pending=True, date_joined__lt=now - PENDING_FOR)


class AccessTokenQuerySet(models.QuerySet["AccessToken"]):
    def expired(self, now: datetime) -> AccessTokenQuerySet:
        return self.filter(expires_at__lt=now)


class AccessToken(models.Model):
    """A user's API token. Only its digest is stored, so a leaked table is useless."""

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
        """Create a token; return the row and the token's text, which is shown only once."""
        text = secrets.token_urlsafe(32)
        token = cls.objects.create(
            user=user,
            name=name,
            digest=digest(text),
            expires_at=timezone.now() + lifetime,
        )
        return token, text


def digest(text: str) -> str:
    """Hash a token's text. It is random and long, so a plain hash is enough."""
    return hashlib.sha256(text.encode()).hexdigest()
