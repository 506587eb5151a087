"""The page of limits and circuit breakers: usage, holders, waiting jobs and actions."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.test import Client

from wellos_jobs import operations
from wellos_jobs.broker import job_hash, keys
from wellos_jobs.models import AuditEntry
from wellos_jobs.monitoring import limits
from wellos_jobs.monitoring.limits import LimitRow

from ..conftest import UseRedis
from ..support.browser import axe, login, narrow
from ..support.engine import Hand
from ..support.guarded_jobs import heavy, keyed, partner, per_account, rated, single
from ..support.servers import free_port
from ..support.users import client_of, staff, text

LIMITS = "/admin/wellos_jobs/queues/limits/"
OUTAGE = ["raise:ConnectionError:away"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_notices")]


def limit_row(limit_id: str, sought: str = "") -> LimitRow:
    board = limits.board(sought)
    [found] = [one for one in board.limits + board.breakers if one.id == limit_id]
    return found


def act(client: Client, verb: str, target: str, **more: Any) -> Any:
    return client.post(
        LIMITS,
        {
            "action": "confirm",
            "verb": verb,
            "target": target,
            "reason": "the partner asked",
            **more,
        },
    )


# --- what it reads --------------------------------------------------------------------------------


def test_holders_and_waiting_jobs() -> None:
    handles = single.enqueue_bulk([{}] * 3)
    hand = Hand("default")
    hand.take()
    assert hand.claim() is None
    found = limit_row("c:test-single")
    assert (found.used, found.most, found.left, found.waiting, found.is_full) == (1, 1, 0, 2, True)
    assert [holder.id for holder in found.holders] == [str(handles[0])]
    assert [(job.id, job.name) for job in found.waiting_jobs] == [
        (str(handle), "test-single") for handle in handles[1:]
    ]
    assert all(
        job.since is not None and job.since < 60 for job in found.holders + found.waiting_jobs
    )


def test_a_rate_limit() -> None:
    rated.enqueue()
    Hand("default").run()
    found = limit_row("r:test-rated/0.4")
    assert (found.key, found.period, found.most, list(found.declared)) == (
        "test-rated",
        0.4,
        3,
        [3],
    )
    assert found.used in {0, 1}  # 0.4 s may have gone by
    assert limit_row("r:scales/0.4").most == 4


def test_limits_keyed_by_data_are_shown_while_in_use() -> None:
    assert not [one for one in limits.board().limits if one.key.startswith("account:")]
    per_account.enqueue(account="acme")
    hand = Hand("default")
    claim = hand.take()
    found = limit_row("c:account:acme")
    assert (found.used, list(found.declared)) == (1, [1])
    hand.run(claim)
    assert not [one for one in limits.board().limits if one.key == "account:acme"]


def test_a_limit_with_a_key_function() -> None:
    keyed.enqueue(word="zebra")
    Hand("default").take()
    assert list(limit_row("c:first letter z").declared) == [1]


def test_search_by_key(redis_client: redis.Redis) -> None:
    operations.set_limit("c:account:globex", 0)
    operations.set_limit("c:account:acme", 7)
    assert [one.id for one in limits.board("account:g").limits] == ["c:account:globex"]
    assert limits.board("nothing like it").limits == []
    redis_client.zadd(keys.running("c:account:idle"), {"some-job": 1})
    assert limit_row("c:account:idle", "account:idle").used == 1, "found by its whole key"
    assert limit_row("c:account:acme").operator_number == 7


def test_pages_busiest_first(redis_client: redis.Redis) -> None:
    for number in range(4):
        operations.set_limit(f"c:account:{number}", 1)
        redis_client.zadd(
            keys.parked(f"c:account:{number}"), {f"job-{n}": n for n in range(number + 1)}
        )
    board = limits.board("account:", page_size=3)
    assert [one.key for one in board.limits] == ["account:3", "account:2", "account:1"]
    assert board.total == 4
    assert [one.key for one in limits.board("account:", 3, 3).limits] == ["account:0"]


def test_breakers(redis_client: redis.Redis) -> None:
    assert not limit_row("b:partner").is_open
    hand = Hand("default")
    partner.enqueue_bulk([{"steps": OUTAGE}] * 3)
    hand.run()
    found = limit_row("b:partner")
    assert (found.used, list(found.declared), found.within, found.is_open) == (1, [2], 60.0, False)
    hand.run()
    assert hand.claim() is None
    found = limit_row("b:partner")
    assert found.is_open and found.open_for is not None and found.waiting >= 1
    assert found.probe_in is not None and 0 <= found.probe_in <= 3
    assert limits.board().breakers[0].id == "b:partner", "an open one comes first"
    redis_client.hset(keys.breaker("b:partner"), "until", "1")
    redis_client.zadd(keys.GATES, {"b:partner": 0})
    probe = hand.take()
    found = limit_row("b:partner")
    assert found.is_probing and found.holders[0].id == probe.id
    operations.trip_breaker("picky")
    assert limit_row("b:picky").probe_in is None


def test_queries_are_constant(root: Client, round_trips: Any) -> None:
    single.enqueue_bulk([{}] * 3)
    hand = Hand("default")
    hand.take()
    hand.claim()
    root.get(LIMITS)
    with round_trips.counting() as trips:
        root.get(LIMITS)
    assert len(trips) == 2  # how full they are, then who holds and waits
    for number in range(30):
        per_account.enqueue(account=f"a{number}")
    for _ in range(8):
        hand.claim()
    with round_trips.counting() as trips:
        shown = text(root.get(LIMITS))
    assert len(trips) == 2
    assert "account:a0" in shown


def test_more_limits_than_are_examined(root: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST", 1)
    for account in ("acme", "globex"):
        per_account.enqueue_bulk([{"account": account}] * 2)
    hand = Hand("default")
    for _ in range(4):
        hand.claim()
    assert "Jobs wait for 1 more limit" in text(root.get(LIMITS))


def test_a_corrupt_job_hash_and_an_invalid_id(root: Client, redis_client: redis.Redis) -> None:
    handle, hand = single.enqueue(), Hand("default")
    hand.take()
    redis_client.hset(keys.job(handle), job_hash.LIMITS, "{nonsense")
    redis_client.hset(keys.LIMITS, "nonsense", "3")
    assert "test-single" in text(root.get(LIMITS))
    redis_client.delete(keys.running("c:test-single"))
    redis_client.set(keys.running("c:test-single"), "not a set")
    assert "Redis could not be queried" in text(root.get(LIMITS))


def test_redis_is_down(root: Client, use_redis: UseRedis) -> None:
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    assert "Redis could not be queried" in text(root.get(LIMITS))
    act(root, "trip", "b:partner")
    assert not AuditEntry.objects.exists()


# --- acts -----------------------------------------------------------------------------------------


def test_a_limit_is_changed_and_reset(root: Client) -> None:
    asked = root.post(LIMITS, {"action": "ask", "verb": "change", "target": "c:test-single"})
    assert 'name="most"' in asked.content.decode()
    assert "This field is required" in text(act(root, "change", "c:test-single"))
    assert "greater than or equal to 0" in text(act(root, "change", "c:test-single", most="-1"))
    act(root, "change", "c:test-single", most="5")
    shown = text(root.get(LIMITS))
    assert "Limit test-single was changed to 5" in shown
    assert "5 changed declared 1" in shown
    assert limit_row("c:test-single").most == 5
    act(root, "restore", "c:test-single")
    assert limit_row("c:test-single").most == 1
    assert list(AuditEntry.objects.order_by("pk").values_list("action", "target_id", "reason")) == [
        ("set limit", "c:test-single", "the partner asked"),
        ("set limit", "c:test-single", "the partner asked"),
    ]


def test_a_breaker_is_tripped_and_reset(root: Client) -> None:
    act(root, "trip", "b:partner")
    shown = text(root.get(LIMITS))
    assert "Breaker partner is open until it is reset" in shown
    assert "after a reset" in shown
    act(root, "reset", "b:partner")
    assert "Breaker partner was closed" in text(root.get(LIMITS))
    act(root, "reset", "b:partner")
    assert "was already closed" in text(root.get(LIMITS))


@pytest.mark.parametrize(
    ("verb", "permission", "target"),
    [
        ("change", "change_limit", "c:test-single"),
        ("restore", "change_limit", "c:test-single"),
        ("reset", "reset_breaker", "b:partner"),
        ("trip", "trip_breaker", "b:picky"),
    ],
)
def test_each_action_needs_its_permission(verb: str, permission: str, target: str) -> None:
    operations.set_limit("c:test-single", 3)
    operations.trip_breaker("partner")
    viewer = client_of(staff("view_queues"))
    assert 'class="wj-act"' not in viewer.get(LIMITS).content.decode()
    for action in ("ask", "confirm"):
        sent = {"action": action, "verb": verb, "target": target, "reason": "x", "most": "2"}
        assert viewer.post(LIMITS, sent).status_code == 403
    allowed = client_of(staff("view_queues", permission))
    assert f'value="{verb}"' in allowed.get(LIMITS).content.decode()
    assert act(allowed, verb, target, most="2").status_code == 302


@pytest.mark.parametrize(
    ("verb", "target"),
    [("burn", "c:x"), ("change", "b:partner"), ("trip", "c:x"), ("change", "x"), ("change", "c:")],
)
def test_invalid_requests_are_refused(root: Client, verb: str, target: str) -> None:
    assert act(root, verb, target, most="1").status_code == 400


def test_staff_limited_to_organizations_do_not_see_it(settings: Any) -> None:
    hook = "tests.admin.test_overview.organizations_of"
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "ADMIN_ORGANIZATIONS": hook}
    shown = text(client_of(staff("view_queues")).get(LIMITS))
    assert "You may see only some organizations" in shown
    assert "test-single" not in shown


@pytest.mark.browser
def test_limits_in_the_browser(page: Any) -> None:
    login(page, User.objects.create_superuser("root"))
    single.enqueue_bulk([{}] * 6)
    heavy.enqueue()
    hand = Hand("default")
    hand.take()
    hand.claim()
    page.goto(LIMITS)
    axe(page)
    narrow(page)
    page.locator("tr", has_text="test-single").get_by_role("button", name="Change").click()
    axe(page)
    page.get_by_label("Maximum").fill("3")
    page.get_by_label("Reason").fill("the partner can take more")
    page.get_by_role("button", name="Change").click()
    page.get_by_text("Limit test-single was changed to 3").wait_for()
    page.locator("tr", has_text="partner").get_by_role("button", name="Trip").click()
    page.get_by_label("Reason").fill("they announced work")
    page.get_by_role("button", name="Trip").click()
    page.get_by_text("Breaker partner is open until it is reset").wait_for()
    axe(page)
    page.locator("tr", has_text="partner").get_by_role("button", name="Reset").click()
    page.get_by_label("Reason").fill("they are back")
    page.get_by_role("button", name="Reset").click()
    page.get_by_text("Breaker partner was closed").wait_for()
    page.get_by_label("Key").fill("scales")
    page.get_by_role("button", name="Find").click()
    page.get_by_text("Show all").wait_for()
    assert page.locator("tbody th", has_text="scales").count() == 1
