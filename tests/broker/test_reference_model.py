"""Engine and guards against a plain Python model, by random steps on the real Redis and the real
rows.

In the suite it runs the same steps each time. For a long random run::

    WELLOS_MODEL_RUNS=2000 python -m pytest -s tests/broker/test_reference_model.py

Hypothesis prints the shortest steps that break a promise.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
import redis as redis_py
from django.conf import settings as django_settings
from django.db import transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from wellos_jobs import Batch, JobHandle, Priority, operations
from wellos_jobs.broker import claims, keys, queues
from wellos_jobs.broker.claims import Claim, Outcome
from wellos_jobs.enqueueing import dependencies
from wellos_jobs.maintenance.relay import Rebuild
from wellos_jobs.models import Batch as BatchRow
from wellos_jobs.models import JobDependency, JobRecord, LedgerCursor, UniqueClaim
from wellos_jobs.states import FailureReason

from ..jobs import noop
from ..support import reference_model as model
from ..support.engine import Books, Hand
from ..support.guarded_jobs import (
    double,
    fragile,
    metered,
    metered_twice,
    mixed,
    new,
    new_metered,
    once_until_done,
    per_account,
    single,
)

pytestmark = pytest.mark.django_db(transaction=True)

RUNS = int(os.environ.get("WELLOS_MODEL_RUNS", "0"))
QUEUES = ("default", "email", "reports")
FAIR = "email"
METER = "r:meter/1000"
LATER = 10_000
OLD = 0
"""The worker with older code: it does not know the new kinds of jobs."""
TRIES = 60
"""Claims after which a job that may run must have come: each claim unparks only some jobs."""

KINDS: dict[str, tuple[Any, tuple[model.Limit, ...]]] = {
    "plain": (noop, ()),
    "single": (single, (model.Limit("c:test-single", 1),)),
    "double": (double, (model.Limit("c:test-double", 2),)),
    "metered": (metered, (model.Limit(METER, 3),)),
    "metered twice": (metered_twice, (model.Limit(METER, 3, 2),)),
    "mixed": (mixed, (model.Limit("c:mixed", 2), model.Limit(METER, 3))),
    "account": (per_account, (model.Limit("c:accounts", 2), model.Limit("c:account:main", 1))),
    "new": (new, ()),
    "new metered": (new_metered, (model.Limit("c:test-new-metered", 1), model.Limit(METER, 3))),
    "fragile": (fragile, (model.Limit("c:fragile", 2), model.Limit("b:fragile", 2))),
}
LIMITS = sorted({limit.id for _, limits in KINDS.values() for limit in limits if limit.kind != "b"})


class Engine(RuleBasedStateMachine):
    """The steps. Each does the same to engine and model, and compares their answers."""

    def __init__(self) -> None:
        super().__init__()
        self.redis = redis_py.Redis.from_url(django_settings.REDIS_URL, decode_responses=True)
        self.redis.flushall()
        for rows in (JobDependency, UniqueClaim, BatchRow, JobRecord, LedgerCursor):
            rows.objects.all().delete()
        self.model = model.Model()
        self.handles: dict[str, JobHandle] = {}
        self.open_batches: dict[str, Batch] = {}
        self.once: dict[int, str] = {}
        self.epochs = 0

    @initialize()
    def begin(self) -> None:
        self.books = Books()
        self.enter_hands()

    def enter_hands(self) -> None:
        self.hands = [
            Hand(*QUEUES, name=f"hand{n}", code="old" if n == OLD else "new") for n in range(3)
        ]
        self.held: list[Claim | None] = [None] * 3
        self.stale: list[tuple[Hand, Claim]] = []

    # --- enqueue ----------------------------------------------------------------------------------

    @rule(
        kind=st.sampled_from(sorted(KINDS)),
        queue=st.sampled_from(QUEUES),
        priority=st.sampled_from([Priority.HIGH, Priority.NORMAL]),
        organization=st.sampled_from(["", "acme", "bolt"]),
        count=st.integers(1, 3),
        is_delayed=st.integers(0, 5).map(lambda n: n == 0),
        data=st.data(),
    )
    def enqueue(
        self, kind: str, queue: str, count: int, is_delayed: bool, data: Any, **options: Any
    ) -> None:
        job, limits = KINDS[kind]
        chosen = {"queue": queue, **options, **({"delay": LATER} if is_delayed else {})}
        batch = self.some(
            data, [one for one in self.model.batches.values() if one.state != "done"], nothing=4
        )
        # a job of a batch that needs a callback of it would wait for itself
        needable = [
            one
            for one in self.model.jobs.values()
            if not one.batch and (not batch or one.state != "blocked")
        ]
        needs = self.some(data, needable, nothing=6)
        if batch is not None:
            chosen["batch"] = batch.id
        if needs is not None:
            chosen["depends_on"] = [self.handles[needs.id]]
        state = "blocked" if needs is not None else "delayed" if is_delayed else "waiting"
        if needs is not None:
            chosen.pop("delay", None)
        for handle in job.using(**chosen).enqueue_bulk([{}] * count):
            made = model.Job(str(handle), queue, limits, state, batch=batch.id if batch else "")
            made.is_new = kind.startswith("new")
            if needs is not None:
                made.needs = (needs.id,)
                if needs.row_state in model.FINAL:
                    made.state = made.row_state = (
                        "waiting" if needs.row_state == "completed" else "canceled"
                    )
                    made.fell_with = made.state == "canceled"
            self.know(handle, made)

    @rule(number=st.integers(0, 1))
    def enqueue_unique(self, number: int) -> None:
        holder = self.model.jobs.get(self.once.get(number, ""))
        handle = once_until_done.enqueue(number=number)
        if holder is not None and holder.state not in model.FINAL:
            assert handle.duplicate and str(handle) == holder.id
        else:
            assert not handle.duplicate and str(handle) not in self.model.jobs
            self.once[number] = str(handle)
            self.know(handle, model.Job(str(handle), "default", most_attempts=1))

    @rule(kind=st.sampled_from(sorted(KINDS)))
    def enqueue_and_roll_back(self, kind: str) -> None:
        with transaction.atomic():
            KINDS[kind][0].enqueue()
            transaction.set_rollback(True)

    def know(self, handle: JobHandle, job: model.Job) -> None:
        self.handles[job.id], self.model.jobs[job.id] = handle, job

    def some(self, data: Any, among: list[Any], nothing: int = 0) -> Any:
        """Draw one of these; None in some cases."""
        if not among or (nothing and data.draw(st.integers(0, nothing))):
            return None
        return data.draw(st.sampled_from(among))

    # --- runs -------------------------------------------------------------------------------------

    @rule(number=st.integers(0, 2), reply_is_lost=st.booleans())
    def claim(self, number: int, reply_is_lost: bool) -> None:
        if self.held[number] is not None:
            self.settle(number, "completed", is_outage=False, goes_on=False)
            return
        claimer = self.hands[number].claimer
        for _ in range(TRIES):
            answer = claimer.claim()
            if reply_is_lost:
                assert claimer.repeat_claim().claim == answer.claim
            if answer.claim is not None:
                self.started(number, answer.claim)
                return
            if not self.model.must_start(with_old_code=number == OLD):
                return
            self.look_again()
        raise AssertionError(f"worker {number} got none of {self.model.must_start()}")

    @rule(
        number=st.integers(0, 2),
        kind=st.sampled_from(
            ["completed", "completed", "retried", "snoozed", "failed", "handed_back", "canceled"]
        ),
        is_outage=st.booleans(),
        goes_on=st.booleans(),
    )
    def settle(self, number: int, kind: str, is_outage: bool, goes_on: bool) -> None:
        claim = self.held[number]
        if claim is None:
            return
        job = self.model.jobs[claim.id]
        if kind == "retried" and job.attempt >= job.most_attempts:
            kind = "failed"
        verdict = (
            "ok"
            if kind == "completed"
            else "fail"
            if is_outage and kind in ("retried", "failed")
            else ""
        )
        verdicts = f'{{"b:fragile":"{verdict}"}}' if verdict else ""
        outcome = Outcome(kind, after=LATER, verdicts=verdicts)  # type: ignore[arg-type]
        answer = self.hands[number].claimer.settle(claim, outcome, claim_next=goes_on)
        again = self.hands[number].claimer.repeat_settle(claim, outcome, claim_next=goes_on)
        assert answer.settled and again.settled and again.claim == answer.claim
        self.held[number] = None
        self.model.settle(job, kind, verdict)
        if answer.claim is not None:
            self.started(number, answer.claim)

    def started(self, number: int, claim: Claim) -> None:
        job = self.model.jobs[claim.id]
        assert self.model.may_start(job), f"{job} may not start"
        self.model.start(job)
        assert claim.attempt == job.attempt
        if number == OLD and job.is_new:
            self.refuse(claim, job)
        else:
            self.held[number] = claim

    def refuse(self, claim: Claim, job: model.Job) -> None:
        assert claim.name not in self.model.refused, f"{job} was known to be unknown"
        outcome = Outcome("waits_for_code", reason=FailureReason.UNKNOWN_JOB, message="unknown")
        assert self.hands[OLD].settle(claim, outcome)
        self.model.refuse(job, claim.name)

    @rule(number=st.integers(0, 2), by_lease=st.booleans())
    def crash(self, number: int, by_lease: bool) -> None:
        claim, hand = self.held[number], self.hands[number]
        if claim is None:
            return
        if by_lease:
            self.redis.zadd(keys.LEASES, {claim.id: 1})
        found = claims.rescue(
            hand.connection, "crashed", "killed", worker="" if by_lease else hand.name
        )
        assert [rescued.id for rescued in found] == [claim.id]
        self.held[number] = None
        self.stale.append((hand, claim))
        self.model.crash(self.model.jobs[claim.id])

    @precondition(lambda self: self.stale)
    @rule()
    def finish_stale(self) -> None:
        hand, claim = self.stale.pop()
        assert not hand.settle(claim, Outcome("completed"))

    # --- time -------------------------------------------------------------------------------------

    def look_again(self) -> None:
        """Let the time come at which every limit is looked at again."""
        for gate in self.redis.zrange(keys.GATES, 0, -1):
            self.redis.zadd(keys.GATES, {gate: 0})

    @rule()
    def period_ends(self) -> None:
        starts = keys.starts(METER)
        for member in self.redis.zrange(starts, 0, -1):
            self.redis.zadd(starts, {member: 1})
        self.model.starts.clear()
        self.look_again()

    @precondition(lambda self: self.model.breaker.state == "open")
    @rule()
    def reset_time_passes(self) -> None:
        self.redis.hset(keys.breaker("b:fragile"), "until", 0)
        self.model.breaker.state = "due"
        self.look_again()

    @precondition(lambda self: self.model.having("delayed"))
    @rule()
    def delays_end(self) -> None:
        for entry in self.redis.zrange(keys.DUE, 0, -1):
            self.redis.zadd(keys.DUE, {entry: 1})
        self.hands[0].supervise()
        for job in self.model.having("delayed"):
            if not job.is_erased:
                job.state = "waiting"

    # --- people -----------------------------------------------------------------------------------

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        job = self.some(data, list(self.model.jobs.values()))
        is_final = job.state in ("completed", "failed", "canceled")
        assert self.handles[job.id].cancel() is not is_final
        self.model.cancel(job)

    @precondition(lambda self: self.model.having("delayed"))
    @rule(data=st.data())
    def promote(self, data: Any) -> None:
        job = self.some(data, self.model.having("delayed"))
        if not job.is_erased:
            operations.promote(self.handles[job.id].record())
            job.state = "waiting"

    @rule(queue=st.sampled_from(QUEUES))
    def pause_or_resume(self, queue: str) -> None:
        if queue in self.model.paused:
            operations.resume_queue(queue)
            self.model.paused.remove(queue)
        else:
            operations.pause_queue(queue)
            self.model.paused.add(queue)

    @rule(queue=st.sampled_from(QUEUES), is_meant=st.integers(0, 4))
    def empty(self, queue: str, is_meant: int) -> None:
        if not is_meant:
            waiting = [
                job
                for job in self.model.having("waiting")
                if job.queue == queue and not job.is_erased
            ]
            assert operations.empty_queue(queue) == len(waiting)
            for job in waiting:
                job.state = "canceled"

    @precondition(lambda self: self.model.having("waiting", "delayed", "blocked"))
    @rule(data=st.data(), queue=st.sampled_from(QUEUES), priority=st.sampled_from(list(Priority)))
    def relocate(self, data: Any, queue: str, priority: Priority) -> None:
        job = self.some(data, self.model.having("waiting", "delayed", "blocked"))
        operations.move(self.handles[job.id].record(), queue)
        operations.change_priority(self.handles[job.id].record(), priority)
        job.queue = queue

    @rule(limit=st.sampled_from(LIMITS), number=st.sampled_from([None, 0, 1, 2, 4]))
    def set_limit(self, limit: str, number: int | None) -> None:
        operations.set_limit(limit, number)
        self.model.numbers.pop(limit, None)
        if number is not None:
            self.model.numbers[limit] = number

    @rule(opens=st.booleans())
    def switch_breaker(self, opens: bool) -> None:
        if opens:
            operations.trip_breaker("fragile")
            self.model.breaker.state, self.model.breaker.probe = "held", ""
        else:
            operations.reset_breaker("fragile")
            self.model.breaker.close()

    @precondition(
        lambda self: any(job.row_state == job.state == "failed" for job in self.model.jobs.values())
    )
    @rule(data=st.data())
    def replay(self, data: Any) -> None:
        self.fold()
        job = self.some(data, self.model.having("failed"))
        operations.retry(self.handles[job.id].record())
        self.model.replay(job)
        self.heal()

    # --- batches ----------------------------------------------------------------------------------

    @rule()
    def open_batch(self) -> None:
        if len(self.model.batches) == 3:
            return
        batch = Batch("batch", on_complete=noop.with_data(), on_success=noop.with_data())
        batch.__enter__()
        row = BatchRow.objects.get(pk=batch.id)
        made = model.Batch(str(batch.id), str(row.on_complete_id), str(row.on_success_id))
        self.model.batches[made.id], self.open_batches[made.id] = made, batch
        for callback in (made.on_complete, made.on_success):
            record = JobRecord.objects.get(pk=callback)
            self.know(
                JobHandle(record.pk, record.queue), model.Job(callback, "default", state="blocked")
            )

    @precondition(lambda self: self.open_batches)
    @rule(data=st.data(), is_canceled=st.integers(0, 3).map(lambda n: n == 0))
    def close_batch(self, data: Any, is_canceled: bool) -> None:
        batch = self.model.batches[self.some(data, sorted(self.open_batches))]
        real = self.open_batches.pop(batch.id)
        if is_canceled:
            self.fold()
            self.model.call_off(batch)
            real.cancel()
            for job in self.model.members(batch):
                if job.state not in model.FINAL:
                    self.model.cancel(job)
        else:
            real.close()
        self.model.close(batch)

    # --- the ledger, and losses -------------------------------------------------------------------

    @rule()
    def fold(self) -> None:
        """The rows learn all; they say what the model says."""
        self.books.fold()
        self.model.fold()
        if any(
            batch.was_replayed for batch in self.model.batches.values()
        ) or JobRecord.objects.filter(replays__gt=0):
            dependencies.heal("default")
        self.compare_rows()

    def heal(self) -> None:
        dependencies.heal("default")
        self.books.fold()
        self.model.fold()

    def compare_rows(self) -> None:
        rows = {str(row.pk): row for row in JobRecord.objects.filter(pk__in=list(self.model.jobs))}
        for job in self.model.jobs.values():
            row = rows[job.id]
            assert (row.state, row.queue) == (job.state, job.queue), (
                f"{job}: the row says {row.state} {row.error}"
            )
            if job.state != "active":
                assert row.attempts == job.attempt, f"{job}: the row has {row.attempts} attempts"
        assert JobRecord.objects.count() == len(rows)
        for found in BatchRow.objects.all():
            batch = self.model.batches[str(found.pk)]
            assert found.state == batch.state
            states = [job.state for job in self.model.members(batch)]
            if found.state == "done":
                counted = (found.total, found.completed, found.failed, found.canceled)
                assert counted == (
                    len(states),
                    *map(states.count, ("completed", "failed", "canceled")),
                )

    @precondition(lambda self: self.model.having("waiting", "delayed"))
    @rule(data=st.data())
    def erase(self, data: Any) -> None:
        """Foreign code deletes a hash."""
        job = self.some(data, self.model.having("waiting", "delayed"))
        self.redis.delete(keys.job(job.id))
        job.is_erased = job.has_stale_entries = True

    @rule()
    def rebuild(self) -> None:
        self.fold()
        self.push_what_is_missing()
        for job in self.model.having("waiting", "delayed"):
            job.is_erased = False

    @rule(is_folded=st.booleans(), is_meant=st.integers(0, 2))
    def lose_redis(self, is_folded: bool, is_meant: int) -> None:
        if is_meant:
            return
        if is_folded:
            self.fold()
        self.redis.flushall()
        self.model.forget_redis()
        self.model.refused.clear()
        self.epochs += 1
        self.redis.set(keys.EPOCH, f"epoch-{self.epochs}")
        self.books.ledger.open(f"epoch-{self.epochs}")
        self.enter_hands()
        self.push_what_is_missing()

    def push_what_is_missing(self) -> None:
        rebuild = Rebuild("default", list(QUEUES), self.hands[0].connection)
        while rebuild.step():
            pass

    # --- what always holds ------------------------------------------------------------------------

    @invariant()
    def each_job_is_in_one_place(self) -> None:
        if not self.model.jobs:
            return
        places = self.places()
        for job in self.model.jobs.values():
            status = self.redis.hget(keys.job(job.id), "status")
            if job.is_erased:
                assert status is None
                continue
            may_be_gone = job.row_state in model.FINAL or job.state in ("blocked", "canceled")
            assert (status is None and may_be_gone) or status == RQ_STATUS[job.state], (
                f"{job}: its hash says {status}"
            )
            if not job.has_stale_entries:
                assert places.get(job.id, []) == PLACES.get(job.state, []), (
                    f"{job} is in {places.get(job.id)}"
                )

    def places(self) -> dict[str, list[str]]:
        """Where Redis has each job; a parked one is in its lane."""
        found: dict[str, list[str]] = {}
        with self.redis.pipeline(transaction=False) as pipe:
            for queue in QUEUES:
                for priority in Priority:
                    lane = keys.lane(queue, priority)
                    pipe.lrange(lane, 0, -1).zrange(keys.turns(lane), 0, -1)
                for name in self.redis.smembers(keys.code_lanes(queue)):
                    lane = keys.code_lane(name)
                    pipe.lrange(lane, 0, -1).zrange(keys.turns(lane), 0, -1)
                pipe.zrange(keys.parked_of(queue), 0, -1)
            in_lanes = [entry for part in pipe.execute() for entry in part]
        lists = {
            "lane": in_lanes,
            "due": self.redis.zrange(keys.DUE, 0, -1),
            "lease": self.redis.zrange(keys.LEASES, 0, -1),
        }
        for queue in QUEUES:
            lists[f"wip {queue}"] = [
                name.partition(":")[0] for name in self.redis.zrange(f"rq:wip:{queue}", 0, -1)
            ]
        for place, entries in lists.items():
            for entry in entries:
                found.setdefault(entry, []).append(place.partition(" ")[0])
        return found

    @invariant()
    def slots_are_those_of_the_running(self) -> None:
        for limit in LIMITS:
            if limit.startswith("c:"):
                running = set(self.redis.zrange(keys.running(limit), 0, -1))
                assert running == self.model.running_in(limit), f"slots of {limit}"
        starts = self.redis.zcount(keys.starts(METER), 2, "+inf")
        assert starts == self.model.starts.get(METER, 0)
        is_open = bool(self.redis.exists(keys.breaker("b:fragile")))
        assert is_open == (self.model.breaker.state != "closed")

    @invariant()
    def the_counts_are_right(self) -> None:
        if any(job.has_stale_entries for job in self.model.jobs.values()):
            return
        for queue, counted in queues.all_counts(QUEUES).items():
            jobs = [job.state for job in self.model.jobs.values() if job.queue == queue]
            expected = tuple(map(jobs.count, ("waiting", "active", "delayed")))
            assert (counted.waiting, counted.active, counted.delayed) == expected, queue

    # --- in the end -------------------------------------------------------------------------------

    def teardown(self) -> None:
        if sys.exception() is None:
            self.drain()
        self.redis.close()

    def drain(self) -> None:
        """Nothing is lost: once nothing holds them back, all jobs come to an end, and nothing is
        left of them."""
        for batch_id in list(self.open_batches):
            self.open_batches.pop(batch_id).close()
            self.model.close(self.model.batches[batch_id])
        for limit in LIMITS:
            self.set_limit(limit, None)
        for queue in sorted(self.model.paused):
            self.pause_or_resume(queue)
        self.switch_breaker(opens=False)
        for _ in range(20):
            self.rebuild()
            self.delays_end()
            self.run_all()
            self.heal()
            if not self.model.having("waiting", "delayed", "active", "blocked"):
                break
        self.compare_rows()
        assert {job.state for job in self.model.jobs.values()} <= model.FINAL
        self.look_again()
        assert self.hands[0].claim() is None
        left = (
            "queue:*",
            "wellos:turns:*",
            "wellos:parked*",
            "wellos:lane:*",
            "wellos:held:*",
            "wellos:code_lanes:*",
            "wellos:running:*",
            "wellos:due",
            "wellos:leases",
            "wip:*",
        )
        assert [key for pattern in left for key in self.redis.keys(f"rq:{pattern}")] == []

    def run_all(self) -> None:
        while True:
            self.period_ends()
            for number in range(3):
                self.claim(number, reply_is_lost=False)
            if not any(self.held):
                return
            for number in range(3):
                self.settle(number, "completed", is_outage=False, goes_on=False)


RQ_STATUS = {
    "waiting": "queued",
    "delayed": "scheduled",
    "active": "started",
    "completed": "finished",
    "failed": "failed",
    "canceled": "canceled",
}
PLACES = {"waiting": ["lane"], "delayed": ["due"], "active": ["lease", "wip"]}


@pytest.mark.system
@pytest.mark.timeout(0 if RUNS else 600)
def test_the_engine_behaves_as_the_model(settings: Any) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "FAIR_QUEUES": [FAIR], "NOTIFY_ADMINS": False}
    run_state_machine_as_test(Engine, settings=profile())


def profile() -> settings:
    """Return how long to look, and how: the same each time unless a number of runs is asked for."""
    return settings(
        max_examples=RUNS or 20,
        stateful_step_count=60 if RUNS else 40,
        derandomize=not RUNS,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
