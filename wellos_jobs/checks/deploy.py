"""Checks that connect to each Redis, for ``manage.py check --deploy``: E101, W101 to W105, W107."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register

from .. import broker, conf
from .jobs import configured_queues

OLDEST_MAJOR = 7


@register(Tags.security, deploy=True)
def check_servers(**_: Any) -> list[CheckMessage]:
    if not configured_queues():
        return []
    found: list[CheckMessage] = []
    for source, queues in broker.sources().items():
        where = f"The Redis of the queues {', '.join(queues)}"
        try:
            client = broker.source_client(source, "call")
            found += _messages(where, client, client.info("all"))
            if "SENTINELS" in conf.queue(source):
                found += _failover_messages(where, client)
        except broker.Error as error:
            found.append(_unavailable(where, f"is unavailable: {str(error).rstrip('.')}"))
    return found


def _messages(where: str, client: Any, info: Mapping[str, Any]) -> Iterator[CheckMessage]:
    yield from _server_messages(where, info)

    if _is_open(client):
        yield Warning(
            f"{where} accepts connections without a password.",
            hint="Set a password (requirepass or an ACL user), and add it to the URL or PASSWORD.",
            id="wellos_jobs.W102",
        )

    yield from _persistence_messages(where, client, info)

    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield Warning(
            f"{where} has maxmemory-policy {policy!r}: when memory is full, it evicts jobs like "
            "cache entries.",
            hint="Set maxmemory-policy noeviction, and use another server for caches.",
            id="wellos_jobs.W104",
        )


def _server_messages(where: str, info: Mapping[str, Any]) -> Iterator[CheckMessage]:
    if info.get("cluster_enabled"):
        yield Error(
            f"{where} runs in cluster mode, but the scripts need all keys of a job on one server.",
            hint="Use one primary, standalone or behind Sentinel. To scale, put queues on "
            "different servers.",
            id="wellos_jobs.E101",
        )

    version = str(info.get("redis_version", ""))
    major = version.partition(".")[0]
    if "valkey_version" not in info and major.isdigit() and int(major) < OLDEST_MAJOR:
        yield Warning(
            f"{where} is version {version}, but at least {OLDEST_MAJOR}.0 is required.",
            hint=f"Upgrade to Redis {OLDEST_MAJOR} or later, or to Valkey.",
            id="wellos_jobs.W105",
        )


def _is_open(client: Any) -> bool:
    """Return whether no credentials are used. File permissions protect a Unix socket."""
    options = client.connection_pool.connection_kwargs
    return not (
        options.get("password") or options.get("credential_provider") or options.get("path")
    )


def _persistence_messages(
    where: str, client: Any, info: Mapping[str, Any]
) -> Iterator[CheckMessage]:
    if info.get("aof_enabled"):
        return

    try:
        snapshots = client.config_get("save").get("save", "")
    except broker.Error as error:  # managed services forbid CONFIG
        yield _unavailable(where, f"does not show whether it takes snapshots ({error})")
        return

    yield Warning(
        f"{where} is persistent by snapshots alone: after a restart it has data that are minutes "
        "old. What the rows know is corrected, but jobs that ran just then run again."
        if snapshots
        else f"{where} has no persistence: after a restart all jobs are restored from the "
        "database, which is slower.",
        hint="Set `appendonly yes` (with appendfsync everysec).",
        id="wellos_jobs.W103",
    )


def _failover_messages(where: str, client: Any) -> Iterator[CheckMessage]:
    """A primary that was cut off from its replicas takes writes that the next primary never has."""
    try:
        least = client.config_get("min-replicas-to-write").get("min-replicas-to-write", "0")
    except broker.Error as error:  # managed services forbid CONFIG
        yield _unavailable(where, f"does not show min-replicas-to-write ({error})")
        return

    if not int(least):
        yield Warning(
            f"{where} is behind Sentinel and has min-replicas-to-write 0: a primary that is cut "
            "off goes on taking jobs, which are lost with it.",
            hint="Set `min-replicas-to-write 1` and `min-replicas-max-lag 10` on all servers.",
            id="wellos_jobs.W107",
        )


def _unavailable(where: str, what: str) -> CheckMessage:
    return Warning(
        f"{where} {what}.",
        hint="Run `manage.py check --deploy` where Redis is available, or check the server's "
        "settings by hand.",
        id="wellos_jobs.W101",
    )
