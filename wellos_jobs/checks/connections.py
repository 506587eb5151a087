"""Checks of the Redis settings, without connecting: E009, E010, E012 and W002."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from django.core.checks import CheckMessage, Error, Warning, register

from .. import conf
from ..broker import BLOCK_SECONDS
from .jobs import configured_queues

_SCHEMES = frozenset({"redis", "rediss", "unix", "valkey", "valkeys"})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", ""})
_TRUE = frozenset({"1", "true", "yes", "on", "t", "y"})


@dataclass(frozen=True)
class Target:
    """The Redis database that settings point to, and the options relevant to jobs."""

    server: str
    database: int
    decode_responses: bool = False
    socket_timeout: float | None = None
    client_class: str = ""

    @property
    def place(self) -> tuple[str, int]:
        return self.server, self.database


def queue_target(config: Mapping[str, Any]) -> Target | None:
    """Return the target of an entry of ``RQ_QUEUES``; None if that needs a connection."""
    if "URL" in config:
        return _url_target(str(config["URL"]), config.get("DB"), {})
    if "USE_REDIS_CACHE" in config:
        return cache_target(str(config["USE_REDIS_CACHE"]))

    options = {**config.get("CONNECTION_KWARGS", {}), **config.get("REDIS_CLIENT_KWARGS", {})}
    options.setdefault("socket_timeout", config.get("SOCKET_TIMEOUT"))
    database = int(config.get("DB") or 0)

    if "UNIX_SOCKET_PATH" in config:
        return _target(f"unix:{config['UNIX_SOCKET_PATH']}", database, {})
    if "SENTINELS" in config:
        return _target(f"sentinel:{config.get('MASTER_NAME')}", database, options)
    return _target(_server(str(config.get("HOST", "")), config.get("PORT")), database, options)


def cache_target(alias: str) -> Target | None:
    """Return the target of a cache; None if it is not in Redis."""
    config = conf.django_setting("CACHES", {}).get(alias, {})
    location = config.get("LOCATION", "")
    if isinstance(location, str):
        location = location.replace(";", ",").split(",")
    first = str(location[0]) if location else ""
    if urlsplit(first).scheme not in _SCHEMES:
        return None

    options = config.get("OPTIONS", {})
    pool = {
        **options,
        **options.get("CONNECTION_POOL_KWARGS", {}),
        **options.get("REDIS_CLIENT_KWARGS", {}),
    }
    pool.setdefault("socket_timeout", options.get("SOCKET_TIMEOUT"))

    target = _url_target(first, options.get("db"), pool)
    if target.client_class.endswith("SentinelClient"):
        return Target(f"sentinel:{urlsplit(first).hostname}", target.database)
    return target


def _url_target(url: str, database: Any, options: Mapping[str, Any]) -> Target:
    parts = urlsplit(url)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    path = unquote(parts.path)
    if parts.scheme == "unix":
        return _target(f"unix:{path}", query.get("db", database), {**options, **query})

    in_path = path.strip("/")
    chosen = query.get("db", in_path if in_path.isdigit() else database)
    return _target(_server(parts.hostname or "", parts.port), chosen, {**options, **query})


def _server(host: str, port: Any) -> str:
    return f"{'localhost' if host in _LOOPBACK else host.lower()}:{port or 6379}"


def _target(server: str, database: Any, options: Mapping[str, Any]) -> Target:
    timeout = options.get("socket_timeout")
    return Target(
        server=server,
        database=int(database or 0),
        decode_responses=str(options.get("decode_responses", "")).lower() in _TRUE,
        socket_timeout=float(timeout) if timeout else None,
        client_class=_class_path(
            options.get("REDIS_CLIENT_CLASS") or options.get("CLIENT_CLASS") or ""
        ),
    )


def _class_path(value: Any) -> str:
    return value if isinstance(value, str) else f"{value.__module__}.{value.__qualname__}"


def _targets() -> Iterator[tuple[str, Target]]:
    for name, config in configured_queues().items():
        target = queue_target(config)
        if target is not None:
            yield name, target


@register
def check_connection_options(**_: Any) -> list[CheckMessage]:
    return [message for name, target in _targets() for message in _option_messages(name, target)]


def _option_messages(name: str, target: Target) -> Iterator[CheckMessage]:
    where = _where(name)
    if target.decode_responses:
        yield Error(
            f"{where}: decode_responses is on, but RQ reads bytes.",
            hint="Remove decode_responses for the Redis that is used for jobs.",
            id="wellos_jobs.E009",
        )

    if target.socket_timeout is not None and target.socket_timeout <= BLOCK_SECONDS:
        yield Error(
            f"{where}: the socket timeout is {target.socket_timeout:g} s, but an idle worker "
            f"blocks for {BLOCK_SECONDS:g} s.",
            hint=f"Remove the socket timeout, or set it above {BLOCK_SECONDS:g} s, such as 15.",
            id="wellos_jobs.E010",
        )

    if "cluster" in target.client_class.lower() or target.client_class.endswith("ShardClient"):
        yield Error(
            f"{where}: {target.client_class} distributes keys over several servers, but the "
            "scripts need all keys of a job on one.",
            hint="Use one primary, standalone or behind Sentinel. To scale, put queues on "
            "different servers.",
            id="wellos_jobs.E012",
        )


def _where(name: str) -> str:
    cache = configured_queues()[name].get("USE_REDIS_CACHE")
    return f"RQ_QUEUES[{name!r}]" if cache is None else f"RQ_QUEUES[{name!r}] (CACHES[{cache!r}])"


@register
def check_shared_database(**_: Any) -> list[CheckMessage]:
    cache = cache_target("default")
    if cache is None:
        return []

    sharing = [name for name, target in _targets() if target.place == cache.place]
    if not sharing:
        return []

    return [
        Warning(
            f"The default cache and the queues {', '.join(sharing)} share database "
            f"{cache.database} of {cache.server}: cache.clear() runs FLUSHDB and deletes every "
            "waiting job.",
            hint="Use a separate logical database for jobs; in production a separate server.",
            id="wellos_jobs.W002",
        )
    ]
