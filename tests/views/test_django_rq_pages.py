"""django-rq's own pages are closed, wherever they are mounted."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.urls import include, path, reverse
from django_rq import stats_views, views
from django_rq.admin import QueueAdmin
from django_rq.models import Dashboard
from django_rq.urls import get_admin_urlpatterns, urlpatterns

from wellos_jobs.models import JobRecord

from ..jobs import add
from ..support.users import client_of, only_acme, staff

pytestmark = pytest.mark.django_db(transaction=True)

OVERVIEW = "/admin/wellos_jobs/queues/"
OWN_SITE = admin.AdminSite("own")
OWN_SITE.register(Dashboard, QueueAdmin)
NAMES = sorted({str(pattern.name) for pattern in get_admin_urlpatterns()})
VALUES = {
    "queue_index": "0",
    "scheduler_index": "0",
    "connection_index": "0",
    "scheduler_name": "x",
    "cron_job_name": "x",
    "result_id": "x",
    "key": "rq:worker:x",
}


class urls:  # noqa: N801  # a ROOT_URLCONF
    """The admin, a site of the project's own, ``include``, and one view on its own."""

    urlpatterns = [
        path("admin/", admin.site.urls),
        path("own/", OWN_SITE.urls),
        path("rq/", include("django_rq.urls")),
        path("one/<int:queue_index>/", views.jobs),
    ]


@pytest.fixture(autouse=True)
def _urls() -> Iterator[None]:
    sys.modules["tests.views.rq_urls"] = urls  # type: ignore[assignment]
    with override_settings(ROOT_URLCONF="tests.views.rq_urls"):
        yield
    del sys.modules["tests.views.rq_urls"]


@pytest.fixture
def job_id() -> str:
    return str(add.using(queue="email").enqueue(4711))


def addresses(job_id: str) -> list[str]:
    """Return the URL of every view of django-rq, at each place where it is mounted."""
    found = ["/one/0/"]
    for pattern in get_admin_urlpatterns():
        values = {name: {**VALUES, "job_id": job_id}[name] for name in pattern.pattern.converters}
        for prefix in ("admin:django_rq_", "own:django_rq_", "django_rq:"):
            found.append(reverse(f"{prefix}{pattern.name}", kwargs=values))
    for site in ("admin", "own"):
        found += [
            reverse(f"{site}:django_rq_dashboard_{name}", args=args)
            for name, args in (
                ("changelist", []),
                ("add", []),
                ("change", ["1"]),
                ("delete", ["1"]),
                ("history", ["1"]),
            )
        ]
    return found


def test_staff_without_permission_see_nothing_and_change_nothing(job_id: str) -> None:
    client = client_of(staff())
    for url in addresses(job_id):
        assert client.get(url).status_code == 404, url
        assert client.post(url, {"action": "delete", "job_ids": [job_id]}).status_code == 404, url
    record = JobRecord.objects.get()
    assert (str(record.pk), record.state) == (job_id, "waiting")


def test_even_superusers_change_nothing(root: Client, job_id: str) -> None:
    for url in addresses(job_id):
        assert root.post(url, {"action": "delete", "job_ids": [job_id]}).status_code == 404, url
        response = root.get(url)
        if url.startswith("/own/"):  # a site without our pages
            assert response.status_code in {302, 404}, url
            continue

        assert response.status_code == 302, url
        place = f"/admin/wellos_jobs/jobrecord/{job_id}/change/" if job_id in url else OVERVIEW
        assert response["Location"] == place, url


def test_who_may_open_our_pages_is_led_there(settings: Any) -> None:
    client = client_of(staff("view_queues"))
    assert client.get("/rq/")["Location"] == OVERVIEW
    assert client.get("/admin/django_rq/dashboard/")["Location"] == OVERVIEW
    settings.WELLOS_JOBS = {
        **settings.WELLOS_JOBS,
        "ADMIN_ORGANIZATIONS": "tests.support.users.only_acme",
    }
    assert only_acme(User(username="x")) == ["acme"]
    assert client.get("/rq/").status_code == 404


def test_anonymous_users_see_nothing(job_id: str) -> None:
    for url in addresses(job_id):
        response = Client().get(url)
        assert response.status_code in {302, 404}, url
        if response.status_code == 302:
            assert "/login/" in response["Location"], url


def test_no_index_has_an_entry(root: Client) -> None:
    for site in ("/admin/", "/own/"):
        assert "django_rq" not in root.get(site).content.decode()


@pytest.mark.parametrize(
    "url", ["/rq/stats.json", "/admin/django_rq/dashboard/stats.json", "/rq/metrics"]
)
def test_counts_need_the_token_or_the_permission(settings: Any, url: str) -> None:
    if url.endswith("metrics") and stats_views.RQCollector is None:
        pytest.skip("prometheus_client is not installed")
    assert client_of(staff()).get(url).status_code == 401
    assert client_of(staff("view_queues")).get(url).status_code == 200
    assert Client().get(url).status_code == 401
    assert Client(headers={"Authorization": "Bearer "}).get(url).status_code == 401

    settings.RQ_API_TOKEN = "s3cret"
    assert Client(headers={"Authorization": "Bearer s3cret"}).get(url).status_code == 200
    assert Client(headers={"Authorization": "Bearer schlüssel"}).get(url).status_code == 401
    assert Client(headers={"Authorization": "Bearer s3cret"}).post(url).status_code == 405


def test_the_token_in_the_path(settings: Any) -> None:
    assert Client().get("/rq/stats.json/x").status_code == 401
    settings.RQ_API_TOKEN = "s3cret"
    assert Client().get("/rq/stats.json/wrong").status_code == 401
    assert "queues" in Client().get("/rq/stats.json/s3cret").json()


def test_every_view_is_replaced() -> None:
    for pattern in urlpatterns:
        original = inspect.unwrap(pattern.callback)
        module = sys.modules[original.__module__]
        assert pattern.callback.is_closed_by_wellos_jobs  # type: ignore[attr-defined]
        assert getattr(module, original.__name__).is_closed_by_wellos_jobs


EARLY = """
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["early", "wellos_jobs", "django_rq", "django.contrib.auth",
                    "django.contrib.contenttypes"],
    RQ_QUEUES={"default": {"URL": "redis://localhost:1", "SERIALIZER": "json"}},
)
import django; django.setup()
from django_rq.urls import urlpatterns
assert all(pattern.callback.is_closed_by_wellos_jobs for pattern in urlpatterns)
"""


def test_urls_that_were_imported_earlier_are_closed_too(tmp_path: Path) -> None:
    """By the ``ready`` of another app; and without the admin."""
    app = tmp_path / "early"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "apps.py").write_text(
        "from django.apps import AppConfig\n"
        "class Early(AppConfig):\n"
        "    name = 'early'\n"
        "    def ready(self):\n"
        "        import django_rq.urls\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", EARLY],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
