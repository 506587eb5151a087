"""Connections to Redis, and the scripts that run there.

There are several roles of connections, with different timeouts:

- ``call``: pages and shells. Fails within seconds when Redis is unavailable.
- ``enqueue``: what web requests tell Redis after their commit, where the maintenance can do it as
  well. Fails within a second, see ``briefly``.
- ``work``: supervisors. They repeat failed calls; every script may be resent.
- ``claim``, ``ledger``: the same for workers and for the maintenance, which are careful about which
  server run they are connected to (see ``server_identity``).
- ``block``: an idle worker that blocks for ``BLOCK_SECONDS``; its socket timeout is longer.
- ``probe``: health checks. Times out after one second: a slow Redis counts as unavailable.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Literal

import redis
from django.core.signals import setting_changed
from django_rq.connection_utils import get_redis_connection
from redis.backoff import ExponentialBackoff
from redis.exceptions import MasterDownError, NoScriptError, OutOfMemoryError, ReadOnlyError
from redis.retry import Retry

from .. import conf
from . import kept_away, keys, sentinels, server_identity

Role = Literal["call", "enqueue", "work", "claim", "ledger", "block", "probe"]

BLOCK_SECONDS = 10.0
"""How long an idle worker blocks before it asks for a job without having been woken."""

Client = redis.Redis
"""Type alias for modules that do not import redis-py."""

Unavailable = (redis.ConnectionError, redis.TimeoutError)
"""Raised by a client when Redis is unavailable (BusyLoadingError is a ConnectionError)."""

_REFUSAL = re.compile(
    r"(?:^|caused error: )(OOM|READONLY|MISCONF|NOREPLICAS|MASTERDOWN|BUSY|UNBLOCKED) "
)
"""Errors of a server that refuses for now: memory or disk full, failover, another script running.

In a pipeline redis-py puts the number of the command before the error.
"""


class Refused(redis.ConnectionError):
    """The server refuses commands for now. Loops that wait for Redis wait for this to end too."""


class OutOfMemory(Refused):
    """The memory of the server is full; fewer data may fit."""


class Outage(redis.ConnectionError):
    """The server did not answer a moment ago, so it is not asked."""


Error = redis.RedisError
"""The base of all errors of redis-py, for example for a key of the wrong type."""

_TIMEOUTS: Mapping[Role, dict[str, Any]] = {
    "call": {"socket_connect_timeout": 2.0, "socket_timeout": 5.0},
    "enqueue": {"socket_connect_timeout": 1.0, "socket_timeout": 1.0},
    "work": {"socket_connect_timeout": 2.0, "socket_timeout": 5.0},
    "claim": {"socket_connect_timeout": 2.0, "socket_timeout": 5.0},
    "ledger": {"socket_connect_timeout": 2.0, "socket_timeout": 5.0},
    "block": {"socket_connect_timeout": 2.0, "socket_timeout": BLOCK_SECONDS + 5.0},
    "probe": {"socket_connect_timeout": 1.0, "socket_timeout": 1.0},
}
_REPEATED = frozenset({"call", "enqueue", "work", "claim", "ledger"})
"""Roles whose failed calls are repeated once."""

_IMPATIENT = frozenset({"call", "enqueue"})
"""Roles that do not repeat a call that was not answered in time: a person waits."""

OUTAGE_SECONDS = 5.0
"""How long ``briefly`` does not ask a server that did not answer."""

_silent_until: dict[str, float] = {}
"""Until when a server is not asked by ``briefly``, by source, in monotonic seconds."""


def client(queue: str, role: Role = "call") -> redis.Redis:
    """Return the client for the Redis of a queue. Clients are shared in a process and fork-safe.

    Raises:
        UnknownQueue: ``RQ_QUEUES`` does not name the queue.
    """
    return _shared_client(source_of(queue), role)


def source_client(source: str, role: Role = "work") -> redis.Redis:
    """Return the client for a Redis by its source name (see ``sources``)."""
    return _shared_client(source, role)


@contextlib.contextmanager
def briefly(source: str) -> Iterator[redis.Redis]:
    """Give a client for something that can wait: it costs a second at most.

    A server that accepts connections but does not answer is then left alone for some seconds, so
    that several calls in one request do not add up.

    Raises:
        Outage: it did not answer a moment ago.
    """
    if time.monotonic() < _silent_until.get(source, 0.0):
        raise Outage(f"Redis {source} did not answer a moment ago")
    try:
        with refusals_as_unavailable():
            yield _shared_client(source, "enqueue")
    except redis.TimeoutError:
        _silent_until[source] = time.monotonic() + OUTAGE_SECONDS
        raise


def source_of(queue: str) -> str:
    """Return the source name of a queue's Redis: the first queue in ``RQ_QUEUES`` that uses it."""
    conf.queue(queue)
    return _sources_by_queue()[queue]


def sources() -> dict[str, list[str]]:
    """Return each distinct Redis in ``RQ_QUEUES`` by source name, with its queues in order."""
    found: dict[str, list[str]] = {}
    for queue, source in _sources_by_queue().items():
        found.setdefault(source, []).append(queue)
    return found


def address(source: str) -> str:
    """Return where a Redis is, for people: host, port and database, or the name of its primary."""
    config = conf.queue(source)
    if "SENTINELS" in config:
        return f"{config.get('MASTER_NAME')} of {config['SENTINELS']}/{config.get('DB', 0)}"
    host, port, path, database = _place(config)
    return f"{path or f'{host}:{port}'}/{database}"


def run(connection: redis.Redis, script: str, *arguments: Any) -> Any:
    """Run a script by the hash of its text; load it first if the server does not have it.

    Two versions of the code may use one server.
    """
    text, digest = _SCRIPTS[script]
    command = (digest, "1", keys.PREFIX, *arguments)
    try:
        return _execute(connection, "EVALSHA", *command)
    except NoScriptError:
        _execute(connection, "SCRIPT LOAD", text)
        return _execute(connection, "EVALSHA", *command)


@contextlib.contextmanager
def refusals_as_unavailable() -> Iterator[None]:
    """Raise ``Refused`` when a server refuses a command for now. ``run`` does this by itself.

    For loops that wait for Redis: a primary that becomes a replica refuses writes and blocking
    commands.
    """
    try:
        yield
    except OutOfMemoryError as error:
        raise OutOfMemory(str(error)) from error
    except (ReadOnlyError, MasterDownError) as error:
        # redis-py has removed the first word of these.
        raise Refused(str(error)) from error
    except redis.ResponseError as error:
        if refusal := _REFUSAL.search(str(error)):
            kind = OutOfMemory if refusal[1] == "OOM" else Refused
            raise kind(str(error)) from error
        raise


def run_within(pipeline: redis.Redis, script: str, *arguments: Any) -> None:
    """Add a script to a pipeline, by its text: inside MULTI it cannot be loaded and repeated."""
    _execute(pipeline, "EVAL", _SCRIPTS[script][0], "1", keys.PREFIX, *arguments)


def rq_time(moment: datetime | None = None) -> str:
    """Return a time (now by default) in RQ's format for hashes: UTC, microseconds."""
    return (moment or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def redis_time(connection: redis.Redis) -> float:
    """Return the Redis clock in Unix seconds."""
    seconds, microseconds = connection.time()
    return float(seconds) + float(microseconds) / 1_000_000


class RedisClock:
    """The clock of a Redis in Unix seconds, by which all hosts agree whatever their own say.

    It is read once a second and goes on by itself in between.
    """

    READ_EVERY = 1.0

    def __init__(self, connection: redis.Redis) -> None:
        self.connection = connection
        self._time = 0.0
        self._read_at = -math.inf

    def __call__(self) -> float:
        """Return the time.

        Raises:
            Unavailable: Redis is unavailable.
        """
        if time.monotonic() - self._read_at > self.READ_EVERY:
            self._time = redis_time(self.connection)
            self._read_at = time.monotonic()
        return self._time + time.monotonic() - self._read_at


def text(value: bytes | str | None) -> str:
    """Return a reply as text; '' for a missing value."""
    if value is None:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def script_digest(name: str) -> str:
    """Return the hash by which a script is called."""
    return _SCRIPTS[name][1]


def script_source(name: str) -> str:
    """Return the text of a script with its includes."""
    return _SCRIPTS[name][0]


def _execute(connection: redis.Redis, *command: Any) -> Any:
    with refusals_as_unavailable():
        return connection.execute_command(*command)  # type: ignore[no-untyped-call]


_INCLUDES = re.compile(r"^-- Includes: (.+)$", re.MULTILINE)
"""The line in which a script names what is loaded in front of it, besides ``common``."""


def _texts(folder: Traversable) -> dict[str, str]:
    files = [file for file in folder.iterdir() if file.name.endswith(".lua")]
    return {file.name.removesuffix(".lua"): file.read_text(encoding="utf-8") for file in files}


def _read_scripts() -> dict[str, tuple[str, str]]:
    """Return the text of each script with its includes, and the hash of that."""
    folder = resources.files(__package__) / "scripts"
    includes = _texts(folder / "include")
    found = {}
    for name, script in _texts(folder).items():
        named = _INCLUDES.search(script)
        parts = ["common", *(named[1].split(", ") if named else ())]
        source = "\n".join([*(includes[part] for part in parts), script])
        found[name] = source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return found


_SCRIPTS = _read_scripts()
"""Read at import: a process that outlives an in-place deployment keeps the scripts of its code."""


def _shared_client(source: str, role: Role) -> redis.Redis:
    if kept_away.is_kept_away():
        return kept_away.client()
    return _client(source, role, os.getpid())


@lru_cache(maxsize=64)
def _client(source: str, role: Role, _pid: int) -> redis.Redis:
    patience = dict(_TIMEOUTS[role])
    repeated: tuple[type[Exception], ...] = (redis.ConnectionError,)
    if role not in _IMPATIENT:
        repeated += (redis.TimeoutError, TimeoutError)
    backoff = ExponentialBackoff(cap=0.25, base=0.05)
    patience["retry"] = Retry(backoff, int(role in _REPEATED), supported_errors=repeated)
    if role == "claim" or role == "ledger":
        check = server_identity.checking(role, source, script_source("trusted"))
        patience["redis_connect_func"] = check

    config = dict(conf.queue(source))
    if "SENTINELS" in config:
        config["SOCKET_TIMEOUT"] = patience.pop("socket_timeout")
        config["CONNECTION_KWARGS"] = {**config.get("CONNECTION_KWARGS", {}), **patience}
        config["SENTINEL_KWARGS"] = sentinels.options(config.get("SENTINEL_KWARGS", {}))
        client = get_redis_connection(config)
        sentinels.share_order(source, client)
        return client
    pool = get_redis_connection(config).connection_pool
    options = {**pool.connection_kwargs, **patience, "decode_responses": False}
    return redis.Redis(
        connection_pool=redis.ConnectionPool(connection_class=pool.connection_class, **options),
    )


@cache
def _sources_by_queue() -> dict[str, str]:
    first: dict[object, str] = {}
    return {
        queue: first.setdefault(_identity(config), queue) for queue, config in conf.queues().items()
    }


def _identity(config: Mapping[str, Any]) -> object:
    if "SENTINELS" in config:
        return (str(config["SENTINELS"]), config.get("MASTER_NAME"), config.get("DB", 0))
    return _place(config)


def _place(config: Mapping[str, Any]) -> tuple[Any, Any, Any, int]:
    options = get_redis_connection(dict(config)).connection_pool.connection_kwargs
    return (
        options.get("host"),
        options.get("port"),
        options.get("path"),
        int(options.get("db") or 0),
    )


def _forget_connections(*, setting: str, **_: Any) -> None:
    if setting in {"RQ_QUEUES", "CACHES"}:
        _client.cache_clear()
        _silent_until.clear()
        sentinels.forget()
        server_identity.forget()
        _sources_by_queue.cache_clear()


setting_changed.connect(_forget_connections, dispatch_uid="wellos_jobs.redis")
