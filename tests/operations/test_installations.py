"""A copied database runs nothing until an operator says what it is; a lost Redis is rebuilt."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from django.core.management import CommandError, call_command
from django.utils import timezone

from wellos_jobs import Batch, installation
from wellos_jobs.broker import keys, source_client
from wellos_jobs.installation import Verdict
from wellos_jobs.maintenance.housekeeping import Housekeeping
from wellos_jobs.models import (
    AuditEntry,
    Installation,
    JobRecord,
    LedgerCursor,
    Queues,
    Schedule,
    UniqueClaim,
)
from wellos_jobs.processes.shared_memory import Slot
from wellos_jobs.schedules.clock import DatabaseSchedules

from ..conftest import UseRedis
from ..jobs import noop
from ..support.processes import Fleet
from ..support.schedules import due_times, make
from ..support.servers import RedisServer

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture
def staging(tmp_path: Path, use_redis: UseRedis) -> Iterator[RedisServer]:
    """Production's database, with jobs and a schedule that is due, and the Redis of staging."""
    installation.meet("default", "default")
    noop.enqueue()
    JobRecord.objects.update(created_at=timezone.now() - timedelta(minutes=1), enqueued_at=None)
    make(cron="0 0 1 1 *", next_run_at=timezone.now() - timedelta(seconds=30))
    with RedisServer(tmp_path / "staging") as server:
        use_redis(server.url)
        yield server


def name(monkeypatch_settings: Any, name: str) -> None:
    monkeypatch_settings.WELLOS_JOBS = {**monkeypatch_settings.WELLOS_JOBS, "INSTALLATION": name}


def keep_house(monkeypatch: pytest.MonkeyPatch) -> Housekeeping:
    keeping = Housekeeping("default", Slot())
    monkeypatch.setattr(keeping, "_wait", lambda: None)
    for _ in range(3):
        keeping.round()
    return keeping


def run_schedules() -> None:
    now = timezone.now().timestamp()
    DatabaseSchedules("default", lambda: now, "default").serve(lambda: None)


def command(*options: str) -> str:
    out = io.StringIO()
    call_command("jobs_installation", *options, stdout=out)
    return out.getvalue()


# --- the fence ------------------------------------------------------------------------------------


def test_neither_jobs_nor_schedules_of_a_copy_run(
    staging: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keep_house(monkeypatch)
    run_schedules()

    assert source_client("default").llen(keys.lane("default")) == 0
    assert due_times("test") == []
    assert "jobs_installation --copy" in caplog.text


@pytest.mark.parametrize("verb", ["rqworker", "rqscheduler"])
def test_commands_refuse_to_start_on_a_copy(staging: RedisServer, verb: str) -> None:
    with pytest.raises(CommandError, match="jobs_installation --copy"):
        call_command(verb, verbosity=0)


def test_a_copy_that_is_loaded_under_running_processes_is_noticed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keeping = keep_house(monkeypatch)
    assert keeping.databases[0].is_open

    Installation.objects.update(identity="production", homes=["redis there"])
    keeping.intervals.make_due("beat")
    keeping.intervals.make_due("look")
    keeping.round()

    assert not keeping.databases[0].is_open
    assert "belongs to installation production" in caplog.text


def test_a_redis_that_lost_its_data_is_rebuilt_without_a_word(
    monkeypatch: pytest.MonkeyPatch, redis_client: redis.Redis
) -> None:
    keep_house(monkeypatch)
    noop.enqueue()
    redis_client.flushall()

    keep_house(monkeypatch)

    assert redis_client.llen(keys.lane("default")) == 1
    assert installation.look("default", "default").verdict is Verdict.OURS


# --- the word -------------------------------------------------------------------------------------


def test_a_confirmed_copy_is_an_installation_of_its_own(
    staging: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    production = installation.installation_id("default")
    noop.using(delay=3_600).enqueue()
    with Batch(name="import") as batch:
        batch.enqueue(noop)
    UniqueClaim.objects.create(key="x", job=JobRecord.objects.first().pk)  # type: ignore[union-attr]
    LedgerCursor.objects.create(source="default", position="5-0")

    assert "3 open jobs canceled, 1 schedules disabled" in command("--copy")

    assert installation.installation_id("default") != production
    assert set(JobRecord.objects.values_list("state", flat=True)) == {"canceled"}
    assert not Schedule.objects.filter(enabled=True).exists()
    assert batch.state == "done"
    assert not UniqueClaim.objects.exists()
    assert AuditEntry.objects.get(target_type="installation").detail["how"] == "copied"

    keep_house(monkeypatch)
    run_schedules()
    handle = noop.enqueue()
    keep_house(monkeypatch)
    assert due_times("test") == []
    assert source_client("default").lrange(keys.lane("default"), 0, -1) == [str(handle).encode()]


def test_a_confirmed_move_keeps_jobs_and_schedules(
    staging: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    production = installation.installation_id("default")

    assert "default: ours" in command("--moved").replace("Redis of queue ", "")

    assert installation.installation_id("default") == production
    keep_house(monkeypatch)
    run_schedules()
    assert source_client("default").llen(keys.lane("default")) >= 1
    assert len(due_times("test")) == 1


def test_a_renamed_installation_is_asked_for(settings: Any) -> None:
    name(settings, "production")
    installation.meet("default", "default")
    name(settings, "live")

    with pytest.raises(CommandError, match="known at"):
        command()
    command("--moved")
    assert "ours" in command()


def test_a_copy_never_takes_the_redis_of_the_original(settings: Any) -> None:
    name(settings, "production")
    installation.meet("default", "default")
    name(settings, "staging")

    with pytest.raises(CommandError, match="in use by the original"):
        command("--copy")
    assert installation.look("default", "default").verdict is Verdict.COPY


def test_a_redis_of_others_is_taken_only_on_demand(redis_client: redis.Redis) -> None:
    redis_client.hset(keys.INSTALLATION, mapping={"identity": "bakery", "home": "redis there"})

    with pytest.raises(CommandError, match="belongs to another installation"):
        command("--moved")
    command("--take-over")
    assert installation.look("default", "default").verdict is Verdict.OURS


def test_production_is_no_copy_of_itself() -> None:
    installation.meet("default", "default")
    handle = noop.enqueue()

    with pytest.raises(CommandError, match="No database here is a copy"):
        command("--copy")
    assert handle.record().state == "waiting"


def test_a_second_copy_into_the_same_place_needs_no_more_words(staging: RedisServer) -> None:
    command("--copy")
    Installation.objects.update(identity="production", homes=["redis there"])
    assert "ours" in command("--copy")


# --- dumpdata and loaddata ------------------------------------------------------------------------


def rows_of(model: Any) -> list[dict[str, Any]]:
    """Return all rows; Django's fixtures have times in milliseconds."""
    return [
        {
            name: value.replace(microsecond=value.microsecond // 1000 * 1000)
            if isinstance(value, datetime)
            else value
            for name, value in row.items()
        }
        for row in model.objects.values()
    ]


def test_the_rows_survive_dumpdata_and_loaddata(tmp_path: Path) -> None:
    installation.meet("default", "default")
    row = make(cron="0 * * * *")
    with Batch(name="import") as batch:
        batch.enqueue(noop)
    JobRecord.objects.update(schedule=row)
    dump = tmp_path / "jobs.json"
    call_command("dumpdata", "wellos_jobs", output=str(dump))
    before = {model: rows_of(model) for model in (JobRecord, Schedule, Installation)}

    for model in (JobRecord, Schedule, Installation):
        model.objects.all().delete()
    call_command("loaddata", str(dump), verbosity=0)

    for model, rows in before.items():
        assert rows_of(model) == rows
    assert not Queues.objects.exists()


@pytest.mark.processes
def test_real_processes_on_a_copy(processes: Fleet, tmp_path: Path) -> None:
    """Another Redis, and the database of the first worker."""
    noop.using(delay=3_600).enqueue()
    first = processes.worker()
    processes.wait_until(lambda: Installation.objects.exists())
    first.terminate()
    first.wait()

    with RedisServer(tmp_path / "staging") as server:
        processes.environment = {"REDIS_URL": server.url}
        refused = processes.worker()
        assert refused.wait() == 1
        assert "jobs_installation --copy" in refused.output()

        assert processes.manage("jobs_installation", "--copy").wait() == 0
        assert JobRecord.objects.get().state == "canceled"
        assert processes.worker("--burst").wait() == 0
