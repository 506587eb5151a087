"""Key rotation: old values come under the first key, in rows and in Redis, and no running job is
disturbed."""

from __future__ import annotations

import json
from typing import Any

import django_rq
import pytest
import redis
from cryptography.fernet import Fernet, InvalidToken
from django.core.management import CommandError, call_command

from wellos_jobs import payload
from wellos_jobs.broker import job_hash, keys
from wellos_jobs.maintenance import key_rotation
from wellos_jobs.models import JobRecord, Schedule
from wellos_jobs.states import JobState

from .. import jobs
from ..conftest import UseRedis
from ..support.engine import Books, Hand, work
from ..support.servers import free_port

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
TOKEN = "open sesame"


@pytest.fixture(autouse=True)
def old_key(settings: Any) -> None:
    """Jobs are enqueued under the old key."""
    use(settings, OLD)


def use(settings: Any, *encryption_keys: str) -> None:
    settings.WELLOS_JOBS = {
        "JOB_DATABASES": ["default", "other"],
        "ENCRYPTION_KEYS": list(encryption_keys),
    }


def token_in_row(handle: Any, using: str = "default") -> str:
    return str(JobRecord.objects.using(using).get(pk=handle.id).data["token"]["$encrypted"])


def token_in_redis(client: redis.Redis, handle: Any) -> str:
    data = client.hget(keys.job(handle.id), "data")
    assert isinstance(data, bytes)
    return str(json.loads(data)[3]["token"]["$encrypted"])


def opens(key: str, token: str) -> bool:
    try:
        return json.loads(Fernet(key).decrypt(token)) == TOKEN
    except InvalidToken:
        return False


def rotate(capsys: pytest.CaptureFixture[str]) -> str:
    call_command("jobs_rotate_keys")
    return capsys.readouterr().out


def test_schedules_are_rotated(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Else each of their runs would fail once the old key is taken out."""
    schedule = Schedule.objects.create(
        name="nightly", job_name="test-secret", cron="0 2 * * *", data={"token": TOKEN}
    )
    planned = schedule.next_run_at
    use(settings, NEW, OLD)
    assert "database default: 1 jobs seen, 1 rotated" in rotate(capsys)
    use(settings, NEW)
    schedule.refresh_from_db()
    assert payload.decode(schedule.data) == {"token": TOKEN}
    assert schedule.next_run_at == planned


def test_rows_and_redis_are_rotated(
    settings: Any, redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    here = jobs.secret.enqueue(token=TOKEN)
    there = jobs.secret.using(database="other", delay=3600).enqueue(token=TOKEN)
    plain = jobs.add.enqueue(a=1)
    use(settings, NEW, OLD)

    out = rotate(capsys)

    assert "database default: 2 jobs seen, 1 rotated" in out
    assert "database other: 1 jobs seen, 1 rotated" in out
    assert "Redis of queue default: 3 jobs seen, 2 rotated" in out
    tokens = [token_in_row(here), token_in_row(there, "other")]
    tokens += [token_in_redis(redis_client, here), token_in_redis(redis_client, there)]
    assert all(opens(NEW, token) and not opens(OLD, token) for token in tokens)
    assert JobRecord.objects.get(pk=plain.id).data == {"a": 1}

    use(settings, NEW)  # the old key may go now
    work()
    assert Books().row(here).result == len(TOKEN)


def test_a_second_run_finds_nothing_to_do(
    settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    handle = jobs.secret.enqueue(token=TOKEN)
    use(settings, NEW, OLD)
    rotate(capsys)
    before = token_in_row(handle)
    out = rotate(capsys)
    assert out.count(" 0 rotated") == 3
    assert token_in_row(handle) == before


def test_old_jobs_run_under_a_new_first_key_without_rotation(settings: Any) -> None:
    handle = jobs.secret.enqueue(token=TOKEN)
    use(settings, NEW, OLD)
    work()
    assert Books().row(handle).result == len(TOKEN)


def test_a_running_job_is_not_disturbed(settings: Any, redis_client: redis.Redis) -> None:
    handle = jobs.secret.enqueue(token=TOKEN)
    use(settings, NEW, OLD)
    hand = Hand()
    claim = hand.take()
    assert key_rotation.rotate_hashes("default").rotated == 1
    assert opens(NEW, token_in_redis(redis_client, handle))
    assert hand.run(claim).kind == "completed"
    assert handle.result == len(TOKEN)


def test_a_hash_that_changed_meanwhile_is_skipped(settings: Any, redis_client: redis.Redis) -> None:
    """Compare and set: between reading and writing, somebody else may have put other data there."""
    handle = jobs.secret.enqueue(token=TOKEN)
    use(settings, NEW, OLD)
    from wellos_jobs import broker as connections

    data = redis_client.hget(keys.job(handle.id), "data")
    arguments = (
        str(handle.id),
        data,
        "new",
        str(handle.id),
        b"not what is there",
        "newer",
        "no-such-job",
        b"x",
        "y",
    )
    assert connections.run(connections.client("default"), "rotate", *arguments) == 1
    assert redis_client.hget(keys.job(handle.id), "data") == b"new"
    assert not redis_client.exists(keys.job("no-such-job"))


def test_a_row_that_changed_meanwhile_is_skipped(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = jobs.secret.enqueue(token=TOKEN)
    use(settings, NEW, OLD)
    real = payload.rotate

    def rotate_and_edit(data: Any) -> Any:
        JobRecord.objects.filter(pk=handle.id).update(data={"edited": True})
        return real(data)

    monkeypatch.setattr(key_rotation.payload, "rotate", rotate_and_edit)
    count = key_rotation.rotate_rows("default")
    assert (count.rotated, count.skipped) == (0, 1)
    assert JobRecord.objects.get().data == {"edited": True}


def test_in_batches(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_rotation, "BATCH", 10)
    jobs.secret.enqueue_bulk([{"token": TOKEN}] * 35)
    use(settings, NEW, OLD)
    assert key_rotation.rotate_rows("default") == key_rotation.RotationCount(seen=35, rotated=35)
    assert key_rotation.rotate_hashes("default") == key_rotation.RotationCount(seen=35, rotated=35)


def test_an_interrupted_rotation_continues(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_rotation, "BATCH", 10)
    jobs.secret.enqueue_bulk([{"token": TOKEN}] * 35)
    use(settings, NEW, OLD)
    real, calls = payload.rotate, []

    def break_off(data: Any) -> Any:
        calls.append(data)
        if len(calls) == 15:
            raise KeyboardInterrupt
        return real(data)

    with monkeypatch.context() as patched:
        patched.setattr(key_rotation.payload, "rotate", break_off)
        with pytest.raises(KeyboardInterrupt):
            key_rotation.rotate_rows("default")
    assert key_rotation.rotate_rows("default") == key_rotation.RotationCount(seen=35, rotated=21)


def test_unreadable_values_are_reported_and_the_others_rotated(
    settings: Any, redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    use(settings, Fernet.generate_key().decode())
    lost = jobs.secret.enqueue(token=TOKEN)
    use(settings, OLD)
    handle = jobs.secret.enqueue(token=TOKEN)
    redis_client.hset(keys.job("broken"), mapping={job_hash.NAME: "x", "data": "{"})
    use(settings, NEW, OLD)
    with pytest.raises(CommandError, match="3 jobs cannot be decrypted with any key"):
        call_command("jobs_rotate_keys")

    out = capsys.readouterr().out
    assert "database default: 2 jobs seen, 1 rotated" in out
    assert TOKEN not in out
    assert opens(NEW, token_in_row(handle))
    assert not opens(NEW, token_in_row(lost))


def test_plain_rq_jobs_are_skipped(settings: Any, redis_client: redis.Redis) -> None:
    foreign = django_rq.get_queue("default").enqueue(jobs.foreign_add, 1)
    before = redis_client.hgetall(keys.job(foreign.id))
    redis_client.sadd(keys.job(f"{foreign.id}:dependents"), "another key that begins like a job's")
    use(settings, NEW, OLD)
    assert key_rotation.rotate_hashes("default") == key_rotation.RotationCount()
    assert redis_client.hgetall(keys.job(foreign.id)) == before


def test_finished_jobs_are_rotated_in_their_rows(settings: Any) -> None:
    handle = jobs.secret.enqueue(token=TOKEN)
    work()
    assert Books().row(handle).state == JobState.COMPLETED
    use(settings, NEW, OLD)
    key_rotation.rotate_rows("default")
    assert opens(NEW, token_in_row(handle))


def test_without_keys(settings: Any) -> None:
    settings.WELLOS_JOBS = {}
    with pytest.raises(CommandError, match="ENCRYPTION_KEYS"):
        call_command("jobs_rotate_keys")


def test_with_redis_away(settings: Any, use_redis: UseRedis) -> None:
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(CommandError, match="is unavailable"):
        call_command("jobs_rotate_keys")
