"""Every error this package raises on purpose. Each message names the value and the mend.

Rows store the dotted path of an error's class: it is the path under which users import it, and does
not change.
"""

from __future__ import annotations


class WellosJobsError(Exception):
    """Base of all errors of this package."""


class ConfigurationError(WellosJobsError):
    """A setting is missing or wrong."""


class UnknownQueue(WellosJobsError, ValueError):
    """A queue that ``RQ_QUEUES`` does not name."""


class UnknownJob(WellosJobsError, LookupError):
    """A job name that nobody has declared with ``@job``."""


class DuplicateJobName(WellosJobsError, ValueError):
    """Two functions were declared under one job name."""


class UnknownSchedule(WellosJobsError, LookupError):
    """No schedule has this name."""


class BadOption(WellosJobsError, TypeError):
    """A job option that does not exist, or has a value that cannot be meant."""


class TriggerError(WellosJobsError):
    """A trigger's function raised, or what it gave does not fit its job."""


class PayloadError(WellosJobsError, ValueError):
    """A job's data cannot be carried as JSON, is too large, or cannot be read back."""


class EncryptionError(WellosJobsError, ValueError):
    """A sensitive value cannot be encrypted or decrypted with the configured keys."""


class CronError(WellosJobsError, ValueError):
    """A cron line, an interval or a time zone that does not exist or cannot be meant."""


class JobNotFound(WellosJobsError, LookupError):
    """No job with this id is in Redis or in the database."""


class InvalidOperation(WellosJobsError, ValueError):
    """What was asked for cannot be done in the state the thing is in."""


class RedisUnavailable(WellosJobsError, ConnectionError):
    """Redis could not be reached for something that cannot wait."""


class DatabaseUnavailable(WellosJobsError, ConnectionError):
    """A database that may hold what is looked for could not be asked."""


class JobTimeout(BaseException):
    """The run took longer than its timeout. ``except Exception`` in a job cannot swallow it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"The job ran longer than its timeout of {seconds:g} seconds")


class JobStopped(BaseException):
    """A person cancelled the job while it ran."""


class JobHandedBack(BaseException):
    """The worker has to stop: the job goes back to its queue."""
