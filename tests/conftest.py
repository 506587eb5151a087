"""Fixtures over real things: a Redis server, worker processes, proxies that cut, a database that
goes away.

``tests.settings`` has made the test bed by now (pytest-django imports it first); here it is kept
clean and ended.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import Client
from django.test.utils import override_settings

from wellos_jobs.broker import server_identity
from wellos_jobs.broker.kept_away import real_redis

from .support import clean_tables, optional_parts, servers, test_run
from .support.browser import chromium, page, site  # noqa: F401  # fixtures
from .support.engine import Books
from .support.journal import Journal
from .support.outages import DatabaseOutage
from .support.process_reaper import undertaker
from .support.processes import Fleet
from .support.proxies import CuttingProxy
from .support.round_trips import RoundTrips
from .support.users import client_of

# --- the run --------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database-tests-only",
        action="store_true",
        help="Run only what uses a database: for a second run, on another database.",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        _mark(item)
    if config.getoption("--database-tests-only"):
        kept = [item for item in items if _uses_database(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
    # A slow file that begins last is waited for by all the others.
    slow = Counter(item.path for item in items if not item.get_closest_marker("unit"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish() -> None:
    """Leave what collecting the tests has made, half a million objects that stay, out of each
    later garbage collection."""
    gc.enable()
    gc.collect()
    gc.freeze()


def _mark(item: pytest.Item) -> None:
    """Give a test the mark of its tier; what has none is a unit test."""
    fixtures = getattr(item, "fixturenames", ())
    if "processes" in fixtures:
        item.add_marker(pytest.mark.processes)
        item.add_marker(pytest.mark.django_db(transaction=True, databases=list(test_run.ALIASES)))
    if item.get_closest_marker("browser") and optional_parts.chromium() is None:
        item.add_marker(pytest.mark.skip(reason=optional_parts.HOW["chromium"]))
    if not any(item.get_closest_marker(tier) for tier in ("processes", "browser", "system")):
        item.add_marker(pytest.mark.unit)


def _uses_database(item: pytest.Item) -> bool:
    if item.get_closest_marker("any_database"):
        return False
    if item.get_closest_marker("browser"):
        return False  # what a page shows was asked of each database by tests without a browser
    fixtures = {"db", "transactional_db", "live_server"} & set(getattr(item, "fixturenames", ()))
    return bool(fixtures) or item.get_closest_marker("django_db") is not None


def pytest_configure() -> None:
    clean_tables.install()
    gc.disable()  # until the tests are collected: nothing of what that makes is garbage
    _let_children_be_stopped()


def _let_children_be_stopped() -> None:
    """Started in the background of a shell or by ``nohup``, this process ignores some signals, and
    so would those that it starts."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            ours = signal.default_int_handler if number == signal.SIGINT else _stay
            signal.signal(number, ours)


def _stay(_number: int, _frame: object) -> None:
    """Ignore a signal, as long as this program runs: a handler is not inherited."""


def pytest_unconfigure() -> None:
    if test_run.is_made():
        test_run.clear()
        undertaker().dismiss()


# --- Redis ----------------------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def _redis_of_its_own() -> Iterator[None]:
    """This run has a Redis of its own, so its tests may push, also from a transaction that never
    commits."""
    with real_redis():
        yield


@pytest.fixture(scope="session")
def _shared_redis() -> Iterator[redis.Redis]:
    with redis.Redis.from_url(django_settings.REDIS_URL) as client:
        yield client


@pytest.fixture(autouse=True)
def _empty_redis(_shared_redis: redis.Redis) -> None:
    """Give each test an empty Redis, all logical databases of it, which belongs to nobody yet."""
    _shared_redis.flushall()
    server_identity.forget()


@pytest.fixture
def redis_client() -> Iterator[redis.Redis]:
    """A client for the Redis that carries the jobs, apart from the code under test."""
    with redis.Redis.from_url(django_settings.REDIS_URL) as client:
        yield client


UseRedis = Callable[[str], Any]


@pytest.fixture
def use_redis(request: pytest.FixtureRequest) -> Iterator[UseRedis]:
    """``use_redis(url)``: from now on the queues of this process, and of processes started later,
    live there."""
    with contextlib.ExitStack() as stack:

        def use(url: str) -> None:
            queues = {
                name: {**queue, "URL": url} for name, queue in django_settings.RQ_QUEUES.items()
            }
            stack.enter_context(override_settings(RQ_QUEUES=queues, REDIS_URL=url))
            stack.enter_context(_environment(REDIS_URL=url))

        yield use


@pytest.fixture
def redis_server(tmp_path: Path, use_redis: UseRedis) -> Iterator[servers.RedisServer]:
    """A server of this test's own, with persistence, that may be killed and restarted; the queues
    live on it."""
    with servers.RedisServer(tmp_path / "redis", persistent=True) as server:
        use_redis(server.url)
        yield server


@pytest.fixture
def redis_proxy(use_redis: UseRedis) -> Iterator[CuttingProxy]:
    """A proxy before the shared Redis, which can cut connections; the queues are reached through
    it."""
    with CuttingProxy(django_settings.REDIS_URL) as proxy:
        use_redis(proxy.url)
        yield proxy


@pytest.fixture
def round_trips() -> Iterator[RoundTrips]:
    """``with round_trips.counting() as trips:``, then ``len(trips)``: what this process sent to
    Redis."""
    with RoundTrips() as counter:
        yield counter


# --- the app --------------------------------------------------------------------------------------


@pytest.fixture
def no_notices(settings: Any) -> None:
    """The mails of dead letters are jobs, too; where jobs are counted they would be in the way."""
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "NOTIFY_ADMINS": False}


@pytest.fixture
def books() -> Books:
    """Folds events into the rows."""
    return Books()


@pytest.fixture
def root() -> Client:
    """The browser of a superuser."""
    return client_of(User.objects.create_superuser("root"))


# --- processes ------------------------------------------------------------------------------------


@pytest.fixture
def processes(transactional_db: None, tmp_path: Path) -> Iterator[Fleet]:
    """Starts real processes on this test's databases (both, emptied at the end) and Redis."""
    fleet = Fleet(tmp_path)
    try:
        yield fleet
    finally:
        fleet.end()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Counts the runs of jobs that got ``journal=str(journal)``."""
    return Journal(tmp_path / "journal.jsonl")


@pytest.fixture
def database_outage(processes: Fleet) -> Iterator[DatabaseOutage]:
    """``with database_outage():``: within, processes that were started with ``processes`` cannot
    write ``default``."""
    with DatabaseOutage(processes) as outage:
        yield outage


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
