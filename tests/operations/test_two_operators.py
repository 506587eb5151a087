"""Two operators who do the same to the same rows at once: each row counts for exactly one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections, transaction

from wellos_jobs import Batch, JobHandle, operations
from wellos_jobs.broker import client, keys
from wellos_jobs.broker.claims import Outcome
from wellos_jobs.enqueueing import control
from wellos_jobs.enqueueing.context import CurrentJob, running
from wellos_jobs.errors import InvalidOperation
from wellos_jobs.models import AuditEntry, DeadLetter, JobRecord
from wellos_jobs.operations.audit import BulkResult
from wellos_jobs.states import AuditAction, DeadLetterStatus, Priority

from ..jobs import fail, noop
from ..support.engine import Books, Hand, work

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("no_notices"),
]

COUNT = 60


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
def people() -> list[User]:
    return [User.objects.create_user(name) for name in ("ada", "bob")]


def at_once(people: Iterable[User], act: Callable[[User], Any]) -> list[Any]:
    """Let each act in a thread of its own; return the answers, or what they raised."""
    answers: dict[str, Any] = {}
    barrier = threading.Barrier(2, timeout=20)

    def run(user: User) -> None:
        try:
            barrier.wait()
            answers[user.username] = act(user)
        except Exception as error:
            answers[user.username] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=[user]) for user in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return list(answers.values())


def rows(handles: Iterable[JobHandle]) -> Any:
    return JobRecord.objects.filter(pk__in=[handle.id for handle in handles])


def waiting() -> Any:
    return rows(noop.enqueue_bulk([{}] * COUNT))


def delayed() -> Any:
    return rows(noop.using(delay=3_600).enqueue_bulk([{}] * COUNT))


def failed(books: Books) -> Any:
    handles = fail.using(max_attempts=1).enqueue_bulk([{}] * COUNT)
    work()
    books.fold()
    return rows(handles)


def letters(books: Books) -> Any:
    failed(books)
    return DeadLetter.objects.filter(status=DeadLetterStatus.OPEN)


def by_priority(rows: Any, **who: Any) -> BulkResult:
    return operations.change_priority_many(rows, Priority.HIGH, **who)


def by_move(rows: Any, **who: Any) -> BulkResult:
    return operations.move_many(rows, "email", **who)


def by_assignment(rows: Any, **who: Any) -> BulkResult:
    return operations.assign_many(rows, User.objects.get(username="ada").pk, "see", **who)


@pytest.mark.parametrize(
    ("verb", "action", "chosen"),
    [
        (operations.cancel_many, AuditAction.CANCELED, lambda books: waiting()),
        (operations.cancel_many, AuditAction.CANCELED, lambda books: delayed()),
        (operations.promote_many, AuditAction.PROMOTED, lambda books: delayed()),
        (operations.retry_many, AuditAction.RETRIED, lambda books: delayed()),
        (operations.retry_many, AuditAction.RETRIED, failed),
        (by_priority, AuditAction.CHANGED_PRIORITY, lambda books: waiting()),
        (by_move, AuditAction.MOVED, lambda books: waiting()),
        (operations.replay_many, AuditAction.REPLAYED, letters),
        (operations.discard_many, AuditAction.DISCARDED, letters),
        (by_assignment, AuditAction.ASSIGNED, letters),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_each_row_is_counted_and_audited_for_exactly_one(
    verb: Callable[..., BulkResult],
    action: AuditAction,
    chosen: Callable[[Books], Any],
    books: Books,
    people: list[User],
) -> None:
    found = chosen(books)
    keys_of = list(found.values_list("pk", flat=True))
    assert len(keys_of) == COUNT

    results = at_once(people, lambda user: verb(found.all(), by=user))

    done = 0
    for result in results:
        if isinstance(result, InvalidOperation):  # a chunk of the loser, as a whole
            continue
        assert isinstance(result, BulkResult), result
        done += result.done
    assert done == COUNT
    targets = AuditEntry.objects.filter(action=action).values_list("target_id", flat=True)
    assert sorted(targets) == sorted(map(str, keys_of))


def test_a_running_job_is_stopped_by_exactly_one(people: list[User]) -> None:
    handle = noop.enqueue()
    Hand().take()

    answers = [operations.cancel(handle, by=people[0])]
    with pytest.raises(InvalidOperation, match="another call has just done it"):
        operations.cancel(handle, by=people[1])

    assert answers == ["stopping"]
    assert AuditEntry.objects.get(action=AuditAction.CANCELED).actor == people[0]


@pytest.mark.parametrize("kind", ["waiting", "unknown to Redis"])
def test_the_one_who_was_first_is_told_so(kind: str, people: list[User]) -> None:
    handle = noop.enqueue()
    if kind != "waiting":
        client("default").delete(keys.job(handle))

    assert operations.cancel(handle, by=people[0]) == "canceled"
    with pytest.raises(InvalidOperation, match="another call has just done it"):
        operations.cancel(handle, by=people[1])


def test_a_job_that_cancels_others_is_told_so_again_when_it_is_repeated() -> None:
    """A bulk operation whose worker died in mid-chunk does not lose count of what it did."""
    handle = noop.enqueue()
    running_job = CurrentJob(str(noop.enqueue().id), "test-noop", "default", 1, 1)

    with running(running_job):
        assert [operations.cancel(handle) for _ in range(2)] == ["canceled", "canceled"]
    assert control.cancel(handle.record()) == "already"


@pytest.mark.parametrize("starts", [False, True])
def test_a_job_that_died_before_its_audit_entry_was_there_makes_up_for_it(
    starts: bool, books: Books
) -> None:
    """The canceled job may be final in the row by the time the bulk operation is repeated."""
    handle, hand = noop.using(queue="email").enqueue(), Hand("email")
    claim = hand.take() if starts else None
    bulk, other = (
        CurrentJob(str(noop.enqueue().id), "test-noop", "default", 1, 1) for _ in range(2)
    )
    with running(bulk), pytest.raises(ZeroDivisionError), transaction.atomic():
        operations.cancel(handle)
        raise ZeroDivisionError("killed")
    if claim is not None:
        hand.settle(claim, Outcome("canceled"))
    books.fold()
    assert handle.record().state == "canceled" and not AuditEntry.objects.exists()

    with running(other), pytest.raises(InvalidOperation, match="already"):
        operations.cancel(handle)
    with running(bulk):
        assert operations.cancel(handle) == "canceled"
        assert AuditEntry.objects.get().target_id == str(handle)
        with pytest.raises(InvalidOperation, match="already"):
            operations.cancel(handle)


def test_a_batch_and_a_flow_are_canceled_by_exactly_one(people: list[User]) -> None:
    with Batch(name="import") as batch:
        batch.enqueue_bulk(noop, [{}] * 5)

    answers = at_once(people, lambda user: operations.cancel_batch(batch.id, by=user))

    counts = [answer for answer in answers if isinstance(answer, int)]
    assert sum(counts) == 5
    entries = AuditEntry.objects.filter(target_type="batch")
    assert sum(entry.detail["jobs"] for entry in entries) == 5
