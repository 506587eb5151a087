"""Transactions above READ COMMITTED, which is what MySQL and MariaDB have by default: what another
transaction has committed since the first read is not seen, but for locking reads on MySQL."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import redis
from django.contrib.auth.models import Group
from django.db import OperationalError, connection, connections, transaction
from django.db.models.signals import post_save

from wellos_jobs import JobHandle, enqueue_on, errors
from wellos_jobs.checks import databases
from wellos_jobs.database import is_conflict
from wellos_jobs.enqueueing import triggers
from wellos_jobs.models import JobRecord

from ..jobs import add, noop
from ..support.engine import Books, work
from ..support.guarded_jobs import once, once_until_done
from .test_unique import race

pytestmark = pytest.mark.django_db(transaction=True)

TOGETHER = 10.0
LEVELS = {
    "mysql": ["repeatable read", None],
    "postgresql": [3, 4],  # REPEATABLE READ, SERIALIZABLE
}


@pytest.fixture(params=[0, 1])
def level(request: pytest.FixtureRequest) -> Iterator[None]:
    """All new connections have it, those of other threads, too."""
    if connection.vendor not in LEVELS:
        pytest.skip("SQLite has one writer at a time")
    options = connection.settings_dict["OPTIONS"]
    before = dict(options)
    options["isolation_level"] = LEVELS[connection.vendor][request.param]
    connection.close()
    try:
        yield
    finally:
        options.clear()
        options.update(before)
        connection.close()


@contextmanager
def old_snapshot(elsewhere: Callable[[], Any]) -> Iterator[Any]:
    """Within a transaction that has read, another one commits. Gives what it returned."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(elsewhere())
        finally:
            connections.close_all()

    with transaction.atomic():
        assert list(JobRecord.objects.all()) is not None
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(TOGETHER)
        assert found, "the other transaction has committed"
        yield found[0]


SEES_IT = pytest.mark.usefixtures("level")
ENQUEUES: dict[str, Callable[[], JobHandle]] = {
    "unique": partial(once.enqueue, number=1),
    "chosen": lambda: noop.using(id="invoice-7").enqueue(),
    "chosen, bulk": lambda: noop.using(id="invoice-7").enqueue_bulk([{}])[0],
    "unique, bulk": lambda: once.enqueue_bulk([{"number": 1}, {"number": 2}])[0],
}


@SEES_IT
@pytest.mark.parametrize("name", ENQUEUES)
def test_a_duplicate_of_a_job_that_the_snapshot_lacks(name: str) -> None:
    enqueue = ENQUEUES[name]
    if connection.vendor == "postgresql":
        with (
            pytest.raises(OperationalError) as caught,
            old_snapshot(enqueue),
        ):
            enqueue()
        assert is_conflict(caught.value)
    else:
        with old_snapshot(enqueue) as first:
            assert enqueue() == first
            assert enqueue().duplicate
    assert enqueue().duplicate, "outside of that transaction"
    assert JobRecord.objects.count() == (2 if name == "unique, bulk" else 1)


@SEES_IT
def test_a_duplicate_of_a_job_that_is_not_pushed_yet(redis_client: redis.Redis) -> None:
    if connection.vendor == "postgresql":
        pytest.skip("PostgreSQL refuses the key that its snapshot lacks")
    with old_snapshot(once_until_done.enqueue) as first:
        redis_client.flushall()
        assert once_until_done.enqueue() == first
        assert once_until_done.enqueue().duplicate


@SEES_IT
def test_a_key_that_was_taken_over_since(books: Books) -> None:
    once_until_done.enqueue()
    work()
    books.fold()
    if connection.vendor == "postgresql":
        with pytest.raises(OperationalError) as caught, old_snapshot(once_until_done.enqueue):
            once_until_done.enqueue()
        assert is_conflict(caught.value)
        return
    with old_snapshot(once_until_done.enqueue) as second:
        assert once_until_done.enqueue() == second


@SEES_IT
def test_many_at_once(books: Books) -> None:
    """Each in a transaction of its own: nobody is told to try again."""
    for number in range(5):
        handles = race(*[partial(once.enqueue, number=number)] * 6)
        assert len(set(handles)) == 1
        assert sum(not handle.duplicate for handle in handles) == 1
        handles = race(*[noop.using(id=f"chosen {number}").enqueue] * 6)
        assert len(set(handles)) == 1
        assert sum(not handle.duplicate for handle in handles) == 1
    work()
    books.fold()
    assert set(JobRecord.objects.values_list("state", flat=True)) == {"completed"}


@SEES_IT
def test_a_need_that_the_snapshot_lacks() -> None:
    expected = errors.BadOption if connection.vendor == "postgresql" else None
    try:
        with old_snapshot(noop.enqueue) as first:
            handle = noop.using(depends_on=[first]).enqueue()
    except errors.BadOption as error:
        assert expected is type(error)
    else:
        assert expected is None
        assert JobRecord.objects.get(pk=handle.id).state == "blocked"


@SEES_IT
def test_a_replaced_job_that_the_snapshot_lacks() -> None:
    group = Group.objects.create(name="sales")
    with triggers.isolated():
        saved = enqueue_on(
            post_save,
            sender=Group,
            job=add,
            data=lambda instance: {"a": len(instance.name)},
            replaces=lambda instance: instance.pk,
        )
        try:
            with old_snapshot(lambda: saved.fire_for([group])):
                saved.fire_for([Group(pk=group.pk, name="sales in Paris")])
        except OperationalError as error:
            assert connection.vendor == "postgresql" and is_conflict(error)
    Books().fold()
    states = list(JobRecord.objects.values_list("state", flat=True))
    assert states.count("waiting") == 1, states


@SEES_IT
@pytest.mark.system
def test_under_load_no_conflict_reaches_the_caller(books: Books) -> None:
    """Enqueue, work and ledger at once, for two seconds."""
    until = time.monotonic() + 2
    failures: list[BaseException] = []

    def enqueue(number: int) -> None:
        try:
            while time.monotonic() < until:
                once_until_done.enqueue()
                noop.enqueue_bulk([{}] * 5)
                once.enqueue(number=number % 3)
        except BaseException as error:
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=enqueue, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    while time.monotonic() < until:
        work()
        try:
            books.fold()
        except OperationalError as error:
            assert is_conflict(error)
    for thread in threads:
        thread.join(TOGETHER)
    assert not failures, failures
    work()
    books.fold()
    assert set(JobRecord.objects.values_list("state", flat=True)) == {"completed"}
    assert JobRecord.objects.filter(name=once.name).count() == 3


def test_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    options = connection.settings_dict["OPTIONS"]
    assert databases.check_isolation() == []
    for wrong in LEVELS.get(connection.vendor, []):
        monkeypatch.setitem(options, "isolation_level", wrong)
        assert [message.id for message in databases.check_isolation()] == ["wellos_jobs.W008"]
