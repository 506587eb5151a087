"""Whose rows a member of staff sees: all, or those of the organizations that ``ADMIN_ORGANIZATIONS`` names."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from django.http import HttpRequest

from ...organizations import visible_organizations

_Row = TypeVar("_Row", bound=Model)
_KEPT = "_wellos_jobs_organizations"
_MISSING = object()


def organizations(request: HttpRequest) -> frozenset[str] | None:
    """Return the ids of the organizations whose rows this person sees; None if there is no such border.

    Superusers see everything. The project's hook is asked once a request; what it raises is not
    caught: a page that cannot tell whom it may show what shows nothing.
    """
    kept: Any = getattr(request, _KEPT, _MISSING)
    if kept is _MISSING:
        kept = visible_organizations(request.user)
        setattr(request, _KEPT, kept)
    found: frozenset[str] | None = kept
    return found


def sees_everything(request: HttpRequest) -> bool:
    """Tell whether this person sees the rows of all organizations, and so what belongs to none of them."""
    return organizations(request) is None


def visible(
    request: HttpRequest, rows: QuerySet[_Row], path: str = "organization_id"
) -> QuerySet[_Row]:
    """Leave of a query what this person may see; ``path`` leads from the row to its organization."""
    chosen = organizations(request)
    return rows if chosen is None else rows.filter(**{f"{path}__in": chosen})


def hidden(
    request: HttpRequest, rows: QuerySet[_Row], path: str = "organization_id"
) -> QuerySet[_Row]:
    """Leave of a query what this person may not see: what an act on a whole must not reach."""
    chosen = organizations(request)
    return rows.none() if chosen is None else rows.exclude(**{f"{path}__in": chosen})


def may_see(request: HttpRequest, organization_id: str) -> bool:
    """Tell whether this person sees the rows of one organization."""
    chosen = organizations(request)
    return chosen is None or organization_id in chosen
