"""Projects with a login for everything, without Django's users, or with users of their own kind."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from django.http import Http404
from django.test import Client, RequestFactory
from django.urls import reverse

from wellos_jobs import operations
from wellos_jobs.contrib import views as files
from wellos_jobs.models import AuditEntry, JobRecord, Schedule
from wellos_jobs.views import health, jobs

from ..jobs import add

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

HEALTH = ("health-live", "health-ready", "health-backlog")
LOGIN_REQUIRED = "django.contrib.auth.middleware.LoginRequiredMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"


def test_probes_and_links_need_no_login(settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, LOGIN_REQUIRED]
    for name in HEALTH:
        assert Client().get(reverse(f"wellos_jobs:{name}")).status_code in {200, 503}, name
    assert files.file.login_required is False  # type: ignore[attr-defined]
    assert Client().get("/django-rq/stats.json").status_code == 401
    status = reverse("wellos_jobs:job-status", args=[add.enqueue(1).id])
    assert Client().get(status).status_code == 302


def test_without_authentication_nobody_sees_a_job(settings: Any) -> None:
    handle = add.enqueue(1)
    settings.MIDDLEWARE = [
        one for one in settings.MIDDLEWARE if "auth" not in one and "messages" not in one
    ]
    assert AUTHENTICATION not in settings.MIDDLEWARE
    client = Client(headers={"Cookie": "x=1"})
    for name in HEALTH:
        assert client.get(reverse(f"wellos_jobs:{name}")).status_code in {200, 503}, name
    for name in ("job-status", "job-events"):
        assert client.get(reverse(f"wellos_jobs:{name}", args=[handle.id])).status_code == 404
    cancel = reverse("wellos_jobs:job-cancel", args=[handle.id])
    assert client.post(cancel, {"reason": "x"}).status_code == 404


@pytest.mark.parametrize("pk", [7, None])
def test_users_without_permissions_see_their_own_jobs(pk: int | None) -> None:
    """Of a user model without ``PermissionsMixin``."""
    user = SimpleNamespace(pk=pk, is_authenticated=True, is_active=True)
    handle = add.enqueue(1)
    JobRecord.objects.filter(pk=handle.id).update(requested_by=7)

    request = RequestFactory().get("/")
    request.user = user  # type: ignore[assignment]
    request.COOKIES = {"x": "1"}
    expected = 200 if pk == 7 else 404
    try:
        status = jobs.job_status(request, str(handle.id)).status_code
    except Http404:
        status = 404
    assert status == expected
    assert b"details" not in health.ready(request).content


def test_ids_on_a_page_have_no_thousand_separators(root: Client, settings: Any) -> None:
    settings.USE_THOUSAND_SEPARATOR = True
    row = Schedule(name="s", job_name="test-add", data={"a": 1}, cron="0 2 * * *")
    operations.save_schedule(row)
    Schedule.objects.filter(pk=row.pk).update(id=1_234_567)
    page = root.get(reverse("admin:wellos_jobs_schedule_change", args=[1_234_567]))
    ids = re.findall(r'name="_selected_action" value="([^"]*)"', page.content.decode())
    assert ids and set(ids) == {"1234567"}

    url = reverse("admin:wellos_jobs_schedule_changelist")
    form = {"action": "disable_schedules", "_selected_action": ids[0], "select_across": "0"}
    asked = root.post(url, form).content.decode()
    assert re.findall(r'name="_selected_action" value="([^"]*)"', asked) == ["1234567"]
    assert root.post(url, {**form, "confirm": "yes", "reason": "why"}).status_code == 302
    assert AuditEntry.objects.get(action="disabled").target_id == "1234567"
