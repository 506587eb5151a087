"""Replacement: one open job per key, under concurrency, with running jobs, and with Redis down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models.signals import post_save
from django.dispatch import Signal
from django.utils import timezone

from wellos_jobs import JobHandle, enqueue_on, job
from wellos_jobs.broker import job_hash, keys
from wellos_jobs.broker.claims import Outcome
from wellos_jobs.enqueueing import replacement, triggers
from wellos_jobs.maintenance.per_database import DatabaseMaintenance
from wellos_jobs.models import JobRecord, Replacement, UniqueClaim
from wellos_jobs.states import OPEN_STATES

from ..conftest import UseRedis
from ..support.engine import EPOCH, Books, Hand, event_names, work
from ..support.servers import free_port
from .test_unique import TOGETHER, Other, race

pytestmark = pytest.mark.django_db(transaction=True)
changed = Signal()
RUNS: list[str] = []


@job("test-notice")
def notice(key: int, name: str) -> None:
    RUNS.append(name)


@job("test-keeps-saving")
def keeps_saving(group_id: int, name: str = "") -> None:
    """Save the row that set it off, under another name each time."""
    RUNS.append(name)
    group = Group.objects.get(pk=group_id)
    group.name = f"{name}+"
    group.save()


@pytest.fixture(autouse=True)
def trigger() -> Iterator[triggers.Trigger]:
    RUNS.clear()
    with triggers.isolated():
        yield enqueue_on(
            changed,
            job=notice,
            data=lambda key, name: {"key": key, "name": name} if name else None,
            replaces=lambda key: key,
        )


def change(name: str, key: int = 1) -> JobHandle:
    """What a view does: change something and tell of it; the handle of the job that this made, if
    any."""
    [(_receiver, handle)] = changed.send(sender=None, key=key, name=name)
    return handle  # type: ignore[no-any-return]


def states() -> dict[str, str]:
    Books().fold()
    return {row.data["name"]: row.state for row in JobRecord.objects.order_by("pk")}


def after(end: Callable[[], Any], change: Callable[[], JobHandle]) -> JobHandle:
    """Change it here while another transaction has the key; ``end`` that one a moment later."""
    timer = threading.Timer(0.3, end)
    timer.start()
    try:
        return change()
    finally:
        timer.join()


# --- two transactions -----------------------------------------------------------------------------


def test_two_replace_the_same_job_the_first_commits() -> None:
    change("a")
    other = Other(partial(change, "b"))
    assert other.has_enqueued.wait(TOGETHER) and other.error is None
    after(other.commit, partial(change, "c"))
    assert states() == {"a": "canceled", "b": "canceled", "c": "waiting"}


def test_two_replace_the_same_job_the_first_rolls_back() -> None:
    change("a")
    other = Other(partial(change, "b"))
    assert other.has_enqueued.wait(TOGETHER) and other.error is None
    mine = after(other.roll_back, partial(change, "c"))
    assert states() == {"a": "canceled", "c": "waiting"}
    assert UniqueClaim.objects.get().job == mine.id
    assert Replacement.objects.count() == 1


def test_two_replace_the_same_job_the_second_rolls_back() -> None:
    change("a")
    other = Other(partial(change, "b"))
    assert other.has_enqueued.wait(TOGETHER) and other.error is None

    def roll_back() -> JobHandle:
        with transaction.atomic():
            mine = change("c")
            transaction.set_rollback(True)
        return mine

    after(other.commit, roll_back)
    assert states() == {"a": "canceled", "b": "waiting"}
    assert change("d") is not None
    assert states() == {"a": "canceled", "b": "canceled", "d": "waiting"}


def test_eight_at_once_leave_one_open_job_under_a_new_key(books: Books) -> None:
    for key in range(5):
        race(*(partial(change, f"{key}.{number}", key) for number in range(8)))
    books.fold()
    still_open = JobRecord.objects.filter(state__in=OPEN_STATES)
    assert sorted(row.data["key"] for row in still_open) == list(range(5))
    assert JobRecord.objects.filter(state="canceled").count() == 35
    assert set(UniqueClaim.objects.values_list("job", flat=True)) == {row.pk for row in still_open}


def test_eight_identical_jobs_at_once_make_one(books: Books) -> None:
    change("before")
    race(*[partial(change, "after")] * 8)
    books.fold()
    assert sorted(JobRecord.objects.values_list("state", flat=True)) == ["canceled", "waiting"]


def test_many_rows_at_once_in_opposite_orders_do_not_deadlock(books: Books) -> None:
    groups = Group.objects.bulk_create(Group(name=f"{n}") for n in range(30))
    groups = list(Group.objects.order_by("pk"))
    numbers = iter(range(1000))
    saved = enqueue_on(
        post_save,
        sender=Group,
        job=notice,
        data=lambda instance: {"key": instance.pk, "name": f"{next(numbers)}"},
        replaces=lambda instance: instance.pk,
    )
    orders = [groups, groups[::-1], groups, groups[::-1]]
    race(*(partial(lambda order: saved.fire_for(order)[0], order) for order in orders))
    books.fold()
    assert JobRecord.objects.count() == 4 * 30
    still_open = JobRecord.objects.filter(state__in=OPEN_STATES)
    assert sorted(row.data["key"] for row in still_open) == sorted(group.pk for group in groups)


def test_the_same_object_twice_in_one_batch_counts_once() -> None:
    group = Group.objects.create(name="a")
    saved = enqueue_on(
        post_save,
        sender=Group,
        job=notice,
        data=lambda instance: {"key": instance.pk, "name": instance.name},
        replaces=lambda instance: instance.pk,
    )
    again = Group(pk=group.pk, name="b")
    assert len(saved.fire_for([group, again], using="default")) == 1
    assert states() == {"b": "waiting"}


def test_twice_in_one_transaction() -> None:
    with transaction.atomic():
        change("a")
        change("b")
    assert states() == {"a": "canceled", "b": "waiting"}
    work()
    assert RUNS == ["b"]


# --- what runs, and what has just ended -----------------------------------------------------------


def test_the_old_job_has_just_been_claimed() -> None:
    """The row says that it waits. It is asked to stop, and the new one is there whatever becomes of
    that."""
    first = change("a")
    hand = Hand()
    claim = hand.take()
    second = change("b")
    assert first.state == "active" and second.state == "waiting"
    assert hand.connection.hget(keys.job(first.id), job_hash.CANCEL_REQUESTED)
    hand.settle(claim, Outcome("canceled"))
    assert states() == {"a": "canceled", "b": "waiting"}
    assert not replacement.finish("default", ["default"])


def test_the_old_job_is_identical_and_running(books: Books) -> None:
    """It may have read what was before the change: another one comes after it, and it is left to
    end."""
    first = change("a")
    hand = Hand()
    claim = hand.take()
    second = change("a")
    assert second is not None and second != first
    assert change("a") is None, "that one has not begun"
    hand.run(claim)
    hand.run()
    books.fold()
    assert [row.state for row in JobRecord.objects.all()] == ["completed", "completed"]
    assert RUNS == ["a", "a"]


def test_the_old_job_has_ended_but_is_not_folded_yet() -> None:
    first = change("a")
    Hand().run()
    second = change("a")
    assert second is not None and second != first and second.state == "waiting"
    assert not Replacement.objects.exists()


def test_the_old_job_is_replayed_but_not_pushed_yet(books: Books, no_notices: None) -> None:
    """Redis still has the failed run, but the replay is open and has the key."""
    first = change("a")
    hand = Hand()
    hand.settle(hand.take(), Outcome("failed", message="no luck"))
    books.fold()
    JobRecord.objects.filter(pk=first.id).update(state="waiting", replays=1)
    change("b")
    assert states() == {"a": "canceled", "b": "waiting"}


def test_a_key_is_freed_and_taken_again(books: Books) -> None:
    first = change("a")
    assert change("") is None
    second = change("a")
    assert second is not None and second != first
    books.fold()
    assert sorted(JobRecord.objects.values_list("pk", "state")) == sorted(
        [(first.id, "canceled"), (second.id, "waiting")]
    )


def test_a_run_is_not_canceled_by_what_it_enqueues() -> None:
    enqueue_on(
        post_save,
        sender=Group,
        job=keeps_saving,
        data=lambda instance: {"group_id": instance.pk, "name": instance.name},
        replaces=lambda instance: instance.pk,
        when=lambda instance: len(instance.name) < 4,
    )
    Group.objects.create(name="a")
    work()
    assert states() == {"a": "completed", "a+": "completed", "a++": "completed"}


def test_a_run_that_would_fire_itself_leaves_the_key_alone(books: Books) -> None:
    enqueue_on(
        post_save,
        sender=Group,
        job=keeps_saving,
        data=lambda instance: {"group_id": instance.pk},
        replaces=lambda instance: instance.pk,
    )
    Group.objects.create(name="a")
    work()
    books.fold()
    assert [row.state for row in JobRecord.objects.all()] == ["completed"]


# --- Redis away, processes that die ---------------------------------------------------------------


def housekeeping(books: Books) -> None:
    """A pass of the housekeeping, long enough after."""
    Replacement.objects.update(created_at=timezone.now() - timedelta(seconds=10))
    keeper = DatabaseMaintenance("default", "default", ["default"], books.connection)
    keeper.drain(EPOCH, lambda: None)
    keeper.heal()


def test_redis_is_down_at_the_commit(books: Books, use_redis: UseRedis) -> None:
    url, first = django_settings.REDIS_URL, change("a")
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    second = change("b")
    assert Replacement.objects.get().job == first.id and second.record().state == "waiting"
    use_redis(url)
    housekeeping(books)
    assert states() == {"a": "canceled", "b": "waiting"}
    work()
    assert RUNS == ["b"]
    housekeeping(books)
    assert not Replacement.objects.exists()


def test_the_process_dies_between_commit_and_cancelling(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replacement, "_cancel", lambda records: None)
    first = change("a")
    change("b")
    assert replacement.finish("default", ["default"]) == 0, (
        "the process may still be about to do it"
    )
    housekeeping(books)
    assert states() == {"a": "canceled", "b": "waiting"}
    housekeeping(books)
    assert not Replacement.objects.exists()
    assert event_names(first) == ["enqueued", "canceled"]


def test_the_clock_of_the_process_that_died_was_ahead(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replacement, "_cancel", lambda records: None)
    change("a")
    change("b")
    Replacement.objects.update(created_at=timezone.now() + timedelta(hours=1))
    books.fold()
    assert replacement.finish("default", ["default"]) == 1
    books.fold()
    assert states() == {"a": "canceled", "b": "waiting"}


def test_redis_comes_back_empty(
    books: Books, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has given way is not pushed again to stay."""
    monkeypatch.setattr(replacement, "_cancel", lambda records: None)
    change("a")
    change("b")
    books.fold()
    redis_client.flushall()
    again = Books()
    housekeeping(again)
    housekeeping(Books())
    assert states() == {"a": "canceled", "b": "waiting"}
    work()
    assert RUNS == ["b"]
