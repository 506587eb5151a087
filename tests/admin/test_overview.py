"""The overview, and what all pages share: navigation, live refresh, organization limits."""

from __future__ import annotations

import re
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from rq import Queue

from wellos_jobs import broker, conf, status
from wellos_jobs.admin.ui import charts
from wellos_jobs.broker import keys, queues
from wellos_jobs.models import AuditEntry, HourStatistic, JobRecord, JobStatistic
from wellos_jobs.models.statistic import HOUR
from wellos_jobs.monitoring import queues as queue_overview
from wellos_jobs.states import JobState

from .. import jobs
from ..conftest import UseRedis
from ..support.browser import axe, login, narrow
from ..support.engine import Books, work
from ..support.servers import free_port
from ..support.users import client_of, staff, text

QUEUES = "/admin/wellos_jobs/queues/"
STATS = f"{QUEUES}stats/"

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_notices")]


def failed_once(**options: Any) -> None:
    jobs.fail.using(max_attempts=1, **options).enqueue()
    work()
    Books().fold()


# --- what it shows --------------------------------------------------------------------------------


def test_as_cards_and_as_a_table(root: Client) -> None:
    failed_once(queue="slow")
    jobs.noop.using(queue="email").enqueue_bulk([{}] * 3)
    jobs.noop.using(queue="email", delay=60).enqueue()
    queues.pause("low")
    cards = text(root.get(QUEUES))
    assert re.search(
        r"email Waiting 3 Active 0 Oldest wait [\d.]+ m?s Delayed 1 Blocked 0 Workers 1 ", cards
    )
    assert re.search(r"slow Waiting 0 .*? Completed, 24 h 0 Failed, 24 h 1 ", cards)
    assert "low paused" in cards
    table = root.get(f"{QUEUES}?as=table")
    assert re.search(r"\bemail 3 [\d.]+ m?s 0 1 0 0 0 1 ", text(table))
    assert (
        "/admin/wellos_jobs/jobrecord/?queue=slow&amp;state__exact=failed" in table.content.decode()
    )


def test_many_queues_default_to_a_table(root: Client, settings: Any) -> None:
    entry = settings.RQ_QUEUES["default"]
    settings.RQ_QUEUES = {"default": entry, **{f"queue-{n}": entry for n in range(200)}}
    assert len(conf.queues()) == 201
    assert "wj-cards" not in root.get(QUEUES).content.decode()
    assert "wj-cards" in root.get(f"{QUEUES}?as=cards").content.decode()


def test_queues_without_workers_are_reported(root: Client) -> None:
    assert "workers email : " not in text(root.get(QUEUES))
    jobs.noop.using(queue="email").enqueue()
    assert "workers email : " in text(root.get(QUEUES))


def test_blocked_jobs_are_counted_on_cards_and_in_the_sums(root: Client) -> None:
    first = jobs.noop.using(queue="email").enqueue()
    jobs.noop.using(queue="email", depends_on=[first]).enqueue_bulk([{}] * 3)
    plain = Queue("email", connection=broker.client("email"))
    plain.enqueue("time.time", depends_on=plain.enqueue("time.time"))

    card = next(card for card in queue_overview.cards() if card.name == "email")
    assert card.blocked == 4 == status.queue_metrics("email")["blocked"]
    assert "Blocked 4" in " ".join(text(root.get(QUEUES)).split())


def test_throughput_and_the_last_day() -> None:
    now = timezone.now().replace(second=0, microsecond=0)
    ages = (0, 59, 60, 23 * 60, 25 * 60)
    JobStatistic.objects.bulk_create(
        JobStatistic(begins_at=at, queue="email", name="x", completed=1 + n, failed=1)
        for n, at in enumerate(now - timezone.timedelta(minutes=age) for age in ages)
    )
    HourStatistic.objects.bulk_create(
        HourStatistic(
            begins_at=HOUR.begin(now - timezone.timedelta(minutes=age)),
            queue="email",
            name=f"x{n}",
            completed=1 + n,
            failed=1,
        )
        for n, age in enumerate(ages)
    )
    card = next(card for card in queue_overview.cards() if card.name == "email")
    assert (card.completed, card.failed) == (1 + 2 + 3 + 4, 4)
    assert sum(card.throughput) in {1 + 2, 1}  # a minute may have begun meanwhile
    assert len(card.throughput) == queue_overview.MINUTES


@pytest.mark.parametrize(("form", "queries"), [("cards", 5), ("table", 4)])
def test_queries_are_constant(
    root: Client,
    django_assert_num_queries: Any,
    round_trips: Any,
    settings: Any,
    form: str,
    queries: int,
) -> None:
    url = f"{QUEUES}?as={form}"
    root.get(url)
    for number in (1, 200):
        settings.RQ_QUEUES = {
            f"queue-{n}": settings.RQ_QUEUES["default"] for n in range(number)
        } | settings.RQ_QUEUES
        jobs.noop.enqueue_bulk([{}] * number)
        count_runs(number)
        with (
            round_trips.counting() as trips,
            django_assert_num_queries(queries),
        ):  # session, user, blocked jobs, statistics
            root.get(url)
        assert len(trips) == 4  # two for the cards, two for the health


def count_runs(number: int) -> None:
    """Record runs of the last minutes in this many queues."""
    minute = timezone.now().replace(second=0, microsecond=0)
    JobStatistic.objects.bulk_create(
        JobStatistic(
            begins_at=minute - timezone.timedelta(minutes=age),
            queue=f"queue-{n}",
            name=f"x{number}",
            completed=1,
        )
        for n in range(number)
        for age in range(5)
    )


def test_redis_is_down(root: Client, use_redis: UseRedis) -> None:
    failed_once()
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    shown = text(root.get(QUEUES))
    assert "redis default : " in shown
    assert re.search(r"default Waiting \? .*? Failed, 24 h 1 ", shown)
    stats = {queue["name"]: queue for queue in root.get(STATS).json()}
    assert stats["default"]["waiting"] is None
    assert stats["default"]["failed"] == 1


def test_a_corrupt_key(root: Client, redis_client: redis.Redis) -> None:
    redis_client.set(keys.lane("default"), "not a list")
    assert "Redis is unavailable" in text(root.get(QUEUES))


# --- parts, navigation ----------------------------------------------------------------------------


def test_htmx_gets_the_part_only(root: Client) -> None:
    part = root.get(QUEUES, headers={"HX-Request": "true"}).content.decode()
    assert "wj-cards" in part
    assert "<html" not in part
    assert "csrfmiddlewaretoken" in part


def test_the_navigation_depends_on_permissions(root: Client) -> None:
    shown = root.get(QUEUES).content.decode()
    assert f'href="{QUEUES}" aria-current="page"' in shown
    assert 'href="/admin/wellos_jobs/deadletter/faults/"' in shown
    user = staff("view_queues", "view_jobrecord")
    shown = client_of(user).get("/admin/wellos_jobs/jobrecord/").content.decode()
    assert 'href="/admin/wellos_jobs/jobrecord/" aria-current="page"' in shown
    assert 'href="/admin/wellos_jobs/deadletter/"' not in shown


@pytest.mark.parametrize(
    ("model", "text"), [("bulkoperation", "Bulk operations"), ("jobattempt", "Attempts")]
)
def test_the_navigation_links_every_list(root: Client, model: str, text: str) -> None:
    link = f'href="/admin/wellos_jobs/{model}/"'
    assert f"{link}>{text}" in root.get(QUEUES).content.decode()
    assert (
        f'{link} aria-current="page">{text}'
        in root.get(f"/admin/wellos_jobs/{model}/").content.decode()
    )
    assert f"{link}>{text}" not in client_of(staff("view_queues")).get(QUEUES).content.decode()
    assert (
        f"{link}>{text}"
        in client_of(staff("view_queues", f"view_{model}")).get(QUEUES).content.decode()
    )


@pytest.mark.parametrize(
    "model", ["jobrecord", "deadletter", "jobattempt", "auditentry", "schedule"]
)
def test_each_list_has_the_navigation(root: Client, model: str) -> None:
    assert "wj-navigation" in root.get(f"/admin/wellos_jobs/{model}/").content.decode()


def test_without_django_htmx_pages_work_but_are_not_live(root: Client, settings: Any) -> None:
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django_htmx"]
    shown = root.get(QUEUES).content.decode()
    assert "wj-cards" in shown
    assert "live.js" not in shown
    assert "data-wj-live-switch" not in shown


# --- acts -----------------------------------------------------------------------------------------


def act(client: Client, verb: str, queue: str, **more: Any) -> Any:
    return client.post(
        QUEUES,
        {"action": "confirm", "verb": verb, "target": queue, "reason": "the partner asked", **more},
    )


def test_pause_and_resume(root: Client) -> None:
    assert "Workers take no more jobs from this queue" in text(
        root.post(QUEUES, {"action": "ask", "verb": "pause", "target": "email"})
    )
    assert not queues.counts("email").paused
    assert act(root, "pause", "email").status_code == 302
    assert queues.counts("email").paused
    assert "Queue email was paused" in text(root.get(QUEUES))
    act(root, "resume", "email")
    assert not queues.counts("email").paused
    act(root, "resume", "email")
    assert "Queue email is not paused" in text(root.get(QUEUES))
    assert list(
        AuditEntry.objects.order_by("pk").values_list("action", "target_id", "reason", "actor_name")
    ) == [
        ("paused", "email", "the partner asked", "root"),
        ("resumed", "email", "the partner asked", "root"),
    ]


def test_empty(root: Client) -> None:
    handles = jobs.noop.using(queue="email").enqueue_bulk([{}] * 3)
    act(root, "empty", "email")
    assert "Queue email: 3 jobs canceled" in text(root.get(QUEUES))
    Books().fold()
    assert set(
        JobRecord.objects.filter(pk__in=[each.id for each in handles]).values_list(
            "state", flat=True
        )
    ) == {JobState.CANCELED}


def test_an_action_needs_a_reason(root: Client) -> None:
    response = act(root, "pause", "email", reason=" ")
    assert "This field is required" in text(response)
    assert not queues.counts("email").paused


@pytest.mark.parametrize(
    ("verb", "permission"),
    [("pause", "pause_queue"), ("resume", "pause_queue"), ("empty", "empty_queue")],
)
def test_each_action_needs_its_permission(verb: str, permission: str) -> None:
    viewer = client_of(staff("view_queues"))
    shown = viewer.get(QUEUES).content.decode()
    assert "wj-buttons" not in shown
    for action in ("ask", "confirm"):
        assert (
            viewer.post(
                QUEUES, {"action": action, "verb": verb, "target": "email", "reason": "x"}
            ).status_code
            == 403
        )
    allowed = client_of(staff("view_queues", permission))
    assert f'value="{verb}"' in allowed.get(QUEUES).content.decode() or verb == "resume"
    assert act(allowed, verb, "email").status_code == 302


@pytest.mark.parametrize(
    "sent",
    [
        {"action": "nonsense"},
        {"action": "confirm", "verb": "burn", "target": "email"},
        {"action": "ask", "verb": "pause", "target": "emial"},
    ],
)
def test_invalid_requests_are_refused(root: Client, sent: dict[str, str]) -> None:
    assert root.post(QUEUES, sent).status_code == 400


def test_actions_need_the_csrf_token(root: Client) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(username="root"))
    assert act(client, "pause", "email").status_code == 403
    assert not queues.counts("email").paused


def test_redis_is_down_during_an_action(root: Client, use_redis: UseRedis) -> None:
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    act(root, "pause", "email")
    assert not AuditEntry.objects.exists()
    assert "Redis" in text(root.get(QUEUES))


# --- organization limits --------------------------------------------------------------------------


def organizations_of(user: User) -> list[str] | None:
    return ["acme"] if user.username == "view_queues" else None


def test_the_overview_is_closed_to_limited_staff(settings: Any) -> None:
    settings.WELLOS_JOBS = {
        **settings.WELLOS_JOBS,
        "ADMIN_ORGANIZATIONS": "tests.admin.test_overview.organizations_of",
    }
    scoped = client_of(staff("view_queues"))
    shown = scoped.get(QUEUES)
    assert "You may see only some organizations" in text(shown)
    assert "wj-cards" not in shown.content.decode()
    assert scoped.get(STATS).status_code == 403
    assert "wj-cards" in client_of(staff("view_queues", "pause_queue")).get(QUEUES).content.decode()


# --- charts ---------------------------------------------------------------------------------------


def test_lines_have_gaps_without_data() -> None:
    drawn = charts.sparkline([1, 2, None, 3], "three numbers")
    assert drawn.count("<polyline") == 2
    assert 'aria-label="three numbers"' in drawn
    assert "style=" not in drawn


def test_a_chart_has_a_table_of_its_numbers() -> None:
    chart = charts.Chart(
        "Runs <b>",
        ["10:00", "10:01", "10:02"],
        [charts.Series("completed", [0, 1200, 3]), charts.Series("failed", [0, None, 1], 1)],
    )
    drawn = charts.lines(chart)
    assert "Runs &lt;b&gt;" in drawn
    assert "<b>" not in drawn
    assert text_of(drawn).endswith("Time completed failed 10:01 1,200 - 10:02 3 1")


def text_of(drawn: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", drawn).split())


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (0.3, 0.5), (1, 1), (1.1, 2), (7, 10), (10, 10), (1201, 2000)]
)
def test_the_top_of_an_axis(value: float, top: float) -> None:
    assert charts.nice_top(value) == pytest.approx(top)


# --- in a browser ---------------------------------------------------------------------------------


@pytest.mark.browser
def test_pause_in_the_browser(page: Any) -> None:
    login(page, User.objects.create_superuser("root"))
    page.goto(QUEUES)
    axe(page)
    narrow(page)
    page.locator("li.wj-card", has_text="email").get_by_role("button", name="Pause").click()
    axe(page)
    page.get_by_label("Reason").fill("the partner asked")
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("Queue email was paused").wait_for()
    assert queues.counts("email").paused


@pytest.mark.browser
def test_the_page_refreshes(page: Any) -> None:
    login(page, User.objects.create_superuser("root"))
    page.goto(f"{QUEUES}?as=table")
    page.get_by_label("Refresh").select_option("1")
    jobs.noop.using(queue="email").enqueue_bulk([{}] * 7)
    row = page.locator("tr", has_text="email")
    row.locator("td", has_text=re.compile(r"^7$")).first.wait_for()
    page.get_by_label("Refresh").select_option("0")
    assert page.evaluate("localStorage.getItem('wellos_jobs.refresh')") == "0"
    page.reload()
    assert page.get_by_label("Refresh").input_value() == "0"


@pytest.mark.browser
def test_a_list_refreshes_unless_rows_are_selected(page: Any) -> None:
    login(page, User.objects.create_superuser("root"))
    first = jobs.noop.enqueue()
    page.goto("/admin/wellos_jobs/jobrecord/")
    narrow(page)
    page.get_by_label("Refresh").select_option("1")
    page.locator("input.action-select").check()
    jobs.noop.enqueue()
    page.get_by_text("paused", exact=True).wait_for()
    assert page.locator("input.action-select").count() == 1
    page.locator("input.action-select").uncheck()
    page.locator("#site-name").click(trial=True)
    page.evaluate("document.activeElement.blur()")
    page.locator("input.action-select").nth(1).wait_for()
    page.locator("#action-toggle").check()
    assert page.locator("tr.selected").count() == 2, (
        "the ticks of a refreshed list work as those of a new page do"
    )
    assert first.state == "waiting"
