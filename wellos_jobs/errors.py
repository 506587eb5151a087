"""All errors this package raises. Each message names the thing, the value and the fix.

Rows store the dotted path of an error's class. It is the path users import the class from, and does
not change.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from django.db.utils import OperationalError

MAX_LISTED = 12
"""How many names a message about an unknown name lists."""


class WellosJobsError(Exception):
    """Base class of all errors of this package."""


class ConfigurationError(WellosJobsError):
    """A setting is missing or invalid."""


class UnknownQueue(WellosJobsError, ValueError):
    """No entry of ``RQ_QUEUES`` has this name."""


class UnknownJob(WellosJobsError, LookupError):
    """No ``@job`` declares this name."""


class DuplicateJobName(WellosJobsError, ValueError):
    """Two functions are declared under the same job name."""


class UnknownSchedule(WellosJobsError, LookupError):
    """No schedule has this name."""


class BadOption(WellosJobsError, TypeError):
    """An unknown job option, or an invalid value for one."""


class TriggerError(WellosJobsError):
    """A function of a trigger raised, or returned a value that its job does not accept."""


class PayloadError(WellosJobsError, ValueError):
    """Data or a result cannot be stored as JSON, is too large, or cannot be decoded."""


class ResultNotStored(PayloadError):
    """A job's function has returned a value that cannot be stored. The work itself is done."""


class EncryptionError(WellosJobsError, ValueError):
    """A sensitive value cannot be encrypted or decrypted with the configured keys."""


class CronError(WellosJobsError, ValueError):
    """An invalid cron line, interval or time zone."""


class JobNotFound(WellosJobsError, LookupError):
    """Neither Redis nor the database has a job with this id."""


class InvalidOperation(WellosJobsError, ValueError):
    """The operation is not possible in the current state."""


class RedisUnavailable(WellosJobsError, ConnectionError):
    """Redis was unavailable for an operation that cannot be postponed."""


class DatabaseUnavailable(WellosJobsError, ConnectionError):
    """A database that may hold the job was unavailable."""


class WorkerDied(WellosJobsError):
    """A worker's process ended while it ran a job. Not raised: it is what rows and results say."""


class TransactionConflict(WellosJobsError, OperationalError):
    """Another transaction was faster, and this one cannot see its rows: run this one again.

    It happens above READ COMMITTED only. Django's ``OperationalError`` is a base, as it is of the
    databases' own errors for this.
    """


class TransactionLeftOpen(WellosJobsError):
    """A job ended inside a database transaction that it had opened. It was rolled back."""

    def __init__(self, databases: Sequence[str]) -> None:
        self.databases = list(databases)
        super().__init__(
            f"The job left a transaction open on {', '.join(map(repr, databases))}: it was rolled"
            " back, and what the job wrote in it is lost. Use `with transaction.atomic():`, or end"
            " with commit() and set_autocommit(True)"
        )


class JobTimeout(BaseException):
    """The job ran longer than its timeout. ``except Exception`` in a job does not catch it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"The job ran longer than its timeout of {seconds:g} seconds")


class JobStopped(BaseException):
    """The job was canceled while it ran."""


class JobHandedBack(BaseException):
    """The worker is stopping: the job goes back to its queue."""


def suggestion(name: object, known: Iterable[str], what: str, most: int = MAX_LISTED) -> str:
    """Return how a message about an unknown name ends: with the closest name, or the known ones.

    ``what`` is the plural of what is named: ``": did you mean 'queue'?"`` or ``"; known options
    are priority, queue"``, at most ``most`` of them. Empty if there are no known names.
    """
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=1)
    if close:
        return f": did you mean {close[0]!r}?"
    if not names:
        return ""

    listed = ", ".join(names[:most])
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"; known {what} are {listed}{more}"
