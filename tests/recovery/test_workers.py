"""Recovery: worker processes and supervisors that die, hang or come too late."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import redis

from wellos_jobs import broker as store
from wellos_jobs.broker import claims, keys
from wellos_jobs.models import DeadLetter, JobAttempt

from ..jobs import noop, scripted
from ..support.journal import Journal
from ..support.processes import Fleet, is_alive
from ..support.rows import attempts, has_state, row, statistics

NEVER = "wait_file:/never/comes"


def test_worker_killed_in_mid_job(processes: Fleet, journal: Journal) -> None:
    """kill -9: the job is rescued in under a second, runs again at once, and the ledger shows both
    runs."""
    worker = processes.worker()
    handle = scripted.enqueue(steps=[f"on:1:{NEVER}", "result:done"], journal=str(journal))
    first = journal.wait_for_starts()[0]
    killed_at = time.time()
    os.kill(first.pid, signal.SIGKILL)
    second = journal.wait_for_starts(2)[1]
    processes.wait_until(lambda: has_state(handle, "completed"))
    crash = JobAttempt.objects.get(job_id=handle.id)
    rescued_after, rerun_after = crash.ended_at.timestamp() - killed_at, second.at - killed_at
    print(f"kill -9 to rescue {rescued_after:.3f} s, to rerun {rerun_after:.3f} s")
    assert rescued_after < 1
    assert rerun_after < 2
    assert (crash.number, crash.outcome) == (1, "crashed")
    assert "SIGKILL" in crash.message
    assert crash.worker in crash.message

    found = row(handle)
    assert (found.attempts, found.result, found.error) == (2, "done", "")
    assert second.pid != first.pid
    assert statistics() == {"enqueued": 1, "started": 2, "completed": 1, "rescued": 1}
    assert worker.is_running()


def test_worker_with_a_chosen_name_killed_in_mid_job(processes: Fleet, journal: Journal) -> None:
    """Its successor bears the same name, and takes neither the stored answer nor the rescue of the
    dead for its own."""
    processes.worker("--name", "solo")
    handle = scripted.enqueue(steps=[f"on:1:{NEVER}"], journal=str(journal))
    others = noop.enqueue_bulk([{}] * 5)
    os.kill(journal.wait_for_starts()[0].pid, signal.SIGKILL)
    for each in [handle, *others]:
        processes.wait_until(lambda each=each: has_state(each, "completed"))  # type: ignore[misc]
    assert [entry.attempt for entry in journal.starts()] == [1, 2]
    assert row(handle).worker == row(others[-1]).worker == "solo"


def test_supervisor_killed(processes: Fleet, journal: Journal) -> None:
    """kill -9: its workers end by themselves, and another rqworker rescues their jobs within 30
    s."""
    first = processes.worker("--processes", "2")
    handles = [scripted.enqueue(steps=[f"on:1:{NEVER}"], journal=str(journal)) for _ in range(2)]
    journal.wait_for_starts(2)
    processes.worker()
    orphans = first.children()
    assert len(orphans) >= 2

    killed_at = time.time()
    first.kill9()
    processes.wait_until(lambda: not any(map(is_alive, orphans)), 3, "the workers to end")
    print(f"kill -9 of the supervisor to the end of its workers {time.time() - killed_at:.3f} s")
    for handle in handles:
        processes.wait_until(lambda handle=handle: has_state(handle, "completed"), 35)  # type: ignore[misc]
        assert attempts(handle) == [(1, "crashed")]
    reruns = [entry.at - killed_at for entry in journal.starts()[2:]]
    print(
        f"kill -9 of the supervisor to rerun {', '.join(f'{seconds:.1f} s' for seconds in reruns)}"
    )
    assert len(reruns) == 2
    assert max(reruns) < 30


def test_job_that_kills_its_worker_each_time(processes: Fleet, journal: Journal) -> None:
    """It ends in a dead letter ``crashed``, and the worker goes on with other jobs."""
    worker = processes.worker()
    handle = scripted.using(max_attempts=3).enqueue(steps=["kill"], journal=str(journal))
    other = noop.enqueue()
    processes.wait_until(lambda: has_state(handle, "failed"))
    processes.wait_until(lambda: has_state(other, "completed"))
    assert attempts(handle) == [(1, "crashed"), (2, "crashed"), (3, "crashed")]
    letter = DeadLetter.objects.get(job_id=handle.id)
    assert (letter.reason, letter.error_class) == ("crashed", "WorkerDied")
    assert "SIGKILL" in letter.message
    assert len(journal.starts()) == 3
    assert worker.is_running()


def test_process_that_exits_in_mid_job(processes: Fleet) -> None:
    """Exit status 0 from a job's own ``os._exit`` is no clean end: it would be handed back and run
    for ever."""
    processes.worker()
    handle = scripted.using(max_attempts=2).enqueue(steps=["exit:0"])
    processes.wait_until(lambda: has_state(handle, "failed"))
    assert attempts(handle) == [(1, "crashed"), (2, "crashed")]


def test_timeout_that_a_job_swallows(processes: Fleet, journal: Journal) -> None:
    """The timer repeats: the second alarm ends the run, and the process is replaced."""
    worker = processes.worker()
    options = scripted.using(timeout=0.5, max_attempts=2)
    handle = options.enqueue(steps=["swallow:0.8", NEVER], journal=str(journal))
    processes.wait_until(lambda: has_state(handle, "failed"))
    after = scripted.enqueue(journal=str(journal))
    processes.wait_until(lambda: has_state(after, "completed"))
    assert attempts(handle) == [(1, "timeout"), (2, "timeout")]
    assert DeadLetter.objects.get(job_id=handle.id).reason == "timeout"

    starts, ends = journal.starts(handle), journal.ends(handle)
    assert [entry.error for entry in ends] == ["JobTimeout"] * 2
    assert all(1.3 < end.at - start.at < 3 for start, end in zip(starts, ends, strict=True))

    pids = [entry.pid for entry in journal.starts()]
    assert len(set(pids)) == 3, "each timeout costs the process"
    assert worker.is_running()


def test_job_that_hangs_beyond_its_timeout(processes: Fleet, journal: Journal) -> None:
    """In a C call that ignores signals: the process is killed, the attempt recorded as a
    timeout."""
    processes.start("-m", "tests.support.run_supervisor", "timeout_grace=1")
    options = scripted.using(timeout=0.5, max_attempts=1)
    handle = options.enqueue(steps=["hang_c:60"], journal=str(journal))
    started = journal.wait_for_starts()[0]
    processes.wait_until(lambda: has_state(handle, "failed"))
    assert time.time() - started.at < 5
    assert attempts(handle) == [(1, "timeout")]
    assert DeadLetter.objects.get(job_id=handle.id).reason == "timeout"
    assert not is_alive(started.pid)


def test_receiver_of_the_start_that_hangs(processes: Fleet) -> None:
    """It counts as a hanging run and uses up the attempt, so the job does not come back forever."""
    processes.start(
        "-c",
        "import sys, time\n"
        "from wellos_jobs import signals\n"
        "from tests.support.run_supervisor import main\n"
        "signals.job_started.connect(lambda **sent: time.sleep(600), weak=False)\n"
        "sys.exit(main(['timeout_grace=1']))",
    )
    handle = noop.using(timeout=0.5, max_attempts=2).enqueue()
    processes.wait_until(lambda: has_state(handle, "failed"))
    assert attempts(handle) == [(1, "timeout"), (2, "timeout")]
    assert DeadLetter.objects.get(job_id=handle.id).reason == "timeout"


def test_stale_finisher(
    processes: Fleet, journal: Journal, tmp_path: Path, redis_client: redis.Redis
) -> None:
    """A run whose claim was rescued while it ran changes nothing when it settles, and says so in
    the log."""
    worker = processes.worker("--processes", "2")
    gate = tmp_path / "gate"
    steps = [f"on:1:wait_file:{gate}", "on:1:result:stale", "on:2:result:fresh"]
    handle = scripted.enqueue(steps=steps, journal=str(journal))
    journal.wait_for_starts()
    owner = store.text(redis_client.hget(keys.job(handle.id), "worker_name"))
    rescued = claims.rescue(redis_client, "crashed", "its lease ran out", worker=owner)
    assert [job.id for job in rescued] == [str(handle)]

    processes.wait_until(lambda: has_state(handle, "completed"))
    gate.touch()
    worker.wait_for_output(f"stale run of job={handle}")
    assert len(journal.ends()) == 2

    noop.enqueue()
    processes.wait_until(lambda: statistics("test-noop").get("completed") == 1)
    assert row(handle).result == "fresh"
    assert attempts(handle) == [(1, "crashed")]
    assert statistics() == {"enqueued": 1, "started": 2, "completed": 1, "rescued": 1}


@pytest.mark.parametrize("outcome", ["finishes", "fails"])
def test_stale_finisher_after_the_job_was_started_again(
    processes: Fleet, journal: Journal, tmp_path: Path, redis_client: redis.Redis, outcome: str
) -> None:
    """While the second run holds the claim, the first one's end does not touch it."""
    worker = processes.worker("--processes", "2")
    first_gate, second_gate = tmp_path / "first", tmp_path / "second"
    end = "on:1:result:stale" if outcome == "finishes" else "on:1:raise:ValueError:stale"
    steps = [
        f"on:1:wait_file:{first_gate}",
        end,
        f"on:2:wait_file:{second_gate}",
        "on:2:result:fresh",
    ]
    handle = scripted.enqueue(steps=steps, journal=str(journal))
    journal.wait_for_starts()
    owner = store.text(redis_client.hget(keys.job(handle.id), "worker_name"))
    claims.rescue(redis_client, "crashed", "its lease ran out", worker=owner)
    journal.wait_for_starts(2)
    first_gate.touch()
    worker.wait_for_output(f"stale run of job={handle}")
    assert handle.state == "active"
    assert redis_client.zcard(keys.LEASES) == redis_client.zcard(keys.wip("default")) == 1

    second_gate.touch()
    processes.wait_until(lambda: has_state(handle, "completed"))
    assert row(handle).result == "fresh"
    assert attempts(handle) == [(1, "crashed")]
