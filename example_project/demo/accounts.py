"""The accounts that the demo has made, for those who want to look around."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from example_project import keyring
from example_project.accounts.models import User

PEOPLE_PASSWORD = "people-password"
"""The secret under which the password of all members is kept."""
SHOWN = ("ada.acme", "noah.acme", "ada.fjord")


@dataclass(frozen=True)
class Account:
    username: str
    organization: str
    password: str


def shown() -> list[Account]:
    """Return accounts of two organizations with their password; none unless DEBUG is on and the
    demo has made them."""
    if not settings.DEBUG or not keyring.has_secret(PEOPLE_PASSWORD):
        return []
    password = keyring.secret(PEOPLE_PASSWORD, str)
    users = (
        User.objects.filter(username__in=SHOWN)
        .select_related("organization")
        .order_by("organization", "username")
    )
    return [Account(user.username, user.organization.name, password) for user in users]
