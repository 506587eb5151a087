"""``manage.py rqworker`` as a process: signals, options, and how soon jobs start."""

from __future__ import annotations

import datetime
import itertools
import os
import re
import signal
import time
from pathlib import Path

import pytest
import redis
import rq
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import override_settings
from rq.serializers import JSONSerializer

from wellos_jobs import conf
from wellos_jobs.broker import keys
from wellos_jobs.models import JobAttempt, JobRecord

from ..jobs import foreign_scripted, noop, scripted
from ..support.journal import Journal
from ..support.processes import Fleet, Process, is_alive
from ..support.rows import all_have_state, attempts, has_state, row
from ..support.servers import free_port

pytestmark = pytest.mark.any_database

NEVER = "wait_file:/never/comes"
STARTED = re.compile(r"housekeeping started, pid (\d+)")
QUICKLY = 0.5
"""Seconds in which an idle worker starts a job."""


def workers_of(process: Process) -> list[int]:
    """Return the pids of the workers that a supervisor's log tells of and that live."""
    lines = [
        line
        for line in process.output().splitlines()
        if " started, pid " in line and " worker " in line
    ]
    return [pid for pid in (int(line.rpartition(" ")[2]) for line in lines) if is_alive(pid)]


# --- SIGTERM --------------------------------------------------------------------------------------


def test_sigterm_lets_the_running_job_finish_and_claims_no_other(
    processes: Fleet, journal: Journal, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = processes.worker("--processes", "2")
    running = scripted.enqueue(steps=[f"wait_file:{gate}", "result:done"], journal=str(journal))
    journal.wait_for_starts()
    worker.terminate()
    processes.wait_until(lambda: len(workers_of(worker)) == 1, 5, "the idle worker to end")
    later = scripted.enqueue(journal=str(journal))
    gate.touch()
    assert worker.wait() == 0
    assert has_state(running, "completed"), "the ledger folds what there is before it leaves"
    assert row(running).result == "done"
    assert later.state == "waiting"
    assert len(journal.starts()) == 1


def test_shutdown_timeout_hands_the_job_back_without_losing_an_attempt(
    processes: Fleet, journal: Journal
) -> None:
    worker = processes.worker("--shutdown-timeout", "0.3")
    first = journal.path.with_name("first")
    steps = [f"touch:{first}", NEVER]
    handle = scripted.using(max_attempts=1).enqueue(steps=steps, journal=str(journal))
    processes.wait_until(first.exists)
    begun = time.monotonic()
    worker.terminate()
    assert worker.wait() == 0
    assert time.monotonic() - begun < 4
    assert [entry.error for entry in journal.ends()] == ["JobHandedBack"]
    assert (row(handle).state, row(handle).attempts, handle.state) == ("waiting", 0, "waiting")
    processes.worker()
    assert journal.wait_for_starts(2)[1].attempt == 1
    assert not JobAttempt.objects.exists()


def test_a_second_sigterm_shortens_the_shutdown(processes: Fleet, journal: Journal) -> None:
    worker = processes.worker("--processes", "2", "--shutdown-timeout", "60")
    handle = scripted.enqueue(steps=[NEVER], journal=str(journal))
    journal.wait_for_starts()
    processes.wait_until(lambda: len(workers_of(worker)) == 2, what="both workers to be there")
    worker.terminate()
    processes.wait_until(lambda: len(workers_of(worker)) == 1, what="the idle worker to end")
    worker.terminate()
    assert worker.wait(10) == 0
    assert (row(handle).state, row(handle).attempts) == ("waiting", 0)
    assert not JobAttempt.objects.exists()


def test_a_job_that_does_not_end_is_taken_from_its_worker(
    processes: Fleet, journal: Journal
) -> None:
    """It ignores signals in C code: the process is killed, and the job loses no attempt."""
    worker = processes.start(
        "-m", "tests.support.run_supervisor", "shutdown_timeout=0", "stop_grace=0.5"
    )
    handle = scripted.enqueue(steps=["on:1:hang_c:60"], journal=str(journal))
    journal.wait_for_starts()
    worker.terminate()
    assert worker.wait(10) == 0
    assert (row(handle).state, row(handle).attempts) == ("waiting", 0)
    assert not JobAttempt.objects.exists()


def test_ctrl_c_reaches_the_whole_group_and_the_supervisor_decides(
    processes: Fleet, journal: Journal, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = processes.worker("--processes", "2")
    handle = scripted.enqueue(steps=[f"wait_file:{gate}"], journal=str(journal))
    journal.wait_for_starts()
    os.killpg(worker.pid, signal.SIGINT)
    processes.wait_until(lambda: len(workers_of(worker)) == 1, 5, "the idle worker to end")
    gate.touch()
    assert worker.wait() == 0
    assert has_state(handle, "completed")


def test_ended_jobs_are_folded_even_if_the_housekeeping_is_dead(
    processes: Fleet, journal: Journal, tmp_path: Path
) -> None:
    """The leader folds the stream once more before it leaves."""
    gate = tmp_path / "gate"
    worker = processes.worker()
    handle = scripted.enqueue(steps=[f"wait_file:{gate}"], journal=str(journal))
    journal.wait_for_starts()
    log = worker.wait_for_output("housekeeping started, pid ")
    os.kill(int(log.rpartition("housekeeping started, pid ")[2].split()[0]), signal.SIGKILL)
    worker.wait_for_output("housekeeping ended")
    worker.terminate()
    gate.touch()
    assert worker.wait() == 0
    assert has_state(handle, "completed")


# --- options --------------------------------------------------------------------------------------


def test_burst_ends_when_no_job_waits(processes: Fleet, journal: Journal) -> None:
    """Retries that are not due and delayed jobs are left; what a crash brought back is not."""
    handles = scripted.enqueue_bulk([{"journal": str(journal)}] * 20)
    crash = scripted.enqueue(steps=["on:1:kill"])
    delayed = noop.using(delay=600).enqueue()
    assert processes.worker("--burst", "--processes", "2").wait() == 0
    assert all(has_state(handle, "completed") for handle in [*handles, crash])
    assert delayed.state == "delayed"


def test_max_jobs_ends_each_process(processes: Fleet) -> None:
    handles = noop.enqueue_bulk([{}] * 10)
    assert processes.worker("--max-jobs", "3", "--processes", "2").wait() == 0
    assert sum(handle.state == "completed" for handle in handles) == 6


def test_a_process_is_replaced_after_its_number_of_jobs(processes: Fleet) -> None:
    noop.enqueue_bulk([{}] * 7)
    worker = processes.worker("--recycle-jobs", "3", "--burst")
    assert worker.wait() == 0
    assert all_have_state("completed", 7)
    assert len(set(JobRecord.objects.values_list("worker", flat=True))) == 3
    assert worker.output().count("is replaced after 3 jobs") == 2


@pytest.mark.parametrize(("mebibytes", "workers"), [("1", 4), ("100000", 1)])
def test_a_process_that_has_grown_is_replaced(
    processes: Fleet, mebibytes: str, workers: int
) -> None:
    noop.enqueue_bulk([{}] * 4)
    worker = processes.worker("--recycle-memory", mebibytes, "--burst")
    assert worker.wait() == 0
    assert all_have_state("completed", 4)
    assert len(set(JobRecord.objects.values_list("worker", flat=True))) == workers
    assert ("is replaced: it uses " in worker.output()) == (workers > 1)
    assert not JobAttempt.objects.exists()


def test_after_max_jobs_or_a_stop_a_worn_process_is_not_replaced(processes: Fleet) -> None:
    handles = noop.enqueue_bulk([{}] * 5)
    assert processes.worker("--recycle-jobs", "2", "--max-jobs", "2").wait() == 0
    assert sum(handle.state == "completed" for handle in handles) == 2


def test_max_idle_time_ends_a_worker_without_jobs(processes: Fleet) -> None:
    worker = processes.worker("--max-idle-time", "1")
    handle = noop.enqueue()
    assert worker.wait() == 0
    assert has_state(handle, "completed")


def test_a_name_can_be_used_once(processes: Fleet, redis_client: redis.Redis) -> None:
    first = processes.worker("--name", "alice")
    processes.wait_until(lambda: redis_client.exists(keys.worker("alice")))
    pair = processes.worker("--name", "bob", "--processes", "2")
    processes.wait_until(
        lambda: redis_client.exists(keys.worker("bob-1"), keys.worker("bob-2")) == 2
    )
    others = [
        processes.worker("--name", "alice"),
        processes.worker("--name", "bob", "--processes", "2"),
    ]
    for other, worker in zip(others, ["alice", "bob-"], strict=True):
        assert other.wait() == 1
        assert f"A worker named '{worker}" in other.output()
        assert "is running, with pid" in other.output()
    for process in (first, pair):
        process.terminate()
        assert process.wait() == 0
    assert not redis_client.keys(keys.worker("*"))
    assert not redis_client.smembers(keys.WORKERS)


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_name_is_free_soon_after_its_worker_was_killed(
    processes: Fleet, redis_client: redis.Redis, tmp_path: Path, count: str
) -> None:
    """A service manager starts it again at once, and would give up if it were refused."""
    settings_file = tmp_path / "short_lease.py"
    settings_file.write_text(
        "from tests.settings import *\nWELLOS_JOBS = {**WELLOS_JOBS, 'LEASE': 5}\n"
    )
    processes.environment = {
        "DJANGO_SETTINGS_MODULE": "short_lease",
        "PYTHONPATH": str(tmp_path),
    }
    killed = processes.worker("--name", "alice", "--processes", count)
    first = "alice" if count == "1" else "alice-1"
    processes.wait_until(lambda: redis_client.hexists(keys.worker(first), "w:memory"))
    killed.kill9()

    successor = processes.worker("--name", "alice", "--processes", count)
    begun = time.monotonic()
    successor.wait_for_output(" started, pid ", timeout=15)
    assert time.monotonic() - begun < 12
    handle = noop.enqueue()
    processes.wait_until(lambda: has_state(handle, "completed"))


def test_names_of_two_machines_with_one_hostname_and_process_id_differ() -> None:
    from wellos_jobs.worker.supervisor import Supervisor, SupervisorOptions
    from wellos_jobs.worker.worker import WorkerOptions

    options = SupervisorOptions(worker=WorkerOptions("default", ["default"], "set"))
    one, other = (Supervisor(options)._worker_name() for _ in range(2))
    assert one != other


def test_worker_ttl_is_never_shorter_than_a_lease(
    processes: Fleet, redis_client: redis.Redis
) -> None:
    """RQ's key of a worker holds its claim: if it expired, a running job would be rescued."""
    processes.worker("--name", "brief", "--worker-ttl", "1")
    processes.wait_until(lambda: redis_client.ttl(keys.worker("brief")) > conf.current().lease)


def test_pid_file(processes: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "worker.pid"
    worker = processes.worker("--pid", str(path), "--burst")
    assert worker.wait() == 0
    assert path.read_text() == str(worker.pid)


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--worker-class", "x.Y"], 2, "--worker-class is not supported"),
        (["--queue-class", "x.Y"], 2, "--queue-class is not supported"),
        (["--job-class", "x.Y"], 2, "--job-class is not supported"),
        (["--serializer", "x.Y"], 2, "--serializer is not supported"),
        (["--processes", "0"], 2, "--processes must be at least 1"),
        (["--recycle-memory", "0"], 2, "--recycle-memory must be at least 1"),
        (["--shutdown-timeout", "-1"], 2, "--shutdown-timeout must not be negative"),
        (["--no-such-option"], 2, "unrecognized arguments"),
        (["defualt"], 1, "RQ_QUEUES has no queue 'defualt': did you mean 'default'?"),
    ],
)
def test_unsupported_options_are_refused_by_name(
    processes: Fleet, arguments: list[str], status: int, text: str
) -> None:
    worker = processes.worker(*arguments)
    assert worker.wait() == status
    assert text in worker.output()


def test_queues_of_different_redis_servers_need_a_worker_each() -> None:
    elsewhere = {
        "URL": f"redis://127.0.0.1:{free_port()}/0",
        "SERIALIZER": "rq.serializers.JSONSerializer",
    }
    with (
        override_settings(RQ_QUEUES={**settings.RQ_QUEUES, "email": elsewhere}),
        pytest.raises(
            CommandError, match="different Redis servers: default .*, email .*rqworker for each"
        ) as refusal,
    ):
        call_command("rqworker", "default", "email")
    assert refusal.value.returncode == 1


def test_with_scheduler_is_accepted(processes: Fleet) -> None:
    worker = processes.worker("--with-scheduler", "--burst")
    assert worker.wait() == 0
    assert "--with-scheduler" in worker.output()


def test_a_worker_serves_only_its_queues_in_their_order(processes: Fleet, journal: Journal) -> None:
    order = ["low", "email", "default"]
    handles = {queue: scripted.using(queue=queue).enqueue(journal=str(journal)) for queue in order}
    assert processes.worker("default", "email", "--burst").wait() == 0
    assert [entry.job for entry in journal.starts()] == [
        str(handles["default"]),
        str(handles["email"]),
    ]
    assert handles["low"].state == "waiting"


# --- how soon -------------------------------------------------------------------------------------


def test_idle_worker_starts_a_job_at_once(processes: Fleet, journal: Journal) -> None:
    processes.worker("--processes", "2")
    first = scripted.enqueue()
    processes.wait_until(lambda: has_state(first, "completed"))
    waits = []
    for number in range(1, 9):
        enqueued = time.time()
        scripted.enqueue(journal=str(journal))
        waits.append(journal.wait_for_ends(number)[-1].at - enqueued)
    print("enqueue to end of a job:", ", ".join(f"{seconds * 1000:.0f} ms" for seconds in waits))
    assert max(waits) < QUICKLY


def test_delayed_job_starts_at_its_time(processes: Fleet, journal: Journal) -> None:
    processes.worker()
    first = scripted.enqueue()
    processes.wait_until(lambda: has_state(first, "completed"))
    handles = [
        scripted.using(delay=delay).enqueue(journal=str(journal)) for delay in (1.7, 0.4, 1.1)
    ]
    journal.wait_for_starts(3)
    late = []
    for handle in handles:
        due = row(handle).run_at
        assert due is not None
        late.append(journal.starts(handle)[0].at - due.timestamp())
    print("late by:", ", ".join(f"{seconds * 1000:.0f} ms" for seconds in late))
    assert all(0 <= seconds < 0.3 for seconds in late)


def test_delayed_job_starts_at_its_time_while_the_worker_that_knew_is_busy(
    processes: Fleet, journal: Journal
) -> None:
    processes.worker("--processes", "2")
    first = scripted.enqueue()
    processes.wait_until(lambda: has_state(first, "completed"))
    delayed = scripted.using(delay=1.5).enqueue(journal=str(journal))
    scripted.enqueue(steps=["sleep:4"])
    started = journal.wait_for_starts(1, delayed)[0].at
    due = row(delayed).run_at
    assert due is not None
    assert 0 <= started - due.timestamp() < 0.3


def test_foreign_push_without_a_bell_is_noticed(
    processes: Fleet, journal: Journal, redis_client: redis.Redis
) -> None:
    """Stock RQ code, which knows nothing of lanes, pushes while all workers sleep."""
    processes.worker()
    first = noop.enqueue()
    processes.wait_until(lambda: has_state(first, "completed"))
    queue = rq.Queue("low", connection=redis_client, serializer=JSONSerializer)
    pushed = time.time()
    job = queue.enqueue(foreign_scripted, [], str(journal))
    started = journal.wait_for_starts()[0].at
    print(f"foreign push without a bell to start: {started - pushed:.2f} s")
    assert started - pushed < 3
    processes.wait_until(JobRecord.objects.filter(rq_id=job.id, state="completed").exists)


def test_foreign_job_scheduled_by_rq_runs_when_it_is_due(
    processes: Fleet, journal: Journal, redis_client: redis.Redis
) -> None:
    processes.worker()
    first = noop.enqueue()
    processes.wait_until(lambda: has_state(first, "completed"))
    queue = rq.Queue("low", connection=redis_client, serializer=JSONSerializer)
    asked = time.time()
    queue.enqueue_in(datetime.timedelta(seconds=1), foreign_scripted, [], str(journal))
    started = journal.wait_for_starts()[0].at
    assert 0 < started - asked < 4  # RQ's own scores have whole seconds


def test_a_bell_token_lost_with_its_worker(
    processes: Fleet, journal: Journal, redis_client: redis.Redis
) -> None:
    """A worker that was woken and killed before its claim: another one is woken all the same."""
    processes.worker()
    first = noop.enqueue()
    processes.wait_until(lambda: has_state(first, "completed"))
    stolen = time.time()
    with redis_client.pipeline(transaction=True) as pipeline:
        for key in redis_client.scan_iter(keys.bell("*")):
            pipeline.delete(key)
        handle = scripted.enqueue(journal=str(journal))
        pipeline.execute()
    journal.wait_for_starts(1, handle)
    assert journal.starts()[0].at - stolen < 3


# --- suspension -----------------------------------------------------------------------------------


def test_rqsuspend_is_obeyed(processes: Fleet, journal: Journal, redis_client: redis.Redis) -> None:
    processes.worker("--name", "sleepy")
    first = noop.enqueue()
    processes.wait_until(lambda: has_state(first, "completed"))
    assert processes.manage("rqsuspend").wait() == 0
    asked = redis_client.hget(keys.worker("sleepy"), "w:seq")
    handle = scripted.enqueue(journal=str(journal))
    processes.wait_until(
        lambda: redis_client.hget(keys.worker("sleepy"), "w:seq") != asked, what="a claim in vain"
    )
    assert handle.state == "waiting"
    assert processes.manage("rqresume").wait() == 0
    resumed = time.time()
    assert journal.wait_for_starts()[0].at - resumed < 3


# --- cancel ---------------------------------------------------------------------------------------


def test_cancel_of_a_running_job(processes: Fleet, journal: Journal) -> None:
    worker = processes.worker()
    handle = scripted.enqueue(steps=[NEVER], journal=str(journal))
    journal.wait_for_starts()
    asked = time.time()
    assert handle.cancel()
    ended = journal.wait_for_ends()[0]
    print(f"cancel to the end of the run: {ended.at - asked:.2f} s")
    assert ended.error == "JobStopped"
    assert ended.at - asked < 3
    processes.wait_until(lambda: has_state(handle, "canceled"))
    assert attempts(handle) == [(1, "canceled")]
    after = noop.enqueue()
    processes.wait_until(lambda: has_state(after, "completed"))
    assert worker.is_running()


def test_cancel_of_a_running_job_that_ignores_it(processes: Fleet, journal: Journal) -> None:
    processes.start("-m", "tests.support.run_supervisor", "stop_grace=0.5")
    handle = scripted.enqueue(steps=["hang_c:60"], journal=str(journal))
    journal.wait_for_starts()
    handle.cancel()
    processes.wait_until(lambda: has_state(handle, "canceled"), 10)
    assert attempts(handle) == [(1, "canceled")]


def test_cancel_before_the_push(
    processes: Fleet, journal: Journal, redis_client: redis.Redis
) -> None:
    """Redis does not know the job yet: a tombstone stops the later push."""
    from django.db import transaction

    with transaction.atomic():
        handle = scripted.enqueue(journal=str(journal))
        assert handle.cancel()
    assert handle.state == "canceled"
    assert not redis_client.llen(keys.lane("default"))
    processes.worker()
    after = scripted.enqueue(journal=str(journal))
    processes.wait_until(lambda: has_state(after, "completed"))
    processes.wait_until(lambda: has_state(handle, "canceled"))
    assert [entry.job for entry in journal.starts()] == [str(after)]


def test_a_late_stop_does_not_hit_the_next_job(processes: Fleet, journal: Journal) -> None:
    """Jobs are canceled just as they end: no other job may be stopped."""
    processes.worker()
    handles = scripted.enqueue_bulk([{"steps": ["sleep:0.02"], "journal": str(journal)}] * 60)
    canceled: set[str] = set()
    for number in range(5, 55, 5):
        handle = handles[number]
        journal.wait_for_starts(1, handle)
        handle.cancel()
        canceled.add(str(handle))
    for handle in handles:
        processes.wait_until(lambda handle=handle: row(handle).state in ("completed", "canceled"))  # type: ignore[misc]
    hurt = {entry.job for entry in journal.ends() if entry.error}
    assert hurt <= canceled
    assert not JobAttempt.objects.exclude(job_id__in=canceled).exists()


# --- what RQ's own tools do to a worker -----------------------------------------------------------


def test_rq_commands_reach_our_workers(
    processes: Fleet, journal: Journal, redis_client: redis.Redis
) -> None:
    from rq.command import send_kill_horse_command, send_shutdown_command, send_stop_job_command

    worker = processes.worker("--name", "hal")
    queue = rq.Queue("default", connection=redis_client, serializer=JSONSerializer)
    stopped = scripted.enqueue(steps=[NEVER], journal=str(journal))
    journal.wait_for_starts(1)
    send_stop_job_command(redis_client, str(stopped), serializer=JSONSerializer)
    processes.wait_until(lambda: has_state(stopped, "canceled"))
    killed = scripted.enqueue(steps=[f"on:1:{NEVER}"], journal=str(journal))
    journal.wait_for_starts(1, killed)
    send_kill_horse_command(redis_client, "hal")
    processes.wait_until(lambda: has_state(killed, "completed"))
    assert attempts(killed) == [(1, "crashed")]
    assert queue.count == 0
    send_shutdown_command(redis_client, "hal")
    assert worker.wait() == 0


def test_a_worker_that_cannot_start_makes_no_fork_storm(processes: Fleet) -> None:
    """Its process dies again and again before it can claim: the supervisor backs off."""
    script = """
import os, sys
from tests.support import run_supervisor
from wellos_jobs.worker import worker
worker.Worker.work = lambda self: os._exit(9)
sys.exit(run_supervisor.main([]))
"""
    broken = processes.start("-c", script)
    processes.wait_until(lambda: broken.output().count("started, pid") >= 6, 40)
    lines = [
        line for line in broken.output().splitlines() if "started, pid" in line and "worker" in line
    ]
    times = [datetime.datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f") for line in lines]
    gaps = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(times)]
    assert gaps[3] > 1.5, f"the pauses between the starts were {gaps} s"
    broken.terminate()
    assert broken.wait() == 0


def test_all_states_agree_after_a_busy_minute(
    processes: Fleet, journal: Journal, redis_client: redis.Redis
) -> None:
    """Only final jobs are left in Redis: no lease, no claim, no entry of a lane."""
    processes.worker("--processes", "2")
    scripted.enqueue_bulk([{"journal": str(journal)}] * 200)
    processes.wait_until(lambda: all_have_state("completed", 200), 30)
    assert not redis_client.exists(
        keys.LEASES, keys.DUE, keys.wip("default"), *keys.lanes("default")
    )
    processes.wait_until(lambda: not redis_client.xlen(keys.EVENTS), what="an empty stream")
    ttls = [redis_client.ttl(key) for key in redis_client.scan_iter(keys.job("*"))]
    assert len(ttls) == 200
    processes.wait_until(
        lambda: all(
            0 < redis_client.ttl(key) <= 60 for key in redis_client.scan_iter(keys.job("*"))
        )
    )


def test_a_housekeeping_that_keeps_dying_hands_the_lead_on(processes: Fleet) -> None:
    """It is started again at once; after the second time another supervisor leads."""
    first = processes.worker()
    first.wait_for_output("housekeeping started")
    second = processes.worker()
    second.wait_for_output("-1 started")

    def housekeepings() -> list[str]:
        return STARTED.findall(first.output())

    os.kill(int(housekeepings()[0]), signal.SIGKILL)
    processes.wait_until(lambda: len(housekeepings()) == 2)
    os.kill(int(housekeepings()[1]), signal.SIGKILL)
    first.wait_for_output("another supervisor may lead")
    second.wait_for_output("housekeeping started")
    assert first.is_running()


def test_the_lock_of_a_leader_that_died_is_soon_free(
    processes: Fleet, redis_client: redis.Redis
) -> None:
    leader = processes.worker()
    leader.wait_for_output("housekeeping started")
    leader.kill9()
    assert redis_client.pttl(keys.LEADER) <= 3000
    processes.worker().wait_for_output("housekeeping started")
