"""Which installation a database and a Redis belong to: decided by a table, then with real ones."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from django.db import connections

from wellos_jobs import broker, installation
from wellos_jobs.broker import keys
from wellos_jobs.installation import Known, Verdict, judge, look, meet
from wellos_jobs.models import Installation

from ..conftest import UseRedis
from ..support.servers import RedisServer

HERE, THERE = "redis here, database shop", "redis there, database shop"
NEW = Known()


def at(*homes: str, identity: str = "shop") -> Known:
    return Known(identity, homes)


@pytest.mark.parametrize(
    ("verdict", "here", "database", "in_redis"),
    [
        (Verdict.UNCLAIMED, HERE, NEW, NEW),
        (Verdict.LOST, HERE, NEW, at(HERE)),
        (Verdict.FOREIGN, HERE, NEW, at(THERE)),
        (Verdict.OURS, HERE, at(HERE), at(HERE)),
        (Verdict.OURS, HERE, at(THERE), at(THERE)),  # Redis has moved with its data
        (Verdict.UNCLAIMED, HERE, at(HERE), NEW),  # Redis has lost its data
        (Verdict.COPY, HERE, at(THERE), NEW),
        (Verdict.COPY, HERE, at(THERE), at(HERE, identity="staging")),
        (Verdict.FOREIGN, HERE, at(HERE), at(THERE, identity="bakery")),
        (Verdict.COPY, "name staging", at(HERE, "name production"), at("name production")),
        (Verdict.OURS, "name production", at(HERE), at(HERE)),  # the name is new
        (Verdict.UNCLAIMED, "name production", at("name production"), NEW),
        (Verdict.COPY, "name staging", at("name production"), NEW),
    ],
)
def test_what_a_database_and_a_redis_are_to_each_other(
    verdict: Verdict, here: str, database: Known, in_redis: Known
) -> None:
    assert judge(here, database, in_redis) is verdict


def test_a_redis_that_is_added_belongs_to_the_installation() -> None:
    assert judge(HERE, at(THERE), NEW, is_related=True) is Verdict.UNCLAIMED


@pytest.mark.django_db
def test_both_sides_get_one_identity_at_the_first_meeting(redis_client: redis.Redis) -> None:
    assert meet("default", "default").verdict is Verdict.OURS

    identity = installation.installation_id("default")
    assert redis_client.hget(keys.INSTALLATION, "identity") == identity.encode()
    assert Installation.objects.get().homes == [installation.home("default")]


@pytest.mark.django_db
def test_a_meeting_with_nothing_to_note_is_one_query_and_one_call(
    django_assert_num_queries: Any, round_trips: Any
) -> None:
    meet("default", "default")

    with django_assert_num_queries(1), round_trips.counting() as trips:
        assert meet("default", "default").verdict is Verdict.OURS
    assert len(trips) == 1


@pytest.mark.django_db
def test_redis_that_lost_its_data_is_claimed_again(redis_client: redis.Redis) -> None:
    meet("default", "default")
    redis_client.flushall()

    assert look("default", "default").verdict is Verdict.UNCLAIMED
    assert meet("default", "default").verdict is Verdict.OURS
    assert look("default", "default").verdict is Verdict.OURS


@pytest.mark.django_db
def test_a_database_that_is_made_anew_takes_up_the_identity_in_redis() -> None:
    meet("default", "default")
    before = installation.installation_id("default")
    Installation.objects.all().delete()

    assert meet("default", "default").verdict is Verdict.LOST
    assert installation.installation_id("default") == before


@pytest.mark.django_db(databases=["default", "other"])
def test_a_second_database_shares_the_identity_of_the_first(
    django_assert_num_queries: Any,
) -> None:
    meet("default", "default")

    assert meet("other", "default").verdict is Verdict.OURS
    assert installation.installation_id("other") == installation.installation_id("default")
    with django_assert_num_queries(0):  # the first may be away
        look("other", "default")


@pytest.mark.django_db
def test_a_copied_database_is_told_by_its_redis(tmp_path: Any, use_redis: UseRedis) -> None:
    meet("default", "default")
    with RedisServer(tmp_path / "staging") as server:
        use_redis(server.url)
        finding = meet("default", "default")

        assert finding.verdict is Verdict.COPY
        assert "jobs_installation --copy" in finding.problem
        assert not broker.source_client("default").exists(keys.INSTALLATION)


@pytest.mark.django_db
def test_a_copied_database_is_told_by_its_name_even_with_the_same_redis(settings: Any) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "INSTALLATION": "production"}
    assert meet("default", "default").verdict is Verdict.OURS

    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "INSTALLATION": "staging"}
    assert meet("default", "default").verdict is Verdict.COPY


@pytest.mark.django_db
def test_a_redis_of_another_project_is_left_alone(redis_client: redis.Redis) -> None:
    other = {"identity": "bakery", "home": THERE}
    redis_client.hset(keys.INSTALLATION, mapping=other)

    finding = meet("default", "default")

    assert finding.verdict is Verdict.FOREIGN
    assert "bakery" in finding.problem
    assert redis_client.hget(keys.INSTALLATION, "identity") == b"bakery"
    assert not Installation.objects.exists()


def test_the_home_has_no_secret(settings: Any) -> None:
    settings.SECRET_KEY = "a long secret that nobody should read"
    here = installation.home("default")

    assert settings.SECRET_KEY not in here
    assert str(connections["default"].settings_dict["NAME"]) in here


@pytest.mark.django_db
def test_two_processes_that_start_first_belong_together(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one has claimed Redis in the middle of the look of this one."""
    real = installation.known_to_redis

    def claimed_meanwhile(source: str) -> Known:
        monkeypatch.undo()
        identity = installation.remember("default", "ours", [installation.home(source)])
        redis_client.hsetnx(keys.INSTALLATION, "identity", identity)
        return real(source)

    monkeypatch.setattr(installation, "known_to_redis", claimed_meanwhile)
    assert meet("default", "default").verdict is Verdict.OURS
