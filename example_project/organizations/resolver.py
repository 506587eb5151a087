"""The setting ``ORGANIZATION_RESOLVER``: organizations for wellos_jobs."""

from __future__ import annotations

from email.utils import formataddr

from django.urls import reverse

from .models import Organization

SENDER = "hello@wellos.example"


def resolve(organization_id: str) -> dict[str, str] | None:
    """Return label, URL, time zone and sender address of an organization; None if unknown."""
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
