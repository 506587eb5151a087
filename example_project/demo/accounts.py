"""The demo's accounts, for the login page."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from example_project import keyring
from example_project.accounts.models import User

PEOPLE_PASSWORD = "people-password"
"""Name of the secret that holds the password of all members."""
SHOWN = ("ada.acme", "noah.acme", "ada.fjord")


@dataclass(frozen=True)
class Account:
    username: str
    organization: str
    password: str


def shown() -> list[Account]:
    """Return accounts with their password, if DEBUG is on and the demo has created them."""
    if not settings.DEBUG or not keyring.has_secret(PEOPLE_PASSWORD):
        return []
    password = keyring.secret(PEOPLE_PASSWORD, str)
    users = (
        User.objects.filter(username__in=SHOWN)
        .select_related("organization")
        .order_by("organization", "username")
    )
    return [Account(user.username, user.organization.name, password) for user in users]
