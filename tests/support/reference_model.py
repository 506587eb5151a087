"""What the engine and its guards promise, as a plain Python model: no Redis, no database, no clock.

It does not say which job comes next, but which may, which must, and what becomes of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

FINAL = {"completed", "failed", "canceled"}


@dataclass(frozen=True)
class Limit:
    """``kind`` is c (at once), r (starts in a period) or b (breaker); ``number`` what the job
    says."""

    id: str
    number: int
    weight: int = 1

    @property
    def kind(self) -> str:
        return self.id[0]


@dataclass
class Job:
    """One job, and what its row says since the ledger was last folded."""

    id: str
    queue: str
    limits: tuple[Limit, ...] = ()
    state: str = "waiting"
    attempt: int = 0
    most_attempts: int = 3
    needs: tuple[str, ...] = ()
    batch: str = ""
    is_erased: bool = False
    """Somebody has deleted its hash: only its row knows of it."""
    has_stale_entries: bool = False
    is_new: bool = False
    """Workers with older code do not know it."""
    is_stopping: bool = False
    fell_with: bool = False
    """It was canceled because what it needs did not complete."""
    row_state: str = ""
    row_attempt: int = 0

    def __post_init__(self) -> None:
        self.row_state = self.state

    def __repr__(self) -> str:
        limits = " ".join(limit.id for limit in self.limits)
        state = f"{self.state} (row: {self.row_state})"
        return f"<{self.id[-6:]} {state} in {self.queue}, attempt {self.attempt}, {limits}>"


@dataclass
class Batch:
    """A batch with its two callbacks."""

    id: str
    on_complete: str
    on_success: str
    state: str = "open"
    was_replayed: bool = False

    def __repr__(self) -> str:
        return f"<batch {self.id[-6:]} {self.state}>"


@dataclass
class Breaker:
    """``state`` is closed, open, due (it is time for a probe) or held (opened by hand)."""

    most_failures: int = 2
    state: str = "closed"
    failures: int = 0
    probe: str = ""

    def judge(self, job: str, verdict: str) -> None:
        """Note what the end of a run says about the dependency."""
        probes = self.probe == job
        if verdict == "ok" and probes:
            self.close()
        elif verdict == "fail":
            self.failures += 1
            if probes or (self.state == "closed" and self.failures >= self.most_failures):
                self.state, self.failures, self.probe = "open", 0, ""
        elif probes:
            self.probe = ""

    def close(self) -> None:
        self.state, self.failures, self.probe = "closed", 0, ""

    @property
    def room(self) -> int:
        if self.state == "closed":
            return 1_000
        return int(self.state == "due" and not self.probe)


@dataclass
class Model:
    """All jobs and guards."""

    jobs: dict[str, Job] = field(default_factory=dict)
    batches: dict[str, Batch] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)
    breaker: Breaker = field(default_factory=Breaker)
    paused: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    """What workers with older code have said that they do not know, by the name of the job."""

    def having(self, *states: str) -> list[Job]:
        return [job for job in self.jobs.values() if job.state in states]

    # --- who may start, and who must --------------------------------------------------------------

    def running_in(self, limit_id: str) -> set[str]:
        return {
            job.id
            for job in self.having("active")
            if limit_id in {limit.id for limit in job.limits}
        }

    def most(self, limit: Limit) -> int:
        return self.numbers.get(limit.id, limit.number)

    def room(self, limit: Limit) -> int:
        if limit.kind == "b":
            return self.breaker.room
        if limit.kind == "r":
            return self.most(limit) - self.starts.get(limit.id, 0)
        return self.most(limit) - len(self.running_in(limit.id))

    def may_start(self, job: Job) -> bool:
        there = job.state == "waiting" and not job.is_erased and job.queue not in self.paused
        return there and all(self.room(limit) >= limit.weight for limit in job.limits)

    def must_start(self, *, with_old_code: bool = False) -> list[Job]:
        """The jobs that nothing holds back, not even room that is kept for a heavier one."""
        return [
            job
            for job in self.jobs.values()
            if self.may_start(job)
            and not (with_old_code and job.is_new)
            and not any(map(self._is_kept, job.limits))
        ]

    def _is_kept(self, limit: Limit) -> bool:
        others = (
            other for job in self.having("waiting") for other in job.limits if other.id == limit.id
        )
        return any(self.room(limit) < other.weight <= self.most(limit) for other in others)

    # --- a run ------------------------------------------------------------------------------------

    def start(self, job: Job) -> None:
        job.state, job.attempt = "active", job.attempt + 1
        for limit in job.limits:
            if limit.kind == "r":
                self.starts[limit.id] = self.starts.get(limit.id, 0) + limit.weight
            elif limit.kind == "b" and self.breaker.state != "closed":
                self.breaker.probe = job.id

    def settle(self, job: Job, outcome: str, verdict: str = "") -> None:
        self._release(job, verdict)
        is_stopping, job.is_stopping = job.is_stopping, False
        if is_stopping and outcome not in ("completed", "failed"):
            job.state = "canceled"
        elif outcome in ("retried", "snoozed"):
            job.state = "delayed"
        else:
            job.state = {"handed_back": "waiting"}.get(outcome, outcome)
        if outcome in ("snoozed", "handed_back") and job.state != "canceled":
            job.attempt -= 1

    def refuse(self, job: Job, name: str) -> None:
        """A worker with older code does not know the job: it did not start, and counts nowhere."""
        self.refused.add(name)
        self._release(job, "")
        job.state, job.attempt = "waiting", job.attempt - 1
        for limit in job.limits:
            if limit.kind == "r":
                self.starts[limit.id] -= limit.weight

    def crash(self, job: Job) -> None:
        self._release(job, "")
        is_stopping, job.is_stopping = job.is_stopping, False
        if is_stopping:
            job.state = "canceled"
        else:
            job.state = "waiting" if job.attempt < job.most_attempts else "failed"

    def _release(self, job: Job, verdict: str) -> None:
        if any(limit.kind == "b" for limit in job.limits):
            self.breaker.judge(job.id, verdict)

    def cancel(self, job: Job) -> None:
        if job.state == "active":
            job.is_stopping = True
        elif job.state not in FINAL:
            job.state, job.is_erased = "canceled", False

    # --- what the rows decide ---------------------------------------------------------------------

    def fold(self) -> None:
        """The rows learn what has happened; what waited for that is released."""
        for job in self.jobs.values():
            job.row_state, job.row_attempt = job.state, job.attempt
        while self._release_dependents() or self._finish_batches():
            pass

    def _release_dependents(self) -> bool:
        changed = False
        for job in self.having("blocked"):
            needed = [self.jobs[one].row_state for one in job.needs]
            if job.needs and {"failed", "canceled"} & set(needed):
                self._set(job, "canceled")
                job.fell_with = changed = True
            elif job.needs and set(needed) == {"completed"}:
                self._set(job, "waiting")
                changed = True
        return changed

    def _finish_batches(self) -> bool:
        changed = False
        for batch in self.batches.values():
            states = {job.row_state for job in self.members(batch)}
            if batch.state == "closed" and states <= FINAL:
                batch.state = "done"
                changed = True
                self._call(batch.on_complete, runs=True)
                self._call(batch.on_success, runs=states <= {"completed"})
        return changed

    def members(self, batch: Batch) -> list[Job]:
        return [job for job in self.jobs.values() if job.batch == batch.id]

    def close(self, batch: Batch) -> None:
        if batch.state == "open":
            batch.state = "closed"
            while self._finish_batches() or self._release_dependents():
                pass

    def call_off(self, batch: Batch) -> None:
        callback = self.jobs[batch.on_success]
        if batch.state != "done" and callback.row_state == "blocked":
            self._set(callback, "canceled")

    def _call(self, job_id: str, *, runs: bool) -> None:
        job = self.jobs[job_id]
        if job.state == "blocked":
            self._set(job, "waiting" if runs else "canceled")

    def _set(self, job: Job, state: str) -> None:
        job.state = job.row_state = state

    def replay(self, job: Job) -> None:
        """A failed job runs again, and what ended only because it had failed waits for it again."""
        job.state, job.attempt, job.row_attempt = "waiting", 0, 0
        job.row_state = "waiting"
        for again in [job, *self._block_followers(job)]:
            batch = self.batches.get(again.batch)
            if batch is not None and batch.state == "done":
                batch.state, batch.was_replayed = "closed", True
                success = self.jobs[batch.on_success]
                if success.state == "canceled" and not success.fell_with:
                    self._set(success, "blocked")
                    self._block_followers(success)

    def _block_followers(self, job: Job) -> Iterator[Job]:
        found = [
            one
            for one in self.jobs.values()
            if job.id in one.needs and one.fell_with and one.state == "canceled"
        ]
        for one in found:
            self._set(one, "blocked")
            one.fell_with = False
        return iter([*found, *(more for one in found for more in self._block_followers(one))])

    # --- Redis lost -------------------------------------------------------------------------------

    def forget_redis(self) -> None:
        """Redis has come back empty, and the rows that are open were pushed again."""
        for job in self.jobs.values():
            back = {"active": "waiting"}.get(job.row_state, job.row_state)
            job.state, job.attempt = back, job.row_attempt
            job.is_stopping = job.is_erased = job.has_stale_entries = False
        self.numbers.clear()
        self.starts.clear()
        self.paused.clear()
        self.breaker.close()
