"""Checks that ask each Redis itself, run by ``manage.py check --deploy``: E101 and W101 to W105."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register

from .. import broker
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
            found += _faults(where, client, client.info("all"))
        except broker.Error as error:
            found.append(_unknown(where, f"cannot be asked: {str(error).rstrip('.')}"))
    return found


def _faults(where: str, client: Any, info: Mapping[str, Any]) -> Iterator[CheckMessage]:
    yield from _kind_faults(where, info)
    if _is_open(client):
        yield Warning(
            f"{where} lets anybody in without a password.",
            hint="Set a password (requirepass or an ACL user) and put it into the URL or PASSWORD.",
            id="wellos_jobs.W102",
        )
    yield from _persistence_faults(where, client, info)
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield Warning(
            f"{where} has maxmemory-policy {policy!r}: when memory is full it deletes jobs like cache entries.",
            hint="Set maxmemory-policy noeviction, and keep caches on another server.",
            id="wellos_jobs.W104",
        )


def _kind_faults(where: str, info: Mapping[str, Any]) -> Iterator[CheckMessage]:
    if info.get("cluster_enabled"):
        yield Error(
            f"{where} runs in cluster mode, but a job moves in one step on one server.",
            hint="Use one primary, standalone or behind Sentinel; put more queues on more servers.",
            id="wellos_jobs.E101",
        )
    version = str(info.get("redis_version", ""))
    major = version.partition(".")[0]
    if "valkey_version" not in info and major.isdigit() and int(major) < OLDEST_MAJOR:
        yield Warning(
            f"{where} is version {version}; scripts and streams are tested from {OLDEST_MAJOR}.0 on.",
            hint=f"Upgrade to Redis {OLDEST_MAJOR} or later, or to Valkey.",
            id="wellos_jobs.W105",
        )


def _is_open(client: Any) -> bool:
    """Tell whether we came in without credentials. A Unix socket is guarded by its file's permissions."""
    options = client.connection_pool.connection_kwargs
    return not (
        options.get("password") or options.get("credential_provider") or options.get("path")
    )


def _persistence_faults(where: str, client: Any, info: Mapping[str, Any]) -> Iterator[CheckMessage]:
    if info.get("aof_enabled"):
        return
    try:
        snapshots = client.config_get("save").get("save", "")
    except broker.Error as error:  # managed services forbid CONFIG
        yield _unknown(where, f"does not tell whether it takes snapshots ({error})")
        return
    if not snapshots:
        yield Warning(
            f"{where} keeps nothing on disk: after a restart every job comes back from the database, slower.",
            hint="Set `appendonly yes` (appendfsync everysec).",
            id="wellos_jobs.W103",
        )


def _unknown(where: str, what: str) -> CheckMessage:
    return Warning(
        f"{where} {what}.",
        hint="Run `manage.py check --deploy` where Redis can be reached, and look at the server's settings by hand.",
        id="wellos_jobs.W101",
    )
