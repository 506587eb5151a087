"""HTTP endpoints for health probes and monitors: live, ready and backlog.

Everyone may read the status words (ok, warning, critical, unknown). The details are for users with
``view_jobrecord`` for all organizations, and for requests with ``HEALTH_TOKEN``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_safe

from .. import conf
from ..monitoring import health
from ..monitoring.health import Check, Status, worst
from ..permissions import has_permission_for_all

READY = ("database", "redis")
"""The checks that ``ready`` depends on by default."""
HEALTHY = frozenset({Status.OK, Status.WARNING})


@login_not_required
@require_safe
def live(request: HttpRequest) -> HttpResponse:
    """Respond 200: this process is alive. It queries nothing."""
    return _answer({"status": Status.OK}, Status.OK)


@login_not_required
@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """Respond 200 or 503 by the checks ``database`` and ``redis``, or by those in ``?check=``.

    ``check=all`` selects every check. The body has the status words of all checks in any case.
    """
    chosen = request.GET.getlist("check") or READY
    names = health.NAMES if "all" in chosen else chosen
    if unknown := sorted(set(names) - set(health.NAMES)):
        text = f"There is no check {unknown[0]!r}: use one of {', '.join(health.NAMES)}, all"
        return _answer({"error": text}, Status.OK, code=400)

    report = health.report()
    status = worst(report.named(*names))
    body: dict[str, Any] = {"status": status, "checks": _words(report.checks)}
    if _may_see_details(request):
        body |= {"at": report.at, "details": [_detail(check) for check in report.checks]}
    return _answer(body, status)


@login_not_required
@require_safe
def backlog(request: HttpRequest) -> HttpResponse:
    """Respond 503 while a queue exceeds ``BACKLOG_ALERTS``; its name is part of the details."""
    checks = health.backlog()
    over = [check for check in checks if check.status is not Status.OK]
    body: dict[str, Any] = {"status": worst(checks)}
    if _may_see_details(request):
        body["queues"] = [
            {"name": check.where, "waiting": check.value, "text": check.text} for check in over
        ]
    return _answer(body, worst(checks), code=503 if over else 200)


def _words(checks: Sequence[Check]) -> dict[str, Status]:
    """Return the worst status of each kind of check."""
    found = {check.name for check in checks}
    return {
        name: worst(check for check in checks if check.name == name)
        for name in health.NAMES
        if name in found
    }


def _detail(check: Check) -> dict[str, Any]:
    return {name: getattr(check, name) for name in ("name", "where", "status", "value", "text")}


def _may_see_details(request: HttpRequest) -> bool:
    """Check token and user. The user is loaded only if the database responds."""
    token = conf.current().health_token
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if token and scheme.lower() == "bearer" and constant_time_compare(given, token):
        return True
    if not request.COOKIES or not health.database_answers():
        return False
    return has_permission_for_all(request, "view_jobrecord")


def _answer(body: dict[str, Any], status: Status, code: int | None = None) -> HttpResponse:
    response = JsonResponse(body, status=code or (200 if status in HEALTHY else 503))
    response["Cache-Control"] = "no-store"
    return response
