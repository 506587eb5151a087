"""For the templates of mails: whose account a mail is about."""

from __future__ import annotations

from typing import Any

from django import template

from ..confirmation import link_of
from ..models import User

register = template.Library()


@register.simple_tag
def account(user_id: object) -> dict[str, Any]:
    """Return with which name a user logs in, and the link that confirms the address, if that is
    still to be done."""
    user = User.objects.filter(pk=user_id).first() if user_id else None
    if user is None:
        return {}
    return {
        "username": user.get_username(),
        "link": link_of(user) if user.is_pending else "",
        "until": user.confirm_by,
    }
