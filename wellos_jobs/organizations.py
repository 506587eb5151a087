"""What the project says about organizations, through two hooks named in ``WELLOS_JOBS``.

``ORGANIZATION_RESOLVER`` describes one organization; ``ADMIN_ORGANIZATIONS`` limits which
organizations a member of staff may see.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import conf


def organization_details(organization_id: str) -> Mapping[str, Any]:
    """Return what ``ORGANIZATION_RESOLVER`` returns for an organization.

    Empty if there is no resolver, no id, or no such organization.
    """
    resolve = conf.hook(conf.current().organization_resolver)
    if resolve is None or not organization_id:
        return {}

    return resolve(organization_id) or {}


def organization_time_zone(organization_id: str) -> str:
    """Return the time zone of an organization; '' if ``ORGANIZATION_RESOLVER`` names none."""
    return str(organization_details(organization_id).get("time_zone") or "")


def visible_organizations(user: Any) -> frozenset[str] | None:
    """Return the ids of the organizations a user may see in the admin; None for all of them.

    Superusers see all. An exception of the ``ADMIN_ORGANIZATIONS`` hook is not caught: if it is
    unknown what a user may see, they see nothing.
    """
    choose = conf.hook(conf.current().admin_organizations)
    if choose is None or getattr(user, "is_superuser", False):
        return None

    organizations = choose(user)
    return None if organizations is None else frozenset(map(str, organizations))
