"""Pages of batches and flows: contents, permissions, queries and actions."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from wellos_jobs import Batch, Flow
from wellos_jobs.models import AuditEntry, JobRecord
from wellos_jobs.models import Batch as BatchRow
from wellos_jobs.models import Batch as Row
from wellos_jobs.monitoring.flows_and_batches import Tally, speed

from ..conftest import UseRedis
from ..jobs import noop, scripted
from ..support.browser import axe, login, narrow
from ..support.engine import Books, work
from ..support.guarded_jobs import summary
from ..support.servers import free_port
from ..support.users import client_of, staff, text

BATCHES = "/admin/wellos_jobs/batch/"
FLOWS = "/admin/wellos_jobs/queues/flows/"

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_notices")]


@pytest.fixture
def scoped(settings: Any) -> None:
    settings.WELLOS_JOBS = {
        **settings.WELLOS_JOBS,
        "ADMIN_ORGANIZATIONS": "tests.support.users.only_acme",
    }


LOST = ["status:404"]
"""Steps of a run that fails for good at once."""


def import_of(
    completed: int = 1,
    failed: int = 0,
    waiting: int = 0,
    organization: str = "acme",
    name: str = "import",
) -> Batch:
    """A batch with this many finished jobs."""
    with Batch(name=name, organization=organization, on_complete=summary.with_data()) as batch:
        batch.enqueue_bulk(noop, [{}] * completed)
        batch.enqueue_bulk(scripted, [{"steps": LOST}] * failed)
        work()
        batch.enqueue_bulk(noop, [{}] * waiting)
    Books().fold()
    return batch


def flow_of(*children: Any, organization: str = "acme") -> uuid.UUID:
    handle = Flow(noop.with_data(), children=children or [noop.with_data()]).enqueue(
        organization=organization
    )
    return handle.id


def run_all() -> None:
    books = Books()
    for _ in range(3):  # each level of a flow is released when the one above is folded
        work()
        books.fold()


# --- batches --------------------------------------------------------------------------------------


def test_the_list_of_batches(root: Client) -> None:
    import_of(name="export")
    import_of(completed=2, failed=1, waiting=1)
    shown = text(root.get(BATCHES))
    assert "import closed 75% 4 1 waiting 2 completed 1 failed acme" in shown
    assert "export done 100% 1 1 completed acme" in shown


def test_done_batches_use_stored_counts(root: Client) -> None:
    batch = import_of(completed=2)
    JobRecord.objects.filter(batch=batch.id).delete()  # they were old
    assert "100% 2 2 completed" in text(root.get(BATCHES))


def test_the_page_of_a_batch(root: Client) -> None:
    batch = import_of(completed=2, failed=1, waiting=1)
    response = root.get(f"{BATCHES}{batch.id}/change/")
    shown = text(response)
    assert "Jobs 4 Waiting 1 Completed 2 Failed 1" in shown
    assert "all jobs finished test-summary blocked" in shown
    assert "1/3 HTTP 404" in shown
    assert (
        f"/admin/wellos_jobs/jobrecord/?batch__exact={batch.id}&amp;state__exact=failed"
        in response.content.decode()
    )
    assert "1 job" in text(
        root.get(f"/admin/wellos_jobs/jobrecord/?batch__exact={batch.id}&state__exact=failed")
    )


def test_a_missing_batch(root: Client) -> None:
    assert root.get(f"{BATCHES}{uuid.uuid4()}/change/").status_code == 302
    assert root.get(f"{BATCHES}nonsense/change/").status_code == 302


def test_speed_and_time_left() -> None:
    begun = timezone.now()
    tally = Tally({"completed": 60, "waiting": 30})
    assert speed(tally, begun, begun + timedelta(minutes=1)) == (1.0, timedelta(seconds=30))
    assert speed(Tally({"waiting": 3}), begun, begun) == (0.0, None)


def test_queries_are_constant(root: Client, django_assert_num_queries: Any) -> None:
    import_of(waiting=1)
    flow_of()
    root.get(BATCHES)
    with django_assert_num_queries(5):  # session, user, two for the rows, their jobs
        root.get(BATCHES)
    with django_assert_num_queries(5):  # session, user, ids, counts, roots
        root.get(FLOWS)
    for number in range(5):
        import_of(waiting=2, name=f"import {number}")
        flow_of(noop.with_data(), noop.with_data())
    with django_assert_num_queries(5):
        root.get(BATCHES)
    with django_assert_num_queries(5):
        root.get(FLOWS)


def act_on_batch(client: Client, action: str, batch: Batch) -> Any:
    sent = {
        "action": action,
        "_selected_action": str(batch.id),
        "confirm": "yes",
        "reason": "the file was wrong",
    }
    return client.post(BATCHES, sent, follow=True)


def test_cancel_and_retry_a_batch(root: Client) -> None:
    batch = import_of(completed=0, failed=1, waiting=2)
    asked = root.post(BATCHES, {"action": "retry_batches", "_selected_action": str(batch.id)})
    assert "1 failed job is retried" in text(asked)
    assert "1 batch retried" in text(act_on_batch(root, "retry_batches", batch))
    assert batch.progress["failed"] == 0
    assert "1 batch canceled" in text(act_on_batch(root, "cancel_batches", batch))
    Books().fold()
    assert batch.progress["canceled"] == 3
    assert Row.objects.get().state == "done"
    nothing = root.post(BATCHES, {"action": "retry_batches", "_selected_action": str(batch.id)})
    assert "does not apply to any selected row" in text(nothing)
    entries = AuditEntry.objects.filter(target_type="batch").order_by("pk")
    assert list(entries.values_list("action", "reason")) == [
        ("retried", "the file was wrong"),
        ("canceled", "the file was wrong"),
    ]


def test_cancel_a_batch_while_redis_is_down(root: Client, use_redis: UseRedis) -> None:
    batch = import_of(waiting=1)
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    assert "Redis is unavailable" in text(act_on_batch(root, "cancel_batches", batch))
    assert Row.objects.get().state == "closed"
    assert text(root.get(BATCHES))
    assert text(root.get(f"{BATCHES}{batch.id}/change/"))


@pytest.mark.parametrize("verb", ["retry", "cancel"])
def test_batch_actions_need_their_permission(verb: str) -> None:
    batch = import_of(failed=1, waiting=1)
    viewer = client_of(staff("view_batch"))
    assert "_batches" not in viewer.get(f"{BATCHES}{batch.id}/change/").content.decode()
    sent = {
        "action": f"{verb}_batches",
        "_selected_action": str(batch.id),
        "confirm": "yes",
        "reason": "x",
    }
    assert viewer.post(BATCHES, sent).status_code == 403
    allowed = client_of(staff("view_batch", f"{verb}_batch"))
    assert f'value="{verb}_batches"' in allowed.get(f"{BATCHES}{batch.id}/change/").content.decode()
    assert allowed.post(BATCHES, sent).status_code == 302
    assert client_of(staff("view_jobrecord")).get(BATCHES).status_code == 403


def test_batches_of_other_organizations_are_hidden(scoped: None) -> None:
    mine, other = import_of(name="mine"), import_of(name="theirs", organization="globex")
    client = client_of(staff("view_batch", "cancel_batch"))
    assert "mine" in text(client.get(BATCHES))
    assert "theirs" not in text(client.get(BATCHES))
    assert client.get(f"{BATCHES}{mine.id}/change/").status_code == 200
    assert client.get(f"{BATCHES}{other.id}/change/").status_code == 302
    act_on_batch(client, "cancel_batches", other)
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("verb", ["retry", "cancel"])
def test_a_batch_with_hidden_jobs_is_not_changed(scoped: None, verb: str) -> None:
    mine, mixed = import_of(failed=1), import_of(failed=1, waiting=1, name="mixed")
    BatchRow.objects.filter(pk=mine.id).update(state="closed", finished_at=None)
    JobRecord.objects.filter(batch=mixed.id, state="waiting").update(organization_id="globex")
    client = client_of(staff("view_batch", f"{verb}_batch"))
    page = client.get(f"{BATCHES}{mixed.id}/change/").content.decode()
    assert f"{verb}_batches" not in page
    assert "1 batch has jobs that you may not see" in page
    assert f"{verb}_batches" in client.get(f"{BATCHES}{mine.id}/change/").content.decode()
    sent = {"action": f"{verb}_batches", "_selected_action": [str(mine.id), str(mixed.id)]}
    assert "1 batch has jobs that you may not see" in text(client.post(BATCHES, sent))
    client.post(BATCHES, {**sent, "confirm": "yes", "reason": "the file was wrong"})
    assert list(
        AuditEntry.objects.filter(target_type="batch").values_list("target_id", flat=True)
    ) == [str(mine.id)]
    Books().fold()
    states = sorted(JobRecord.objects.filter(batch=mixed.id).values_list("state", flat=True))
    assert states == ["completed", "failed", "waiting"]


# --- flows ----------------------------------------------------------------------------------------


def test_flows_are_listed_newest_first(root: Client) -> None:
    first, second = flow_of(), flow_of(noop.with_data(), noop.with_data())
    shown = text(root.get(FLOWS))
    assert shown.index(str(second)) < shown.index(str(first))
    assert f"test-noop {second} " in shown
    assert "0% 3 1 waiting 2 blocked acme" in shown
    run_all()
    assert "100% 3 3 completed acme" in text(root.get(FLOWS))


def test_pages_of_flows(root: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wellos_jobs.admin.flows_and_batches.flows.FLOWS", 2)
    flows = [flow_of() for _ in range(3)]
    first = text(root.get(FLOWS))
    assert str(flows[2]) in first
    assert str(flows[1]) in first
    assert str(flows[0]) not in first
    assert f"?before={flows[1]}" in root.get(FLOWS).content.decode()
    second = text(root.get(f"{FLOWS}?before={flows[1]}"))
    assert str(flows[0]) in second
    assert str(flows[1]) not in second
    assert "Older" not in second


def test_a_flow_with_a_deleted_root(root: Client) -> None:
    flow = flow_of()
    run_all()
    JobRecord.objects.filter(flow_id=flow, parent=None).delete()
    assert text(root.get(FLOWS)).count(str(flow)) == 1
    JobRecord.objects.filter(flow_id=flow).update(parent=None)
    assert text(root.get(f"{FLOWS}{flow}/"))


def test_the_page_of_a_flow(root: Client) -> None:
    flow = flow_of(Flow(noop.with_data(), children=[scripted.with_data(steps=LOST)]))
    run_all()
    response = root.get(f"{FLOWS}{flow}/")
    shown = text(response)
    assert "100% · 3 2 completed 1 failed" in shown
    assert response.content.decode().count("wj-step") == 1 + 2
    assert response.content.decode().count('class="wj-node ') == 3
    assert "HTTP 404" in shown
    assert root.get(f"{FLOWS}{uuid.uuid4()}/").status_code == 404
    assert root.get(FLOWS, {"id": str(flow)}).headers["Location"] == f"{FLOWS}{flow}/"
    assert "xyz is not a flow id" in text(root.get(FLOWS, {"id": "xyz"}))


def act_on_flow(client: Client, verb: str, flow: uuid.UUID) -> Any:
    sent = {"action": "confirm", "verb": verb, "target": str(flow), "reason": "wrong month"}
    return client.post(f"{FLOWS}{flow}/", sent)


def test_retry_and_cancel_a_flow(root: Client) -> None:
    flow = flow_of(scripted.with_data(steps=LOST))
    run_all()
    asked = root.post(f"{FLOWS}{flow}/", {"action": "ask", "verb": "retry", "target": str(flow)})
    assert "Failed jobs are retried" in text(asked)
    assert act_on_flow(root, "retry", flow).status_code == 302
    assert "1 job retried" in text(root.get(f"{FLOWS}{flow}/"))
    act_on_flow(root, "cancel", flow)
    assert "1 job canceled" in text(root.get(f"{FLOWS}{flow}/"))
    Books().fold()
    act_on_flow(root, "cancel", flow)
    shown = text(root.get(f"{FLOWS}{flow}/"))
    assert f"Every job of flow {flow} has ended" in shown
    assert "wrong month" in shown


@pytest.mark.parametrize("verb", ["retry", "cancel"])
def test_flow_actions_need_their_permission(verb: str) -> None:
    flow = flow_of(scripted.with_data(steps=LOST))
    viewer = client_of(staff("view_jobrecord"))
    assert 'class="wj-act"' not in viewer.get(f"{FLOWS}{flow}/").content.decode()
    assert act_on_flow(viewer, verb, flow).status_code == 403
    sent = {"action": "ask", "verb": verb, "target": str(flow)}
    assert viewer.post(f"{FLOWS}{flow}/", sent).status_code == 403
    assert (
        act_on_flow(client_of(staff("view_jobrecord", f"{verb}_flow")), verb, flow).status_code
        == 302
    )


def test_flows_of_other_organizations_are_hidden(scoped: None) -> None:
    mine, other = flow_of(), flow_of(organization="globex")
    client = client_of(staff("view_jobrecord", "cancel_flow"))
    shown = text(client.get(FLOWS))
    assert str(mine) in shown
    assert str(other) not in shown
    assert client.get(f"{FLOWS}{mine}/").status_code == 200
    assert client.get(f"{FLOWS}{other}/").status_code == 404
    assert act_on_flow(client, "cancel", other).status_code == 404
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("verb", ["retry", "cancel"])
def test_a_flow_with_hidden_jobs_is_not_changed(scoped: None, verb: str) -> None:
    flow = flow_of(scripted.with_data(steps=LOST))
    if verb == "retry":
        run_all()
    assert (
        JobRecord.objects.filter(flow_id=flow, name="test-scripted").update(
            organization_id="globex"
        )
        == 1
    )
    before = list(JobRecord.objects.order_by("pk").values_list("state", flat=True))
    client = client_of(staff("view_jobrecord", f"{verb}_flow"))
    page = client.get(f"{FLOWS}{flow}/").content.decode()
    assert 'class="wj-act"' not in page
    expected = "This flow has jobs that you may not see"
    assert expected in page
    asked = client.post(f"{FLOWS}{flow}/", {"action": "ask", "verb": verb, "target": str(flow)})
    assert expected in text(asked)
    assert 'name="reason"' not in asked.content.decode()
    assert act_on_flow(client, verb, flow).status_code == 302
    assert expected in text(client.get(f"{FLOWS}{flow}/"))
    assert list(JobRecord.objects.order_by("pk").values_list("state", flat=True)) == before
    assert not AuditEntry.objects.filter(action__in=("retried", "canceled")).exists()
    act_on_flow(client_of(User.objects.create_superuser("root")), verb, flow)
    assert AuditEntry.objects.filter(target_type="flow", target_id=str(flow)).exists()


# --- in a browser ---------------------------------------------------------------------------------


@pytest.mark.browser
def test_batches_in_the_browser(page: Any) -> None:
    login(page, User.objects.create_superuser("root"))
    batch = import_of(completed=2, failed=1, waiting=3)
    page.goto(BATCHES)
    axe(page, without=("label-title-only",))  # Django's own search field
    narrow(page)
    page.get_by_role("link", name="import").click()
    axe(page)
    narrow(page)
    page.get_by_label("Refresh").select_option("1")
    work()
    Books().fold()
    page.get_by_text("100%").wait_for()
    page.get_by_label("Refresh").select_option("0")
    page.get_by_role("button", name="Retry failed jobs").click()
    page.get_by_label("Reason").fill("the partner is back")
    page.get_by_role("button", name="Retry").click()
    page.get_by_text("1 batch retried").wait_for()
    assert batch.progress["failed"] == 0


@pytest.mark.browser
def test_flows_in_the_browser(page: Any) -> None:
    login(page, User.objects.create_superuser("root"))
    flow = flow_of(noop.with_data(), scripted.with_data(steps=LOST))
    page.goto(FLOWS)
    axe(page)
    narrow(page)
    page.get_by_role("link", name="test-noop").click()
    axe(page)
    narrow(page)
    page.get_by_role("button", name="Cancel").click()
    axe(page)
    page.get_by_label("Reason").fill("wrong month")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("3 jobs canceled").wait_for()
    assert AuditEntry.objects.get(target_type="flow").target_id == str(flow)
