"""Triggers: which signals enqueue, in which transaction, with what, and what becomes of loops."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.contrib.auth.signals import user_logged_in
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models.signals import m2m_changed, post_delete, post_save
from django.dispatch import Signal
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from wellos_jobs import Flow, current_job, enqueue_on, job
from wellos_jobs.broker import queues
from wellos_jobs.enqueueing import triggers
from wellos_jobs.errors import BadOption, TriggerError
from wellos_jobs.models import JobRecord
from wellos_jobs.states import JobState

from ..support.engine import Books, work

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])
happened = Signal()
RUNS: list[Any] = []


@job("test-greet", queue="email")
def greet(group_id: int, name: str = "") -> None:
    RUNS.append((group_id, name))


@job("test-touch")
def touch(group_id: int) -> None:
    """Save the row, as a job may that is set off by its being saved."""
    RUNS.append(group_id)
    Group.objects.get(pk=group_id).save()


@job("test-rename")
def rename(group_id: int, number: int) -> None:
    """Save the row under a new name each time."""
    RUNS.append(number)
    Group.objects.filter(pk=group_id).update(name=f"{number + 1}")
    Group.objects.get(pk=group_id).save()


@job("test-look")
def look(group_id: int) -> None:
    RUNS.append(dict(current_job().data))


@pytest.fixture(autouse=True)
def isolated() -> Iterator[None]:
    """Forget the triggers of each test."""
    RUNS.clear()
    with triggers.isolated():
        yield


def enqueued() -> list[JobRecord]:
    return list(JobRecord.objects.order_by("pk"))


def on_new_group(**more: Any) -> triggers.Trigger:
    given = {
        "when": lambda created: created,
        "data": lambda instance: {"group_id": instance.pk, "name": instance.name},
    }
    return enqueue_on(post_save, sender=Group, **{"job": greet, **given, **more})


# --- what fires -----------------------------------------------------------------------------------


def test_a_saved_row_enqueues_a_job() -> None:
    on_new_group()
    group = Group.objects.create(name="sales")
    group.save()
    (record,) = enqueued()
    assert (record.name, record.queue, record.data) == (
        "test-greet",
        "email",
        {"group_id": group.pk, "name": "sales"},
    )
    work()
    assert [(group.pk, "sales")] == RUNS


def test_as_a_decorator_it_returns_the_job() -> None:
    decorated = enqueue_on(
        post_save, sender="auth.Group", data=lambda instance: {"group_id": instance.pk}
    )(greet)
    assert decorated is greet
    Group.objects.create(name="sales")
    assert len(enqueued()) == 1


def test_it_is_part_of_the_transaction() -> None:
    on_new_group()
    with pytest.raises(LookupError), transaction.atomic():
        Group.objects.create(name="sales")
        assert len(enqueued()) == 1
        raise LookupError
    assert enqueued() == []
    assert queues.counts("email").waiting == 0


def test_the_job_goes_to_the_database_of_the_signal() -> None:
    on_new_group()
    Group.objects.using("other").create(name="sales")
    assert not JobRecord.objects.exists()
    assert JobRecord.objects.using("other").count() == 1


def test_other_senders_do_not_count() -> None:
    on_new_group()
    User.objects.create(username="ann")
    assert enqueued() == []


def test_fixtures_count_only_with_raw() -> None:
    on_new_group(name="quiet")
    on_new_group(name="loud", raw=True, job=touch, data=lambda instance: {"group_id": instance.pk})
    post_save.send(
        sender=Group, instance=Group(pk=1, name="x"), created=True, raw=True, using="default"
    )
    assert [record.name for record in enqueued()] == ["test-touch"]


def test_other_kinds_of_signals() -> None:
    enqueue_on(
        post_delete,
        sender=Group,
        job=greet,
        data=lambda instance: {"group_id": instance.pk, "name": "gone"},
    )
    enqueue_on(
        happened, job=greet, data=lambda sender, group_id: {"group_id": group_id, "name": sender}
    )
    enqueue_on(
        m2m_changed,
        sender=User.groups.through,
        job=greet,
        data=lambda action: {"group_id": 1, "name": action},
    )
    enqueue_on(user_logged_in, job=greet, data={"group_id": 0, "name": "somebody"})
    group = Group.objects.create(name="sales")
    user = User.objects.create(username="ann")
    user.groups.add(group)
    user_logged_in.send(sender=User, request=None, user=user)
    happened.send(sender="me", group_id=7)
    group.delete()
    names = [record.data["name"] for record in JobRecord.objects.order_by("created_at")]
    assert names == ["pre_add", "post_add", "somebody", "me", "gone"]


def test_no_data_means_no_job() -> None:
    on_new_group(data=lambda instance: None)
    Group.objects.create(name="sales")
    assert enqueued() == []


def test_options() -> None:
    at = timezone.now() + timedelta(hours=1)
    on_new_group(options=lambda instance: {"run_at": at, "organization": instance.name})
    Group.objects.create(name="acme")
    (record,) = enqueued()
    assert (record.run_at, record.organization_id, record.state) == (at, "acme", JobState.DELAYED)


# --- many rows ------------------------------------------------------------------------------------


def test_fire_for_replaces_the_signals_of_bulk_create(
    django_assert_max_num_queries: Any,
) -> None:
    trigger = on_new_group()
    with transaction.atomic():
        groups = Group.objects.bulk_create(Group(name=f"{n}") for n in range(300))
        assert enqueued() == []
        groups = list(Group.objects.order_by("pk"))
        with django_assert_max_num_queries(8):
            handles = trigger.fire_for(groups, created=True)
    assert len(handles) == 300
    assert sorted(record.data["group_id"] for record in enqueued()) == [
        group.pk for group in groups
    ]
    assert queues.counts("email").waiting == 300


def test_a_save_costs_one_more_query(django_assert_num_queries: Any) -> None:
    on_new_group()
    with (
        transaction.atomic(),
        django_assert_num_queries(4),
    ):  # the group, the job, a savepoint around it
        Group.objects.create(name="sales")


# --- one after another ----------------------------------------------------------------------------


def on_each_save(**more: Any) -> triggers.Trigger:
    given = {
        "data": lambda instance: (
            {"group_id": instance.pk, "name": instance.name} if instance.name else None
        ),
        "options": {"run_at": timezone.now() + timedelta(hours=1)},
        "replaces": lambda instance: instance.pk,
    }
    return enqueue_on(post_save, sender=Group, job=greet, **{**given, **more})


def states() -> dict[str, str]:
    Books().fold()
    return {record.data["name"]: record.state for record in enqueued()}


def test_a_job_replaces_the_open_one() -> None:
    on_each_save()
    group = Group.objects.create(name="a")
    other = Group.objects.create(name="z")
    group.name = "b"
    group.save()
    assert states() == {"a": "canceled", "z": "delayed", "b": "delayed"}
    group.name = ""
    group.save()
    assert states() == {"a": "canceled", "z": "delayed", "b": "canceled"}
    other.save()
    assert len(enqueued()) == 3


def test_an_identical_job_changes_nothing() -> None:
    on_each_save()
    group = Group.objects.create(name="a")
    for _ in range(3):
        group.save()
    assert states() == {"a": "delayed"}


def test_a_rolled_back_change_leaves_the_old_job() -> None:
    on_each_save()
    group = Group.objects.create(name="a")
    with pytest.raises(LookupError), transaction.atomic():
        group.name = "b"
        group.save()
        raise LookupError
    assert states() == {"a": "delayed"}
    group.name = "c"
    group.save()
    assert states() == {"a": "canceled", "c": "delayed"}


def test_a_job_that_has_ended_is_not_replaced() -> None:
    on_each_save(options={})
    group = Group.objects.create(name="a")
    work()
    assert states() == {"a": "completed"}
    group.save()
    Books().fold()
    assert [record.state for record in enqueued()] == ["completed", "waiting"]


# --- loops ----------------------------------------------------------------------------------------


def test_a_job_that_saves_its_row_does_not_fire_itself_forever(caplog: Any) -> None:
    enqueue_on(post_save, sender=Group, job=touch, data=lambda instance: {"group_id": instance.pk})
    group = Group.objects.create(name="sales")
    work()
    assert [group.pk] == RUNS
    assert len(enqueued()) == 1


def test_enqueued_directly_it_does_not_fire_itself_either() -> None:
    group = Group.objects.create(name="sales")
    enqueue_on(post_save, sender=Group, job=touch, data=lambda instance: {"group_id": instance.pk})
    touch.enqueue(group_id=group.pk)
    work()
    assert [group.pk] == RUNS


def test_two_jobs_that_fire_each_other_end() -> None:
    enqueue_on(post_save, sender=Group, job=touch, data=lambda instance: {"group_id": instance.pk})
    enqueue_on(
        post_save,
        sender=Group,
        job=rename,
        data=lambda instance: {"group_id": instance.pk, "number": 1},
    )
    Group.objects.create(name="sales")
    work()
    assert len(enqueued()) == len(RUNS) <= 5


def test_a_loop_with_changing_data_is_cut() -> None:
    number = lambda instance: {"group_id": instance.pk, "number": int(instance.name)}  # noqa: E731
    enqueue_on(post_save, sender=Group, job=rename, data=number)
    Group.objects.create(name="0")
    work()
    assert list(range(triggers.MAX_CHAIN)) == RUNS


def test_reentrant() -> None:
    enqueue_on(
        post_save,
        sender=Group,
        job=touch,
        data=lambda instance: {"group_id": instance.pk},
        when=lambda: len(RUNS) < 3,
        reentrant=True,
    )
    Group.objects.create(name="sales")
    work()
    assert len(RUNS) == 3


def test_a_run_knows_its_data() -> None:
    look.enqueue(group_id=7)
    work()
    assert RUNS == [{"group_id": 7}]


# --- faults ---------------------------------------------------------------------------------------


def boom(**_: Any) -> Any:
    raise KeyError("x")


@pytest.mark.parametrize("part", ["when", "data", "options", "replaces"])
def test_exceptions_of_functions_name_the_trigger(part: str) -> None:
    on_new_group(**{part: boom})
    with pytest.raises(
        TriggerError,
        match=rf"trigger test-greet on post_save of auth.Group .*: {part} raised KeyError",
    ):
        Group.objects.create(name="sales")


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"data": lambda instance: {"grup_id": 1}}, "grup_id"),
        ({"data": lambda instance: {"group_id": object()}}, "group_id"),
        ({"options": lambda instance: {"dealy": 1}}, "did you mean 'delay'"),
    ],
)
def test_invalid_data_names_the_trigger(more: dict[str, Any], text: str) -> None:
    on_new_group(**more)
    with (
        pytest.raises(TriggerError, match="trigger test-greet on post_save") as caught,
        transaction.atomic(),
    ):
        Group.objects.create(name="sales")
    assert text in str(caught.value)
    assert not Group.objects.exists()


def test_invalid_declarations() -> None:
    with pytest.raises(BadOption, match="is not a signal"):
        enqueue_on("post_save", job=greet)  # type: ignore[arg-type]
    with pytest.raises(BadOption, match="only a model's signals take a name"):
        enqueue_on(happened, sender="auth.Group", job=greet)
    with pytest.raises(BadOption, match="put @enqueue_on above @job"):
        enqueue_on(post_save)(lambda: None)


def test_two_triggers_of_one_job_and_signal_need_names() -> None:
    on_new_group()
    with pytest.raises(BadOption, match="give one of them a name="):
        enqueue_on(post_save, sender=Group, job=greet)
    enqueue_on(
        post_save,
        sender=Group,
        job=greet,
        name="again",
        data=lambda instance: {"group_id": instance.pk},
    )
    Group.objects.create(name="sales")
    assert len(enqueued()) == 2


def test_a_module_imported_twice_fires_once() -> None:
    for _ in range(2):
        on_new_group()
    Group.objects.create(name="sales")
    assert len(enqueued()) == 1


# --- flows ----------------------------------------------------------------------------------------


def file_then_mail(instance: Group) -> Flow | None:
    """A flow for each group but those without a name."""
    if not instance.name:
        return None
    return Flow(
        look.with_data(group_id=instance.pk),
        children=[greet.with_data(group_id=instance.pk, name="mail")],
    )


def on_group(**more: Any) -> triggers.Trigger:
    return enqueue_on(post_save, sender=Group, **{"makes": file_then_mail, **more})


def test_a_signal_can_enqueue_a_flow() -> None:
    on_group(options=lambda instance: {"organization": instance.name})
    Group.objects.create(name="")
    assert enqueued() == []
    group = Group.objects.create(name="sales")
    first, second = (
        JobRecord.objects.get(name="test-look"),
        JobRecord.objects.get(name="test-greet"),
    )
    assert (first.state, second.state) == (JobState.WAITING, JobState.BLOCKED)
    assert first.flow_id == second.flow_id is not None
    assert {first.organization_id, second.organization_id} == {"sales"}
    books = Books()
    for _ in range(2):
        work()
        books.fold()
    assert [{"group_id": group.pk}, (group.pk, "mail")] == RUNS


def test_a_flow_is_part_of_the_transaction() -> None:
    on_group()
    with pytest.raises(LookupError), transaction.atomic():
        Group.objects.create(name="sales")
        assert len(enqueued()) == 2
        raise LookupError
    assert enqueued() == []


def test_the_jobs_of_a_flow_do_not_fire_it_again() -> None:
    def made(instance: Group) -> Flow:
        data = {"group_id": instance.pk}
        return Flow(look.with_data(**data), children=[touch.with_data(**data)])

    on_group(makes=made)
    group = Group.objects.create(name="sales")
    books = Books()
    for _ in range(3):
        work()
        books.fold()
    assert [{"group_id": group.pk}, group.pk] == RUNS
    touch.enqueue(group_id=group.pk)  # nor does one of them that somebody enqueues alone
    work()
    assert len(enqueued()) == 3


def test_flows_for_many_rows_are_one_batch() -> None:
    trigger = on_group()
    groups = Group.objects.bulk_create([Group(name=f"g{number}") for number in range(20)])
    with CaptureQueriesContext(connection) as few:
        assert len(trigger.fire_for(groups[:2])) == 4
    with CaptureQueriesContext(connection) as many:
        assert len(trigger.fire_for(groups[2:])) == 36
    assert len(many) == len(few)
    assert JobRecord.objects.values("flow_id").distinct().count() == 20


def test_one_job_or_another_by_the_row() -> None:
    def made(instance: Group) -> Any:
        if instance.name == "dull":
            return None
        chosen = greet if instance.name == "sales" else touch
        return chosen.with_data(group_id=instance.pk)

    on_group(makes=made)
    for name in ("sales", "dull", "other"):
        Group.objects.create(name=name)
    assert sorted(record.name for record in enqueued()) == ["test-greet", "test-touch"]
    assert {record.flow_id for record in enqueued()} == {None}


def test_invalid_uses_of_makes() -> None:
    on_group(makes=lambda instance: "a flow", name="wrong")
    with pytest.raises(
        TriggerError, match="trigger wrong .*: makes returned 'a flow': it must be a Flow"
    ):
        Group.objects.create(name="sales")
    for argument, value in (("job", greet), ("data", {}), ("replaces", lambda instance: 1)):
        with pytest.raises(BadOption, match=f"{argument}= does not go with makes="):
            on_group(**{argument: value})


# --- the command ----------------------------------------------------------------------------------


def test_the_list_of_triggers() -> None:
    on_new_group()
    on_group()
    out = StringIO()
    call_command("jobs_triggers", "--json", stdout=out)
    flow = next(row for row in json.loads(out.getvalue()) if row["job"] == "file_then_mail()")
    assert (flow["name"], flow["queue"]) == ("file_then_mail() on post_save of auth.Group", "")
    row = next(row for row in json.loads(out.getvalue()) if row["job"] == "test-greet")
    assert row["name"] == "test-greet on post_save of auth.Group"
    assert (row["signal"], row["sender"], row["queue"]) == ("post_save", "auth.Group", "email")
    assert row["declared_at"].startswith("tests.enqueueing.test_triggers:")
    out = StringIO()
    call_command("jobs_triggers", stdout=out)
    assert out.getvalue().splitlines()[0].split() == [
        "signal",
        "sender",
        "job",
        "queue",
        "declared_at",
    ]


def test_an_empty_list_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "_triggers", {})
    out = StringIO()
    call_command("jobs_triggers", stdout=out)
    assert out.getvalue() == "No triggers are declared (see enqueue_on).\n"
