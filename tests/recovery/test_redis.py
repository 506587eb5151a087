"""Recovery: Redis that goes away, restarts, comes back empty or full, and processes that die before
they reach it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import redis
from django.db import transaction

from wellos_jobs import JobHandle
from wellos_jobs.broker import keys
from wellos_jobs.models import JobAttempt, JobRecord

from ..conftest import UseRedis
from ..jobs import noop, scripted
from ..support.journal import Journal
from ..support.processes import Fleet, wait_until
from ..support.rows import all_have_state, has_state, row, statistics
from ..support.servers import RedisServer

pytestmark = pytest.mark.processes

LOAD = 200


def enqueue_load(journal: Journal, count: int = LOAD, seconds: float = 0.01) -> list[JobHandle]:
    """Enqueue short jobs, one in ten of which fails once."""
    rows = [
        {
            "steps": [f"sleep:{seconds}", *(["on:1:raise:ValueError:once"] if n % 10 == 0 else [])],
            "journal": str(journal),
        }
        for n in range(count)
    ]
    return scripted.enqueue_bulk(rows)


def runs_of(journal: Journal) -> Counter[tuple[str, int]]:
    """Return how often each attempt of each job was started."""
    return Counter((entry.job, entry.attempt) for entry in journal.starts())


# --- Redis away -----------------------------------------------------------------------------------


def test_enqueue_while_redis_is_down(
    processes: Fleet, journal: Journal, redis_server: RedisServer
) -> None:
    """The caller gets a handle at once and no exception; the job is pushed within 5 s of Redis
    being back."""
    worker = processes.worker()
    first = scripted.enqueue(journal=str(journal))
    processes.wait_until(lambda: has_state(first, "completed"))
    redis_server.stop()
    begun = time.monotonic()
    with transaction.atomic():
        handle = scripted.enqueue(journal=str(journal))
    bulk = scripted.enqueue_bulk([{"journal": str(journal)}] * 20)
    took = time.monotonic() - begun
    assert took < 2, f"two enqueues took {took:.1f} s"
    assert handle.state == "waiting"
    assert JobRecord.objects.filter(enqueued_at=None).count() == 21

    worker.wait_for_output("supervisor: Redis is unavailable")
    worker.wait_for_output("housekeeping: Redis is unavailable")
    redis_server.start()
    back = time.time()
    started = journal.wait_for_starts(1, handle)[0].at
    print(
        f"two enqueues without Redis took {took:.3f} s; "
        f"Redis back to the run {started - back:.2f} s"
    )
    assert started - back < 5

    processes.wait_until(lambda: all_have_state("completed", 22))
    assert set(runs_of(journal).values()) == {1}
    assert {row(each).attempts for each in bulk} == {1}
    assert worker.output().count("supervisor: Redis is unavailable") == 1


def test_redis_away_longer_than_it_takes_to_give_up(
    processes: Fleet, journal: Journal, redis_server: RedisServer
) -> None:
    """Workers, supervisor and housekeeping wait for it; a job that ended meanwhile is settled, not
    run again."""
    worker = processes.worker()
    worker.wait_for_output("housekeeping started")
    handle = scripted.enqueue(steps=["sleep:1", "result:kept"], journal=str(journal))
    journal.wait_for_starts()
    redis_server.stop()
    journal.wait_for_ends()
    worker.wait_for_output("Redis is unavailable, waiting for it")
    worker.wait_for_output("supervisor: Redis is unavailable")
    worker.wait_for_output("housekeeping: Redis is unavailable")
    redis_server.start()
    processes.wait_until(lambda: has_state(handle, "completed"))

    assert row(handle).result == "kept"
    assert set(runs_of(journal).values()) == {1}
    assert worker.is_running()


def test_stop_while_redis_is_away(processes: Fleet, redis_server: RedisServer) -> None:
    """A supervisor that is asked to stop does not wait for a Redis that does not come."""
    worker = processes.worker()
    worker.wait_for_output("housekeeping started")
    redis_server.stop()
    worker.wait_for_output("supervisor: Redis is unavailable")
    worker.terminate()
    assert worker.wait(20) == 0


def test_redis_restarted_in_mid_load_with_persistence(
    processes: Fleet, journal: Journal, redis_server: RedisServer
) -> None:
    """Killed and started again, twice: every job completes, each attempt is run once, and the
    counts are right."""
    processes.worker("--processes", "2")
    enqueue_load(journal)
    for done in (LOAD // 4, LOAD // 2):
        journal.wait_for_ends(done)
        redis_server.restart()
    late = noop.enqueue()
    processes.wait_until(lambda: all_have_state("completed", LOAD + 1), 40)
    runs = runs_of(journal)
    assert len(runs) == LOAD + LOAD // 10
    assert set(runs.values()) == {1}
    assert JobAttempt.objects.count() == LOAD // 10

    retried = LOAD // 10
    assert statistics() == {
        "enqueued": LOAD,
        "started": LOAD + retried,
        "completed": LOAD,
        "retried": retried,
    }
    assert row(late).attempts == 1


@pytest.fixture(params=["FLUSHALL", "restart without data"])
def emptied(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[object]:
    """A call that empties Redis."""
    if request.param == "FLUSHALL":
        with redis_server.client() as client:
            yield client.flushall
    else:
        yield lambda: redis_server.restart(empty=True)


def test_redis_emptied_in_mid_load(processes: Fleet, journal: Journal, emptied: object) -> None:
    """Every enqueued job completes at least once, delayed ones not before their time, and the rows
    agree."""
    assert callable(emptied)

    processes.worker("--processes", "2")
    delayed = scripted.using(delay=6).enqueue(journal=str(journal))
    handles = enqueue_load(journal)
    journal.wait_for_ends(LOAD // 4)
    emptied()
    after = noop.enqueue()
    processes.wait_until(lambda: all_have_state("completed", LOAD + 2), 60)
    ended = {entry.job for entry in journal.ends() if not entry.error}
    assert ended == {str(handle) for handle in [*handles, delayed]}

    due = row(delayed).run_at
    assert due is not None
    assert journal.starts(delayed)[0].at >= due.timestamp()
    assert row(after).attempts == 1

    sums = statistics()
    assert sums["enqueued"] == LOAD + 1
    assert LOAD + 1 <= sums["completed"] <= len(journal.ends())

    doubled = Counter(JobAttempt.objects.values_list("job_id", "replay", "number"))
    assert not [key for key, times in doubled.items() if times > 1]


def test_redis_emptied_twice_with_nothing_running(
    processes: Fleet, journal: Journal, redis_server: RedisServer
) -> None:
    """Jobs whose rows were pushed again once are pushed again once more."""
    handle = scripted.enqueue(journal=str(journal))
    delayed = scripted.using(delay=600).enqueue(journal=str(journal))
    with redis_server.client() as client:
        for _ in range(2):
            client.flushall()
            keeper = processes.manage("rqworker", "low")
            wait_until(lambda: client.exists(keys.job(handle.id), keys.job(delayed.id)) == 2, 15)
            keeper.terminate()
            assert keeper.wait() == 0
        assert client.zscore(keys.DUE, str(delayed)) == pytest.approx(
            row(delayed).run_at.timestamp(), abs=0.001
        )
    processes.worker()
    processes.wait_until(lambda: has_state(handle, "completed"))

    assert len(journal.starts()) == 1
    assert row(delayed).state == delayed.state == "delayed"


# --- between commit and push ----------------------------------------------------------------------

DIES = """
import os, signal, django
django.setup()
from django.db import transaction
from tests.jobs import scripted
with transaction.atomic():
    transaction.on_commit(lambda: {death})
    print(scripted.enqueue(journal={journal!r}), flush=True)
"""


@pytest.mark.parametrize(
    ("death", "status"),
    [("os._exit(7)", 7), ("os.kill(os.getpid(), signal.SIGKILL)", -9)],
    ids=["exit", "kill -9"],
)
def test_process_killed_between_commit_and_push(
    processes: Fleet, journal: Journal, redis_client: redis.Redis, death: str, status: int
) -> None:
    """Nothing is lost: the row was committed, and the relay pushes it within seconds."""
    worker = processes.worker()
    first = noop.enqueue()
    processes.wait_until(lambda: has_state(first, "completed"))
    script = DIES.format(death=death, journal=str(journal))
    # A fork would be there while housekeeping still compares all rows with Redis, as it does first.
    assert processes.start("-c", script, fresh=True).wait() == status

    found = JobRecord.objects.get(name="test-scripted")
    assert (found.state, found.enqueued_at) == ("waiting", None)
    assert not redis_client.exists(keys.job(found.pk))

    started = journal.wait_for_starts()[0]
    print(f"commit to run, by the relay: {started.at - found.created_at.timestamp():.2f} s")
    processes.wait_until(lambda: all_have_state("completed", 2))
    assert len(journal.starts()) == 1

    worker.wait_for_output("1 jobs of default had not reached Redis")


# --- people who look on ---------------------------------------------------------------------------

VIEWER = """
import sys, django
django.setup()
import django_rq
from django.conf import settings
from rq import Queue
from rq.registry import *
from rq.serializers import JSONSerializer
connection = django_rq.get_connection("default")
looks = 0
while True:
    for name in ("default", "email"):
        queue = Queue(name, connection=connection, serializer=JSONSerializer)
        for registry in (
            queue.started_job_registry, queue.finished_job_registry, queue.failed_job_registry,
            queue.deferred_job_registry, queue.scheduled_job_registry, queue.canceled_job_registry,
        ):
            len(registry), registry.count, registry.get_job_ids()
            registry.cleanup()
        clean_registries(queue)
    looks += 1
    print("look", looks, flush=True)
"""


def test_registries_are_counted_during_the_load(
    processes: Fleet, journal: Journal, redis_client: redis.Redis
) -> None:
    """Each count runs RQ's clean-up, with whatever it thinks is abandoned: no job fails, none is
    run twice."""
    worker = processes.worker("--processes", "2")
    worker.wait_for_output("-2 started")
    viewers = [processes.start("-c", VIEWER) for _ in range(2)]
    for viewer in viewers:
        viewer.wait_for_output("look 2")
    long_run = scripted.enqueue(steps=["sleep:2.5"], journal=str(journal))
    enqueue_load(journal)
    url = "redis://{host}:{port}/{db}".format(**redis_client.connection_pool.connection_kwargs)
    shown = subprocess.run(
        [sys.executable, "-m", "rq.cli", "info", "--url", url], capture_output=True, text=True
    )
    assert "2 workers" in shown.stdout, shown
    assert processes.manage("rqstats").wait() == 0

    processes.wait_until(lambda: all_have_state("completed", LOAD + 1), 40)
    assert all(viewer.is_running() for viewer in viewers)
    assert set(runs_of(journal).values()) == {1}
    assert row(long_run).attempts == 1
    assert JobAttempt.objects.count() == LOAD // 10
    assert statistics()["completed"] == LOAD + 1


# --- a full Redis ---------------------------------------------------------------------------------


def test_redis_with_its_memory_full(
    processes: Fleet, journal: Journal, use_redis: UseRedis, redis_server: RedisServer
) -> None:
    """A full Redis takes no new jobs, but existing jobs run and reach their rows.

    Jobs enqueued meanwhile are pushed later.
    """
    worker = processes.worker("--processes", "2")
    handles = enqueue_load(journal, 100, seconds=0.05)
    journal.wait_for_ends(5)
    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
        refused = scripted.enqueue(journal=str(journal))
        assert not client.exists(keys.job(refused.id))
        processes.wait_until(
            lambda: JobRecord.objects.filter(state="completed").count() == len(handles), 30
        )
        assert not journal.starts(refused)
        assert worker.is_running()
        client.config_set("maxmemory", 0)
    processes.wait_until(lambda: all_have_state("completed", len(handles) + 1))

    assert set(runs_of(journal).values()) == {1}
    assert JobAttempt.objects.count() == 10
