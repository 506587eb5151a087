"""Django's Tasks on our backend: enqueue, results, statuses, errors, signals, options."""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

from wellos_jobs import JobHandle, JobState, Priority, enqueue, fixed, operations
from wellos_jobs.definitions import registry
from wellos_jobs.errors import BadOption, JobStopped, ResultNotStored, WorkerDied
from wellos_jobs.models import JobRecord
from wellos_jobs.payload.redaction import MASK
from wellos_jobs.task_backend import JobsBackend, JobTask, task
from wellos_jobs.task_backend.framework import (
    InvalidTask,
    Task,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    declare,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)
from wellos_jobs.task_backend.priorities import job_priority

from .. import tasks
from ..support.engine import Books, Hand, listening, work

pytestmark = pytest.mark.django_db(databases=["default", "other"])

READY, RUNNING, FAILED, SUCCESSFUL = (
    TaskResultStatus.READY,
    TaskResultStatus.RUNNING,
    TaskResultStatus.FAILED,
    TaskResultStatus.SUCCESSFUL,
)
IN_2100 = datetime(2100, 1, 1, tzinfo=UTC)

Enqueue = Callable[..., Any]


@pytest.fixture
def send(django_capture_on_commit_callbacks: Any) -> Enqueue:
    """Enqueue a task and commit."""

    def enqueue_and_commit(task: Task, *args: Any, **kwargs: Any) -> TaskResult:
        with django_capture_on_commit_callbacks(execute=True):
            return task.enqueue(*args, **kwargs)

    return enqueue_and_commit


@pytest.fixture
def finish(books: Books, django_capture_on_commit_callbacks: Any) -> Callable[[Any], Any]:
    """Run what is to do, and refresh a result."""

    def run(result: Any) -> Any:
        with django_capture_on_commit_callbacks(execute=True):
            hand = Hand()
            while claim := hand.claim():
                hand.run(claim)
            books.fold()
        result.refresh()
        return result

    return run


def record_of(result: Any) -> JobRecord:
    return JobRecord.objects.get(pk=result.id)


# --- the backend ----------------------------------------------------------------------------------


def test_all_features_are_supported() -> None:
    backend = task_backends["default"]
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_get_result
    assert backend.supports_priority
    assert backend.check() == []


def test_djangos_own_decorator_makes_tasks_of_ours() -> None:
    with registry.isolated():
        assert isinstance(declare(tasks.plain), JobTask)


def test_tasks_of_a_package_that_uses_django_tasks_are_ours_on_every_django(
    send: Enqueue, finish: Any
) -> None:
    """As those of Wagtail, which imports ``django_tasks`` on Django 6, too."""
    package = pytest.importorskip("django_tasks")
    with registry.isolated():
        declared = package.task()(tasks.plain)
        assert isinstance(declared, (JobTask, Task))
        assert finish(send(declared)).status == SUCCESSFUL


# --- from enqueue to the result -------------------------------------------------------------------


def test_a_task_is_a_job_named_by_its_path(send: Enqueue) -> None:
    result = send(tasks.add, 1, b=5)

    assert isinstance(result, TaskResult)
    assert (result.task, result.status, result.backend) == (tasks.add, READY, "default")
    assert (result.args, result.kwargs, result.errors, result.worker_ids) == ([1], {"b": 5}, [], [])
    assert result.attempts == 0
    assert result.started_at is result.finished_at is result.last_attempted_at is None

    record = record_of(result)
    assert (record.name, record.data) == ("tests.tasks.add", {"a": 1, "b": 5})
    assert result.enqueued_at == record.created_at


def test_it_runs_and_its_result_is_read_from_the_row(
    send: Enqueue, finish: Any, redis_client: Any
) -> None:
    result = finish(send(tasks.add, 1, b=5))
    redis_client.flushall()

    again = tasks.add.get_result(result.id)
    assert (again.status, again.return_value, again.errors) == (SUCCESSFUL, 6, [])
    assert (again.args, again.kwargs, again.worker_ids) == ([1], {"b": 5}, ["hand"])
    assert again.enqueued_at <= again.started_at <= again.finished_at
    assert again.last_attempted_at == again.started_at
    assert again.task == tasks.add


def test_nothing_is_enqueued_before_the_commit(
    finish: Any, django_capture_on_commit_callbacks: Any
) -> None:
    with listening(task_enqueued) as heard, django_capture_on_commit_callbacks(execute=True):
        result = tasks.add.enqueue(1)
        assert Hand().claim() is None
        assert heard == []
        assert tasks.add.get_result(result.id).status == READY

    assert [one["task_result"].id for one in heard] == [result.id]
    assert finish(result).return_value == 3


def test_a_rollback_takes_the_task_with_it(django_capture_on_commit_callbacks: Any) -> None:
    with (
        listening(task_enqueued) as heard,
        django_capture_on_commit_callbacks(execute=True),
        pytest.raises(LookupError),
        transaction.atomic(),
    ):
        result = tasks.add.enqueue(1)
        raise LookupError

    assert heard == []
    assert Hand().claim() is None
    with pytest.raises(TaskResultDoesNotExist):
        tasks.add.get_result(result.id)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((1, [2, {"x": None}]), {"key": "value"}),
    ],
)
def test_arguments_arrive_as_they_were_given(
    send: Enqueue, finish: Any, args: Any, kwargs: Any
) -> None:
    result = finish(send(tasks.anything, *args, **kwargs))
    assert result.return_value == [list(args), kwargs]
    again = task_backends["default"].get_result(result.id)
    assert (again.args, again.kwargs) == (list(args), kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs", "value"),
    [
        ((1,), {}, [1, 2, [], 3]),
        ((1, 5, 6, 7), {"third": 8}, [1, 5, [6, 7], 8]),
        ((1,), {"second": 9}, [1, 9, [], 3]),
    ],
)
def test_all_kinds_of_parameters(
    send: Enqueue, finish: Any, args: Any, kwargs: Any, value: Any
) -> None:
    result = finish(send(tasks.by_position, *args, **kwargs))
    assert (result.return_value, result.args, result.kwargs) == (value, list(args), kwargs)


def test_arguments_are_checked_at_once() -> None:
    with pytest.raises(TypeError, match=r"tests\.tasks\.add: missing a required argument: 'a'"):
        tasks.add.enqueue()
    with pytest.raises(TypeError, match=r"tests\.tasks\.add: .*unexpected keyword argument 'c'"):
        tasks.add.enqueue(1, c=2)
    with pytest.raises(TypeError, match="argument 'args' is also that of a parameter"):
        tasks.anything.enqueue(args=1)
    with pytest.raises(TypeError, match="Unsupported type"):
        tasks.add.enqueue(datetime.now(UTC))
    assert not JobRecord.objects.exists()


def test_async_tasks_and_async_calls(finish: Any, django_capture_on_commit_callbacks: Any) -> None:
    async def both() -> Any:
        result = await tasks.add_later.aenqueue(1, b=2)
        assert (await tasks.add_later.aget_result(result.id)).status == READY
        return result

    with django_capture_on_commit_callbacks(execute=True):
        result = async_to_sync(both)()
    assert finish(result).return_value == 3
    async_to_sync(result.arefresh)()
    assert result.is_finished


def test_the_context_is_that_of_the_attempt(send: Enqueue, finish: Any) -> None:
    result = finish(send(tasks.tell, 1, x=2))
    assert result.return_value == {
        "id": result.id,
        "attempt": 1,
        "status": "RUNNING",
        "args": [1],
        "kwargs": {"x": 2},
        "job": result.id,
        "workers": ["hand"],
    }
    result = finish(send(tasks.tell_async))
    assert result.return_value == [result.id, 1, "RUNNING"]


def test_a_running_task(send: Enqueue, books: Books) -> None:
    result = send(tasks.add, 1)
    Hand(name="busy").take()
    books.fold()

    result.refresh()
    assert (result.status, result.worker_ids, result.attempts) == (RUNNING, ["busy"], 1)
    assert result.started_at is not None
    with pytest.raises(ValueError, match="not finished"):
        _ = result.return_value


# --- attempts and errors --------------------------------------------------------------------------


def test_a_retry_makes_a_task_ready_and_keeps_its_errors(
    send: Enqueue, books: Books, finish: Any
) -> None:
    result = send(tasks.fail_until, 3)
    Hand(name="first").run()
    books.fold()
    result.refresh()
    assert (result.status, result.worker_ids, result.attempts) == (READY, ["first"], 1)
    assert result.errors[0].exception_class is ValueError
    started = result.started_at

    finish(result)
    assert (result.status, result.return_value) == (SUCCESSFUL, 3)
    assert result.worker_ids == ["first", "hand", "hand"]
    assert [error.exception_class for error in result.errors] == [ValueError, ValueError]
    assert result.started_at == started < result.last_attempted_at <= result.finished_at


def test_a_task_that_fails_for_good(send: Enqueue, finish: Any) -> None:
    result = finish(send(tasks.fail, "broken"))

    assert (result.status, result.attempts, len(result.errors)) == (FAILED, 2, 2)
    error = result.errors[-1]
    assert error.exception_class_path == "builtins.ValueError"
    assert "in fail\n    raise ValueError(text)\nValueError: broken" in error.traceback
    assert "wellos_jobs" not in error.traceback
    with pytest.raises(ValueError, match="Task failed"):
        _ = result.return_value


def test_a_value_that_is_not_json_fails_the_task(send: Enqueue, finish: Any) -> None:
    result = finish(send(tasks.strange))
    assert (result.status, result.attempts) == (FAILED, 1)
    assert result.errors[0].exception_class is ResultNotStored


def test_a_canceled_task_has_failed(
    send: Enqueue, books: Books, django_capture_on_commit_callbacks: Any
) -> None:
    result = send(tasks.add, 1)
    with listening(task_finished) as heard, django_capture_on_commit_callbacks(execute=True):
        assert JobHandle(uuid.UUID(result.id), "default").cancel()
    books.fold()
    result.refresh()

    assert (result.status, result.worker_ids) == (FAILED, [])
    assert [error.exception_class for error in result.errors] == [JobStopped]
    told = heard[0]["task_result"]
    assert (told.id, told.status, told.args) == (result.id, FAILED, [1])
    assert told.errors[0].exception_class is JobStopped


def test_the_error_of_a_dead_worker_has_a_class(
    send: Enqueue, books: Books, django_capture_on_commit_callbacks: Any
) -> None:
    from wellos_jobs.broker import claims
    from wellos_jobs.worker.rescue import announce_rescue

    result = send(tasks.strange)
    hand = Hand(name="dead")
    hand.take()
    with listening(task_finished) as heard, django_capture_on_commit_callbacks(execute=True):
        for job in claims.rescue(hand.connection, "crashed", "worker dead died", worker="dead"):
            announce_rescue(job, "worker dead died")
        books.fold()
    result.refresh()

    assert (result.status, result.worker_ids) == (FAILED, ["dead"])
    assert result.errors[0].exception_class is WorkerDied
    assert [one["task_result"].id for one in heard] == [result.id]
    assert heard[0]["task_result"].errors[0].traceback == "worker dead died"


def test_a_replay_makes_a_task_ready_again(
    send: Enqueue, finish: Any, books: Books, django_capture_on_commit_callbacks: Any
) -> None:
    result = finish(send(tasks.fail))
    with django_capture_on_commit_callbacks(execute=True):
        operations.retry(record_of(result), by=None, reason="again")
    result.refresh()
    assert (result.status, len(result.errors)) == (READY, 2)

    finish(result)
    assert (result.status, result.attempts, len(result.errors)) == (FAILED, 4, 4)


@pytest.mark.parametrize(
    ("how", "kind", "status"),
    [("snooze", "snoozed", READY), ("retry", "retried", READY), ("discard", "failed", FAILED)],
)
def test_what_a_job_may_raise_a_task_may(
    send: Enqueue, books: Books, how: str, kind: str, status: Any
) -> None:
    result = send(tasks.control, how)
    assert Hand().run().kind == kind
    books.fold()
    result.refresh()
    assert result.status == status


# --- results that are not there -------------------------------------------------------------------


@pytest.mark.parametrize("result_id", ["123", "", "01a2270c-4da7-7073-90e8-155e9cc5c89e"])
def test_an_unknown_result(result_id: str) -> None:
    with pytest.raises(TaskResultDoesNotExist):
        task_backends["default"].get_result(result_id)


def test_results_of_other_backends_and_of_jobs_are_not_there(
    django_capture_on_commit_callbacks: Any,
) -> None:
    result = tasks.add.using(backend="capped").enqueue(1)
    handle = enqueue("test-noop", {})
    for result_id in (result.id, str(handle)):
        with pytest.raises(TaskResultDoesNotExist):
            task_backends["default"].get_result(result_id)
    assert task_backends["capped"].get_result(result.id).args == [1]


def test_a_task_that_is_no_longer_declared(send: Enqueue) -> None:
    result = send(tasks.add, 1)
    with registry.isolated():
        del registry._jobs["tests.tasks.add"]
        with pytest.raises(TaskResultDoesNotExist):
            task_backends["default"].get_result(result.id)


def test_a_task_enqueued_by_its_name_has_a_result_too(
    finish: Any, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        handle = enqueue("tests.tasks.add", {"a": 4})
    result = finish(tasks.add.get_result(str(handle)))
    assert (result.return_value, result.args, result.kwargs) == (6, [], {"a": 4})


# --- signals --------------------------------------------------------------------------------------


def test_the_signals_of_a_task_that_is_retried(send: Enqueue, finish: Any) -> None:
    with (
        listening(task_enqueued) as enqueued,
        listening(task_started) as started,
        listening(task_finished) as finished,
    ):
        result = send(tasks.fail_until, 2)
        work()

    assert [one["task_result"].id for one in enqueued] == [result.id]
    assert [one["task_result"].attempts for one in started] == [1, 2]
    (told,) = [one["task_result"] for one in finished]
    assert (told.id, told.status, told.return_value) == (result.id, SUCCESSFUL, 2)
    assert told.started_at <= told.last_attempted_at <= told.finished_at


def test_the_signal_of_a_failure_is_sent_with_its_exception(
    send: Enqueue, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []

    def receive(sender: Any, task_result: Any, **_: Any) -> None:
        seen.append((sender, task_result, sys.exc_info()[1]))

    task_finished.connect(receive)
    try:
        result = send(tasks.fail.using(max_attempts=1), "broken")
        with caplog.at_level(logging.ERROR):
            work()
    finally:
        task_finished.disconnect(receive)

    ((sender, told, error),) = seen
    assert (sender, told.id, told.status) == (JobsBackend, result.id, FAILED)
    assert isinstance(error, ValueError)
    assert str(error) == "broken"
    (logged,) = [one for one in caplog.records if one.name in ("django.tasks", "django_tasks")]
    assert logged.exc_info and logged.exc_info[1] is error


@pytest.mark.parametrize("chosen", ["guarded", "strange"])
def test_the_signal_of_a_failure_without_an_exception_to_show(send: Enqueue, chosen: str) -> None:
    seen: list[Any] = []

    def receive(task_result: Any, **_: Any) -> None:
        seen.append((task_result, sys.exc_info()[1]))

    task_finished.connect(receive)
    try:
        if chosen == "guarded":
            send(tasks.guarded.using(max_attempts=1), "ann", "s3cret-token")
        else:
            send(tasks.strange)
        work()
    finally:
        task_finished.disconnect(receive)

    ((told, error),) = seen
    assert (told.status, error, len(told.errors)) == (FAILED, None, 1)
    assert "s3cret" not in told.errors[0].traceback


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "priority"),
    [
        (100, Priority.CRITICAL),
        (50, Priority.CRITICAL),
        (49, Priority.HIGH),
        (1, Priority.HIGH),
        (0, Priority.NORMAL),
        (-1, Priority.LOW),
        (-49, Priority.LOW),
        (-50, Priority.BULK),
        (-100, Priority.BULK),
    ],
)
def test_priorities(number: int, priority: Priority) -> None:
    assert job_priority(number) is priority


def test_options_of_django(send: Enqueue) -> None:
    chosen = tasks.add.using(priority=42, queue_name="tasks", run_after=IN_2100)
    result = send(chosen, 1)
    record = record_of(result)
    assert (record.priority, record.queue) == (Priority.HIGH, "tasks")
    assert (record.run_at, record.state) == (IN_2100, JobState.DELAYED)
    again = task_backends["default"].get_result(result.id)
    assert (again.task, again.status) == (chosen, READY)


def test_options_of_jobs(send: Enqueue) -> None:
    chosen = tasks.add.using(max_attempts=7, timeout=12, organization="acme", delay=60)
    record = record_of(send(chosen, 1))
    assert (record.max_attempts, record.timeout, record.organization_id) == (7, 12.0, "acme")
    assert record.state == JobState.DELAYED
    assert record_of(send(tasks.add, 1)).max_attempts == 3
    assert record_of(send(tasks.fail)).max_attempts == 2
    assert record_of(send(tasks.add.using(backend="capped"), 1)).max_attempts == 1
    assert registry.get("tests.tasks.fail").backoff == fixed(0)


def test_unknown_and_misplaced_options_are_named() -> None:
    with pytest.raises(BadOption, match=r"add\.using: unknown option 'prioritty': did you mean"):
        tasks.add.using(prioritty=3)
    with pytest.raises(BadOption, match="Django calls it queue_name"):
        tasks.add.using(queue="tasks")
    with pytest.raises(BadOption, match=r"'backoff' acts in the worker.*@task\(backoff"):
        tasks.add.using(backoff=fixed(1))
    with pytest.raises(BadOption, match=r"'delay' is chosen with each enqueue: use \.using\("):
        task(delay=3)(tasks.plain)
    with pytest.raises(BadOption, match=r"tests\.tasks\.plain.*max_attempts is 0"):
        task(max_attempts=0)(tasks.plain)


def test_a_queue_that_is_not_there() -> None:
    with pytest.raises(InvalidTask, match="RQ_QUEUES has no queue 'taskz': did you mean 'tasks'"):
        tasks.add.using(queue_name="taskz")
    with pytest.raises(InvalidTask, match="email"):
        tasks.add.using(queue_name="email", backend="capped")


def test_a_unique_task_gives_the_result_that_is_there(send: Enqueue) -> None:
    with listening(task_enqueued) as heard:
        first, second = send(tasks.once, 1), send(tasks.once, 1)
    assert first.id == second.id
    assert len(heard) == 1
    assert JobRecord.objects.count() == 1
    assert record_of(first).context["limits"]


def test_sensitive_arguments_are_masked_everywhere(
    send: Enqueue, finish: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(task_started) as started:
        result = send(tasks.guarded.using(max_attempts=1), "ann", token="s3cret-token")
        assert result.kwargs == {"token": MASK}
        finish(result)
    again = tasks.guarded.get_result(result.id)
    assert (again.args, again.kwargs) == (["ann"], {"token": MASK})
    assert f"ann may not use {MASK}" in again.errors[0].traceback
    assert "s3cret-token" not in str((again, started, record_of(result).data, caplog.text))


def test_a_task_of_another_backend_can_be_sent_to_ours(
    settings: Any, send: Enqueue, finish: Any
) -> None:
    immediate = (
        task_backends["default"]
        .__class__.__mro__[1]
        .__module__.replace(".base", ".immediate.ImmediateBackend")
    )
    ours = settings.TASKS["default"]
    settings.TASKS = {"default": {"BACKEND": immediate}, "jobs": ours}
    with registry.isolated():
        other = declare(tasks.plain)
        assert type(other) is Task
        result = finish(send(other.using(backend="jobs")))
    assert result.return_value
