"""Who may see a job, its data and result, and the address that the audit log stores."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from . import conf
from .models import JobRecord
from .organizations import visible_organizations


def may_see_job(request: HttpRequest, record: JobRecord) -> bool:
    """Allow the requester, holders of ``view_jobrecord``, and whom ``CAN_VIEW_JOB`` allows."""
    if is_requester(request, record) or has_permission(request, "view_jobrecord", record):
        return True
    hook = conf.hook(conf.current().can_view_job)
    return hook is not None and bool(hook(request, record))


def may_see_payload(request: HttpRequest, record: JobRecord) -> bool:
    """Allow the requester and holders of ``view_payload`` to see data and result (redacted)."""
    return is_requester(request, record) or has_permission(request, "view_payload", record)


def has_permission(request: HttpRequest, permission: str, record: JobRecord) -> bool:
    """Return whether the user has a permission of this app for this job.

    ``ADMIN_ORGANIZATIONS`` limits it to the jobs of the user's organizations.
    """
    user = user_of(request)
    if not _has_perm(user, permission):
        return False
    organizations = visible_organizations(user)
    return organizations is None or record.organization_id in organizations


def has_permission_for_all(request: HttpRequest, permission: str) -> bool:
    """Return whether the user has a permission of this app, and sees all organizations."""
    user = user_of(request)
    return _has_perm(user, permission) and visible_organizations(user) is None


def is_requester(request: HttpRequest, record: JobRecord) -> bool:
    """Return whether the user enqueued the job."""
    user = user_of(request)
    return record.requested_by_id is not None and record.requested_by_id == user.pk


def user_of(request: HttpRequest) -> Any:
    """Return the user; an anonymous one without AuthenticationMiddleware."""
    from django.contrib.auth.models import AnonymousUser  # fails without django.contrib.auth

    return getattr(request, "user", None) or AnonymousUser()


def _has_perm(user: Any, permission: str) -> bool:
    """Return whether a user has a permission; a user model without PermissionsMixin has none."""
    check = getattr(user, "has_perm", None)
    return check is not None and bool(check(f"wellos_jobs.{permission}"))


def address_of(request: HttpRequest) -> str:
    """Return the client's IP address (``REMOTE_ADDR``), for the audit log."""
    return str(request.META.get("REMOTE_ADDR", ""))
