"""The system checks: each speaks up on the fault it is for, and is silent on a good
configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.conf import settings
from django.core import checks
from django.core.management import CommandError, call_command
from django.test import override_settings
from django_rq.queues import DjangoScheduler

from wellos_jobs import JobQueue
from wellos_jobs.broker.rq_queue import LaneQueue
from wellos_jobs.checks import connections, databases, deploy, jobs, links, storage
from wellos_jobs.definitions import registry
from wellos_jobs.definitions.validation import define
from wellos_jobs.errors import UnknownQueue
from wellos_jobs.scheduler import Scheduler

from ..jobs import noop
from ..support.servers import RedisServer

JSON = "rq.serializers.JSONSerializer"
CHECKS: list[Callable[..., list[checks.CheckMessage]]] = [
    jobs.check_settings,
    jobs.check_app_order,
    jobs.check_queues,
    jobs.check_scheduler_class,
    jobs.check_encryption,
    jobs.check_declared_queues,
    jobs.check_hooks,
    connections.check_connection_options,
    connections.check_shared_database,
    storage.check_sqlite,
    databases.check_aliases,
]


class MyLanes(LaneQueue):  # type: ignore[misc]
    """A project's own queue class."""


def takes_a_token(token: str) -> None:
    """A job's function."""


def queues(**options: Any) -> dict[str, Any]:
    """One queue named default, with a good configuration save for ``options``."""
    return {"default": {"URL": "redis://localhost:6379/0", "SERIALIZER": JSON, **options}}


def bare(**options: Any) -> dict[str, Any]:
    """One queue without a URL."""
    return {"default": {"SERIALIZER": JSON, **options}}


def cache(location: Any = "redis://cache.example:6379/1", **options: Any) -> dict[str, Any]:
    return {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": location, "OPTIONS": options}


def found(check: Callable[..., list[checks.CheckMessage]], **changed: Any) -> list[str]:
    """The ids a check gives under changed settings; every message must have a hint."""
    with override_settings(**changed):
        messages = check(app_configs=None)
    assert all(message.hint for message in messages)
    return [str(message.id).removeprefix("wellos_jobs.") for message in messages]


@pytest.fixture
def declared() -> Iterator[None]:
    """Whatever the test declares is forgotten afterwards, and only that is there."""
    with registry.isolated():
        registry._jobs.clear()
        yield


# --- the whole ------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_silent_on_the_test_project(check: Callable[..., list[checks.CheckMessage]]) -> None:
    assert found(check) == []


def test_all_are_registered() -> None:
    registered = checks.registry.registry.get_checks(include_deployment_checks=True)
    assert set(CHECKS) | {deploy.check_servers} <= set(registered)
    assert deploy.check_servers not in checks.registry.registry.get_checks()


@pytest.mark.django_db(databases=["default", "other"])
def test_manage_check_is_green() -> None:
    call_command("check", fail_level="WARNING")


def test_every_id_is_in_the_table_and_in_use() -> None:
    from pathlib import Path

    from wellos_jobs import checks as package

    folder = Path(str(package.__file__)).parents[1]
    used = {
        part.partition('"')[0]
        for file in folder.rglob("*.py")
        for part in file.read_text().split('"wellos_jobs.')[1:]
        if part[:1] in "EW"
    }
    documented = {
        line.split()[0]
        for line in str(package.__doc__).splitlines()
        if line[:2] in ("E0", "E1", "W0", "W1")
    }
    assert used == documented


# --- settings and declarations --------------------------------------------------------------------


def test_unknown_setting_and_its_near_miss() -> None:
    with override_settings(WELLOS_JOBS={"ENCRYPTON_KEYS": []}):
        (fault,) = jobs.check_settings()
    assert fault.id == "wellos_jobs.E001"
    assert "'ENCRYPTION_KEYS'" in fault.msg


@pytest.mark.parametrize(
    "value", ["not a dict", {"LEASE": -1}, {"RETENTION": {"done": 3}}, {"STREAM_MAX": "many"}]
)
def test_bad_settings(value: Any) -> None:
    assert found(jobs.check_settings, WELLOS_JOBS=value) == ["E001"]


def test_faulty_settings_do_not_break_the_other_checks() -> None:
    for check in CHECKS:
        if check is not jobs.check_settings:
            assert found(check, WELLOS_JOBS={"LEASE": "soon"}) == []


def test_app_order() -> None:
    apps = [app for app in settings.INSTALLED_APPS if app != "wellos_jobs"]
    assert found(jobs.check_app_order, INSTALLED_APPS=[*apps, "wellos_jobs"]) == ["E002"]
    without = [app for app in settings.INSTALLED_APPS if app != "django_rq"]
    assert found(jobs.check_app_order, INSTALLED_APPS=without) == []


@pytest.mark.parametrize("value", [{}, None])
def test_no_queues(value: Any) -> None:
    assert found(jobs.check_queues, RQ_QUEUES=value) == ["E003"]
    assert found(connections.check_connection_options, RQ_QUEUES=value) == []
    assert found(jobs.check_declared_queues, RQ_QUEUES=value) == []
    assert found(deploy.check_servers, RQ_QUEUES=value) == []


@pytest.mark.parametrize("name", ["reports:p1", "a:p3", ":p7", "x:p10", "q" * 101])
def test_names_of_queues_that_cannot_be_used(name: str) -> None:
    """The lanes of a queue have such keys, and the rows have 100 characters."""
    queues = {**settings.RQ_QUEUES, name: settings.RQ_QUEUES["default"]}
    assert found(jobs.check_queues, RQ_QUEUES=queues) == ["E015"]
    with override_settings(RQ_QUEUES=queues):
        for enqueue in (noop.using(queue=name).enqueue, lambda: JobQueue(name)):
            with pytest.raises(UnknownQueue, match="priority lane|has a name of 101 characters"):
                enqueue()
        with pytest.raises(CommandError, match="priority lane|has a name of 101 characters"):
            call_command("rqworker", name)


@pytest.mark.parametrize("name", ["reports:p2", "a:p5", "p1", "x:p10:y", "q" * 100])
def test_names_of_queues_that_can_be_used(name: str) -> None:
    queues = {**settings.RQ_QUEUES, name: settings.RQ_QUEUES["default"]}
    assert found(jobs.check_queues, RQ_QUEUES=queues) == []


@pytest.mark.parametrize(
    "serializer", [None, "pickle", "rq.serializers.DefaultSerializer", "project.Mine"]
)
def test_serializer_that_is_not_json(serializer: str | None) -> None:
    configured = queues(SERIALIZER=serializer)
    assert found(jobs.check_queues, RQ_QUEUES=configured) == ["E004"]
    assert found(jobs.check_queues, RQ_QUEUES=configured, WELLOS_JOBS={"ALLOW_PICKLE": True}) == [
        "W001"
    ]


def test_json_serializers() -> None:
    from rq.serializers import JSONSerializer

    for serializer in (JSON, "json", JSONSerializer):
        assert found(jobs.check_queues, RQ_QUEUES=queues(SERIALIZER=serializer)) == []


@pytest.mark.parametrize(
    "value", [{}, {"QUEUE_CLASS": "rq.Queue"}, {"QUEUE_CLASS": "no.such.Queue"}]
)
def test_queue_class(value: dict[str, str]) -> None:
    assert found(jobs.check_queues, RQ=value) == ["E005"]


def test_queue_class_of_one_queue() -> None:
    assert found(jobs.check_queues, RQ_QUEUES=queues(QUEUE_CLASS="django_rq.queues.DjangoRQ")) == [
        "E005"
    ]


@pytest.mark.parametrize(
    "value", ["wellos_jobs.queues.LaneQueue", "tests.checks.test_checks.MyLanes", LaneQueue]
)
def test_good_queue_classes(value: Any) -> None:
    assert (
        found(jobs.check_queues, RQ={"QUEUE_CLASS": value}, RQ_QUEUES=queues(QUEUE_CLASS=value))
        == []
    )


@pytest.mark.parametrize("value", ["rq_scheduler.Scheduler", "no.such.Scheduler", DjangoScheduler])
def test_scheduler_class(value: Any) -> None:
    assert found(jobs.check_scheduler_class, RQ={"SCHEDULER_CLASS": value}) == ["W005"]


@pytest.mark.parametrize(
    "value",
    [{}, {"SCHEDULER_CLASS": "wellos_jobs.scheduler.Scheduler"}, {"SCHEDULER_CLASS": Scheduler}],
)
def test_good_scheduler_classes(value: dict[str, Any]) -> None:
    assert found(jobs.check_scheduler_class, RQ=value) == []


def test_sensitive_job_without_keys(declared: None) -> None:
    registry.register(define("check-secret", takes_a_token, sensitive=("token",)))
    assert found(jobs.check_encryption, WELLOS_JOBS={}) == ["E006"]
    assert (
        found(jobs.check_encryption, WELLOS_JOBS={"ENCRYPTION_KEYS": [Fernet.generate_key()]}) == []
    )


def test_invalid_keys() -> None:
    good, bad = Fernet.generate_key().decode(), "hunter2"
    with override_settings(WELLOS_JOBS={"ENCRYPTION_KEYS": [good, bad]}):
        (fault,) = jobs.check_encryption()
    assert fault.id == "wellos_jobs.E007"
    assert "[1]" in fault.msg
    assert bad not in fault.msg + str(fault.hint)


def test_job_on_an_unknown_queue(declared: None) -> None:
    registry.register(define("check-lost", takes_a_token, queue="nowhere"))
    registry.register(define("check-stray", takes_a_token, queue="nowhere"))
    registry.register(define("check-astray", takes_a_token, queue="anywhere"))
    one, two = sorted(fault.msg for fault in jobs.check_declared_queues())
    assert re.fullmatch(
        r"Queue 'anywhere' is not in RQ_QUEUES, but is used by 'check-astray' \(.*\)\.", one
    )
    assert re.fullmatch(
        r"Queue 'nowhere' .* is used by 'check-lost' \(.*\), 'check-stray' \(.*\)\.", two
    )


def test_own_jobs_need_no_queue_named_default() -> None:
    """The notice of dead letters goes to the first queue of a project that has no "default"."""
    from wellos_jobs.alerts.failure_mail import JOB_NAME

    with override_settings(RQ_QUEUES={"mail": queues()["default"]}):
        named = [fault.msg for fault in jobs.check_declared_queues() if JOB_NAME in fault.msg]
    assert named == []


@pytest.mark.parametrize(
    "path", ["no.such.module", "tests.checks.test_checks.nothing", "tests.checks.test_checks.JSON"]
)
@pytest.mark.parametrize("key", ["CAN_VIEW_JOB", "ORGANIZATION_RESOLVER"])
def test_hooks(key: str, path: str) -> None:
    assert found(jobs.check_hooks, WELLOS_JOBS={key: path}) == ["E011"]
    assert found(jobs.check_hooks, WELLOS_JOBS={key: "tests.checks.test_checks.queues"}) == []


# --- connections ----------------------------------------------------------------------------------

SENTINEL = {"SENTINELS": [("s1", 26379)], "MASTER_NAME": "jobs", "DB": 0}


@pytest.mark.parametrize(
    "configured",
    [
        queues(URL="redis://localhost:6379/0?decode_responses=True"),
        bare(HOST="localhost", PORT=6379, REDIS_CLIENT_KWARGS={"decode_responses": True}),
        bare(**SENTINEL, CONNECTION_KWARGS={"decode_responses": True}),
    ],
)
def test_decode_responses(configured: dict[str, Any]) -> None:
    assert found(connections.check_connection_options, RQ_QUEUES=configured) == ["E009"]


@pytest.mark.parametrize(
    "configured",
    [
        queues(URL="redis://localhost:6379/0?socket_timeout=5"),
        bare(HOST="localhost", PORT=6379, REDIS_CLIENT_KWARGS={"socket_timeout": 10}),
        bare(**SENTINEL, SOCKET_TIMEOUT=2),
    ],
)
def test_short_socket_timeout(configured: dict[str, Any]) -> None:
    assert found(connections.check_connection_options, RQ_QUEUES=configured) == ["E010"]


@pytest.mark.parametrize(
    "configured",
    [
        queues(URL="redis://localhost:6379/0?socket_timeout=15"),
        queues(URL="unix:///run/redis.sock?db=2"),
        queues(URL="rediss://user:p%40ss@redis.example:6380/4"),
        bare(HOST="localhost", PORT=6379, DB=3, PASSWORD="x"),
        bare(UNIX_SOCKET_PATH="/run/redis.sock", DB=0),
        bare(**SENTINEL, SOCKET_TIMEOUT=30),
    ],
)
def test_good_connections(configured: dict[str, Any]) -> None:
    assert found(connections.check_connection_options, RQ_QUEUES=configured) == []


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({}, []),
        ({"SOCKET_TIMEOUT": 5}, ["E010"]),
        ({"CONNECTION_POOL_KWARGS": {"decode_responses": True}}, ["E009"]),
        ({"REDIS_CLIENT_KWARGS": {"decode_responses": True}}, ["E009"]),
        ({"CLIENT_CLASS": "django_redis.client.ShardClient"}, ["E012"]),
        ({"REDIS_CLIENT_CLASS": "redis.cluster.RedisCluster"}, ["E012"]),
        ({"CLIENT_CLASS": "django_redis.client.DefaultClient"}, []),
    ],
)
def test_queue_on_a_cache(options: dict[str, Any], ids: list[str]) -> None:
    caches = {"default": cache("redis://other.example/0"), "jobs": cache(**options)}
    assert (
        found(
            connections.check_connection_options,
            RQ_QUEUES=bare(USE_REDIS_CACHE="jobs"),
            CACHES=caches,
        )
        == ids
    )


@pytest.mark.parametrize(
    ("location", "queue"),
    [
        ("redis://127.0.0.1:6379/0", {"URL": "redis://localhost/0"}),
        ("redis://127.0.0.1:6379", {"HOST": "localhost", "PORT": 6379}),
        (
            ["redis://redis.example:6379/4", "redis://replica:6379/4"],
            {"URL": "redis://u:p@REDIS.example:6379/4"},
        ),
        (
            "redis://a.example:6379/4,redis://b.example:6379/4",
            {"HOST": "a.example", "PORT": "6379", "DB": 4},
        ),
        ("unix:///run/redis.sock?db=2", {"UNIX_SOCKET_PATH": "/run/redis.sock", "DB": 2}),
        ("redis://localhost:6379/?db=3", {"URL": "redis://localhost:6379/3"}),
        ("redis://localhost:6379/3", {"USE_REDIS_CACHE": "default"}),
    ],
)
def test_cache_that_shares_the_database(location: Any, queue: dict[str, Any]) -> None:
    changed = {"CACHES": {"default": cache(location)}, "RQ_QUEUES": bare(**queue)}
    assert found(connections.check_shared_database, **changed) == ["W002"]


def test_django_s_own_redis_cache_shares_too() -> None:
    own = {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": "redis://localhost",
        "OPTIONS": {"db": 2},
    }
    changed = {"CACHES": {"default": own}, "RQ_QUEUES": queues(URL="redis://localhost/2")}
    assert found(connections.check_shared_database, **changed) == ["W002"]


def test_sentinel_cache_that_shares() -> None:
    shared = cache("redis://jobs/0", CLIENT_CLASS="django_redis.client.SentinelClient")
    changed = {"CACHES": {"default": shared}, "RQ_QUEUES": bare(**SENTINEL)}
    assert found(connections.check_shared_database, **changed) == ["W002"]


@pytest.mark.parametrize(
    "caches",
    [
        {"default": cache("redis://localhost:6379/1")},
        {"default": cache("redis://localhost:6380/0")},
        {"default": cache("redis://other.example:6379/0")},
        {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
        {},
    ],
)
def test_caches_that_do_not_share(caches: dict[str, Any]) -> None:
    assert found(connections.check_shared_database, CACHES=caches, RQ_QUEUES=queues()) == []


# --- databases ------------------------------------------------------------------------------------


@pytest.fixture
def sqlite(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The settings of the default connection, to be changed; only it is looked at, as if it were
    SQLite."""
    connection = storage.connections["default"]
    changed = deepcopy(connection.settings_dict)
    changed |= {
        "NAME": "/srv/db.sqlite3",
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode = WAL"},
    }
    monkeypatch.setattr(connection, "settings_dict", changed)
    monkeypatch.setattr(connection, "vendor", "sqlite", raising=False)
    return changed


def test_sqlite_in_good_order(sqlite: dict[str, Any]) -> None:
    assert found(storage.check_sqlite) == []


@pytest.mark.parametrize("mode", [None, "DEFERRED"])
def test_sqlite_transaction_mode(sqlite: dict[str, Any], mode: str | None) -> None:
    sqlite["OPTIONS"]["transaction_mode"] = mode
    assert found(storage.check_sqlite) == ["W003"]


def test_sqlite_without_wal(sqlite: dict[str, Any]) -> None:
    sqlite["OPTIONS"]["init_command"] = "PRAGMA foreign_keys=ON"
    assert found(storage.check_sqlite) == ["W004"]
    sqlite["NAME"] = "file:memorydb_default?mode=memory&cache=shared"
    assert found(storage.check_sqlite) == []


def test_databases_without_jobs_are_skipped(sqlite: dict[str, Any]) -> None:
    sqlite["OPTIONS"] = {}
    assert found(storage.check_sqlite) == ["W003", "W004"]
    elsewhere = {**settings.WELLOS_JOBS, "JOB_DATABASES": ["other"]}
    assert found(storage.check_sqlite, WELLOS_JOBS=elsewhere) == []


class JobsInDefault:
    """A router that writes jobs to ``default``, whichever database they were read from."""

    def db_for_write(self, model: Any, **_: Any) -> str:
        return "default"


def test_databases_of_the_router_and_the_setting(settings: Any) -> None:
    def problems(*named: str) -> list[str]:
        given = {**settings.WELLOS_JOBS, "JOB_DATABASES": list(named)}
        return found(databases.check_aliases, WELLOS_JOBS=given)

    assert problems("default", "other") == problems("default") == []
    assert problems("other") == ["E014"]
    settings.DATABASE_ROUTERS = [JobsInDefault()]
    assert problems("default", "other") == ["E013"]
    assert problems("default") == []
    assert found(databases.check_aliases, WELLOS_JOBS={"JOB_DATABASES": "default"}) == []
    assert found(jobs.check_settings, WELLOS_JOBS={"JOB_DATABASES": "default"}) == ["E001"]
    assert found(jobs.check_settings, WELLOS_JOBS={"JOB_DATABASES": ["warehouse"]}) == ["E001"]


def test_links_in_mails_need_a_base_url() -> None:
    assert links.check_base_url not in checks.registry.registry.get_checks()
    assert found(links.check_base_url) == ["W106"]
    assert found(links.check_base_url, WELLOS_JOBS={"BASE_URL": "https://wellos.example"}) == []
    without = [app for app in settings.INSTALLED_APPS if app != "wellos_jobs.contrib"]
    assert found(links.check_base_url, INSTALLED_APPS=without) == []


# --- deploy: real servers -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def safe_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server as production wants it: a password, an append-only file, noeviction."""
    with RedisServer(tmp_path_factory.mktemp("safe"), persistent=True) as server:
        server.client().config_set("requirepass", "sesame")
        yield server


def on(server: RedisServer, password: str = "") -> dict[str, Any]:
    return {"RQ_QUEUES": bare(HOST="127.0.0.1", PORT=server.port, DB=0, PASSWORD=password or None)}


def test_safe_server(safe_server: RedisServer) -> None:
    assert found(deploy.check_servers, **on(safe_server, "sesame")) == []


def test_server_that_refuses_us(safe_server: RedisServer) -> None:
    assert found(deploy.check_servers, **on(safe_server)) == ["W101"]


def test_server_that_is_away(tmp_path: Any) -> None:
    server = RedisServer(tmp_path / "redis")
    with override_settings(**on(server)):
        (warning,) = deploy.check_servers()
    assert warning.id == "wellos_jobs.W101"
    assert "default" in warning.msg


def test_open_server_without_persistence(tmp_path: Any) -> None:
    with RedisServer(tmp_path / "redis") as server:
        assert found(deploy.check_servers, **on(server)) == ["W102", "W103"]
        server.client().config_set("save", "60 1000")
        assert found(deploy.check_servers, **on(server)) == ["W102", "W103"]
        server.client().config_set("appendonly", "yes")
        assert found(deploy.check_servers, **on(server)) == ["W102"]
        server.client().config_set("maxmemory-policy", "allkeys-lru")
        assert found(deploy.check_servers, **on(server)) == ["W102", "W104"]


def test_server_that_hides_its_configuration(tmp_path: Any) -> None:
    with RedisServer(tmp_path / "redis") as server:
        server.client().execute_command(
            "ACL", "SETUSER", "jobs", "on", ">sesame", "~*", "&*", "+@all", "-config"
        )
        configured = bare(
            HOST="127.0.0.1", PORT=server.port, DB=0, USERNAME="jobs", PASSWORD="sesame"
        )
        assert found(deploy.check_servers, RQ_QUEUES=configured) == ["W101"]


@pytest.mark.parametrize(
    ("info", "ids"),
    [
        ({"redis_version": "6.2.14"}, ["W105"]),
        ({"redis_version": "7.0.0"}, []),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.0"}, []),
        ({"redis_version": "8.2.1", "cluster_enabled": 1}, ["E101"]),
        ({}, []),
    ],
)
def test_kinds_of_server(info: dict[str, Any], ids: list[str]) -> None:
    assert [
        str(fault.id).removeprefix("wellos_jobs.") for fault in deploy._server_messages("It", info)
    ] == ids
