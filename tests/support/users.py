"""People before the admin: who they are, what they may, and what they read there."""

from __future__ import annotations

import html
import re
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client


def client_of(user: User) -> Client:
    """The browser of somebody who has logged in."""
    client = Client()
    client.force_login(user)
    return client


def staff(*permissions: str) -> User:
    """Somebody who may enter the admin and has these permissions."""
    user = User.objects.create_user("-".join(permissions)[:150] or "nobody", is_staff=True)
    found = Permission.objects.filter(codename__in=permissions)
    assert len(found) == len(set(permissions))
    user.user_permissions.set(found)
    return user


def only_acme(user: User) -> list[str] | None:
    """An ``ADMIN_ORGANIZATIONS``: staff see acme, superusers everything."""
    return None if user.is_superuser else ["acme"]


def text(response: Any) -> str:
    """What an answer's page says, without its tags."""
    assert response.status_code == 200
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())
