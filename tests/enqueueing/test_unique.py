"""Unique jobs: who holds a key, until when, and two transactions at once, on each database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from wellos_jobs import Flow, JobHandle
from wellos_jobs.broker import claims
from wellos_jobs.maintenance import prune
from wellos_jobs.models import JobDependency, JobRecord, UniqueClaim

from ..jobs import noop
from ..support.engine import Books, Hand, work
from ..support.guarded_jobs import once, once_by_key, once_more, once_until_done
from ..support.journal import Journal
from ..support.processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

TOGETHER = 10.0


class Other:
    """Somebody else's transaction, in a thread of its own: enqueue, then wait to be told how to
    end."""

    def __init__(self, enqueue: Callable[[], JobHandle]) -> None:
        self.handle: JobHandle | None = None
        self.error: BaseException | None = None
        self.has_enqueued = threading.Event()
        self._may_end = threading.Event()
        self._rolls_back = False
        self._thread = threading.Thread(target=self._run, args=[enqueue])
        self._thread.start()

    def _run(self, enqueue: Callable[[], JobHandle]) -> None:
        try:
            with transaction.atomic():
                self.handle = enqueue()
                self.has_enqueued.set()
                assert self._may_end.wait(TOGETHER)
                transaction.set_rollback(self._rolls_back)
        except BaseException as error:
            self.error = error
        finally:
            self.has_enqueued.set()
            connections.close_all()

    def commit(self) -> JobHandle:
        return self._end(rolls_back=False)

    def roll_back(self) -> JobHandle:
        return self._end(rolls_back=True)

    def _end(self, *, rolls_back: bool) -> JobHandle:
        self._rolls_back = rolls_back
        self._may_end.set()
        self._thread.join(TOGETHER)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        assert self.handle is not None
        return self.handle


def race(*enqueues: Callable[[], JobHandle]) -> list[JobHandle]:
    """Enqueue in as many threads at once; return the handles."""
    gate = threading.Barrier(len(enqueues))
    handles: list[JobHandle] = []
    errors: list[BaseException] = []

    def run(enqueue: Callable[[], JobHandle]) -> None:
        try:
            gate.wait(TOGETHER)
            handles.append(enqueue())
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=[enqueue]) for enqueue in enqueues]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TOGETHER)
    assert not errors, errors
    return handles


# --- the key --------------------------------------------------------------------------------------


def test_a_second_enqueue_returns_the_handle_of_the_first(books: Books) -> None:
    first, second = once.enqueue(number=1), once.enqueue(number=1)
    assert not first.duplicate and second.duplicate and second == first
    assert JobRecord.objects.count() == 1
    assert not once.enqueue(number=2).duplicate
    work()
    assert books.row(first).state == "completed"
    assert once.enqueue(number=1) == first, "for an hour, though it has run"


def test_the_same_data_in_another_order_and_type(books: Books) -> None:
    first = once.enqueue(number=1, steps=["result:x"])
    assert once.enqueue(steps=("result:x",), number=1) == first


def test_key_by_field_organization_and_default() -> None:
    first = once_by_key.using(organization="acme").enqueue(number=7, note="a")
    assert once_by_key.using(organization="acme").enqueue(note="b") == first, "7 is the default"
    assert once_by_key.using(organization="bolt").enqueue(number=7) != first


def test_the_key_reveals_nothing_about_the_data() -> None:
    once_by_key.using(organization="acme").enqueue(number=7)
    key = UniqueClaim.objects.get().key
    assert len(key) == 64 and "acme" not in key


def test_in_bulk_and_among_others() -> None:
    handles = once.enqueue_bulk([{"number": n} for n in (1, 2, 1, 3, 2)])
    assert [handle.duplicate for handle in handles] == [False, False, True, False, True]
    assert handles[0] == handles[2] and handles[1] == handles[4]
    assert JobRecord.objects.count() == UniqueClaim.objects.count() == 3
    again = once.enqueue_bulk([{"number": 3}, {"number": 4}])
    assert again[0] == handles[3] and not again[1].duplicate


def test_bulk_of_a_thousand_costs_two_statements_each() -> None:
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        once.enqueue_bulk([{"number": n} for n in range(100)])
    assert len(captured) <= 4 * 100 + 10, "read, savepoint, insert, release"


def test_with_a_chosen_id() -> None:
    chosen = "0b7c1f6e-30f1-4d5c-9a2c-0d2b5ff0a6c1"
    first = once.using(id=chosen).enqueue(number=1)
    assert str(first) == chosen and once.enqueue(number=1) == first
    assert once.using(id=chosen).enqueue(number=1) == first
    assert JobRecord.objects.count() == 1


# --- until when -----------------------------------------------------------------------------------


def test_holder_finished(books: Books) -> None:
    first = once_until_done.enqueue()
    hand = Hand()
    claim = hand.take()
    assert once_until_done.enqueue() == first, "while it runs"
    hand.run(claim)
    second = once_until_done.enqueue()
    assert second != first and not second.duplicate, "Redis knows before the rows do"
    assert books.row(first).state == "completed"


def test_holder_failed(books: Books) -> None:
    first = once_until_done.enqueue(steps=["raise:ValueError:no"])
    Hand().run()
    assert once_until_done.enqueue(steps=["raise:ValueError:no"]) != first


def test_holder_retrying_is_not_done() -> None:
    first = once_until_done.using(max_attempts=2).enqueue(steps=["raise:ValueError:no"])
    Hand().run()
    assert first.state == "delayed"
    assert once_until_done.enqueue(steps=["raise:ValueError:no"]) == first


@pytest.mark.parametrize("job", [once, once_until_done, once_more], ids=lambda job: job.name)
def test_holder_canceled(job: Any, books: Books) -> None:
    first = job.enqueue()
    first.cancel()
    second = job.enqueue()
    assert second != first and not second.duplicate
    assert JobRecord.objects.count() == 2


def test_holder_expired() -> None:
    first = once.enqueue()
    UniqueClaim.objects.update(expires=timezone.now() - timedelta(seconds=1))
    second = once.enqueue()
    assert second != first
    assert once.enqueue() == second
    assert UniqueClaim.objects.count() == 1


def test_owner_killed_while_holding() -> None:
    """The job that is rescued still holds its key; the one that is buried does not, with
    ``until``."""
    first = once_until_done.using(max_attempts=2).enqueue()
    hand = Hand()
    hand.take()
    claims.rescue(hand.connection, "crashed", "killed", worker=hand.name)
    assert once_until_done.enqueue() == first
    hand.take()
    claims.rescue(hand.connection, "crashed", "killed", worker=hand.name)
    assert first.state == "failed"
    assert once_until_done.enqueue() != first


def test_an_owner_that_was_killed_counts_until_it_starts_again() -> None:
    first = once_more.enqueue()
    hand = Hand()
    hand.take()
    claims.rescue(hand.connection, "crashed", "killed", worker=hand.name)
    assert once_more.enqueue() == first, "it waits, and will see what changed"


def test_a_release_after_expiry_leaves_the_new_holder(books: Books) -> None:
    """The first job runs beyond its claim's time; a second takes the key; the first's end leaves it
    alone."""
    first = once.enqueue()
    hand = Hand()
    held = hand.take()
    UniqueClaim.objects.update(expires=timezone.now() - timedelta(seconds=1))
    second = once.enqueue()
    assert second != first
    hand.run(held)
    books.fold()
    assert once.enqueue() == second


def test_holder_pruned(books: Books) -> None:
    first = once.enqueue()
    work()
    books.fold()
    JobRecord.objects.filter(pk=first.id).delete()
    assert once.enqueue() != first


def test_expired_claims_are_pruned(books: Books) -> None:
    once.enqueue()
    once_more.enqueue()
    work()
    books.fold()
    prune.prune("default")
    assert UniqueClaim.objects.count() == 2
    UniqueClaim.objects.exclude(expires=None).update(expires=timezone.now() - timedelta(seconds=1))
    JobRecord.objects.update(finished_at=timezone.now() - timedelta(days=31))
    prune.prune("default")
    assert UniqueClaim.objects.count() == 0


def test_one_more_run_if_something_changed_while_running(journal: Journal) -> None:
    """Unique until started, one at a time: a change while it runs makes one more run, however many
    changes."""
    hand = Hand()
    first = once_more.enqueue(journal=str(journal))
    assert once_more.enqueue(journal=str(journal)) == first
    claim = hand.take()
    second = once_more.enqueue(journal=str(journal))
    assert second != first and once_more.enqueue(journal=str(journal)) == second
    assert hand.claim() is None, "one at a time"
    hand.run(claim)
    hand.run()
    assert hand.claim() is None
    assert len(journal.ends()) == 2


def test_a_rolled_back_job_holds_no_key() -> None:
    with transaction.atomic():
        first = once.enqueue()
        assert once.enqueue() == first
        transaction.set_rollback(True)
    second = once.enqueue()
    assert second != first and not second.duplicate
    assert JobRecord.objects.count() == 1


# --- two transactions -----------------------------------------------------------------------------


def blocked_until(other: Other, end: Callable[[], JobHandle]) -> JobHandle:
    """Enqueue here while another transaction holds the key; ``end`` that one a moment later."""
    timer = threading.Timer(0.3, end)
    timer.start()
    try:
        return once.enqueue(number=9)
    finally:
        timer.join()


def test_two_transactions_the_first_commits() -> None:
    other = Other(lambda: once.enqueue(number=9))
    assert other.has_enqueued.wait(TOGETHER) and other.error is None
    mine = blocked_until(other, other.commit)
    assert other.handle is not None and mine == other.handle and mine.duplicate
    assert JobRecord.objects.count() == 1


def test_two_transactions_the_first_rolls_back() -> None:
    other = Other(lambda: once.enqueue(number=9))
    assert other.has_enqueued.wait(TOGETHER) and other.error is None
    mine = blocked_until(other, other.roll_back)
    assert mine != other.handle and not mine.duplicate
    assert JobRecord.objects.get().pk == mine.id
    assert UniqueClaim.objects.get().job == mine.id


def test_two_transactions_take_over_an_expired_claim_the_first_commits() -> None:
    once.enqueue(number=9)
    UniqueClaim.objects.update(expires=timezone.now() - timedelta(seconds=1))
    other = Other(lambda: once.enqueue(number=9))
    assert other.has_enqueued.wait(TOGETHER) and other.error is None
    mine = blocked_until(other, other.commit)
    assert mine == other.handle
    assert JobRecord.objects.count() == 2


def test_two_transactions_take_over_an_expired_claim_the_first_rolls_back() -> None:
    once.enqueue(number=9)
    UniqueClaim.objects.update(expires=timezone.now() - timedelta(seconds=1))
    other = Other(lambda: once.enqueue(number=9))
    assert other.has_enqueued.wait(TOGETHER) and other.error is None
    mine = blocked_until(other, other.roll_back)
    assert mine != other.handle
    assert UniqueClaim.objects.get().job == mine.id


def test_eight_at_once_make_one_job() -> None:
    for number in range(5):
        handles = race(*[partial(once.enqueue, number=number)] * 8)
        assert len(set(handles)) == 1
        assert sorted(handle.duplicate for handle in handles) == [False] + [True] * 7


def test_eight_at_once_take_over_one_expired_claim() -> None:
    for number in range(5):
        old = once.enqueue(number=number)
        UniqueClaim.objects.update(expires=timezone.now() - timedelta(seconds=1))
        handles = race(*[partial(once.enqueue, number=number)] * 8)
        assert len(set(handles)) == 1 and old not in handles


def test_two_bulks_in_opposite_orders_do_not_deadlock() -> None:
    for start in range(0, 100, 20):
        rows = [{"number": n} for n in range(start, start + 20)]
        bulks = [rows, rows[::-1], rows]
        handles = race(
            *[partial(lambda chosen: once.enqueue_bulk(chosen)[0], chosen) for chosen in bulks]
        )
        assert len(handles) == 3
    assert JobRecord.objects.count() == 100


# --- in flows -------------------------------------------------------------------------------------


def test_a_duplicate_in_a_flow_points_to_the_holder(books: Books) -> None:
    """The flow waits for the other job; no row refers to one that was never made."""
    first = once.enqueue(number=1)
    flow = Flow(
        noop.with_data(),
        children=[
            Flow(once.with_data(number=1), children=[noop.with_data()]),
            once.with_data(number=2),
        ],
        order="children_first",
    ).enqueue()
    assert flow.handles[1] == first
    assert JobRecord.objects.count() == 4
    assert set(JobDependency.objects.values_list("needs_id", flat=True)) >= {first.id}
    wait_until(lambda: work() and books.fold() == 0)
    assert flow.wait(0)


def test_a_duplicate_parent_that_has_already_run(books: Books) -> None:
    """Unique for an hour, and done: its children may run at once."""
    first = once.enqueue(number=1)
    work()
    books.fold()
    flow = Flow(once.with_data(number=1), children=[noop.with_data(), noop.with_data()]).enqueue()
    assert flow.handles[0] == first
    assert [handle.state for handle in flow.handles] == ["completed", "waiting", "waiting"]
    work()
    books.fold()
    assert set(flow.states.values()) == {"completed"}
    children = JobRecord.objects.filter(flow_id=flow.id)
    assert set(children.values_list("parent_id", flat=True)) == {first.id}
