"""Flows and dependencies: the order of runs, failures, cancellation, replay and lost releases."""

from __future__ import annotations

import threading
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction
from django.dispatch import Signal
from django.utils import timezone

from wellos_jobs import Flow, JobHandle, errors, operations, signals
from wellos_jobs.broker import queues
from wellos_jobs.enqueueing import control, dependencies
from wellos_jobs.enqueueing.flows import FlowHandle
from wellos_jobs.maintenance import prune
from wellos_jobs.models import AuditEntry, DeadLetter, JobDependency, JobRecord
from wellos_jobs.states import DeadLetterStatus

from ..jobs import add, echo, fail, noop, scripted
from ..support.engine import Books, Hand, listening, work
from ..support.guarded_jobs import needs
from ..support.processes import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_notices")]
ENDINGS = {"cancel": signals.job_canceled, "fail": signals.job_failed}


def run_all(books: Books) -> None:
    """Work and fold until nothing more happens."""
    wait_until(lambda: work() and books.fold() == 0)


def states(*handles: JobHandle) -> list[str]:
    """The states by the rows."""
    found = dict(JobRecord.objects.values_list("pk", "state"))
    return [found[handle.id] for handle in handles]


def failing(**options: Any) -> Flow:
    """A job that fails, a child of it and a grandchild."""
    return Flow(
        fail.with_data(),
        children=[Flow(noop.with_data(), children=[noop.with_data()], **options)],
        **options,
    )


# --- what runs when -------------------------------------------------------------------------------


def test_parent_first_over_queues(books: Books) -> None:
    flow = Flow(
        echo.with_data(value="month"),
        children=[
            Flow(add.with_data(a=1), children=[noop.with_data()]),
            Flow(needs.with_data()),
        ],
    ).enqueue(organization="acme")
    parent, first, grandchild, second = flow.handles
    assert states(*flow.handles) == ["waiting", "blocked", "blocked", "blocked"]
    hand = Hand()
    hand.run()
    assert hand.claim() is None
    books.fold()
    assert states(*flow.handles) == ["completed", "waiting", "blocked", "waiting"]
    assert (first.queue, first.record().parent_id) == ("reports", parent.id)
    run_all(books)
    assert set(flow.states.values()) == {"completed"} and flow.wait(0)
    assert second.result == ["month"], "what it needed is there to be read"
    assert grandchild.record().organization_id == "acme"
    assert books.row(grandchild).started_at >= books.row(first).finished_at


def test_children_first(books: Books) -> None:
    flow = Flow(
        needs.with_data(), children=[add.with_data(a=n) for n in range(5)], order="children_first"
    ).enqueue()
    hand = Hand()
    for _ in range(4):
        hand.run()
    books.fold()
    assert flow.handles[0].state == "blocked" and not flow.wait(0)
    run_all(books)
    assert sorted(flow.handles[0].result) == [1, 2, 3, 4, 5]


def test_a_dag_by_depends_on(books: Books) -> None:
    """A diamond: the last one runs once, after both."""
    top = echo.enqueue(value=1)
    left = echo.using(depends_on=[top]).enqueue(value=2)
    right = echo.using(depends_on=[top.id, str(top)]).enqueue(value=3)
    bottom = needs.using(depends_on=[left, right.record(), left]).enqueue()
    assert states(top, left, right, bottom) == ["waiting", "blocked", "blocked", "blocked"]
    run_all(books)
    assert bottom.result == [2, 3]
    assert JobRecord.objects.filter(attempts=1).count() == 4
    assert JobDependency.objects.count() == 4


@pytest.mark.system
def test_a_chain_of_two_hundred(books: Books) -> None:
    flow = Flow(noop.with_data())
    for _ in range(199):
        flow = Flow(noop.with_data(), children=[flow])
    handle = flow.enqueue()
    hand = Hand()
    for _ in range(200):
        hand.run()
        books.fold()
    assert set(handle.states.values()) == {"completed"} and len(handle.handles) == 200


@pytest.mark.system
def test_a_thousand_children_are_released_by_a_few_statements(books: Books) -> None:
    from django.test.utils import CaptureQueriesContext

    Flow(noop.with_data(), children=[noop.with_data() for _ in range(1_000)]).enqueue()
    work()
    with CaptureQueriesContext(connections["default"]) as captured:
        books.fold()
    assert queues.counts("default").waiting == 1_000
    assert len(captured) < 70, len(captured)


def test_a_delayed_child_is_delayed_once_it_may_run(books: Books) -> None:
    first = noop.enqueue()
    later = noop.using(depends_on=[first], delay=60).enqueue()
    assert later.state == "blocked"
    work()
    books.fold()
    assert later.state == "delayed"


def test_written_in_the_callers_transaction(books: Books) -> None:
    with transaction.atomic():
        Flow(noop.with_data(), children=[noop.with_data()]).enqueue()
        transaction.set_rollback(True)
    assert JobRecord.objects.count() == JobDependency.objects.count() == 0
    assert Hand().claim() is None


def test_an_unknown_needed_job_is_refused() -> None:
    with pytest.raises(errors.BadOption, match="but the database 'default' has no such job"):
        noop.using(depends_on=[uuid.uuid4()]).enqueue()
    assert JobRecord.objects.count() == 0


def test_needed_jobs_that_have_ended(books: Books) -> None:
    done, broken = noop.enqueue(), fail.enqueue()
    run_all(books)
    assert noop.using(depends_on=[done]).enqueue().state == "waiting"
    late = noop.using(depends_on=[done, broken]).enqueue()
    assert (late.state, late.error) == ("canceled", dependencies.NEEDED_FAILED)


# --- when one fails -------------------------------------------------------------------------------


def test_failure_cancels_what_depends_on_it(books: Books) -> None:
    flow = failing().enqueue()
    run_all(books)
    assert states(*flow.handles) == ["failed", "canceled", "canceled"] and flow.wait(0)
    assert flow.handles[1].error == dependencies.NEEDED_FAILED
    assert DeadLetter.objects.count() == 1


def test_failure_fails_what_depends_on_it(books: Books) -> None:
    flow = failing(on_failure="fail").enqueue()
    run_all(books)
    assert states(*flow.handles) == ["failed", "failed", "failed"]
    assert sorted(DeadLetter.objects.values_list("error_class", flat=True)) == [
        "NeededJobFailed",
        "NeededJobFailed",
        "ValueError",
    ]


def test_the_dead_letter_of_a_job_that_never_ran_has_its_organization(books: Books) -> None:
    """Else staff of one organization would not see it, and all such jobs would be one fault."""
    flow = failing(on_failure="fail").enqueue(organization="acme")
    run_all(books)
    letters = DeadLetter.objects.filter(error_class="NeededJobFailed").select_related("job")
    assert len(letters) == 2
    for letter in letters:
        assert (letter.name, letter.queue) == (letter.job.name, letter.job.queue)
        assert letter.organization_id == "acme"
    assert len({letter.fingerprint for letter in letters}) == len(
        {letter.name for letter in letters}
    )
    noted = AuditEntry.objects.filter(action="failed", target_type="job")
    assert {entry.target_id for entry in noted} == {str(handle) for handle in flow.handles}
    assert {entry.detail["error"] for entry in noted} == {"broken", dependencies.NEEDED_FAILED}


@pytest.mark.parametrize(("policy", "signal"), ENDINGS.items(), ids=ENDINGS)
def test_the_signals_of_jobs_that_end_without_having_run(
    books: Books, policy: str, signal: Signal
) -> None:
    flow = failing(on_failure=policy).enqueue()
    work()
    with listening(signal) as heard, listening(signals.dead_letter_created) as buried:
        books.fold()

    ended = [handle.id for handle in flow.handles[1:]]
    assert [(one["job_id"], one["name"], one["attempt"]) for one in heard] == [
        (str(job_id), "test-noop", 0) for job_id in ended
    ]
    dead = [one["dead_letter"].job_id for one in buried]
    assert sorted(dead) == sorted([flow.handles[0].id, *(ended if policy == "fail" else ())])


def test_no_signals_of_jobs_whose_end_was_rolled_back(books: Books) -> None:
    flow = failing(on_failure="fail").enqueue()
    JobRecord.objects.filter(pk=flow.handles[0].id).update(state="failed")
    with listening(signals.job_failed) as heard, transaction.atomic():
        dependencies.release([flow.handles[0].id], "default")
        assert states(*flow.handles) == ["failed"] * 3
        transaction.set_rollback(True)
    assert heard == []


def test_many_dependents_end_in_few_queries(
    books: Books, django_assert_max_num_queries: Any
) -> None:
    first = noop.enqueue()
    noop.using(depends_on=[first]).enqueue_bulk([{}] * 50)
    JobRecord.objects.filter(pk=first.id).update(state="failed")
    with django_assert_max_num_queries(12), transaction.atomic():
        dependencies.release([first.id], "default")
    assert JobRecord.objects.filter(state="canceled").count() == 50


def test_failure_with_on_failure_run(books: Books) -> None:
    flow = failing(on_failure="run").enqueue()
    run_all(books)
    assert states(*flow.handles) == ["failed", "completed", "completed"]


def test_on_failure_run_waits_for_the_others(books: Books) -> None:
    flow = Flow(
        needs.with_data(),
        children=[fail.with_data(), add.with_data(a=1)],
        order="children_first",
        on_failure="run",
    ).enqueue()
    Hand("default").run()
    books.fold()
    assert states(*flow.handles) == ["blocked", "failed", "waiting"]
    run_all(books)
    assert flow.handles[0].result == [None, 2]


@pytest.mark.parametrize(
    ("on_failure", "ending"), [("cancel", "canceled"), ("fail", "failed"), ("run", "waiting")]
)
def test_needed_job_canceled(books: Books, on_failure: str, ending: str) -> None:
    flow = Flow(noop.with_data(), children=[noop.with_data()], on_failure=on_failure).enqueue()
    flow.handles[0].cancel()
    books.fold()
    assert states(*flow.handles) == ["canceled", ending]


def test_a_retrying_job_has_not_failed(books: Books) -> None:
    flow = Flow(
        scripted.with_data(steps=["on:1:raise:ValueError:once"]), children=[noop.with_data()]
    ).enqueue()
    Hand().run()
    books.fold()
    assert states(*flow.handles) == ["delayed", "blocked"]
    wait_until(lambda: work() and books.fold() == 0 and flow.wait(0))
    assert states(*flow.handles) == ["completed", "completed"]


# --- cancel ---------------------------------------------------------------------------------------


def test_blocked_job_canceled(books: Books) -> None:
    flow = Flow(
        noop.with_data(), children=[Flow(noop.with_data(), children=[noop.with_data()])]
    ).enqueue()
    assert flow.handles[1].cancel()
    run_all(books)
    assert states(*flow.handles) == ["completed", "canceled", "canceled"]


def test_blocked_job_canceled_while_it_is_released(books: Books) -> None:
    """The tombstone is there before the push: the row comes to say so, too."""
    flow = Flow(noop.with_data(), children=[noop.with_data()]).enqueue()
    child = flow.handles[1].record()
    work()
    control.cancel(child)
    run_all(books)
    assert states(*flow.handles) == ["completed", "canceled"]


@pytest.mark.parametrize("on_failure", ["cancel", "run", "fail"])
def test_flow_canceled(books: Books, on_failure: str) -> None:
    child = Flow(noop.with_data(), [noop.with_data()], on_failure=on_failure)
    flow = Flow(noop.with_data(), [child], on_failure=on_failure).enqueue()
    assert operations.cancel_flow(flow.id, reason="not this month") == 3
    run_all(books)
    assert states(*flow.handles) == ["canceled"] * 3
    entry = AuditEntry.objects.get(target_type="flow")
    assert (entry.action, entry.target_id, entry.reason, entry.detail) == (
        "canceled",
        str(flow.id),
        "not this month",
        {"jobs": 3},
    )
    with pytest.raises(errors.InvalidOperation):
        operations.cancel_flow(flow.id)
    with pytest.raises(errors.JobNotFound):
        operations.cancel_flow(uuid.uuid4())


# --- replay ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_failure", ["cancel", "fail"])
def test_a_replayed_dead_letter_revives_its_dependents(books: Books, on_failure: str) -> None:
    broken = scripted.using(max_attempts=1).enqueue(steps=["raise:ValueError:no"])
    flow = Flow(noop.with_data(), children=[noop.with_data()], on_failure=on_failure).enqueue(
        depends_on=[broken]
    )
    other = fail.enqueue()
    both = noop.using(depends_on=[broken, other]).enqueue()
    run_all(books)
    bad = "canceled" if on_failure == "cancel" else "failed"
    assert states(*flow.handles, both) == [bad, bad, "canceled"]
    JobRecord.objects.filter(pk=broken.id).update(data={"steps": []})
    operations.replay(DeadLetter.objects.get(job_id=broken.id))
    assert states(broken, *flow.handles, both) == ["waiting", "blocked", "blocked", "blocked"]
    dependencies.heal("default")
    assert states(both) == ["canceled"], "the other job it needs has still failed"
    run_all(books)
    assert states(broken, *flow.handles, both) == ["completed"] * 3 + ["canceled"]
    open_letters = DeadLetter.objects.filter(status=DeadLetterStatus.OPEN)
    assert list(open_letters.values_list("job_id", flat=True)) == [other.id]


def test_a_canceled_job_is_not_revived(books: Books) -> None:
    flow = failing().enqueue()
    flow.handles[1].cancel()
    run_all(books)
    operations.retry(flow.handles[0].record())
    assert states(*flow.handles)[1:] == ["canceled", "canceled"]


@pytest.mark.parametrize("on_failure", ["cancel", "fail"])
def test_flow_retried(books: Books, on_failure: str) -> None:
    flow = failing(on_failure=on_failure).enqueue()
    run_all(books)
    revived = operations.retry_flow(str(flow.id), reason="mended")
    assert len(revived) == (1 if on_failure == "cancel" else 3)
    assert states(*flow.handles) == ["waiting", "blocked", "blocked"], (
        "they run in their order again"
    )
    run_all(books)
    assert states(*flow.handles) == (
        ["failed", "canceled", "canceled"] if on_failure == "cancel" else ["failed"] * 3
    )
    assert (
        AuditEntry.objects.filter(target_type="flow", action="retried", reason="mended").count()
        == 1
    )
    JobRecord.objects.filter(pk=flow.handles[0].id).update(name="test-noop", data={})
    operations.retry_flow(flow.id)
    run_all(books)
    assert states(*flow.handles) == ["completed"] * 3
    with pytest.raises(errors.InvalidOperation, match="No job of flow"):
        operations.retry_flow(flow.id)


# --- nothing is lost ------------------------------------------------------------------------------


def in_thread(step: Any) -> threading.Thread:
    def run() -> None:
        try:
            step()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_parent_completes_while_a_child_is_being_added(books: Books) -> None:
    """The ledger folds the parent's end while the child's row is not committed yet: it neither
    waits nor forgets."""
    parent = noop.enqueue()
    added, may_commit = threading.Event(), threading.Event()
    children: list[JobHandle] = []

    def add_child() -> None:
        with transaction.atomic():
            children.append(noop.using(depends_on=[parent]).enqueue())
            added.set()
            assert may_commit.wait(10)

    is_sqlite = connections["default"].vendor == "sqlite"
    if is_sqlite:  # one writer at a time: the fold comes before or after
        may_commit.set()
    thread = in_thread(add_child)
    assert added.wait(10)
    if is_sqlite:
        thread.join(10)
    work()
    books.fold()
    assert books.row(parent).state == "completed", "though the other transaction goes on"
    may_commit.set()
    thread.join(10)
    assert children[0].state in ("waiting", "completed")
    run_all(books)
    assert states(parent, *children) == ["completed", "completed"]


def test_a_lost_release_is_healed(books: Books) -> None:
    flow = failing().enqueue()
    chain = Flow(noop.with_data(), children=[noop.with_data()]).enqueue()
    many = Flow(
        needs.with_data(), children=[noop.with_data()] * 3, order="children_first"
    ).enqueue()
    now = timezone.now()
    for handle, state in (
        (flow.handles[0], "failed"),
        (chain.handles[0], "completed"),
        (many.handles[1], "completed"),
    ):
        JobRecord.objects.filter(pk=handle.id).update(state=state, finished_at=now)
    dependencies.heal("default")
    assert states(*flow.handles) == ["failed", "canceled", "canceled"]
    assert states(*chain.handles) == ["completed", "waiting"]
    assert states(many.handles[0]) == ["blocked"]


def test_healing_is_not_held_up_by_jobs_that_rightly_wait(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    Flow(noop.with_data(), children=[noop.with_data()] * 20, order="children_first").enqueue()
    JobRecord.objects.filter(state="waiting").exclude(
        pk=JobRecord.objects.filter(state="waiting").first().pk
    ).update(state="completed")
    lost = Flow(noop.with_data(), children=[noop.with_data()]).enqueue()
    JobRecord.objects.filter(pk=lost.handles[0].id).update(state="completed")
    dependencies.heal("default", limit=5)
    assert states(lost.handles[1]) == ["waiting"]


def test_two_ledgers_release_a_job_once(books: Books) -> None:
    first, second = noop.enqueue(), noop.enqueue()
    both = needs.using(depends_on=[first, second]).enqueue()
    work()
    books.fold()
    with transaction.atomic():
        dependencies.release([first.id, second.id], "default")
        dependencies.release([second.id], "default")
    run_all(books)
    assert JobRecord.objects.get(pk=both.id).attempts == 1


def test_pruning_keeps_what_an_open_job_needs(books: Books) -> None:
    first = echo.enqueue(value="old")
    second = needs.using(depends_on=[first, noop.enqueue()]).enqueue()
    Hand().run()
    books.fold()
    old = timezone.now() - timedelta(days=31)
    JobRecord.objects.filter(pk=first.id).update(finished_at=old)
    assert prune.prune("default")["completed"] == 0
    run_all(books)
    assert second.result == ["old", None]
    JobRecord.objects.update(finished_at=old)
    assert prune.prune("default")["completed"] == 3
    assert JobRecord.objects.count() == JobDependency.objects.count() == 0


def test_a_flow_handle_in_another_process(books: Books) -> None:
    flow = Flow(noop.with_data(), children=[noop.with_data()]).enqueue()
    again = FlowHandle(flow.id, [])
    assert again.states == flow.states and str(again) == str(flow.id)
    assert again.cancel() == 2
