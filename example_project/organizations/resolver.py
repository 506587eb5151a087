"""Tells wellos_jobs what the ``organization_id`` of a job means."""

from __future__ import annotations

from email.utils import formataddr

from django.urls import reverse

from .models import Organization

SENDER = "hello@wellos.example"


def resolve(organization_id: str) -> dict[str, str] | None:
    """Return label, link, time zone and whom its mails are from; None if there is none of this
    id."""
    organization = Organization.objects.filter(pk=organization_id).first()
    if organization is None:
        return None
    return {
        "label": organization.name,
        "url": reverse("admin:organizations_organization_change", args=[organization.pk]),
        "time_zone": organization.time_zone,
        "sender": formataddr((f"{organization.name} via WellOS", SENDER)),
        "reply_to": organization.email,
    }
