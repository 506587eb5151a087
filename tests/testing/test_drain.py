"""Jobs are run by the worker's code, and their rows follow as in production."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core import mail
from django.db import IntegrityError, transaction
from django.utils import timezone

from wellos_jobs import (
    Batch,
    Discard,
    Flow,
    JobHandle,
    JobState,
    Retry,
    Snooze,
    Unique,
    current_job,
    enqueue,
    fixed,
    operations,
    report_progress,
    signals,
)
from wellos_jobs.cron import Cron
from wellos_jobs.definitions import registry
from wellos_jobs.errors import JobTimeout, UnknownJob
from wellos_jobs.models import DeadLetter, JobAttempt, JobLog, Schedule
from wellos_jobs.testing import CapturedJobs, NeverDone, drain, moved_clock

from ..jobs import scripted
from ..support.engine import listening
from .local_jobs import local_job

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("somebodys_redis", "jobs_captured")]


@pytest.fixture(autouse=True)
def _own_jobs() -> Iterator[None]:
    with registry.isolated():
        yield


def test_a_job_runs_with_its_result_log_and_signals(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "wellos_jobs.tests")
    handle = scripted.enqueue(["progress:50:half", "log:hello", "result:done"])
    with (
        listening(signals.job_started) as started,
        listening(signals.job_progressed) as progressed,
        listening(signals.job_completed) as completed,
    ):
        assert drain() == [handle]

    assert (handle.state, handle.result, handle.progress) == (JobState.COMPLETED, "done", 100)
    record = handle.record()
    assert (record.attempts, record.worker, record.progress_message) == (1, "test", "half")
    assert record.enqueued_at and record.started_at and record.finished_at
    assert [line[3] for line in JobLog.objects.get(job=record).lines] == ["hello"]
    for heard in (started, progressed, completed):
        assert [sent["job_id"] for sent in heard] == [str(handle)]
    assert drain() == []


def test_the_current_job_is_real() -> None:
    @local_job("look-around")
    def look_around(number: int) -> dict[str, Any]:
        run = current_job()
        report_progress(10)
        return {"id": run.id, "attempt": run.attempt, "data": dict(run.data), "who": run.database}

    handle = look_around.enqueue(number=1)
    drain()
    assert handle.result == {
        "id": str(handle),
        "attempt": 1,
        "data": {"number": 1},
        "who": "default",
    }


def test_jobs_run_by_priority_and_those_that_they_enqueue_after_them() -> None:
    order: list[str] = []

    @local_job("note")
    def note(name: str, then: str = "") -> None:
        order.append(name)
        if then:
            note.enqueue(then)

    note.enqueue("first", "third")
    note.enqueue("second")
    note.using(priority=1).enqueue("urgent")
    note.using(queue="reports", priority=3).enqueue("elsewhere")
    drain("default")
    assert order == ["urgent", "first", "second", "third"]
    drain()
    assert order[-1] == "elsewhere"


def test_errors_are_raised_once_the_row_tells_of_them() -> None:
    handle = scripted.enqueue(["raise:ValueError:no such customer"])
    with pytest.raises(ValueError, match="no such customer") as raised:
        drain()
    assert raised.value.__notes__ == [f"Raised by job {handle}, whose run counts as retried."]
    assert handle.state is JobState.DELAYED


def test_retries_come_with_the_clock_and_end_in_a_dead_letter(
    settings: Any, mailoutbox: list[Any]
) -> None:
    @local_job("flaky", max_attempts=3, backoff=fixed(600))
    def flaky() -> None:
        raise RuntimeError("partner is away")

    handle = flaky.enqueue()
    began = timezone.now()
    with listening(signals.dead_letter_created) as letters:
        assert drain(raise_errors=False) == [handle]
        assert drain(raise_errors=False) == []
        assert drain(until=timedelta(minutes=15), raise_errors=False) == [handle]
        assert handle.state is JobState.DELAYED
        with pytest.raises(RuntimeError):
            drain(until=timedelta(hours=1))

    assert abs(timezone.now() - began) < timedelta(minutes=1), "the clock is back"
    assert (handle.state, handle.error) == (JobState.FAILED, "partner is away")
    attempts = JobAttempt.objects.filter(job=handle.id).order_by("number")
    assert [attempt.number for attempt in attempts] == [1, 2, 3]
    assert attempts[1].ended_at - attempts[0].ended_at >= timedelta(minutes=10)
    letter = DeadLetter.objects.get()
    assert (letter.reason, letters) == ("exhausted", [{"dead_letter": letter}])

    drain(until=timedelta(hours=1))  # the mail to the admins is a job, too
    assert [message.to for message in mail.outbox] == [["ops@wellos.example"]]


def test_what_a_job_raises_on_purpose_is_no_error() -> None:
    @local_job("polite", max_attempts=2)
    def polite(what: str) -> str:
        errors: dict[str, Callable[[], Exception]] = {
            "retry": lambda: Retry(60),
            "snooze": lambda: Snooze(60),
            "discard": lambda: Discard("not needed"),
        }
        raise errors[what]()

    handles = {what: polite.enqueue(what) for what in ("retry", "snooze", "discard")}
    drain()
    states = {what: (handle.state, handle.record().attempts) for what, handle in handles.items()}
    assert states == {
        "retry": (JobState.DELAYED, 1),
        "snooze": (JobState.DELAYED, 0),
        "discard": (JobState.FAILED, 1),
    }
    handles["snooze"].cancel()
    with pytest.raises(Retry):  # there is no attempt left: that was not meant
        drain(until=60)


def test_delayed_jobs_wait_for_the_clock() -> None:
    handle = scripted.using(delay=3600).enqueue()
    assert drain() == drain(until=3500) == []
    with moved_clock(hours=1) as clock:
        assert drain() == [handle]
        scripted.using(delay=60).enqueue()
        drain(until=60)
        assert clock.now == timezone.now()
        assert handle.record().finished_at + timedelta(seconds=60) == timezone.now()


def test_schedules_run_when_they_are_due() -> None:
    began = datetime(2030, 3, 4, 8, 30, tzinfo=UTC)
    runs: list[datetime | None] = []
    with moved_clock(to=began):

        @local_job("hourly", schedule=Cron("0 * * * *", tz="UTC"))
        def hourly() -> None:
            runs.append(current_job().due_at)

        assert drain(until=timedelta(hours=3)) == []
        with moved_clock(to=began):
            drain(until=timedelta(hours=3), schedules=True)

    assert runs == [datetime(2030, 3, 4, hour, tzinfo=UTC) for hour in (9, 10, 11)]
    assert Schedule.objects.get().next_run_at == datetime(2030, 3, 4, 12, tzinfo=UTC)


def test_flows_and_batches_go_on() -> None:
    order: list[str] = []

    @local_job("step")
    def step(name: str, batch_id: str = "") -> None:
        order.append(name)

    Flow(step.with_data(name="parent"), children=[step.with_data(name="child")]).enqueue()
    with Batch("import", on_success=step.with_data(name="callback")) as batch:
        batch.enqueue(step, name="member")
    last = step.enqueue("needed")
    step.using(depends_on=[last]).enqueue("dependent")
    drain()
    assert sorted(order) == sorted(["parent", "child", "member", "callback", "needed", "dependent"])
    assert order.index("parent") < order.index("child")
    assert order.index("member") < order.index("callback")
    assert order.index("needed") < order.index("dependent")


def test_unique_jobs_meet_their_holder() -> None:
    @local_job("once", unique=Unique(until="done"))
    def once() -> None:
        pass

    first, second = once.enqueue(), once.enqueue()
    assert second.duplicate and second == first
    drain()
    assert not once.enqueue().duplicate


def test_the_timeout_ends_a_run() -> None:
    @local_job("slow", timeout=0.2, max_attempts=1)
    def slow() -> None:
        while True:
            pass

    handle = slow.enqueue()
    with pytest.raises(JobTimeout):
        drain()
    assert DeadLetter.objects.get(job=handle.id).reason == "timeout"


def test_operators_verbs_work() -> None:
    failed = scripted.using(max_attempts=1).enqueue(["raise:ValueError:no"])
    later = scripted.using(delay=600).enqueue()
    gone = scripted.enqueue()
    moved = scripted.enqueue()
    operations.cancel(gone)
    operations.promote(later)
    operations.move(moved, "reports")
    assert drain(raise_errors=False)
    assert (gone.state, later.state, failed.state) == (
        JobState.CANCELED,
        JobState.COMPLETED,
        JobState.FAILED,
    )
    assert (moved.state, moved.record().queue) == (JobState.COMPLETED, "reports")

    operations.replay(DeadLetter.objects.get())
    assert failed.state is JobState.WAITING
    with pytest.raises(ValueError, match="no"):
        drain()
    assert (failed.record().replays, failed.state) == (1, JobState.FAILED)


def test_a_job_may_cancel_itself() -> None:
    @local_job("hesitant")
    def hesitant() -> None:
        JobHandle.cancel(handle)
        while True:
            pass

    handle = hesitant.enqueue()
    drain()
    assert handle.state is JobState.CANCELED


def test_async_jobs_use_the_transaction_of_the_test() -> None:
    @local_job("rename")
    async def rename(name: str) -> str:
        await asyncio.sleep(0)
        user = await User.objects.aget(username=name)
        await User.objects.filter(pk=user.pk).aupdate(first_name="Ada")
        return str(await sync_to_async(lambda: current_job().name)())

    User.objects.create(username="ada")
    handle = rename.enqueue("ada")
    drain()
    assert (handle.result, User.objects.get().first_name) == ("rename", "Ada")


def test_a_database_error_of_a_job_leaves_the_test_its_transaction() -> None:
    User.objects.create(username="ada")

    @local_job("twice", max_attempts=1)
    def twice() -> None:
        User.objects.create(username="ada")

    handle = twice.enqueue()
    with pytest.raises(IntegrityError):
        drain()
    assert handle.state is JobState.FAILED
    assert User.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_same_where_transactions_commit(jobs_captured: CapturedJobs) -> None:
    @local_job("parent")
    def parent() -> None:
        with transaction.atomic():
            scripted.enqueue(["result:child"])

    parent.enqueue()
    drain()
    assert [found.state for found in jobs_captured] == [JobState.COMPLETED] * 2


def test_jobs_without_an_end_are_noticed() -> None:
    @local_job("again")
    def again() -> None:
        again.enqueue()

    again.enqueue()
    with pytest.raises(
        NeverDone, match="20 jobs were run and there are still more, such as 'again'"
    ):
        drain(most=20)


def test_naive_times_are_refused() -> None:
    with pytest.raises(ValueError, match="is a naive datetime: give it a time zone"):
        drain(until=datetime(2030, 1, 1))
    with pytest.raises(ValueError, match="naive"), moved_clock(to=datetime(2030, 1, 1)):
        pass


def test_a_job_that_is_declared_nowhere_ends_as_a_dead_letter() -> None:
    enqueue("no-such-job", {})  # a worker would let it wait for another one
    with pytest.raises(UnknownJob, match="no-such-job"):
        drain()
    assert DeadLetter.objects.get().reason == "unknown_job"
