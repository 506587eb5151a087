"""Server runs: which process, with which history of data, answers as a Redis.

After a restart or a failover Redis may hold older data, and nothing in the keys shows it. So the
connections of two roles ask each new connection which run it leads to:

- ``claim``: workers. They get no connection until the maintenance has compared the data with the
  rows and trusts the run (``trust``), or ``LONGEST_WAIT`` is over. It costs a job nothing.
- ``ledger``: the maintenance. It gets none to a run that it has not looked at (``expect``).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any, Literal

import redis

from . import keys

logger = logging.getLogger("wellos_jobs")

LONGEST_WAIT = 15.0
"""Seconds after which workers claim although no maintenance has compared the data with the rows.

A database that is down delays the ledger; it does not stop jobs.
"""

_SECTIONS = ("server", "replication")
_FIELD = re.compile(r"^(run_id|master_replid):(\w+)", re.MULTILINE)
_expected: dict[str, str] = {}
_owners: dict[str, str] = {}


class OthersServer(redis.ConnectionError):
    """Redis belongs to another installation since this process was started."""


class OtherServerRun(redis.ConnectionError):
    """The connection leads to a run that may not be used yet. Loops wait, as for a Redis that is
    down."""


def identity(client: redis.Redis) -> str:
    """Return the identity of the run that a client is connected to. It changes when the process or
    its data set does."""
    found: Any = client.info(*_SECTIONS)
    return _identity(str(found["run_id"]), str(found["master_replid"]))


def expect(source: str, run: str) -> None:
    """Let this process connect to this run of a Redis only, in the role ``ledger``."""
    _expected[source] = run


def belongs_to(source: str, installation: str) -> None:
    """Let this process and its children claim from this Redis only while it belongs to an
    installation, or to none."""
    _owners[source] = installation


def forget() -> None:
    """Forget what this process knows of its servers: it has others from now on."""
    _expected.clear()
    _owners.clear()


def checking(
    role: Literal["claim", "ledger"], source: str, script: str
) -> Callable[[redis.Connection], None]:
    """Return the function that sets up each new connection of a role.

    ``script`` is the text of ``trusted.lua``. The function raises OtherServerRun.
    """

    def on_connect(connection: redis.Connection) -> None:
        connection.on_connect()  # type: ignore[no-untyped-call]
        here = _identity_at(connection)
        if role == "claim":
            _ask_for_owner(connection, source)
            _ask_for_trust(connection, source, script, here)
        elif _expected.get(source, here) != here:
            raise OtherServerRun(f"Redis {source} is another server run than before")

    return on_connect


def _ask_for_owner(connection: redis.Connection, source: str) -> None:
    found = _call(connection, "HGET", keys.INSTALLATION, "identity")
    known = _owners.get(source)
    if found and known and found.decode() != known:
        raise OthersServer(
            f"Redis {source} belongs to another installation now ({found.decode()}): no job is "
            "claimed"
        )


def _ask_for_trust(connection: redis.Connection, source: str, script: str, here: str) -> None:
    answer = _call(connection, "EVAL", script, "1", keys.PREFIX, here, str(LONGEST_WAIT))
    if answer == 0:
        raise OtherServerRun(
            f"Redis {source} is a new server run: its data are being compared with the rows"
        )
    if answer == 2:
        logger.warning(
            "Redis %s is a new server run, and its data were not compared with the rows within "
            "%d s: jobs are run all the same",
            source,
            LONGEST_WAIT,
        )


def _identity_at(connection: redis.Connection) -> str:
    text = _call(connection, "INFO", *_SECTIONS)
    found = dict(_FIELD.findall(text.decode("utf-8", "replace")))
    return _identity(found.get("run_id", ""), found.get("master_replid", ""))


def _identity(run_id: str, history: str) -> str:
    return f"{run_id[:20]}-{history[:20]}"


def _call(connection: redis.Connection, *command: str) -> Any:
    connection.send_command(*command, check_health=False)  # type: ignore[no-untyped-call]
    return connection.read_response()
