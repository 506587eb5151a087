"""Which installation a database and a Redis belong to, and whether they belong together.

An installation has an identity: a row in each of its databases, and a key in each of its Redis
servers. Either side may be lost and is then taken up again from the other. But a database that was
copied to another place must not send the mails and run the schedules of the original. What tells
the two apart is the *home*: the name of the installation (``INSTALLATION``) or, without one, the
addresses of Redis and database, and a mark of the ``SECRET_KEY``.
"""

from __future__ import annotations

import enum
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import DatabaseError, InterfaceError, connections
from django.utils.crypto import salted_hmac

from . import broker, conf
from .broker import keys, server_identity
from .database import default_database, has_job_table, job_databases
from .models import Installation

logger = logging.getLogger("wellos_jobs")

NAMED = "name "
"""How a home begins that is a name."""

MOST_HOMES = 20
"""How many homes are remembered: the latest."""


class Verdict(enum.StrEnum):
    """What a database and a Redis are to each other."""

    OURS = "ours"
    """They belong together."""
    UNCLAIMED = "unclaimed"
    """They belong together, but Redis does not know it (yet, or after it lost its data)."""
    LOST = "lost"
    """They belong together, but the database does not know it: it was made anew."""
    COPY = "copy"
    """The database seems to be a copy: it belongs to an installation with another home."""
    FOREIGN = "foreign"
    """Redis belongs to another installation."""

    @property
    def may_run(self) -> bool:
        """Whether jobs and schedules of this database may run with this Redis."""
        return self not in (Verdict.COPY, Verdict.FOREIGN)


@dataclass(frozen=True, slots=True)
class Known:
    """What one side knows: the identity ('' for none) and the homes of the installation."""

    identity: str = ""
    homes: Sequence[str] = ()
    is_noted: bool = True
    """False for a database that only shares what the default one knows."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A database and a Redis (by its source name) that met here."""

    verdict: Verdict
    database: str
    source: str
    home: str
    in_database: Known
    in_redis: Known

    @property
    def is_others_redis(self) -> bool:
        """Whether Redis is used by another installation: not even a push is allowed."""
        return not self.verdict.may_run and bool(self.in_redis.identity)

    @property
    def problem(self) -> str:
        """What is wrong and how to fix it; '' if nothing is."""
        if self.verdict is Verdict.FOREIGN:
            return (
                f"The Redis of queue {self.source!r} belongs to another installation "
                f"({self.in_redis.identity}, at {_listed(self.in_redis.homes)}), not to the one of "
                f"database {self.database!r} ({self.in_database.identity or 'new'}, at "
                f"{self.home}): nothing is run. Use another Redis, or another of its databases; "
                "if this one is yours, run `manage.py jobs_installation --take-over`."
            )
        if self.verdict is Verdict.COPY:
            return (
                f"Database {self.database!r} belongs to installation {self.in_database.identity}, "
                f"which is known at {_listed(self.in_database.homes)}, but this is {self.home}: "
                "nothing is run. If the database is a copy, run `manage.py jobs_installation "
                "--copy`, which cancels its open jobs and disables its schedules. If the "
                "installation has moved here, run `manage.py jobs_installation --moved`."
            )
        return ""


def judge(here: str, database: Known, redis: Known, *, is_related: bool = False) -> Verdict:
    """Decide what a database and a Redis that meet at ``here`` are to each other. Pure.

    ``is_related``: another Redis of this project belongs to the database's installation, so this
    one has been added.
    """
    if not database.identity:
        if not redis.identity:
            return Verdict.UNCLAIMED
        return Verdict.LOST if here in redis.homes else Verdict.FOREIGN

    names = [home for home in database.homes if home.startswith(NAMED)]
    if here.startswith(NAMED) and names and here not in names:
        return Verdict.COPY
    if database.identity == redis.identity:
        return Verdict.OURS

    is_known_here = here in database.homes
    if redis.identity:
        return Verdict.FOREIGN if is_known_here else Verdict.COPY
    return Verdict.UNCLAIMED if is_known_here or is_related else Verdict.COPY


def meet(database: str, source: str) -> Finding:
    """Find out whether a database and a Redis belong together; if so, note it on both sides.

    One query and one call of Redis when there is nothing to note.

    Raises:
        DatabaseError: the database is unavailable.
        Unavailable: Redis is unavailable.
    """
    finding = look(database, source)
    if not finding.verdict.may_run:
        return finding

    known = finding.in_database
    identity = known.identity or finding.in_redis.identity or uuid.uuid4().hex
    if not known.identity or not known.is_noted or finding.home not in known.homes:
        identity = remember(database, identity, [*known.homes, finding.home])
    if finding.verdict is Verdict.UNCLAIMED or finding.home not in finding.in_redis.homes:
        _claim(source, identity, finding.home)
        return look(database, source)  # another installation may have been faster
    return finding


def look(database: str, source: str) -> Finding:
    """Find out whether a database and a Redis belong together, and change nothing.

    Raises: as ``meet``.
    """
    here = home(source)
    # In this order: who claims a Redis has noted that in the database before.
    in_redis = known_to_redis(source)
    in_database = known_to_database(database)
    others = [other for other in broker.sources() if other != source]
    is_related = (
        bool(in_database.identity)
        and not in_redis.identity
        and any(known_to_redis(other).identity == in_database.identity for other in others)
    )
    verdict = judge(here, in_database, in_redis, is_related=is_related)
    return Finding(verdict, database, source, here, in_database, in_redis)


def refusal(source: str) -> str:
    """Return why no process of this project may work with a Redis; '' if it may.

    A database or a Redis that is unavailable is not waited for: the maintenance asks again. A
    database without tables knows nothing, and nothing is noted.
    """
    for database in job_databases():
        try:
            finding = meet(database, source) if has_job_table(database) else _stranger(source)
        except (DatabaseError, InterfaceError, broker.Error) as error:
            logger.warning("who owns the Redis of queue %s is asked later: %s", source, error)
            continue
        if not finding.verdict.may_run:
            return finding.problem
        server_identity.belongs_to(source, finding.in_redis.identity)
    return ""


def _stranger(source: str) -> Finding:
    """Return what a Redis is to a database that has no tables yet."""
    main, here, in_redis = default_database(), home(source), known_to_redis(source)
    in_database = known_to_database(main) if has_job_table(main) else Known()
    return Finding(judge(here, in_database, in_redis), main, source, here, in_database, in_redis)


# --- the two sides --------------------------------------------------------------------------------


def installation_id(database: str) -> str:
    """Return the identity of the installation that a database belongs to; make it if it has none.

    Raises:
        DatabaseError: the database is unavailable.
    """
    known = known_to_database(database)
    return known.identity or remember(database, uuid.uuid4().hex, [])


def known_to_database(database: str) -> Known:
    """Return what a database knows. One that is new shares what the default database knows."""
    if found := _row(database):
        return Known(found.identity, found.homes)

    main = default_database()
    if database != main and has_job_table(main) and (found := _row(main)):
        return Known(found.identity, found.homes, is_noted=False)
    return Known()


def known_to_redis(source: str) -> Known:
    """Return what a Redis knows.

    Raises:
        Unavailable: it is unavailable.
    """
    connection = broker.source_client(source, "work")
    identity, here = connection.hmget(keys.INSTALLATION, ["identity", "home"])
    return Known(broker.text(identity), [broker.text(here)] if here else [])


def remember(database: str, identity: str, homes: Sequence[str]) -> str:
    """Store the identity and the latest homes in a database; return the identity that it has.

    A row that is there keeps its identity: another process may have been faster.
    """
    latest = list(dict.fromkeys(reversed(homes)))[:MOST_HOMES][::-1]
    rows = Installation.objects.using(database)
    row, created = rows.get_or_create(
        pk=Installation.ONLY, defaults={"identity": identity, "homes": latest}
    )
    if not created and latest and row.homes != latest:
        rows.filter(pk=row.pk).update(homes=latest)
    return row.identity


def home(source: str) -> str:
    """Return what tells this place from others at which a copy may run. No query."""
    if name := conf.current().installation:
        return f"{NAMED}{name}"

    connection = connections[default_database()]
    settings = connection.settings_dict
    server = ":".join(str(settings[part]) for part in ("HOST", "PORT") if settings.get(part))
    where = "/".join(part for part in (server, str(settings["NAME"])) if part)
    mark = salted_hmac("wellos_jobs.installation", "home", algorithm="sha256").hexdigest()[:8]
    return f"redis {broker.address(source)}, {connection.vendor} {where}, key {mark}"


def _row(database: str) -> Installation | None:
    return Installation.objects.using(database).filter(pk=Installation.ONLY).first()


def _claim(source: str, identity: str, here: str) -> None:
    """Note the installation in a Redis, unless another one has been noted there meanwhile."""
    broker.run(broker.source_client(source, "work"), "own", identity, here)


def take(source: str, identity: str, here: str) -> None:
    """Note the installation in a Redis, whichever was noted there."""
    connection = broker.source_client(source, "work")
    connection.hset(keys.INSTALLATION, mapping={"identity": identity, "home": here})


def _listed(homes: Sequence[str]) -> str:
    return " or ".join(f"({home})" for home in homes[-3:]) or "no place"
