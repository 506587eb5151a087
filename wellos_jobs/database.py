"""Which databases hold jobs, isolation between transactions, and callbacks after a commit.

The model is looked up by its name: models import this module, as does ``wellos_jobs`` itself before
the apps are ready.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

from django.apps import apps
from django.core.signals import setting_changed
from django.db import IntegrityError, OperationalError, connections, router, transaction
from django.dispatch import receiver
from django.utils.translation import gettext as _

from . import conf
from .errors import BadOption, InvalidOperation, TransactionConflict

if TYPE_CHECKING:
    from django.db import models

_Answer = TypeVar("_Answer")
_Model = TypeVar("_Model", bound="models.Model")

CONFLICT_TRIES = 5
_CONFLICT_STATES = frozenset({"40001", "40P01"})
"""PostgreSQL: serialization failure, deadlock."""
_CONFLICT_CODES = frozenset({1020, 1213})
"""MySQL and MariaDB: the record has changed since it was read, deadlock."""


# --- which databases hold jobs --------------------------------------------------------------------


def job_databases() -> list[str]:
    """Return the aliases of the databases that hold jobs; the default one first. No query.

    They are those of the setting ``JOB_DATABASES``, else the one that the router writes jobs to. An
    alias whose rows the router writes elsewhere, such as a replica, is never one of them.
    """
    named = conf.current().job_databases
    if named is None:
        return [_first_default()]
    found = [alias for alias in named if alias in connections and write_alias(alias) == alias]
    return sorted(found, key=lambda alias: alias != default_database())


def default_database() -> str:
    """Return the alias of the database for new jobs and schedules, unless another is chosen."""
    return str(router.db_for_write(_job_model()))


def _job_model() -> type[models.Model]:
    """Return JobRecord, which imports this module."""
    return apps.get_model("wellos_jobs", "JobRecord")


@cache
def _first_default() -> str:
    """Return what the router said first: one that changes its mind needs ``JOB_DATABASES``."""
    return default_database()


@receiver(setting_changed, dispatch_uid="wellos_jobs.database")
def _forget_default(*, setting: str, **_: Any) -> None:
    if setting in {"DATABASE_ROUTERS", "DATABASES"}:
        _first_default.cache_clear()


def database_for_new(chosen: str | None = None) -> str:
    """Return the alias of the database for a new job: the chosen one, else the router's.

    Raises:
        BadOption: that one is not among the databases that hold jobs.
    """
    alias = chosen or default_database()
    known = job_databases()
    if alias in known:
        return alias
    said = "database is" if chosen else "the router writes jobs to"
    raise BadOption(
        f"{said} {alias!r}: that is not one of the databases that hold jobs, which are "
        f'{", ".join(known)}; name it in WELLOS_JOBS["JOB_DATABASES"], in all processes'
    )


def write_alias(alias: str | None, model: type[models.Model] | None = None) -> str:
    """Return where the router writes the rows (by default jobs) that are read from ``alias``."""
    kind = model or _job_model()
    if alias is None:
        return str(router.db_for_write(kind))
    return str(router.db_for_write(kind, instance=_row_of(kind, alias)))


@cache
def _row_of(model: type[models.Model], alias: str) -> models.Model:
    """Return a row as one that is read from a database has it, to ask the router about."""
    row = model()
    row._state.db = alias
    return row


def database_of(row: models.Model) -> str:
    """Return the alias of the database that a row is written to, wherever it was read from.

    Raises:
        InvalidOperation: that database holds no jobs.
    """
    return _with_jobs(str(router.db_for_write(type(row), instance=row)))


def in_write_database(rows: models.QuerySet[_Model]) -> models.QuerySet[_Model]:
    """Return a query of the database that its rows are written to.

    Raises: as ``database_of``.
    """
    return rows.using(_with_jobs(write_alias(rows._db, rows.model)))  # type: ignore[attr-defined]


def _with_jobs(alias: str) -> str:
    known = job_databases()
    if alias not in known:
        raise InvalidOperation(
            _(
                "This was read from the database %(alias)s, which is not one of those that hold "
                "jobs: %(known)s"
            )
            % {"alias": alias, "known": ", ".join(known)}
        )
    return alias


def newest(row: _Model) -> _Model:
    """Return a row as it is in the database that it is written to; itself if read from there.

    Raises:
        ObjectDoesNotExist: it is not there any more.
    """
    using = database_of(row)
    if row._state.db in (None, using):
        return row
    return type(row)._base_manager.using(using).get(pk=row.pk)


def migrated_databases() -> list[str]:
    """Return the aliases of the databases that have our tables: one query for each database."""
    return [alias for alias in job_databases() if has_job_table(alias)]


def has_job_table(alias: str) -> bool:
    """Return whether a database has the table of jobs.

    Raises:
        OperationalError: the database is unavailable.
    """
    connection = connections[alias]
    with connection.cursor() as cursor:
        return _job_model()._meta.db_table in connection.introspection.table_names(cursor)


def is_usable(alias: str) -> bool:
    """Return whether the open connection to a database still answers."""
    connection = connections[alias]
    return connection.connection is not None and bool(connection.is_usable())


# --- isolation ------------------------------------------------------------------------------------


def has_snapshot(alias: str) -> bool:
    """Return whether plain reads of the open transaction lack what others commit meanwhile.

    Only for MySQL and MariaDB, whose locking reads see it: on PostgreSQL no read does.
    """
    connection = connections[alias]
    if connection.vendor != "mysql" or not connection.in_atomic_block:
        return False
    return getattr(connection, "isolation_level", None) != "read committed"


def current(rows: models.QuerySet[_Model]) -> list[_Model]:
    """Return rows as they are committed, also those that the transaction's snapshot lacks.

    The read locks them, shared, until the end of the transaction. Use it when a plain read has
    shown that the snapshot is too old.
    """
    if not has_snapshot(rows.db):
        return list(rows)
    sql, parameters = rows.query.get_compiler(rows.db).as_sql()
    manager = rows.model._base_manager.using(rows.db)
    return list(manager.raw(f"{sql} LOCK IN SHARE MODE", parameters))


def first_current(rows: models.QuerySet[_Model]) -> _Model | None:
    """Return the row of a query by key, also if the transaction's snapshot lacks it."""
    found = rows.order_by().first()
    if found is None and has_snapshot(rows.db):
        return next(iter(current(rows.order_by())), None)
    return found


def is_conflict(error: Exception) -> bool:
    """Return whether the database has rolled back in favor of another transaction."""
    if isinstance(error, TransactionConflict):
        return True
    if not isinstance(error, OperationalError):
        return False
    state = getattr(error.__cause__, "sqlstate", None)
    return state in _CONFLICT_STATES or (error.args[:1] or (None,))[0] in _CONFLICT_CODES


def is_duplicate(error: IntegrityError) -> bool:
    """Return whether a unique key exists already, as opposed to a row that is missing."""
    state = getattr(error.__cause__, "sqlstate", None)
    return state == "23505" or (error.args[:1] or (None,))[0] == 1062


def retry_conflicts(alias: str, step: Callable[[], _Answer]) -> _Answer:
    """Run ``step``, which opens the transaction, and again if that loses against another one.

    Inside a transaction of the caller's it is run once: only the whole can be run again.
    """
    if connections[alias].in_atomic_block:
        return step()
    for _again in range(CONFLICT_TRIES - 1):
        try:
            return step()
        except OperationalError as error:
            if not is_conflict(error):
                raise
    return step()


# --- after a commit -------------------------------------------------------------------------------


def run_on_commit(database: str, function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function when the transaction on a database commits, or now if there is none.

    Its exceptions are logged, not raised.
    """
    transaction.on_commit(AfterCommit(function, arguments), using=database, robust=True)


class AfterCommit:
    """A call that is due after a commit. It is made once, also when a test makes it earlier."""

    def __init__(self, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
        self._call = partial(function, *arguments)
        self.done = False
        # Django 5.2 reads the name when it logs an exception.
        self.__qualname__ = getattr(function, "__qualname__", repr(function))

    def __call__(self) -> None:
        """Make the call, unless it was made."""
        if not self.done:
            self.done = True
            self._call()
