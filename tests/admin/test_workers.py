"""The page of workers: current jobs; quiet, resume and stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.test import Client

from wellos_jobs import broker as wellos_redis
from wellos_jobs import operations
from wellos_jobs.broker import keys
from wellos_jobs.broker.claims import Outcome
from wellos_jobs.models import AuditEntry
from wellos_jobs.monitoring import workers as live_workers
from wellos_jobs.processes.child import Child
from wellos_jobs.processes.shared_memory import Slot
from wellos_jobs.worker.heartbeat import Heartbeat

from ..conftest import UseRedis
from ..jobs import noop, scripted
from ..support.browser import axe, login, narrow
from ..support.engine import Hand
from ..support.processes import Fleet, Process
from ..support.rows import has_state
from ..support.servers import free_port
from ..support.users import client_of, staff, text

WORKERS = "/admin/wellos_jobs/queues/workers/"

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_notices")]


def presence(token: str = "t1", kind: str = "workers") -> Heartbeat:
    known = Heartbeat(wellos_redis.source_client("default", "work"), token, kind, ["default"], 90)
    known.renew([])
    return known


def act(client: Client, verb: str, target: str) -> Any:
    return client.post(
        WORKERS, {"action": "confirm", "verb": verb, "target": target, "reason": "a new release"}
    )


def names(found: live_workers.Workforce) -> list[str]:
    return [worker.name for worker in found.workers]


# --- what it reads --------------------------------------------------------------------------------


def test_a_worker_and_its_job(redis_client: redis.Redis) -> None:
    handle, hand = noop.enqueue(), Hand("default", name="hand-1")
    hand.take()
    presence()
    redis_client.hset(keys.worker("hand-1"), mapping={"w:supervisor": "t1", "w:memory": "1048576"})
    [line] = live_workers.workforce().supervisors
    [worker] = line.workers
    assert (worker.name, worker.memory, worker.is_quiet, list(worker.queues)) == (
        "hand-1",
        1048576,
        False,
        ["default"],
    )
    assert worker.task is not None
    assert (worker.task.id, worker.task.name, worker.task.queue) == (
        str(handle),
        "test-noop",
        "default",
    )
    assert worker.task.running is not None and worker.task.running >= 0
    assert worker.task.lease_left is not None and 0 < worker.task.lease_left <= 20
    assert not line.is_other_version and not line.is_quiet


def test_workers_without_a_supervisor_and_in_order() -> None:
    for number in (10, 9, 1):
        Hand("default", name=f"hand-{number}")
    assert names(live_workers.workforce()) == ["hand-1", "hand-9", "hand-10"]
    assert len(live_workers.workforce().alone) == 3


def test_queries_are_constant(root: Client, round_trips: Any) -> None:
    for number in range(3):
        Hand("default", name=f"hand-{number}")
    root.get(WORKERS)
    with round_trips.counting() as trips:
        root.get(WORKERS)
    assert len(trips) == 2  # who works, what waits
    for number in range(3, 30):
        Hand("default", name=f"hand-{number}")
    with round_trips.counting() as trips:
        assert "hand-29" in text(root.get(WORKERS))
    assert len(trips) == 2


def test_more_workers_than_are_listed(root: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_workers, "MOST", 2)
    for number in range(5):
        Hand("default", name=f"hand-{number}")
    assert "3 more workers are not listed" in text(root.get(WORKERS))


def test_problems_are_shown(root: Client, redis_client: redis.Redis) -> None:
    noop.using(queue="email").enqueue()
    Hand("default")
    redis_client.set(keys.SUSPENDED, "1")
    shown = text(root.get(WORKERS))
    assert "Queue email: 1 job is waiting, but the queue has no worker." in shown
    assert "is suspended (rqsuspend)" in shown
    assert "No process runs maintenance" in shown


def test_other_versions_are_shown(root: Client, redis_client: redis.Redis) -> None:
    presence()
    facts = redis_client.hget(keys.supervisor("t1"), "facts").decode()
    redis_client.hset(keys.supervisor("t1"), "facts", facts.replace("0.1.0", "0.0.9"))
    assert "Some processes run another version of wellos_jobs than 0.1.0: 0.0.9." in text(
        root.get(WORKERS)
    )
    redis_client.hset(keys.supervisor("t1"), "facts", "{nonsense")
    assert "No supervisor is running" in text(root.get(WORKERS))


def test_dead_processes_are_not_listed(redis_client: redis.Redis) -> None:
    known = presence()
    assert redis_client.ttl(keys.supervisor("t1")) > 0
    known.end()
    assert not redis_client.keys(f"{keys.OWN}supervisor*")
    presence("dead")
    redis_client.zadd(keys.SUPERVISORS, {"dead": 1})
    presence("living")
    assert redis_client.zrange(keys.SUPERVISORS, 0, -1) == [b"living"]


def test_redis_is_down(root: Client, use_redis: UseRedis) -> None:
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    assert "Redis is unavailable" in text(root.get(WORKERS))
    for verb in ("quiet", "stop"):
        act(root, verb, "worker:hand")
    assert not AuditEntry.objects.exists()


# --- quiet workers --------------------------------------------------------------------------------


def test_a_quiet_worker_takes_no_jobs(root: Client) -> None:
    quiet, other = Hand("default", name="quiet"), Hand("default", name="other")
    act(root, "quiet", "worker:quiet")
    handle = noop.enqueue()
    assert quiet.is_bell_rung()
    quiet.connection.delete(keys.bell(quiet.queue_set))  # it has woken from it
    answer = quiet.claimer.claim()
    assert answer.claim is None and answer.quiet
    assert quiet.is_bell_rung(), "the token is for another"
    again = quiet.claimer.repeat_claim()
    assert again.claim is None and again.quiet
    assert other.take().id == str(handle)
    act(root, "resume", "worker:quiet")
    noop.enqueue()
    assert quiet.take()


def test_a_worker_quieted_during_a_job_finishes_it(root: Client) -> None:
    hand = Hand("default")
    noop.enqueue_bulk([{}] * 2)
    claim = hand.take()
    act(root, "quiet", "worker:hand")
    answer = hand.claimer.settle(claim, Outcome("completed"), claim_next=True)
    assert answer.settled and answer.claim is None and answer.quiet


def test_new_workers_of_a_quiet_supervisor_are_quiet(redis_client: redis.Redis) -> None:
    known, hand = presence(), Hand("default")
    child = Child(hand.name, 1, Slot())
    known.renew([child])
    assert hand.claimer.claim().quiet is False
    operations.quiet_workers("supervisor", "t1")
    late = Hand("default", name="late")
    known.renew([child, Child(late.name, 1, Slot())])
    assert known.quiet
    assert late.claimer.claim().quiet
    operations.resume_workers("worker", "late")
    known.renew([child, Child(late.name, 1, Slot())])
    assert late.claimer.claim().quiet is False, "the latest operator action wins"


@pytest.mark.parametrize("target", ["worker:nobody", "supervisor:nobody"])
@pytest.mark.parametrize("verb", ["quiet", "resume", "stop"])
def test_actions_on_dead_processes(root: Client, verb: str, target: str) -> None:
    act(root, verb, target)
    assert "no longer" in text(root.get(WORKERS))
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize(
    ("verb", "target"),
    [
        ("burn", "worker:x"),
        ("quiet", "x"),
        ("quiet", "job:x"),
        ("stop_job", "worker:x"),
        ("stop_job", "job:nonsense"),
    ],
)
def test_invalid_requests_are_refused(root: Client, verb: str, target: str) -> None:
    assert act(root, verb, target).status_code == 400


@pytest.mark.parametrize(
    ("verb", "permission"),
    [
        ("quiet", "quiet_worker"),
        ("resume", "quiet_worker"),
        ("stop", "stop_worker"),
        ("stop_job", "cancel_job"),
    ],
)
def test_each_action_needs_its_permission(verb: str, permission: str) -> None:
    handle, hand = scripted.enqueue(), Hand("default")
    hand.take()
    target = f"job:{handle}" if verb == "stop_job" else "worker:hand"
    viewer = client_of(staff("view_queues"))
    assert 'class="wj-act"' not in viewer.get(WORKERS).content.decode()
    assert act(viewer, verb, target).status_code == 403
    sent = {"action": "ask", "verb": verb, "target": target}
    assert viewer.post(WORKERS, sent).status_code == 403
    allowed = client_of(staff("view_queues", permission))
    assert 'class="wj-act"' in allowed.get(WORKERS).content.decode()
    assert allowed.post(WORKERS, sent).status_code == 200
    assert act(allowed, verb, target).status_code == 302


def test_staff_limited_to_organizations_do_not_see_it(settings: Any) -> None:
    hook = "tests.admin.test_overview.organizations_of"
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "ADMIN_ORGANIZATIONS": hook}
    Hand("default")
    shown = text(client_of(staff("view_queues")).get(WORKERS))
    assert "You may see only some organizations" in shown
    assert "hand" not in shown


# --- real processes -------------------------------------------------------------------------------


def crew(processes: Fleet, *arguments: str) -> Process:
    """A supervisor that is known, with two workers that are known to be its own."""
    process = processes.worker("default", "--processes", "2", "--name", "crew", *arguments)
    processes.wait_until(
        lambda: [len(line.workers) for line in live_workers.workforce().supervisors] == [2],
        40,
        "two workers",
    )
    return process


def task_of(name: str) -> live_workers.Task | None:
    return next(
        (worker.task for worker in live_workers.workforce().workers if worker.name == name), None
    )


def test_a_supervisor_that_is_quiet_takes_no_jobs(processes: Fleet, root: Client) -> None:
    crew(processes)
    [line] = live_workers.workforce().supervisors
    processes.wait_until(
        lambda: all(worker.memory for worker in live_workers.workforce().workers),
        20,
        "their memory",
    )
    assert line.kind == "workers" and list(line.queues) == ["default"]
    processes.wait_until(lambda: live_workers.workforce().supervisors[0].leads, 20, "it leads")
    act(root, "quiet", f"supervisor:{line.token}")
    assert all(worker.is_quiet for worker in live_workers.workforce().workers)
    handles = noop.enqueue_bulk([{}] * 4)
    hand = Hand("default", name="other")
    for handle in handles:
        hand.run()
        assert handle.state == "completed"
    last = noop.enqueue()
    act(root, "resume", f"supervisor:{line.token}")
    processes.wait_until(lambda: has_state(last, "completed"), 30)


def test_a_worker_is_stopped_after_its_job(processes: Fleet, root: Client, tmp_path: Path) -> None:
    process = crew(processes)
    handle = scripted.enqueue(steps=[f"wait_file:{tmp_path / 'go'}"])
    [busy] = processes.wait_until(
        lambda: [worker for worker in live_workers.workforce().workers if worker.task], 30
    )
    act(root, "stop", f"worker:{busy.name}")
    (tmp_path / "go").touch()
    processes.wait_until(lambda: has_state(handle, "completed"), 30)
    processes.wait_until(
        lambda: len(live_workers.workforce().workers) == 1, 30, "one worker is left"
    )
    [line] = live_workers.workforce().supervisors
    act(root, "stop", f"supervisor:{line.token}")
    assert process.wait(40) == 0
    assert live_workers.workforce().supervisors == []
    stopped = AuditEntry.objects.filter(action="stopped").order_by("pk")
    assert [entry.target_type for entry in stopped] == ["worker", "supervisor"]


def test_the_job_of_a_worker_is_stopped(processes: Fleet, root: Client, tmp_path: Path) -> None:
    crew(processes)
    handle = scripted.enqueue(steps=[f"wait_file:{tmp_path / 'never'}"])
    processes.wait_until(
        lambda: any(worker.task for worker in live_workers.workforce().workers), 30
    )
    act(root, "stop_job", f"job:{handle}")
    processes.wait_until(lambda: has_state(handle, "canceled"), 30)


def test_a_scheduler_is_shown(processes: Fleet, root: Client) -> None:
    processes.manage("rqscheduler")
    processes.wait_until(
        lambda: [line.kind for line in live_workers.workforce().supervisors] == ["clock"], 40
    )
    processes.wait_until(lambda: live_workers.workforce().has_clock, 20)
    assert "Scheduler" in text(root.get(WORKERS))


@pytest.mark.browser
def test_workers_in_the_browser(page: Any, processes: Fleet, tmp_path: Path) -> None:
    login(page, User.objects.create_superuser("root"))
    crew(processes)
    handle = scripted.enqueue(steps=[f"wait_file:{tmp_path / 'never'}"])
    processes.wait_until(
        lambda: any(worker.task for worker in live_workers.workforce().workers), 30
    )
    page.goto(WORKERS)
    axe(page)
    narrow(page)
    page.get_by_role("button", name="Stop job").click()
    axe(page)
    page.get_by_label("Reason").fill("it hangs")
    page.get_by_role("button", name="Stop job").click()
    page.get_by_text("is being stopped").wait_for()
    processes.wait_until(lambda: has_state(handle, "canceled"), 30)
    page.get_by_role("button", name="Quiet all").click()
    page.get_by_label("Reason").fill("a new release")
    page.get_by_role("button", name="Quiet").click()
    page.get_by_text("takes no more jobs").wait_for()
    page.get_by_label("Refresh").select_option("1")
    page.get_by_text("quiet", exact=True).nth(2).wait_for()
