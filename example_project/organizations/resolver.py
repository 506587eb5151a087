"""Tells wellos_jobs what the ``organization_id`` of a job means."""

from __future__ import annotations

from django.urls import reverse

from .models import Organization


def resolve(organization_id: str) -> dict[str, str] | None:
    """Return label, link and time zone of an organization; None if there is none of this id."""
    organization = Organization.objects.filter(pk=organization_id).first()
    if organization is None:
        return None
    return {
        "label": organization.name,
        "url": reverse("admin:organizations_organization_change", args=[organization.pk]),
        "time_zone": organization.time_zone,
    }
