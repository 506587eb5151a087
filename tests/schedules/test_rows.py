"""Schedules as rows: what is refused at save, what a change of timing does, helpers,
declarations."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis
from cryptography.fernet import Fernet
from django.conf import settings as django_settings
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, connections, transaction
from django.test import override_settings
from django.utils import timezone

from wellos_jobs import payload, schedules
from wellos_jobs.broker import keys
from wellos_jobs.cron import Cron, Every
from wellos_jobs.definitions import registry
from wellos_jobs.definitions.validation import define
from wellos_jobs.enqueueing.decorator import job
from wellos_jobs.errors import BadOption, UnknownJob, UnknownSchedule
from wellos_jobs.maintenance import key_rotation
from wellos_jobs.models import JobRecord, OrganizationReportSchedule, Schedule
from wellos_jobs.schedules import (
    remove_schedule,
    run_now,
    schedule_organization_reports,
    synchronize,
    ticks,
    update_schedule,
)

from .. import jobs
from ..support.schedules import at, due_times, make, rolled_back
from ..support.servers import RedisServer

pytestmark = pytest.mark.django_db


def resolve(organization_id: str) -> dict[str, str] | None:
    """The project's hook: two organizations with a zone, one that has none, one that is broken."""
    if organization_id == "broken":
        raise LookupError("no such organization")
    zones = {"acme": "America/New_York", "tokyo": "Asia/Tokyo", "lost": "Mars/Olympus"}
    return {"label": organization_id, "time_zone": zones.get(organization_id, "")}


RESOLVER = f"{__name__}.resolve"


def org_report(
    organization_id: str,
    report_type: str = "",
    format: str = "pdf",
    recipients: tuple[str, ...] = (),
) -> None:
    """Stands for the report job of ``wellos_jobs.contrib``."""


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:
    """Jobs that a test declares are forgotten after it; the report job is one that needs
    nothing."""
    with registry.isolated():
        registry._jobs.pop(schedules.REPORT_JOB, None)
        registry.register(define(schedules.REPORT_JOB, org_report))
        yield


def stored(row: Schedule) -> Schedule:
    """Return a row as it is in the database."""
    return Schedule.objects.get(pk=row.pk)


def local(moment: datetime | None, zone: str) -> str:
    assert moment is not None
    return f"{moment.astimezone(ZoneInfo(zone)):%H:%M:%S}"


# --- what is refused at save ----------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"cron": "61 * * * *"}, "cron", "'61 * * * *' is not a cron line: minute 61 is above 59"),
    ({"cron": ""}, "cron", "This field cannot be blank."),
    ({"cron": "0 0 30 2 *"}, "cron", "it can never run"),
    ({"cron": "@every 0"}, "cron", "is not between a microsecond and 3650 days"),
    ({"cron": "0 8 * * *" + " " * 200 + "x"}, "cron", "at most 120 characters"),
    ({"time_zone": "Europe/Pariss"}, "time_zone", "Europe/Paris"),
    ({"time_zone": "x" * 65}, "time_zone", "at most 64 characters"),
    ({"job_name": "test-nop"}, "job_name", "did you mean 'test-noop'?"),
    ({"data": {"nonsense": 1}}, "data", "test-noop: unknown argument 'nonsense'"),
    ({"data": [1]}, "data", "Give the job's arguments as a JSON object."),
    ({"job_name": "test-add", "data": {"b": 1}}, "data", "test-add: missing argument 'a'"),
    ({"job_name": "test-echo", "data": {"value": object()}}, "data", "value"),
    (
        {"job_name": "test-echo", "data": {"value": "x" * 70_000}},
        "data",
        "at most 65,536 are allowed",
    ),
    ({"job_name": "test-echo", "data": {"value": {"$uuid": "none"}}}, "data", "$uuid"),
    ({"name": ""}, "name", "This field cannot be blank."),
    ({"name": "x" * 181}, "name", "at most 180 characters"),
    ({"catch_up": "never"}, "catch_up", "'never' is not a valid choice"),
    ({"overlap": "skp"}, "overlap", "'skp' is not a valid choice"),
    ({"catch_up_limit": 0}, "catch_up_limit", "greater than or equal to 1"),
    ({"starts_at": datetime(2026, 1, 1)}, "starts_at", "is a naive datetime: give it a time zone"),
    ({"ends_at": datetime(2026, 1, 1)}, "ends_at", "is a naive datetime: give it a time zone"),
    ({"starts_at": "2026-01-01 00:00"}, "starts_at", "is a naive datetime"),
    ({"starts_at": "soon"}, "starts_at", "invalid format"),
    (
        {"starts_at": at("2026-01-02"), "ends_at": at("2026-01-01")},
        "ends_at",
        "later than the start",
    ),
    (
        {"starts_at": at("2026-01-01"), "ends_at": at("2026-01-01")},
        "ends_at",
        "later than the start",
    ),
    ({"enabled": "perhaps"}, "enabled", "must be either True or False"),
    ({"organization_id": "x" * 65}, "organization_id", "at most 64 characters"),
]


@pytest.mark.parametrize(
    ("fields", "column", "text"), REFUSED, ids=[f"{c}-{t[:20]}" for _, c, t in REFUSED]
)
def test_refused_at_save(fields: dict[str, Any], column: str, text: str) -> None:
    row = Schedule(**{"name": "test", "cron": "0 8 * * *", "job_name": "test-noop", **fields})
    with pytest.raises(ValidationError) as caught:
        row.save()
    assert text in str(caught.value.message_dict[column])
    assert not Schedule.objects.exists()


def test_all_errors_of_a_row_are_reported_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        make(cron="* * * *", time_zone="Nowhere", job="test-nop")
    assert set(caught.value.message_dict) == {"cron", "time_zone", "job_name"}


def test_an_invalid_change_changes_nothing() -> None:
    row = make(cron="0 8 * * *")
    row.cron = "0 25 * * *"
    with pytest.raises(ValidationError):
        row.save()
    assert stored(row).cron == "0 8 * * *"
    with pytest.raises(ValidationError):
        Schedule.objects.filter(pk=row.pk).update(cron="0 25 * * *")
    assert stored(row).cron == "0 8 * * *"


def test_a_job_on_an_unknown_queue_is_refused() -> None:
    registry.register(define("test-elsewhere", org_report, queue="nowhere"))
    with pytest.raises(ValidationError, match="RQ_QUEUES has no queue 'nowhere'"):
        make(job="test-elsewhere", data={"organization_id": "1"})


def test_stored_data_are_readable() -> None:
    """Lines with single spaces, zones by name, dates as a job's data has them."""
    row = make(cron="  0   8 * * * ", time_zone=ZoneInfo("Europe/Paris"))
    assert (stored(row).cron, stored(row).time_zone) == ("0 8 * * *", "Europe/Paris")
    assert stored(make("interval", Every(90))).cron == "@every 90"
    data = {"value": {"day": date(2026, 1, 2), "price": Decimal("1.10")}}
    row = make("typed", job="test-echo", data=data)
    assert stored(row).data == {
        "value": {"day": {"$date": "2026-01-02"}, "price": {"$decimal": "1.10"}}
    }
    assert payload.decode(stored(row).data) == data


# --- sensitive data -------------------------------------------------------------------------------


def test_sensitive_arguments_are_never_stored_as_plain_text() -> None:
    row = make(job="test-secret", data={"token": "tk-very-secret", "fail": False})
    assert "tk-very-secret" not in json.dumps(row.data)
    with connection.cursor() as cursor:
        cursor.execute("SELECT data FROM wellos_jobs_schedule")
        assert "tk-very-secret" not in str(cursor.fetchall())
    assert payload.decode(stored(row).data) == {"token": "tk-very-secret", "fail": False}


def test_sensitive_arguments_are_not_encrypted_again_by_each_save() -> None:
    row = make(job="test-secret", data={"token": "tk-1"})
    before = row.data
    row = stored(row)
    row.cron = "0 9 * * *"
    row.save()
    assert stored(row).data == before
    row.data = {"token": "tk-2"}
    row.save()
    assert payload.decode(stored(row).data) == {"token": "tk-2"}
    assert "tk-2" not in json.dumps(stored(row).data)


def test_an_update_encrypts_sensitive_arguments() -> None:
    row = make(job="test-secret", data={"token": "tk-1"})
    Schedule.objects.filter(pk=row.pk).update(data={"token": "tk-2"})
    assert "tk-2" not in json.dumps(stored(row).data)
    Schedule.objects.bulk_create(
        [Schedule(name="b", cron="@daily", job_name="test-secret", data={"token": "tk-3"})]
    )
    assert "tk-3" not in json.dumps(Schedule.objects.get(name="b").data)


def test_ticks_and_run_now_keep_sensitive_arguments_encrypted() -> None:
    row = make(job="test-secret", data={"token": "tk-1"}, next_run_at=timezone.now())
    ticks.tick("default", timezone.now())
    handle = run_now(row)
    for record in [JobRecord.objects.exclude(pk=handle.id).get(), handle.record()]:
        assert "tk-1" not in json.dumps(record.data)
        assert payload.decode(record.data) == {"token": "tk-1"}


def test_sensitive_arguments_are_rotated_with_the_keys(settings: Any) -> None:
    """Also those of a schedule that was removed and may come back."""
    make(job="test-secret", data={"token": "tk-1"})
    make("removed", job="test-secret", data={"token": "tk-2"})
    Schedule._base_manager.filter(name="removed").update(source="code")
    remove_schedule("removed")
    old, new = settings.WELLOS_JOBS["ENCRYPTION_KEYS"], Fernet.generate_key()
    with override_settings(WELLOS_JOBS={"ENCRYPTION_KEYS": [new, *old]}):
        assert key_rotation.rotate_rows("default").rotated == 2
    with override_settings(WELLOS_JOBS={"ENCRYPTION_KEYS": [new]}):
        found = {
            row.name: payload.decode(row.data)["token"] for row in Schedule._base_manager.all()
        }
    assert found == {"test": "tk-1", "removed": "tk-2"}


# --- when it runs next ----------------------------------------------------------------------------


def test_a_new_schedule_gets_its_next_run() -> None:
    now = timezone.now()
    row = make(cron="0 8 * * *", time_zone="America/New_York")
    assert row.next_run_at is not None
    assert now < row.next_run_at < now + timedelta(hours=25)
    assert local(row.next_run_at, "America/New_York") == "08:00:00"
    assert stored(row).next_run_at == row.next_run_at


def test_a_disabled_or_ended_schedule_never_runs() -> None:
    assert make("off", enabled=False).next_run_at is None
    assert make("over", ends_at=at("2020-01-01")).next_run_at is None


def test_runs_are_within_start_and_end() -> None:
    start = (timezone.now() + timedelta(days=2)).replace(hour=8, minute=0, second=0, microsecond=0)
    row = make(cron="0 8 * * *", starts_at=start, ends_at=start + timedelta(days=1))
    assert row.runs_after(timezone.now(), 5) == [start, start + timedelta(days=1)], (
        "both ends belong to it"
    )
    assert row.next_run_at == start
    interval = make("interval", Every(3600), starts_at=start + timedelta(seconds=1))
    assert interval.next_run_at == start + timedelta(seconds=1), "an interval counts from its start"


@pytest.mark.parametrize(
    "change",
    [
        {"cron": "0 9 * * *"},
        {"time_zone": "Asia/Tokyo"},
        {"starts_at": datetime(2031, 1, 1, tzinfo=UTC)},
        {"ends_at": datetime(2020, 1, 1, tzinfo=UTC)},
        {"enabled": False},
    ],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.parametrize(
    "way", ["save", "save_fields", "update", "bulk_update", "update_or_create"]
)
def test_a_timing_change_resets_the_next_run(change: dict[str, Any], way: str) -> None:
    row = make(cron="0 8 * * *")
    before = row.next_run_at
    rows = Schedule.objects.filter(pk=row.pk)
    if way == "update":
        rows.update(**change)
    elif way == "update_or_create":
        Schedule.objects.update_or_create(name=row.name, defaults=change)
    else:
        for name, value in change.items():
            setattr(row, name, value)
        if way == "bulk_update":
            Schedule.objects.bulk_update([row], list(change))
        else:
            row.save(update_fields=list(change) if way == "save_fields" else None)
    found = stored(row)

    assert found.next_run_at != before
    assert found.next_run_at == found.first_run_after(timezone.now())


def test_a_save_without_timing_change_keeps_the_next_run() -> None:
    row = make(cron="0 8 * * *", next_run_at=at("2020-01-01 08:00"))
    row = stored(row)
    row.overlap = "skip"
    row.save()
    assert stored(row).next_run_at == at("2020-01-01 08:00"), "it is still due"


def test_disabling_and_enabling_does_not_catch_up() -> None:
    row = make(cron="0 8 * * *", next_run_at=at("2020-01-01 08:00"))
    for enabled in (False, True):
        row.enabled = enabled
        row.save()
    assert stored(row).next_run_at > timezone.now()  # type: ignore[operator]


def test_a_run_can_be_postponed_by_hand() -> None:
    row = make(cron="0 8 * * *")
    later = at("2031-05-06 07:08")
    row.next_run_at = later
    row.save()
    assert stored(row).next_run_at == later
    row.refresh_from_db()
    Schedule.objects.filter(pk=row.pk).update(next_run_at=at("2032-05-06 07:08"))
    row.save()
    assert stored(row).next_run_at == at("2032-05-06 07:08"), "that was no wish of this save"


def test_a_copied_row_gets_its_own_next_run() -> None:
    row = stored(make(cron="0 8 * * *", next_run_at=at("2020-01-01 08:00")))
    row.pk, row._state.adding, row.name = None, True, "copy"
    row.save()
    assert Schedule.objects.get(name="copy").next_run_at > timezone.now()  # type: ignore[operator]
    assert Schedule.objects.get(name="test").next_run_at == at("2020-01-01 08:00")


def test_bulk_create_validates_and_sets_the_next_run() -> None:
    rows = [Schedule(name=f"b{number}", cron="@daily", job_name="test-noop") for number in range(3)]
    Schedule.objects.bulk_create(rows)
    assert all(row.next_run_at > timezone.now() for row in Schedule.objects.all())  # type: ignore[operator]
    with pytest.raises(ValidationError):
        Schedule.objects.bulk_create([Schedule(name="x", cron="@never", job_name="test-noop")])


# --- stale rows -----------------------------------------------------------------------------------


def test_a_stale_save_does_not_undo_a_tick() -> None:
    make(cron="* * * * *", next_run_at=timezone.now())
    stale = Schedule.objects.get()
    ticks.tick("default", timezone.now())
    ticked = Schedule.objects.get()
    assert ticked.last_job_id is not None

    stale.overlap = "skip"
    stale.save()
    found = Schedule.objects.get()
    assert found.overlap == "skip"
    assert (found.next_run_at, found.last_run_at, found.last_job_id) == (
        ticked.next_run_at,
        ticked.last_run_at,
        ticked.last_job_id,
    )


def test_a_stale_save_with_a_new_timing_keeps_the_clock_s_columns() -> None:
    make(cron="* * * * *", next_run_at=at("2020-01-01"))
    stale = Schedule.objects.get()
    ticks.tick("default", timezone.now())
    ticked = Schedule.objects.get()
    stale.cron = "0 8 * * *"
    stale.save()
    found = Schedule.objects.get()

    assert local(found.next_run_at, "UTC") == "08:00:00"
    assert (found.missed, found.missed_at, found.last_job_id) == (
        ticked.missed,
        ticked.missed_at,
        ticked.last_job_id,
    )
    assert found.missed > 0


def test_a_stale_save_of_an_old_cron_line_resets_the_next_run() -> None:
    """A form that was open for long writes all its fields: then the row says the old line, and runs
    by it."""
    make(cron="0 8 * * *")
    stale, fresh = Schedule.objects.get(), Schedule.objects.get()
    fresh.cron = "0 9 * * *"
    fresh.save()
    stale.overlap = "skip"
    stale.save()
    found = Schedule.objects.get()
    assert (found.cron, local(found.next_run_at, "UTC")) == ("0 8 * * *", "08:00:00")


def test_a_stale_save_does_not_restore_a_removed_schedule() -> None:
    make()
    stale = Schedule.objects.get()
    remove_schedule("test")
    with pytest.raises(Schedule.DoesNotExist, match="was removed since it was loaded"):
        stale.save()
    assert not Schedule.objects.exists()


# --- organizations --------------------------------------------------------------------------------


@override_settings(WELLOS_JOBS={"ORGANIZATION_RESOLVER": RESOLVER}, TIME_ZONE="Europe/Paris")
def test_the_zone_is_the_schedule_s_or_the_organization_s_or_the_project_s() -> None:
    assert make("a", organization_id="acme", time_zone="Asia/Tokyo").zone == "Asia/Tokyo"
    assert make("b", organization_id="acme").zone == "America/New_York"
    assert make("c", organization_id="without").zone == "Europe/Paris"
    assert make("d").zone == "Europe/Paris"


@override_settings(WELLOS_JOBS={"ORGANIZATION_RESOLVER": RESOLVER})
def test_a_change_of_organization_is_a_change_of_timing() -> None:
    row = make(cron="0 8 * * *", organization_id="acme")
    assert local(row.next_run_at, "America/New_York") == "08:00:00"
    row.organization_id = "tokyo"
    row.save()
    assert local(stored(row).next_run_at, "Asia/Tokyo") == "08:00:00"


@override_settings(WELLOS_JOBS={"ORGANIZATION_RESOLVER": RESOLVER})
def test_an_unknown_zone_of_an_organization_is_refused() -> None:
    with pytest.raises(ValidationError, match="Mars/Olympus"):
        make(organization_id="lost")


def test_a_changed_organization_zone_is_followed() -> None:
    """By the next save; a tick that comes first does not run at the old zone's time."""
    soon = timezone.now().astimezone(ZoneInfo("America/New_York")) + timedelta(
        hours=2
    )  # and in Tokyo long past
    daily = f"{soon.minute} {soon.hour} * * *"
    with override_settings(WELLOS_JOBS={"ORGANIZATION_RESOLVER": RESOLVER}):
        make(cron=daily, organization_id="acme")
        make("other", cron=daily, organization_id="acme")
    moved = {"ORGANIZATION_RESOLVER": f"{__name__}.resolve_moved"}
    with override_settings(WELLOS_JOBS=moved):
        update_schedule("test")
        assert (
            local(Schedule.objects.get(name="test").next_run_at, "Asia/Tokyo") == f"{soon:%H:%M}:00"
        )
        other = Schedule.objects.get(name="other")
        assert other.next_run_at is not None
        assert ticks.tick("default", other.next_run_at) == 0
        assert local(stored(other).next_run_at, "Asia/Tokyo") == f"{soon:%H:%M}:00"

    assert due_times("other") == []


def resolve_moved(organization_id: str) -> dict[str, str]:
    return {"time_zone": "Asia/Tokyo"}


# --- helpers --------------------------------------------------------------------------------------


def test_schedule_organization_reports_sets_the_one_schedule_of_an_organization() -> None:
    row = schedule_organization_reports(
        "acme",
        "0 8 * * 1",
        report_type="hours",
        format="csv",
        recipients=["boss@acme.example"],
        tz="Asia/Tokyo",
    )
    assert (row.name, row.job_name, row.organization_id) == (
        "org-report:acme",
        "org-report",
        "acme",
    )
    assert (row.report_type, row.format, row.recipients) == ("hours", "csv", ["boss@acme.example"])
    assert (row.cron, row.time_zone, row.enabled) == ("0 8 * * 1", "Asia/Tokyo", True)

    again = schedule_organization_reports(
        "acme", Cron("0 9 * * 1", tz="Europe/Paris"), report_type="hours"
    )
    assert again.pk == row.pk

    found = OrganizationReportSchedule.objects.get()
    assert (found.cron, found.time_zone, found.format, found.recipients) == (
        "0 9 * * 1",
        "Europe/Paris",
        "pdf",
        [],
    )
    assert local(found.next_run_at, "Europe/Paris") == "09:00:00"


def test_a_report_schedule_replaces_a_removed_one() -> None:
    """One that was declared, under the name of a report."""
    schedule_organization_reports("acme", "0 8 * * 1")
    Schedule.objects.update(source="code")
    remove_schedule("acme")
    assert not OrganizationReportSchedule.objects.exists()
    row = schedule_organization_reports("acme", "0 9 * * 1")
    assert OrganizationReportSchedule.objects.get() == row
    assert Schedule._base_manager.count() == 1


def test_report_schedules_are_those_of_reports() -> None:
    make()
    row = schedule_organization_reports(7, Every(timedelta(days=7)))  # type: ignore[arg-type]
    assert list(OrganizationReportSchedule.objects.all()) == [row]
    assert row.data["organization_id"] == "7"
    assert Schedule.objects.count() == 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"format": "docx"}, "format is 'docx': use one of pdf, csv"),
        ({"recipients": ["nobody"]}, "recipients has 'nobody', which is not an email address"),
        ({"starts_at": datetime(2026, 1, 1)}, "naive datetime"),
    ],
)
def test_an_invalid_report_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        schedule_organization_reports("acme", "@weekly", **options)
    assert not Schedule.objects.exists()


def test_an_unknown_option_is_refused() -> None:
    make()
    with pytest.raises(
        BadOption, match="A schedule has no option 'overlapp'; use one of catch_up,"
    ):
        update_schedule("test", overlapp="skip")
    with pytest.raises(BadOption, match="no option 'format'"):
        update_schedule("test", format="csv")


def test_update_schedule_by_its_name_or_the_organization_s_id() -> None:
    make(cron="0 8 * * *")
    schedule_organization_reports(
        "acme", "@weekly", report_type="hours", recipients=["a@acme.example"]
    )
    assert update_schedule("test", "0 9 * * *", overlap="skip").overlap == "skip"
    assert update_schedule("acme", Cron("0 7 * * *", tz="Asia/Tokyo")).name == "org-report:acme"

    row = update_schedule(
        "acme", format="csv", recipients=("b@acme.example",), time_zone=None, enabled=False
    )
    assert row.data == {
        "organization_id": "acme",
        "report_type": "hours",
        "format": "csv",
        "recipients": ["b@acme.example"],
    }
    assert (row.time_zone, row.enabled, row.next_run_at) == ("", False, None)
    assert local(Schedule.objects.get(name="test").next_run_at, "UTC") == "09:00:00"


def test_an_unknown_schedule_cannot_be_changed_run_or_removed() -> None:
    with pytest.raises(UnknownSchedule, match="There is no schedule 'nope'"):
        update_schedule("nope", "@daily")
    with pytest.raises(UnknownSchedule):
        run_now("nope")
    assert remove_schedule("nope") is False


@pytest.mark.django_db(transaction=True)
def test_helpers_follow_the_caller_s_transaction() -> None:
    make(cron="0 8 * * *")
    make("victim")
    with rolled_back():
        update_schedule("test", "0 9 * * *")
        remove_schedule("victim")
        schedule_organization_reports("acme", "@weekly")
        handle = run_now("test")
    assert Schedule.objects.get(name="test").cron == "0 8 * * *"
    assert local(Schedule.objects.get(name="test").next_run_at, "UTC") == "08:00:00"
    assert Schedule.objects.count() == 2
    assert not JobRecord.objects.filter(pk=handle.id).exists()

    with transaction.atomic():
        update_schedule("test", "0 9 * * *")
        handle = run_now("test")
        remove_schedule("test")
    assert not Schedule.objects.filter(name="test").exists()
    assert handle.state == "waiting", "its job was enqueued all the same"


@pytest.mark.django_db(transaction=True)
def test_run_now_by_name_needs_no_transaction() -> None:
    make()
    assert run_now("test").state == "waiting"


def test_run_now_does_not_change_the_next_run(admin_user: Any) -> None:
    before = make(
        cron="0 8 * * *", job="test-echo", data={"value": date(2026, 1, 2)}, organization_id="acme"
    )
    record = run_now("test", requested_by=admin_user).record()
    assert (record.name, record.organization_id, record.requested_by) == (
        "test-echo",
        "acme",
        admin_user,
    )
    assert (record.schedule_id, record.run_at, record.context["run_now"]) == (before.pk, None, True)
    assert payload.decode(record.data) == {"value": date(2026, 1, 2)}

    after = stored(before)
    assert (after.next_run_at, after.last_run_at, after.last_job_id) == (
        before.next_run_at,
        None,
        None,
    )


def test_run_now_runs_a_disabled_schedule_but_no_unknown_job() -> None:
    row = make(enabled=False)
    assert run_now(row).record().schedule_id == row.pk
    Schedule._base_manager.filter(pk=row.pk).update(job_name="gone")
    with pytest.raises(UnknownJob):
        run_now("test")


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_schedules_of_another_database_stay_there() -> None:
    row = Schedule(name="there", cron="@daily", job_name="test-noop")
    row.save(using="other")
    assert not Schedule.objects.exists()

    loaded = Schedule.objects.using("other").get()
    loaded.cron = "0 9 * * *"
    loaded.save()
    assert local(Schedule.objects.using("other").get().next_run_at, "UTC") == "09:00:00"

    handle = run_now(loaded)
    assert handle.database == "other"
    assert handle.record().schedule_id == loaded.pk

    Schedule.objects.using("other").update(next_run_at=at("2026-01-01"))
    assert ticks.tick("other", timezone.now()) == 1
    assert due_times("there") == []
    assert len(due_times("there", "other")) == 1

    loaded.delete()
    assert not Schedule.objects.using("other").exists()


# --- deleting -------------------------------------------------------------------------------------


def test_deleting_a_schedule_keeps_its_jobs() -> None:
    make(next_run_at=timezone.now())
    ticks.tick("default", timezone.now())
    Schedule.objects.get().delete()
    assert not Schedule.objects.exists()
    assert JobRecord.objects.get().schedule_id is None
    assert ticks.next_due("default") is None


def test_two_schedules_cannot_have_one_name() -> None:
    make()
    with pytest.raises(IntegrityError), transaction.atomic():
        make()


# --- at once --------------------------------------------------------------------------------------


def at_once(work: Callable[[], Any], count: int = 4) -> None:
    """Do the same in some threads at once, each on a connection of its own."""
    start, errors = threading.Barrier(count), []

    def run() -> None:
        try:
            start.wait(10)
            work()
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors, errors


@pytest.mark.django_db(transaction=True)
def test_concurrent_calls_make_one_report_schedule() -> None:
    for number in range(5):
        at_once(partial(schedule_organization_reports, f"org-{number}", "@weekly"))
    assert OrganizationReportSchedule.objects.count() == 5


@pytest.mark.django_db(transaction=True)
def test_concurrent_syncs_make_one_row_per_declaration() -> None:
    for number in range(5):
        declare(name=f"declared-{number}")
    at_once(synchronize)
    assert Schedule.objects.filter(source="code").count() == 5


# --- the alarm ------------------------------------------------------------------------------------


def is_rung(client: redis.Redis) -> bool:
    """Return whether the clock was woken, and make ready for the next time."""
    return bool(client.delete(keys.WAKEUP))


@pytest.mark.django_db(transaction=True)
def test_every_committed_change_wakes_the_clock(
    redis_client: redis.Redis,
) -> None:
    with rolled_back():
        make()
    assert not is_rung(redis_client)

    with transaction.atomic():
        row = make()
        assert not is_rung(redis_client)
    assert is_rung(redis_client)

    row.cron = "0 9 * * *"
    row.save()
    assert is_rung(redis_client)

    Schedule.objects.update(enabled=False)
    assert is_rung(redis_client)

    for _ in range(3):
        schedule_organization_reports("acme", "@weekly")
    assert redis_client.llen(keys.WAKEUP) == 1, "however often: one token"


@pytest.mark.django_db(transaction=True)
def test_the_clocks_of_all_redis_servers_are_woken(
    tmp_path: Path, settings: Any, redis_client: redis.Redis
) -> None:
    with RedisServer(tmp_path / "second") as server:
        far = {**settings.RQ_QUEUES["default"], "URL": server.url}
        with (
            override_settings(RQ_QUEUES={"far": far, **settings.RQ_QUEUES}),
            server.client() as there,
        ):
            make()
            assert is_rung(redis_client)
            assert is_rung(there)
            server.kill9()
            make("another")  # one that is away does no harm
            assert is_rung(redis_client)
            server.start()


# --- declarations ---------------------------------------------------------------------------------


def declare(line: str | Every = "0 8 * * *", tz: str | None = None, name: str = "declared") -> None:
    """Declare a job with a schedule, as a new version of the code would."""
    registry._jobs.pop(name, None)
    job(name, schedule=Cron(line, tz=tz))(jobs.foreign_fail)


def undeclare(name: str = "declared") -> None:
    registry._jobs.pop(name, None)


@contextmanager
def in_settings(**entries: Any) -> Iterator[None]:
    with override_settings(WELLOS_JOBS={**django_settings.WELLOS_JOBS, "SCHEDULES": entries}):
        yield


def declared() -> Schedule:
    return Schedule.objects.get(name="declared")


def test_a_declaration_becomes_a_row() -> None:
    declare("0 8 * * *", tz="America/New_York")
    assert synchronize().created == ["declared"]
    row = declared()
    assert (row.job_name, row.cron, row.time_zone, row.source) == (
        "declared",
        "0 8 * * *",
        "America/New_York",
        "code",
    )
    assert local(row.next_run_at, "America/New_York") == "08:00:00"
    assert not synchronize(), "a second time there is nothing to do"


def test_a_declaration_that_changes_is_followed() -> None:
    declare()
    synchronize()
    declare("0 9 * * *", tz="Asia/Tokyo")
    assert synchronize().changed == ["declared"]
    assert (declared().cron, declared().time_zone) == ("0 9 * * *", "Asia/Tokyo")
    assert local(declared().next_run_at, "Asia/Tokyo") == "09:00:00"
    declare("0 9 * * *")
    synchronize()
    assert declared().time_zone == ""


def test_options_changed_by_users_survive_every_sync() -> None:
    declare()
    synchronize()
    update_schedule("declared", "30 10 * * *", overlap="skip", enabled=False)
    for line in ("0 8 * * *", "0 9 * * *"):
        declare(line)
        synchronize()
        row = declared()
        assert (row.cron, row.overlap, row.enabled) == ("30 10 * * *", "skip", False)


def test_an_option_changed_back_follows_the_declaration_again() -> None:
    declare()
    synchronize()
    update_schedule("declared", "30 10 * * *")
    declare("0 9 * * *")
    synchronize()
    update_schedule("declared", "0 9 * * *")
    declare("0 11 * * *")
    synchronize()
    assert declared().cron == "0 11 * * *"


def test_a_missing_declaration_disables_and_its_return_enables() -> None:
    declare()
    synchronize()
    undeclare()
    assert synchronize().disabled == ["declared"]
    assert (declared().enabled, declared().next_run_at) == (False, None)
    assert ticks.tick("default", timezone.now() + timedelta(days=2)) == 0
    assert not synchronize()
    declare("0 9 * * *")
    assert synchronize().changed == ["declared"]
    assert declared().enabled
    assert local(declared().next_run_at, "UTC") == "09:00:00"


def test_a_schedule_disabled_by_a_user_stays_disabled_when_its_declaration_returns() -> None:
    declare()
    synchronize()
    update_schedule("declared", enabled=False)
    undeclare()
    assert not synchronize().disabled
    declare()
    synchronize()
    assert not declared().enabled


def test_a_schedule_enabled_by_a_user_stays_enabled_without_a_declaration() -> None:
    """As when the job is still there and only ``schedule=`` is gone."""
    declare()
    synchronize()
    undeclare()
    job("declared")(jobs.foreign_fail)
    synchronize()
    update_schedule("declared", enabled=True)
    assert not synchronize()
    assert declared().enabled


@pytest.mark.parametrize("way", ["remove_schedule", "delete", "queryset"])
def test_a_removed_schedule_stays_removed_over_sync_and_restart(way: str) -> None:
    declare()
    synchronize()
    if way == "remove_schedule":
        assert remove_schedule("declared")
    elif way == "delete":
        declared().delete()
    else:
        Schedule.objects.filter(name="declared").delete()
    for line in ("0 8 * * *", "0 9 * * *"):  # with the next version of the code, too
        declare(line)
        assert not synchronize()
        call_command("jobs_sync", stdout=_Nowhere())
        assert not Schedule.objects.filter(name="declared").exists()

    assert ticks.next_due("default") is None
    with pytest.raises(UnknownSchedule):
        update_schedule("declared", enabled=True)
    assert remove_schedule("declared") is False


def test_a_rolled_back_removal_removes_nothing() -> None:
    declare()
    synchronize()
    with transaction.atomic():
        with rolled_back():
            declared().delete()
        assert declared().enabled
    assert not synchronize()


def test_creating_a_schedule_restores_a_removed_one_of_its_name() -> None:
    declare()
    synchronize()
    handle = run_now("declared")
    remove_schedule("declared")
    row = make("declared", "0 7 * * *")
    assert (declared().pk, declared().cron, declared().enabled) == (row.pk, "0 7 * * *", True)
    assert handle.record().schedule == row, "with the history of its runs"
    synchronize()
    assert declared().cron == "0 7 * * *", "and its line is the person's"


def test_a_schedule_made_by_hand_keeps_its_cron_line_when_declared_later() -> None:
    make("declared", "0 7 * * *")
    declare()
    synchronize()
    row = declared()
    assert (row.cron, row.job_name, row.source) == ("0 7 * * *", "declared", "code")


def test_declared_in_settings() -> None:
    entry = {
        "job": jobs.echo,
        "cron": "0 2 * * *",
        "tz": "Europe/Paris",
        "data": {"value": Decimal("1.5")},
        "catch_up": "all",
        "overlap": "skip",
    }
    with in_settings(nightly=entry):
        assert synchronize().created == ["nightly"]
        row = Schedule.objects.get()
        assert (row.job_name, row.time_zone, row.source) == (
            "test-echo",
            "Europe/Paris",
            "settings",
        )
        assert (row.catch_up, row.overlap) == ("all", "skip")
        assert payload.decode(row.data) == {"value": Decimal("1.5")}
        assert not synchronize()
    with in_settings(nightly={"job": "test-echo", "cron": Cron("0 3 * * *"), "data": {"value": 2}}):
        assert synchronize().changed == ["nightly"]
        row = Schedule.objects.get()
        assert (row.cron, row.time_zone, row.data) == ("0 3 * * *", "", {"value": 2})
        assert (row.catch_up, row.overlap) == ("once", "allow"), (
            "what is no longer said is the default again"
        )

    assert synchronize().disabled == ["nightly"]


def test_sensitive_data_in_settings_are_encrypted_once() -> None:
    with in_settings(secret={"job": "test-secret", "cron": "@daily", "data": {"token": "tk-1"}}):
        synchronize()
        assert "tk-1" not in json.dumps(Schedule.objects.get().data)
        assert not synchronize()


BAD_ENTRIES: list[tuple[Any, str]] = [
    ("0 2 * * *", "must be a dict with the keys 'job' and 'cron'"),
    ({"job": "test-noop"}, "must be a dict with the keys 'job' and 'cron'"),
    ({"job": "test-noop", "cron": "0 2 * * *", "every": 5}, "has unknown keys ['every']"),
    ({"job": "test-noop", "cron": "0 26 * * *"}, "hour 26 is above 23"),
    ({"job": "test-noop", "cron": "0 2 * * *", "tz": "Nowhere"}, "Nowhere"),
    ({"job": "test-nop", "cron": "0 2 * * *"}, "did you mean 'test-noop'?"),
    ({"job": "test-noop", "cron": "0 2 * * *", "data": {"x": 1}}, "unknown argument 'x'"),
    (
        {"job": "test-noop", "cron": "0 2 * * *", "data": [1]},
        "must be a dict of the job's arguments",
    ),
    ({"job": "test-noop", "cron": "0 2 * * *", "overlap": "no"}, "'no' is not a valid choice"),
]


@pytest.mark.parametrize(("entry", "text"), BAD_ENTRIES, ids=[text[:30] for _, text in BAD_ENTRIES])
def test_an_invalid_declaration_does_not_stop_the_others(entry: Any, text: str) -> None:
    with in_settings(bad={"job": "test-noop", "cron": "0 1 * * *"}):
        synchronize()
    with in_settings(bad=entry, good={"job": "test-noop", "cron": "0 2 * * *"}):
        done = synchronize()
        assert text in done.failed["bad"]
        assert done.created == ["good"]
        assert not done.disabled
        assert Schedule.objects.get(name="bad").enabled, "its row stays as it was"
        with pytest.raises(CommandError, match="Schedule 'bad':"):
            call_command("jobs_sync", stdout=_Nowhere())


def test_jobs_sync_prints_the_changes() -> None:
    declare()
    heard = _Nowhere()
    call_command("jobs_sync", stdout=heard)
    call_command("jobs_sync", stdout=heard)
    assert heard.text == "created declared\nAll schedules are up to date.\n"


class _Nowhere:
    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


@pytest.mark.django_db(transaction=True)
def test_the_cost_of_a_sync_does_not_depend_on_other_schedules(
    django_assert_max_num_queries: Any,
) -> None:
    declare()
    synchronize()
    Schedule.objects.bulk_create(
        [
            Schedule(name=f"org-{number}", cron="@daily", job_name="test-noop")
            for number in range(200)
        ]
    )
    with django_assert_max_num_queries(6):
        assert not synchronize()


# --- the shortest interval ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "shortest", "gap"),
    [
        ("@every 0.001", 1, "0.001"),
        ("@every 0.999", 1, "0.999"),
        ("@every 59", 60, "59"),
        ("* * * * * *", 2, "1"),
        ("0,20,45 * * * * *", 30, "15"),
        ("59,0 5 * * * *", 60, "59"),
        ("* * * * *", 61, "60"),
    ],
)
def test_a_line_below_the_shortest_interval_is_refused(
    line: str, shortest: float, gap: str, settings: Any
) -> None:
    allowed = make("allowed", cron="@hourly")
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "SHORTEST_INTERVAL": shortest}
    expected = rf"runs every {gap} s, and the shortest interval is {shortest} s .*SHORTEST_INTERVAL"
    with pytest.raises(ValidationError, match=expected):
        make("refused", cron=line)
    with pytest.raises(ValidationError, match=expected):
        update_schedule("allowed", line)
    with pytest.raises(ValidationError, match=expected):
        Schedule.objects.update(cron=line)

    registry.register(define("test-declared", jobs.noop.function, schedule=Cron(line)))
    assert "SHORTEST_INTERVAL" in synchronize().failed["test-declared"]
    assert [row.cron for row in Schedule.objects.filter(pk=allowed.pk)] == ["@hourly"]


@pytest.mark.parametrize("line", ["@every 1", "* * * * * *", "@every 90", "0,59 5 3 * * *"])
def test_a_line_at_the_shortest_interval_is_fine(line: str) -> None:
    assert make(cron=line).next_run_at is not None


def test_a_row_below_the_shortest_interval_is_put_aside_and_can_be_disabled() -> None:
    """As written by SQL, or before the setting was raised."""
    row = make(cron="@hourly")
    Schedule._base_manager.filter(pk=row.pk).update(next_run_at=timezone.now())
    with connection.cursor() as cursor:
        cursor.execute("UPDATE wellos_jobs_schedule SET cron = '@every 0.001', planned_for = ''")
    assert ticks.tick("default", timezone.now()) == 0

    row = stored(row)
    assert "SHORTEST_INTERVAL" in row.broken
    row.enabled = False
    row.save()
    assert not stored(row).enabled
