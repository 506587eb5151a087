"""The audit log: filters, CSV export and capped counts."""

from __future__ import annotations

import csv
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.formats import localize

from wellos_jobs.admin.ui import paginator
from wellos_jobs.models import AuditEntry

from ..support.browser import axe, login, narrow
from ..support.users import client_of, staff, text

AUDIT = "/admin/wellos_jobs/auditentry/"
EXPORT = f"{AUDIT}export/"

pytestmark = pytest.mark.django_db(transaction=True)


def entry(action: str = "canceled", days: float = 0, **values: Any) -> AuditEntry:
    defaults = {"target_type": "job", "target_id": "1", "actor_name": "ann", "reason": "asked for"}
    return AuditEntry.objects.create(
        at=timezone.now() - timedelta(days=days), action=action, **(defaults | values)
    )


def exported(client: Client, query: str = "") -> list[dict[str, str]]:
    response = client.get(f"{EXPORT}{query}")
    assert response.status_code == 200
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(response.getvalue().decode().splitlines()))


def test_filters(root: Client) -> None:
    entry("canceled")
    entry(
        "paused",
        target_type="queue",
        target_id="email",
        actor_name="bob",
        reason="the server is full",
    )
    entry("retried", days=10, actor_name="")
    today = timezone.localtime()
    for query, wanted in (
        ("", "3 audit entries"),
        ("action=paused", "1 audit entry"),
        ("target_type=queue", "1 audit entry"),
        ("actor=BO", "1 audit entry"),
        ("by=none", "1 audit entry"),
        (f"from={today - timedelta(days=3):%Y-%m-%d}", "2 audit entries"),
        (f"to={today - timedelta(days=3):%Y-%m-%d}", "1 audit entry"),
        (f"from={today:%Y-%m-%d}&to={today:%Y-%m-%d}", "2 audit entries"),
        ("q=server is", "1 audit entry"),
        ("q=email", "1 audit entry"),
        ("action=paused&actor=ann", "0 audit entries"),
    ):
        assert f" {wanted} " in f"{text(root.get(f'{AUDIT}?{query}'))} ", query


@pytest.mark.parametrize("day", ["tomorrow", "2026-02-30", "9999-12-31"])
def test_an_invalid_date(root: Client, day: str) -> None:
    for url in (AUDIT, EXPORT):
        assert root.get(f"{url}?to={day}")["Location"].endswith("?e=1")


def test_the_form_keeps_the_other_filters(root: Client) -> None:
    page = root.get(f"{AUDIT}?action=paused&actor=bo%22b").content.decode()
    assert '<input type="hidden" name="action" value="paused">' in page
    assert '<input type="text" name="actor" value="bo&quot;b">' in page


def test_the_export_matches_the_list(root: Client) -> None:
    entry("paused", target_type="queue", target_id="email", address="127.0.0.1", detail={"jobs": 3})
    entry("canceled", days=1)
    rows = exported(root)
    assert [row["action"] for row in rows] == ["paused", "canceled"]
    assert rows[0] | {"at": ""} == {
        "at": "",
        "action": "paused",
        "actor": "ann",
        "address": "127.0.0.1",
        "kind": "queue",
        "target": "email",
        "reason": "asked for",
        "detail": '{"jobs": 3}',
    }
    assert [row["action"] for row in exported(root, "?action=canceled")] == ["canceled"]
    assert exported(root, "?actor=nobody") == []


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_cells_are_not_formulas(root: Client, start: str) -> None:
    entry(reason=f'{start}HYPERLINK("http://evil.example")', actor_name=f"{start}ann")
    line = list(csv.reader(root.get(EXPORT).getvalue().decode().splitlines(keepends=True)))[1]
    assert line[6].startswith(f"'{start.strip()}")
    assert line[2].startswith(f"'{start.strip()}")


def test_the_export_streams_with_few_queries(root: Client) -> None:
    AuditEntry.objects.bulk_create(
        AuditEntry(at=timezone.now(), action="canceled", target_type="job", target_id=str(n))
        for n in range(3_000)
    )
    with CaptureQueriesContext(connections["default"]) as captured:
        response = root.get(EXPORT)
        assert response.streaming
        assert len(list(response)) == 3_001
    assert len(captured) == 5  # session, user, count and page of the list, the entries


def test_the_export_has_its_own_permission() -> None:
    entry()
    reader = client_of(staff("view_auditentry"))
    assert "Export" not in text(reader.get(AUDIT))
    assert reader.get(EXPORT).status_code == 403
    assert client_of(staff("export_auditentry")).get(EXPORT).status_code == 403
    both = client_of(staff("view_auditentry", "export_auditentry"))
    assert "Export as CSV" in text(both.get(AUDIT))
    assert len(exported(both)) == 1
    assert both.post(EXPORT).status_code == 405
    assert Client().get(EXPORT).status_code == 302


def test_staff_limited_to_organizations_export_nothing(settings: Any) -> None:
    settings.WELLOS_JOBS = {
        **settings.WELLOS_JOBS,
        "ADMIN_ORGANIZATIONS": "tests.support.users.only_acme",
    }
    entry()
    assert exported(client_of(staff("view_auditentry", "export_auditentry"))) == []


def test_counts_are_capped(root: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paginator, "MAX_COUNT", 120)
    for number in range(130):
        entry(reason=f"reason {number}.", days=number / 1000)
    first = text(root.get(AUDIT))
    assert " 120+ audit entries" in first
    assert "reason 0." in first
    third = text(root.get(f"{AUDIT}?p=3"))
    assert "reason 129." in third
    assert "reason 99." not in third
    assert root.get(f"{AUDIT}?p=4")["Location"].endswith("?e=1")


def test_capped_counts_with_thousand_separators(settings: Any) -> None:
    assert str(paginator.Capped(10_001)) == "10,000+"
    assert str(paginator.Capped(10_000)) == "10000"
    settings.USE_THOUSAND_SEPARATOR = True
    assert localize(paginator.Capped(10_001)) == "10,001"


def test_pages_beyond_the_cap_work(root: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paginator, "MAX_COUNT", 60)
    for number in range(130):
        entry(reason=f"reason {number}.", days=number / 1000)
    assert "reason 129." in text(root.get(f"{AUDIT}?p=3"))


@pytest.mark.browser
def test_export_in_the_browser(page: Any) -> None:
    user = User.objects.create_superuser("root")
    entry("paused", target_type="queue", target_id="email")
    entry("canceled")
    login(page, user)
    page.goto(AUDIT)
    page.get_by_text("By name and time").click()
    page.get_by_label("Actor", exact=True).fill("ann")
    page.get_by_role("button", name="Filter").click()
    page.get_by_text("2 audit entries").wait_for()
    page.locator("#changelist-filter").get_by_role("link", name="paused", exact=True).click()
    page.get_by_text("1 audit entry").wait_for()
    assert "actor=ann" in page.url
    axe(page, without=("label-title-only",))  # Django's own search field
    narrow(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as CSV").click()
    content = download.value.path().read_text()
    assert "paused" in content
    assert "canceled" not in content
