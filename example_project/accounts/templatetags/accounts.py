"""Template tags for emails."""

from __future__ import annotations

from typing import Any

from django import template

from ..confirmation import link_of
from ..models import User

register = template.Library()


@register.simple_tag
def account(user_id: object) -> dict[str, Any]:
    """Return the username, and the confirmation link if the address is not confirmed yet."""
    user = User.objects.filter(pk=user_id).first() if user_id else None
    if user is None:
        return {}
    return {
        "username": user.get_username(),
        "link": link_of(user) if user.is_pending else "",
        "until": user.confirm_by,
    }
