"""Jobs whose code a worker does not know: they wait, off the lanes, for a worker that does."""

from __future__ import annotations

import pytest
import redis
from django.test import override_settings

from wellos_jobs import Priority, enqueue, operations
from wellos_jobs.broker import keys, queues
from wellos_jobs.broker.claims import Outcome
from wellos_jobs.broker.rq_queue import LaneQueue
from wellos_jobs.maintenance import stale_jobs
from wellos_jobs.maintenance.relay import Rebuild
from wellos_jobs.models import DeadLetter, JobAttempt, JobRecord
from wellos_jobs.states import FailureReason, JobState

from ..jobs import noop
from ..support.engine import Books, Hand, event_names
from ..support.guarded_jobs import tight

pytestmark = pytest.mark.django_db(transaction=True)

UNKNOWN = Outcome(
    "waits_for_code",
    reason=FailureReason.UNKNOWN_JOB,
    error_class="wellos_jobs.errors.UnknownJob",
    message="nobody told me",
)


@pytest.fixture
def old() -> Hand:
    return Hand(name="old", code="old")


@pytest.fixture
def new() -> Hand:
    return Hand(name="new", code="new")


def refuse(hand: Hand) -> str:
    """Claim a job that has to be there and say that this worker does not know it; return its id."""
    claim = hand.take()
    assert hand.settle(claim, UNKNOWN)
    return claim.id


def held_since(redis_client: redis.Redis, seconds: float) -> None:
    """Let the jobs that wait for code have done so for longer, at queues that were served."""
    for key in redis_client.scan_iter(keys.held("*")):
        for member, score in redis_client.zrange(key, 0, -1, withscores=True):
            redis_client.zadd(key, {member: score - seconds})
    for queue, text in redis_client.hgetall(keys.SERVED).items():
        since, last = map(float, text.split())
        redis_client.hset(keys.SERVED, queue, f"{since - seconds:.6f} {last:.6f}")


# --- who gets it ----------------------------------------------------------------------------------


def test_a_job_goes_back_without_an_attempt_and_to_a_worker_that_knows_it(
    old: Hand, new: Hand
) -> None:
    books = Books()
    handle = noop.enqueue()
    assert refuse(old) == str(handle)
    row = books.row(handle)
    assert (row.state, row.attempts, handle.state) == (JobState.WAITING, 0, JobState.WAITING)
    assert old.claim() is None  # it is never asked again
    claim = new.take()
    assert (claim.id, claim.attempt) == (str(handle), 1)
    assert new.settle(claim, Outcome("completed"))
    assert books.row(handle).state == JobState.COMPLETED
    assert not JobAttempt.objects.exists()


def test_further_jobs_that_need_the_same_code_are_passed_on_without_a_start(
    old: Hand, new: Hand
) -> None:
    first = noop.enqueue()
    refuse(old)
    others = noop.enqueue_bulk([{}] * 3)
    assert old.claim() is None
    assert [new.take().id for _ in range(4)] == [str(first), *map(str, others)]
    assert event_names(others[0]) == ["enqueued", "started"]


def test_a_worker_takes_other_jobs_meanwhile(old: Hand, redis_client: redis.Redis) -> None:
    noop.enqueue()
    refuse(old)
    noop.enqueue()
    known = enqueue("another-job", {})
    assert old.take().id == str(known)
    assert redis_client.zcard(keys.ready(old.queue_set)) == 0  # nothing there would wake it


def test_other_arguments_are_other_code(old: Hand) -> None:
    enqueue("mailing", {"to": "ada", "subject": "hello"})
    refuse(old)
    plain = enqueue("mailing", {"to": "ada"})
    assert old.take().id == str(plain)


def test_a_worker_that_comes_later_is_woken_and_takes_what_waits(old: Hand) -> None:
    handle = noop.enqueue()
    refuse(old)
    late = Hand(name="late", code="late")
    assert late.is_bell_rung()
    assert late.take().id == str(handle)


def test_each_code_is_asked_once(old: Hand, new: Hand) -> None:
    handle = noop.enqueue()
    refuse(old)
    refuse(new)
    assert old.claim() is None and new.claim() is None
    twin = Hand(name="twin", code="new")  # as after a restart of the same code
    assert twin.claim() is None
    assert Hand(name="newest", code="newest").take().id == str(handle)


def test_they_come_before_jobs_that_were_enqueued_later(old: Hand, new: Hand) -> None:
    first = noop.enqueue()
    refuse(old)
    known = enqueue("another-job", {})
    assert [new.take().id, new.take().id] == [str(first), str(known)]


def test_priority_counts_among_them(old: Hand, new: Hand) -> None:
    late = noop.using(priority=Priority.LOW).enqueue()
    refuse(old)
    soon = noop.using(priority=Priority.HIGH).enqueue()
    assert old.claim() is None
    assert [new.take().id, new.take().id] == [str(soon), str(late)]


@override_settings(WELLOS_JOBS={"FAIR_QUEUES": ["default"]})
def test_organizations_take_turns_among_them(old: Hand, new: Hand) -> None:
    big = noop.using(organization="big").enqueue_bulk([{}] * 20)
    refuse(old)
    small = noop.using(organization="small").enqueue()
    assert old.claim() is None
    taken = [new.take().id for _ in range(10)]
    assert str(small) in taken and taken[0] == str(big[0])


def test_the_retry_of_a_held_job_is_not_started_by_the_old_worker(old: Hand, new: Hand) -> None:
    handle = noop.enqueue()
    refuse(old)
    claim = new.take()
    assert new.settle(claim, Outcome("handed_back"))
    assert old.claim() is None
    assert new.take().id == str(handle)


def test_a_job_of_an_older_release_has_a_code_too(
    old: Hand, new: Hand, redis_client: redis.Redis
) -> None:
    handle = noop.enqueue()
    redis_client.hdel(keys.job(handle.id), "w:code", "w:version")
    refuse(old)
    assert old.claim() is None
    claim = new.take()
    assert (claim.id, claim.version) == (str(handle), 1)


# --- slots ----------------------------------------------------------------------------------------


def test_a_refused_start_counts_in_no_limit(
    old: Hand, new: Hand, redis_client: redis.Redis
) -> None:
    first, second = tight.enqueue(), tight.enqueue()
    refuse(old)
    assert redis_client.zcard(keys.running("c:test-tight")) == 0
    assert old.claim() is None
    assert new.take().id == str(first)
    assert new.claim() is None  # now the period is used up
    assert queues.counts("default").waiting == 1
    assert second.state == JobState.WAITING


# --- people and losses ----------------------------------------------------------------------------


def test_it_is_counted_listed_and_emptied(old: Hand, redis_client: redis.Redis) -> None:
    handle = noop.enqueue()
    refuse(old)
    queue = LaneQueue("default", connection=redis_client)
    assert queues.counts("default").waiting == queue.count == 1
    assert queue.get_job_ids() == [str(handle)] and queue.get_job_position(str(handle)) == 0
    assert operations.empty_queue("default") == 1
    assert handle.state == JobState.CANCELED and queue.count == 0
    assert nothing_is_left(redis_client)


def test_it_can_be_canceled(old: Hand, new: Hand, redis_client: redis.Redis) -> None:
    handle = noop.enqueue()
    refuse(old)
    assert handle.cancel()
    assert new.claim() is None and nothing_is_left(redis_client)


def test_rq_can_remove_it(old: Hand, redis_client: redis.Redis) -> None:
    handle = noop.enqueue()
    refuse(old)
    assert LaneQueue("default", connection=redis_client).remove(str(handle)) == 1
    assert handle.state == JobState.CANCELED and nothing_is_left(redis_client)


def test_it_can_be_moved_and_made_urgent(old: Hand, new: Hand, redis_client: redis.Redis) -> None:
    handle = noop.enqueue()
    refuse(old)
    operations.move(handle.record(), "email")
    operations.change_priority(handle.record(), Priority.HIGH)
    assert old.claim() is None
    claim = new.take()
    assert (claim.id, claim.queue, claim.priority) == (str(handle), "email", Priority.HIGH)
    assert nothing_is_left(redis_client)


def test_a_paused_queue_keeps_it(old: Hand, new: Hand) -> None:
    handle = noop.enqueue()
    refuse(old)
    operations.pause_queue("default")
    assert new.claim() is None
    operations.resume_queue("default")
    assert old.claim() is None and new.take().id == str(handle)


def test_it_survives_the_loss_of_redis(old: Hand, redis_client: redis.Redis) -> None:
    books = Books()
    handle = noop.enqueue()
    refuse(old)
    books.fold()
    redis_client.flushall()
    old, new = Hand(name="old", code="old"), Hand(name="new", code="new")
    rebuild = Rebuild("default", ["default"], old.connection)
    while rebuild.step():
        pass
    refuse(old)
    assert old.claim() is None and new.take().id == str(handle)


def test_an_older_redis_does_not_run_it_again(
    old: Hand, new: Hand, redis_client: redis.Redis
) -> None:
    handle = noop.enqueue()
    refuse(old)
    JobRecord.objects.filter(pk=handle.id).update(state=JobState.COMPLETED)
    for _ in stale_jobs.correct("default", ["default"], old.connection):
        pass
    assert new.claim() is None and nothing_is_left(redis_client)


def nothing_is_left(redis_client: redis.Redis) -> bool:
    patterns = (keys.code_lanes("*"), keys.code_lane("*"), keys.held("*"))
    return not any(list(redis_client.scan_iter(pattern)) for pattern in patterns)


# --- in the end -----------------------------------------------------------------------------------


def test_after_the_wait_it_is_a_dead_letter_without_an_attempt(
    old: Hand, redis_client: redis.Redis
) -> None:
    books = Books()
    handle = noop.enqueue()
    refuse(old)
    old.bury()
    assert handle.state == JobState.WAITING
    held_since(redis_client, 601)
    old.bury()
    letter = DeadLetter.objects.get(job=books.row(handle))
    assert (letter.reason, letter.message) == (FailureReason.UNKNOWN_JOB, "nobody told me")
    assert letter.error_class == "wellos_jobs.errors.UnknownJob"
    assert (letter.job.attempts, JobAttempt.objects.count()) == (0, 0)
    assert handle.error == "nobody told me" and nothing_is_left(redis_client)
    assert JobRecord.objects.filter(name="wellos-notify-admins").exists()  # the alert


@pytest.mark.usefixtures("no_notices")
def test_its_replay_waits_again(old: Hand, new: Hand, redis_client: redis.Redis) -> None:
    books = Books()
    handle = noop.enqueue()
    refuse(old)
    old.bury()
    held_since(redis_client, 601)
    old.bury()
    operations.replay(DeadLetter.objects.get(job=books.row(handle)))
    assert old.claim() is None
    held_since(redis_client, 599)
    old.bury()
    assert new.take().id == str(handle)


@override_settings(WELLOS_JOBS={"UNKNOWN_JOB_WAIT": 5})
def test_the_wait_can_be_set(old: Hand, redis_client: redis.Redis) -> None:
    handle = noop.enqueue()
    refuse(old)
    old.bury()
    held_since(redis_client, 6)
    old.bury()
    assert handle.state == JobState.FAILED


def test_while_a_worker_may_know_it_nothing_is_buried(
    old: Hand, new: Hand, redis_client: redis.Redis
) -> None:
    handle = noop.enqueue()
    refuse(old)
    new.supervise()  # it is busy with other jobs
    old.bury()
    held_since(redis_client, 10_000)
    old.bury()
    assert handle.state == JobState.WAITING


def test_time_counts_only_while_the_queue_is_served(old: Hand, redis_client: redis.Redis) -> None:
    handle = noop.enqueue()
    refuse(old)
    held_since(redis_client, 10_000)  # the fleet is away for hours
    old.bury()  # a worker is back
    assert handle.state == JobState.WAITING
    held_since(redis_client, 601)
    old.bury()
    assert handle.state == JobState.FAILED


def test_a_paused_queue_buries_nothing(old: Hand, redis_client: redis.Redis) -> None:
    handle = noop.enqueue()
    refuse(old)
    old.bury()
    operations.pause_queue("default")
    held_since(redis_client, 10_000)
    old.bury()
    assert handle.state == JobState.WAITING


def test_a_deleted_hash_leaves_nothing_behind(old: Hand, redis_client: redis.Redis) -> None:
    handle = noop.enqueue()
    refuse(old)
    old.bury()
    redis_client.delete(keys.job(handle.id))
    held_since(redis_client, 601)
    old.bury()
    assert nothing_is_left(redis_client)
