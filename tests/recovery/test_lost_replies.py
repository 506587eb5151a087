"""Recovery: replies of Redis that are lost after the script ran, and namesakes that come after the
dead."""

from __future__ import annotations

import pytest
import redis

from wellos_jobs import broker as store
from wellos_jobs.broker import keys
from wellos_jobs.broker.claims import Claimer, Outcome, rescue
from wellos_jobs.broker.connection import script_digest
from wellos_jobs.enqueueing import control
from wellos_jobs.models import JobAttempt, JobRecord
from wellos_jobs.processes.child import Child
from wellos_jobs.processes.shared_memory import Slot

from ..jobs import noop, scripted
from ..support.engine import Books, Hand, event_names
from ..support.journal import Journal
from ..support.processes import Fleet
from ..support.proxies import CuttingProxy
from ..support.rows import all_have_state, attempts, has_state, row, statistics

pytestmark = pytest.mark.any_database

in_two_databases = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.mark.parametrize("times", [1, 3], ids=["once", "more often than redis-py resends"])
def test_lost_reply_to_a_claim(
    processes: Fleet, journal: Journal, redis_proxy: CuttingProxy, times: int
) -> None:
    """The worker asks again with the same number and gets the same job: it runs exactly once."""
    handles = scripted.enqueue_bulk([{"journal": str(journal)}] * 3)
    cuts = [redis_proxy.cut_reply(script_digest("claim")) for _ in range(times)]
    processes.worker()
    for cut in cuts:
        cut.wait()
    processes.wait_until(lambda: all_have_state("completed", 3))
    assert len(journal.starts()) == 3
    assert {row(handle).attempts for handle in handles} == {1}
    assert statistics() == {"enqueued": 3, "started": 3, "completed": 3}


@pytest.mark.parametrize("times", [1, 3], ids=["once", "more often than redis-py resends"])
def test_lost_reply_to_a_settle(
    processes: Fleet, journal: Journal, redis_proxy: CuttingProxy, times: int
) -> None:
    """The outcome is stored once, and the job that the settle claimed is the one the worker goes on
    with."""
    handles = scripted.enqueue_bulk(
        [
            {"steps": ["on:1:raise:ValueError:once"], "journal": str(journal)},
            *[{"journal": str(journal)}] * 3,
        ]
    )
    cuts = [redis_proxy.cut_reply(script_digest("settle")) for _ in range(times)]
    processes.worker()
    for cut in cuts:
        cut.wait()
    processes.wait_until(lambda: all_have_state("completed", 4))

    assert len(journal.starts()) == 5
    assert attempts(handles[0]) == [(1, "retried")]
    assert [row(handle).attempts for handle in handles] == [2, 1, 1, 1]
    assert statistics() == {"enqueued": 4, "started": 5, "completed": 4, "retried": 1}


def test_lost_replies_everywhere(
    processes: Fleet, journal: Journal, redis_proxy: CuttingProxy
) -> None:
    """Connections break all the time, in whatever is under way: nothing is lost and nothing counted
    twice."""
    count = 120
    places = {
        "push": (1, 3),
        "claim": (1, 2),
        "settle": (1, 5, 20),
        "forget": (1,),
        "pulse": (1,),
        "supervise": (1,),
    }
    cuts = [
        redis_proxy.cut_reply(script_digest(name), nth)
        for name, numbers in places.items()
        for nth in numbers
    ]
    processes.worker("--processes", "2")
    rows = [
        {"steps": ["on:1:raise:ValueError:once"] if n % 4 == 0 else [], "journal": str(journal)}
        for n in range(count)
    ]
    for n in range(0, count, 20):
        scripted.enqueue_bulk(rows[n : n + 20])
        redis_proxy.break_connections()
        journal.wait_for_starts(n + 10)
    processes.wait_until(lambda: all_have_state("completed", count))
    for cut in cuts:
        cut.wait()
    assert len(journal.starts()) == count * 5 // 4
    assert JobAttempt.objects.count() == count // 4

    retried = count // 4
    assert statistics() == {
        "enqueued": count,
        "started": count + retried,
        "completed": count,
        "retried": retried,
    }


@in_two_databases
def test_lost_reply_to_forget(redis_proxy: CuttingProxy) -> None:
    """The rows were committed: the same events must not be folded again, although the call after it
    failed."""
    books, hand = Books(), Hand()
    handle = noop.enqueue()
    hand.run()
    cuts = [redis_proxy.cut_reply(script_digest("forget")) for _ in range(2)]
    with pytest.raises(store.Unavailable):
        books.fold()
    for cut in cuts:
        cut.wait()
    books.fold()
    assert has_state(handle, "completed")
    assert statistics("test-noop") == {"enqueued": 1, "started": 1, "completed": 1}


@in_two_databases
def test_a_new_worker_of_the_same_name_gets_no_stored_answer() -> None:
    """A new process counts from 1 again, as its dead predecessor of the same name did."""
    noop.enqueue_bulk([{}, {}])
    first, second = Hand(name="solo"), Hand(name="solo")
    claimed, other = first.take(), second.take()
    assert claimed.id != other.id
    assert first.claimer.repeat_claim().claim is None, (
        "a late resend of the dead gets what there is: nothing"
    )


@in_two_databases
def test_a_settle_resent_after_the_next_call_changes_nothing(redis_client: redis.Redis) -> None:
    """A copy of the packet that comes late, when the job is long in another state."""
    handle = scripted.enqueue(steps=["retry:60"])
    hand = Hand()
    claim = hand.take()
    late = Claimer(
        hand.name, hand.queue_set, hand.connection, hand.claimer.nonce, hand.claimer.number
    )
    assert hand.settle(claim, Outcome("retried", after=60))
    hand.claim()
    before = redis_client.hgetall(keys.job(handle.id))
    assert not late.settle(claim, Outcome("completed"), claim_next=False).settled
    assert redis_client.hgetall(keys.job(handle.id)) == before
    assert event_names(handle) == ["enqueued", "started", "retried"]


@in_two_databases
@pytest.mark.parametrize("kind", ["retried", "snoozed", "handed_back"])
def test_a_job_canceled_while_it_runs_is_not_run_again(kind: str) -> None:
    """Its run ended by itself before the order to stop came."""
    books, hand = Books(), Hand()
    handle = scripted.enqueue()
    claim = hand.take()
    record = JobRecord.objects.get(pk=handle.id)
    assert control.cancel(record) == "stopping"
    answer = hand.claimer.settle(claim, Outcome(kind, after=0.0), claim_next=True)  # type: ignore[arg-type]
    assert answer.settled
    assert answer.canceled
    assert answer.claim is None
    assert books.row(handle).state == handle.state == "canceled"
    assert attempts(handle) == [(1, "canceled")]


@in_two_databases
def test_a_late_kill_is_not_attributed_to_the_next_job() -> None:
    """The supervisor killed a worker for a run that hung; that run had just ended, and its settle
    claimed another."""
    first, second = scripted.enqueue(), scripted.enqueue()
    hand, slot = Hand(), Slot()
    claim = hand.take()
    slot.begin(claim.id, -1.0)
    child = Child(hand.name, 0, slot)
    hung = slot.run
    assert hung is not None

    hand.claimer.settle(claim, Outcome("completed"), claim_next=True)
    child.killed_for, child.killed_job = "timeout", hung.job_id
    rescued = [
        rescue(hand.connection, why, why, worker=hand.name, job_id=job_id)  # type: ignore[arg-type]
        for why, job_id in child.rescues(clean=False)
    ]
    assert [[job.id for job in jobs] for jobs in rescued] == [[], [str(second)]]
    assert (first.state, second.state) == ("completed", "waiting")
    assert second.snapshot()["attempts"] == 0
