"""RQ's and django-rq's tools show our queues, jobs and workers correctly, and change nothing."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import django_rq
import django_rq.views
import pytest
import redis
from click.testing import CliRunner
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.messages.storage.cookie import CookieStorage
from django.core.management import call_command
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import resolve, reverse
from django_rq.settings import get_queues_map
from django_rq.utils import get_statistics
from rq.cli import main as rq_command
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.registry import StartedJobRegistry, clean_registries
from rq.worker import Worker

from wellos_jobs import JobHandle, Priority
from wellos_jobs import broker as wellos_redis
from wellos_jobs.broker import keys, rq_workers
from wellos_jobs.broker.claims import Outcome, rescue
from wellos_jobs.broker.rq_queue import LaneQueue

from ..jobs import add, fail, noop, scripted
from ..support.engine import Books, Hand, event_names

pytestmark = pytest.mark.django_db(databases=["default", "other"])

QUEUE = "email"


class Scene:
    """A queue with a job in each state, and a worker in the middle of one."""

    def __init__(self, commit: Callable[[], Any]) -> None:
        self.hand = Hand(QUEUE, name="worker-1")
        with commit():
            self.done = add.using(queue=QUEUE).enqueue(2, b=3)
        self.hand.run()
        with commit():
            self.failed = fail.using(queue=QUEUE).enqueue("no luck")
        self.hand.run()
        with commit():
            self.active = scripted.using(queue=QUEUE).enqueue(steps=["result:x"])
        self.claim = self.hand.take()
        with commit():
            self.normal = add.using(queue=QUEUE).enqueue(1)
            self.high = noop.using(queue=QUEUE, priority=Priority.HIGH).enqueue()
            self.bulk = noop.using(queue=QUEUE, priority=Priority.BULK).enqueue()
            self.delayed = noop.using(queue=QUEUE, delay=3600).enqueue()
            self.canceled = noop.using(queue=QUEUE).enqueue()
        self.canceled.cancel()

    @property
    def all(self) -> list[JobHandle]:
        waiting = [self.high, self.normal, self.bulk]
        return [self.done, self.failed, self.active, *waiting, self.delayed, self.canceled]


@pytest.fixture
def commit(django_capture_on_commit_callbacks: Any) -> Callable[..., Any]:
    return lambda: django_capture_on_commit_callbacks(execute=True)


@pytest.fixture
def scene(commit: Callable[..., Any]) -> Scene:
    return Scene(commit)


@pytest.fixture
def connection(redis_client: redis.Redis) -> redis.Redis:
    return redis_client


# --- RQ's command line ----------------------------------------------------------------------------


def rq(*arguments: str) -> str:
    """Run RQ's own command on the Redis of the test; return its output."""
    result = CliRunner().invoke(rq_command, [*arguments, "--url", settings.REDIS_URL])
    assert result.exit_code == 0, result.output
    return result.output


def test_rq_info_shows_a_line_for_each_lane_and_the_worker(scene: Scene) -> None:
    lines = rq("info", "--raw").splitlines()
    assert f"queue {QUEUE} 1, 1 executing, 1 finished, 1 failed" in lines
    assert f"queue {QUEUE}:p3 1, 0 executing, 0 finished, 0 failed" in lines
    assert f"queue {QUEUE}:p10 1, 0 executing, 0 finished, 0 failed" in lines
    [worker] = [line for line in lines if line.startswith("worker ")]
    assert re.fullmatch(
        rf"worker worker-1 \(\S+ \S+ 1\) busy {QUEUE}. jobs: 1 finished, 1 failed", worker
    )


def test_rq_info_with_our_queue_class_counts_over_all_lanes(scene: Scene) -> None:
    output = rq("info", "--raw", "--queue-class", "wellos_jobs.queues.LaneQueue", QUEUE)
    assert f"queue {QUEUE} 3, 1 executing, 1 finished, 1 failed" in output


def test_rq_suspend_and_resume_hold_our_workers(scene: Scene) -> None:
    rq("suspend")
    assert scene.hand.claim() is None
    rq("resume")
    assert scene.hand.take().id == str(scene.high)


def test_the_commands_of_django_rq_suspend_and_resume_too(scene: Scene) -> None:
    call_command("rqsuspend")
    assert scene.hand.claim() is None
    call_command("rqresume")
    assert scene.hand.take().id == str(scene.high)


# --- django-rq's command and pages ----------------------------------------------------------------


def test_django_rq_counts_right(scene: Scene) -> None:
    [stats] = [queue for queue in get_statistics()["queues"] if queue["name"] == QUEUE]
    assert {
        key: stats[key]
        for key in ("jobs", "workers", "started_jobs", "finished_jobs", "failed_jobs")
    } == {
        "jobs": 3,
        "workers": 1,
        "started_jobs": 1,
        "finished_jobs": 1,
        "failed_jobs": 1,
    }
    assert (stats["scheduled_jobs"], stats["deferred_jobs"]) == (1, 0)


def test_rqstats_prints_these_numbers(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("rqstats", stdout=StringIO())
    [line] = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith(f"| {QUEUE} ")
    ]
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        QUEUE,
        "3",
        "1",
        "0",
        "1",
        "1",
        "1",
    ]
    call_command("rqstats", "--json")
    queues = json.loads(capsys.readouterr().out)["queues"]
    assert next(queue["jobs"] for queue in queues if queue["name"] == QUEUE) == 3


def ask(method: str, name: str, *arguments: object) -> HttpResponse:
    """Call a view of django-rq itself, without what closes it."""
    url = reverse(f"admin:django_rq_{name}", args=arguments)
    match = resolve(url)
    request = getattr(RequestFactory(), method)(url)
    request.user = User(username="root", is_staff=True, is_superuser=True)
    request.current_app = "admin"
    request.session = {}
    request._messages = CookieStorage(request)
    response: HttpResponse = inspect.unwrap(match.func)(request, *match.args, **match.kwargs)
    return response


def page(name: str, *arguments: object) -> str:
    response = ask("get", name, *arguments)
    assert response.status_code == 200
    return response.content.decode()


def test_the_pages_of_django_rq_show_the_jobs_of_each_state(scene: Scene) -> None:
    index = get_queues_map()[QUEUE]
    assert QUEUE in page("home")
    shown = {
        "jobs": [scene.high, scene.normal, scene.bulk],
        "finished_jobs": [scene.done],
        "failed_jobs": [scene.failed],
        "scheduled_jobs": [scene.delayed],
        "started_jobs": [scene.active],
        "deferred_jobs": [],
    }
    for name, handles in shown.items():
        text = page(name, index)
        assert [str(handle) in text for handle in scene.all] == [
            handle in handles for handle in scene.all
        ], name


@pytest.mark.skipif(not hasattr(django_rq.views, "queue_details"), reason="new in django-rq 4.2")
def test_the_details_page_of_django_rq_names_the_queue(scene: Scene) -> None:
    assert QUEUE in page("queue_details", get_queues_map()[QUEUE])


def test_the_pages_of_django_rq_show_each_job(scene: Scene) -> None:
    index = get_queues_map()[QUEUE]
    for handle in scene.all:
        text = page("job_detail", index, str(handle))
        assert str(handle) in text
    assert "tests.jobs.add" in page("job_detail", index, str(scene.normal))


def test_the_pages_of_django_rq_show_the_worker(scene: Scene) -> None:
    index = get_queues_map()[QUEUE]
    assert "worker-1" in page("workers", index)
    text = page("worker_details", index, keys.worker("worker-1"))
    assert "busy" in text
    scene.hand.run(scene.claim)
    text = page("worker_details", index, keys.worker("worker-1"))
    assert "idle" in text


def test_emptying_a_queue_on_the_page_cancels_its_jobs(scene: Scene) -> None:
    assert ask("post", "clear", get_queues_map()[QUEUE]).status_code == 302
    for handle in (scene.high, scene.normal, scene.bulk):
        assert handle.state == "canceled"
        assert event_names(handle) == ["enqueued", "canceled"]
    assert scene.hand.claim() is None


def test_viewers_that_count_registries_change_nothing(
    scene: Scene, redis_client: redis.Redis
) -> None:
    def dump() -> dict[bytes, Any]:
        ours = [
            key
            for key in redis_client.keys("rq:*")
            if b":cron" not in key and b":clean_registries:" not in key
        ]
        return {key: redis_client.dump(key) for key in sorted(ours)}

    before = dump()
    page("home")
    rq("info", "--raw")
    call_command("rqstats", "--json")
    for queue in (django_rq.get_queue(QUEUE), LaneQueue(QUEUE, connection=redis_client)):
        clean_registries(queue)
        assert StartedJobRegistry(queue=queue).get_job_ids() == [str(scene.active)]
    assert dump() == before


# --- RQ's classes ---------------------------------------------------------------------------------


def test_job_fetch_restores_our_hashes(scene: Scene, connection: redis.Redis) -> None:
    def fetch(handle: JobHandle) -> Job:
        return Job.fetch(str(handle), connection=connection, serializer="json")

    normal = fetch(scene.normal)
    row = scene.normal.record()
    assert (normal.func_name, normal.args, normal.kwargs) == ("tests.jobs.add", [], {"a": 1})
    assert (normal.origin, normal.description, normal.timeout) == (QUEUE, "test-add", 300)
    assert normal.created_at == row.created_at
    assert normal.enqueued_at is not None and abs(normal.enqueued_at - row.created_at) < timedelta(
        minutes=1
    )
    statuses = {
        scene.normal: JobStatus.QUEUED,
        scene.active: JobStatus.STARTED,
        scene.done: JobStatus.FINISHED,
        scene.failed: JobStatus.FAILED,
        scene.delayed: JobStatus.SCHEDULED,
        scene.canceled: JobStatus.CANCELED,
    }
    assert {handle: fetch(handle).get_status() for handle in statuses} == statuses
    active = fetch(scene.active)
    assert active.worker_name == "worker-1" and active.started_at is not None
    assert fetch(scene.done).ended_at is not None
    assert [
        job.id for job in Job.fetch_many([str(h) for h in scene.all], connection=connection) if job
    ] == [str(handle) for handle in scene.all]


def test_worker_all_restores_our_workers(scene: Scene, connection: redis.Redis) -> None:
    [worker] = Worker.all(connection=connection)
    assert (worker.name, worker.queue_names(), worker.get_state(), worker.pid) == (
        "worker-1",
        [QUEUE],
        "busy",
        1,
    )
    assert (worker.successful_job_count, worker.failed_job_count) == (1, 1)
    assert (
        worker.birth_date is not None
        and worker.last_heartbeat is not None
        and worker.total_working_time > 0
    )
    assert Worker.count(queue=django_rq.get_queue(QUEUE)) == 1


def test_a_run_is_an_execution_as_rq_knows_it(scene: Scene, connection: redis.Redis) -> None:
    registry = StartedJobRegistry(QUEUE, connection=connection)
    [(job_id, run)] = registry.get_job_and_execution_ids()
    execution = Execution.fetch(id=run, job_id=job_id, connection=connection)
    assert (job_id, run, execution.worker_name) == (str(scene.active), scene.claim.run, "worker-1")
    arguments = (wellos_redis.rq_time(), 20, 90, "token", "{}", "worker-1", "", "")
    assert wellos_redis.run(connection, "renew", *arguments) == [0]
    renewed = Execution.fetch(id=run, job_id=job_id, connection=connection)
    assert renewed.last_heartbeat > execution.last_heartbeat
    scene.hand.run(scene.claim)
    assert not connection.keys("rq:execution*") and registry.get_job_count() == 0


def test_a_job_that_is_deleted_while_it_runs_leaves_nothing(
    scene: Scene, connection: redis.Redis
) -> None:
    Job.fetch(str(scene.active), connection=connection, serializer="json").delete()
    assert scene.hand.settle(scene.claim, Outcome("completed", result="1")) is False
    assert not connection.exists(keys.job(scene.active), keys.wip(QUEUE), keys.LEASES)
    assert not connection.keys("rq:execution*")


def test_a_deleted_job_whose_worker_dies_is_swept(scene: Scene, connection: redis.Redis) -> None:
    Job.fetch(str(scene.active), connection=connection, serializer="json").delete()
    assert rescue(connection, "crashed", "it died", worker="worker-1") == []
    connection.delete(keys.worker("worker-1"))
    rq_workers.sweep(connection, [QUEUE])
    assert not connection.exists(keys.wip(QUEUE)) and not connection.keys("rq:execution*")
    assert Worker.count(connection=connection) == 0
    with connection.pipeline() as pipeline:
        pipeline.zadd(keys.LEASES, {str(scene.active): 1.0}, xx=True)
        pipeline.execute()
    assert rescue(connection, "crashed", "its lease has run out") == []
    assert not connection.exists(keys.LEASES)


def test_a_failed_job_that_rq_requeues_runs_again(scene: Scene, connection: redis.Redis) -> None:
    Books().fold()
    assert 0 < connection.ttl(keys.job(scene.failed)) <= 60
    rq(
        "requeue",
        "--queue",
        QUEUE,
        "--serializer",
        "rq.serializers.JSONSerializer",
        str(scene.failed),
    )
    assert scene.hand.claimer.settle(scene.claim, Outcome("canceled"), claim_next=False)
    scene.high.cancel()
    scene.hand.supervise()
    assert scene.hand.take().id == str(scene.normal)
    claim = scene.hand.take()
    assert claim.id == str(scene.failed) and connection.ttl(keys.job(scene.failed)) == -1
    outcome = scene.hand.run(claim)
    assert (outcome.error_class, outcome.message) == ("ValueError", "no luck")


def test_a_lane_queue_counts_lists_and_finds_over_all_lanes(scene: Scene) -> None:
    queue = django_rq.get_queue(QUEUE)
    assert isinstance(queue, LaneQueue)
    ids = [str(handle) for handle in (scene.high, scene.normal, scene.bulk)]
    assert (queue.count, len(queue), queue.is_empty()) == (3, 3, False)
    assert queue.get_job_ids() == queue.job_ids == ids
    assert [
        queue.get_job_ids(offset, length)
        for offset, length in ((0, 2), (1, 1), (2, 5), (3, 1), (0, 0))
    ] == [
        ids[:2],
        ids[1:2],
        ids[2:],
        [],
        [],
    ]
    assert [job.id for job in queue.jobs] == ids
    assert [queue.get_job_position(job_id) for job_id in [*ids, str(scene.done)]] == [0, 1, 2, None]


def test_removing_our_job_from_its_queue_cancels_it(scene: Scene, connection: redis.Redis) -> None:
    queue = django_rq.get_queue(QUEUE)
    assert queue.remove(str(scene.high)) == 1
    assert queue.remove(str(scene.high)) == 0
    with connection.pipeline() as pipeline:
        queue.remove(queue.fetch_job(str(scene.bulk)), pipeline=pipeline)
        pipeline.execute()
    for handle in (scene.high, scene.bulk):
        assert event_names(handle) == ["enqueued", "canceled"]
    assert queue.job_ids == [str(scene.normal)]
