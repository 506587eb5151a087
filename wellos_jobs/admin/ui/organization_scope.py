"""Limit staff to the rows of the organizations that ``ADMIN_ORGANIZATIONS`` returns for them."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from django.http import HttpRequest

from ...definitions import registry
from ...organizations import visible_organizations

_Row = TypeVar("_Row", bound=Model)
_CACHE = "_wellos_jobs_organizations"
_MISSING = object()


def organizations(request: HttpRequest) -> frozenset[str] | None:
    """Return the ids of the organizations the user is limited to; None for no limit.

    Superusers see everything. The project's hook is called once per request. Its exceptions are
    not caught, so an error in it never shows too much.
    """
    cached: Any = getattr(request, _CACHE, _MISSING)
    if cached is _MISSING:
        cached = visible_organizations(request.user)
        setattr(request, _CACHE, cached)
    found: frozenset[str] | None = cached
    return found


def sees_everything(request: HttpRequest) -> bool:
    """Return whether the user sees all organizations, and rows that belong to none."""
    return organizations(request) is None


def visible(
    request: HttpRequest, rows: QuerySet[_Row], path: str = "organization_id"
) -> QuerySet[_Row]:
    """Filter a query to what the user may see; ``path`` is the lookup of the organization."""
    allowed = organizations(request)
    return rows if allowed is None else rows.filter(**{f"{path}__in": allowed})


def hidden(
    request: HttpRequest, rows: QuerySet[_Row], path: str = "organization_id"
) -> QuerySet[_Row]:
    """Filter a query to what the user may not see, and so must not change."""
    allowed = organizations(request)
    return rows.none() if allowed is None else rows.exclude(**{f"{path}__in": allowed})


def may_see(request: HttpRequest, organization_id: str) -> bool:
    """Return whether the user may see the rows of an organization."""
    allowed = organizations(request)
    return allowed is None or organization_id in allowed


def may_start(request: HttpRequest, job_name: str) -> bool:
    """Return whether the user may start a job with data of their own.

    Data can name rows of any organization, so staff limited to organizations may start only jobs
    declared with ``manual=True``. Running a job again with the same data is not limited.
    """
    if sees_everything(request):
        return True
    definition = registry.find(job_name)
    return definition is not None and definition.manual
