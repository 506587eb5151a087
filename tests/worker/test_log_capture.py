"""The log lines of a run: which are kept, how many, masked, and how they come into the rows."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from wellos_jobs import Retry, Snooze, conf, fixed, job, operations
from wellos_jobs.broker import job_hash, keys
from wellos_jobs.models import DeadLetter, JobLog, JobRecord
from wellos_jobs.worker import execution, log_capture
from wellos_jobs.worker.log_capture import (
    MAX_BYTES,
    MAX_LINE,
    MAX_LINES,
    RunLog,
    capture_logs,
)

from ..jobs import noop
from ..support import rq_functions
from ..support.engine import Books, Hand, stream, work

pytestmark = pytest.mark.django_db(transaction=True)
logger = logging.getLogger("shop.stock")


# --- jobs -----------------------------------------------------------------------------------------


@job("test-log-count-stock")
def count(shelf: str) -> None:
    logger.info("counting %s", shelf)
    logger.debug("not kept")
    logger.warning("shelf %s is empty", shelf)


@job("test-log-try-hard", max_attempts=2, backoff=fixed(0.01))
def try_hard() -> None:
    seen = JobLog.objects.count()
    logger.info("run %d", seen)
    if seen == 0:
        raise Snooze(0.01)
    if seen == 1:
        raise Retry(after=0.01)
    raise ValueError("no")


@job("test-log-stumble")
def stumble() -> None:
    try:
        raise LookupError("no such shelf")
    except LookupError:
        logger.exception("going on")


@job("test-log-spread")
async def spread() -> None:
    def aside() -> None:
        logger.info("from a thread")

    async def within() -> None:
        logger.info("from a task")

    thread = threading.Thread(target=aside)
    thread.start()
    thread.join()
    await asyncio.create_task(within())


@job("test-log-say")
def say() -> None:
    logger.info("low")
    logger.warning("high")


@job("test-log-log-in", sensitive=("token",))
def log_in(token: str) -> None:
    logger.info("with %s", token)
    try:
        raise ValueError(token)
    except ValueError:
        logger.exception("again")


@job("test-log-odd")
def odd() -> None:
    # pytest would keep the line in its report, too, and xdist cannot send half a character from
    # process to process
    quiet = logging.getLogger("test.run_log.quiet")
    quiet.propagate = False
    quiet.setLevel(logging.INFO)
    quiet.info("a\x00b \ud800")

    odd_name = logging.getLogger("test.run_log.quiet.\x00\ud800" + "n" * 300)
    odd_name.info("of a logger with an odd name")
    quiet.info("%s", Unprintable())
    quiet.info(Unprintable())
    try:
        raise UnprintableError
    except UnprintableError:
        quiet.exception("with an odd error")


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class UnprintableError(Exception):
    __str__ = __repr__ = Unprintable.__str__


@job("test-log-slow")
def slow() -> None:
    logger.info("too late")


# --- the bed --------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def quiet(settings: Any) -> Iterator[None]:
    """Let the project's LOGGING let INFO through, and show nothing of it."""
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "NOTIFY_ADMINS": False}
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


def logs() -> list[JobLog]:
    work()
    Books().fold()
    return list(JobLog.objects.order_by("pk"))


def texts(log: JobLog) -> list[str]:
    return [line[3] for line in log.lines]


# --- which lines ----------------------------------------------------------------------------------


def test_the_lines_of_a_completed_run() -> None:
    handle = count.enqueue(shelf="A")
    (log,) = logs()
    assert (str(log.job_id), log.replay, log.number, log.dropped) == (str(handle), 0, 1, 0)
    assert [(level, name, text) for _at, level, name, text in log.lines] == [
        ("INFO", "shop.stock", "counting A"),
        ("WARNING", "shop.stock", "shelf A is empty"),
    ]


def test_every_run_has_its_own_log_however_it_ends() -> None:
    try_hard.enqueue()
    for _ in range(50):
        if len(logs()) == 3:
            break
    assert [(log.number, texts(log)) for log in logs()] == [
        (1, ["run 0"]),
        (1, ["run 1"]),
        (2, ["run 2"]),
    ]
    operations.replay(DeadLetter.objects.get())
    assert logs()[-1].replay == 1


def test_a_run_that_writes_nothing_costs_nothing() -> None:
    noop.enqueue()
    work()
    assert not [event for event in stream() if "log" in event.detail]
    with CaptureQueriesContext(connection) as queries:
        Books().fold()
    assert not [query for query in queries if "joblog" in query["sql"]]


def test_tracebacks_are_kept() -> None:
    stumble.enqueue()
    (log,) = logs()
    assert texts(log)[0].startswith("going on\nTraceback (most recent call last):")
    assert texts(log)[0].endswith("LookupError: no such shelf")


def test_arguments_that_do_not_fit_do_no_harm() -> None:
    log = RunLog(logging.INFO)
    log.add(logging.LogRecord("shop", logging.INFO, "", 1, "%d shelves", ("many",), None), ())
    assert log.lines[0][3] == "%d shelves ('many',)"


def test_asyncio_tasks_belong_to_the_run_and_threads_do_not() -> None:
    spread.enqueue()
    (log,) = logs()
    assert texts(log) == ["from a task"]


@pytest.mark.parametrize(
    ("level", "kept"), [("WARNING", ["high"]), ("DEBUG", ["low", "high"]), (None, [])]
)
def test_the_level_is_a_setting(settings: Any, level: str | None, kept: list[str]) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "JOB_LOG_LEVEL": level}

    say.enqueue()
    assert [text for log in logs() for text in texts(log)] == kept


def test_a_level_that_does_not_exist_is_refused(settings: Any) -> None:
    settings.WELLOS_JOBS = {"JOB_LOG_LEVEL": "LOUD"}
    assert "'LOUD': it must be None or one of" in next(conf.problems())


def test_secrets_are_masked() -> None:
    log_in.enqueue(token="abcdef-123456")
    (log,) = logs()
    assert texts(log)[0] == "with ********"
    assert "abcdef-123456" not in str(log.lines)


def test_what_a_database_cannot_store_is_removed() -> None:
    """Nor does a line fail the job, whatever its logger is called and its arguments do."""
    handle = odd.enqueue()
    (log,) = logs()
    assert handle.state == "completed"
    assert not {"\x00", "\ud800"} & set("".join(f"{line[2]}{line[3]}" for line in log.lines))
    assert [len(line[2]) <= 200 for line in log.lines] == [True] * 5
    unavailable = "(this message is not available: RuntimeError)"
    assert texts(log)[1:4] == ["of a logger with an odd name", unavailable, unavailable]
    assert "UnprintableError" in texts(log)[4]


def test_a_foreign_job() -> None:
    import django_rq

    django_rq.get_queue("default").enqueue(rq_functions.say, "hello")
    (log,) = logs()
    assert "hello" in texts(log)  # beside what RQ says
    assert log.job.name.endswith("rq_functions.say")


# --- how many -------------------------------------------------------------------------------------


def filled(*lengths: int) -> RunLog:
    log = RunLog(logging.INFO)
    with capture_logs(log):
        for number, length in enumerate(lengths):
            logger.info(f"{number:06}" + "x" * (length - 6))
    return log


def test_the_last_lines_are_kept() -> None:
    log = filled(*[10] * (MAX_LINES + 7))
    assert (len(log.lines), log.dropped) == (MAX_LINES, 7)
    assert log.lines[0][3].startswith("000007")
    assert log.as_detail()["log_dropped"] == 7


def test_as_many_bytes_as_fit() -> None:
    log = filled(*[MAX_LINE] * 20)
    assert sum(len(line[3]) for line in log.lines) <= MAX_BYTES
    assert len(log.lines) + log.dropped == 20
    assert log.lines[-1][3].startswith("000019")


def test_one_long_line_is_cut() -> None:
    log = RunLog(logging.INFO)
    with capture_logs(log):
        logger.info("ä" * MAX_LINE * 2)
    assert len(log.lines[0][3]) == MAX_LINE


def test_nothing_is_left_behind() -> None:
    before = logging.getLogRecordFactory()
    filled(10)
    assert logging.getLogRecordFactory() is before
    assert log_capture._current.get() is None


# --- in a process ---------------------------------------------------------------------------------


def test_a_worker_process_stores_logs_and_they_are_deleted_with_their_job(processes: Any) -> None:
    from ..jobs import scripted

    processes.worker()
    handle = scripted.enqueue(steps=["log:counting", "result:1"])
    processes.wait_until(lambda: JobLog.objects.filter(job=handle.id).exists())
    assert [text for log in JobLog.objects.all() for text in texts(log)] == ["counting"]
    JobRecord.objects.all().delete()
    assert not JobLog.objects.exists()


def test_a_stale_run_leaves_no_log() -> None:
    slow.enqueue()
    hand = Hand()
    claim = hand.take()
    hand.connection.hset(keys.job(claim.id), job_hash.RUN, "somebody-else")
    outcome = execution.run(claim, hand.timer)
    assert outcome.log
    assert not hand.settle(claim, outcome)
    Books().fold()
    assert not JobLog.objects.exists()
