"""What happens after a failed attempt: ``(error, attempt) -> decision``.

Pure: no clock, no Redis, no database.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from django.core.exceptions import ValidationError

from ..errors import (
    EncryptionError,
    JobTimeout,
    PayloadError,
    ResultNotStored,
    UnknownJob,
    WellosJobsError,
)
from ..states import FailureReason
from .durations import in_seconds
from .http_errors import is_refusal, retry_after

DEFAULT_MAX_BACKOFF = 86_400.0
"""Where an exponential backoff without ``max`` stops growing, in seconds."""


# --- exceptions that a job raises on purpose ------------------------------------------------------


class Retry(Exception):  # a verb: what the job asks for
    """Raise it inside a job to try again later. It uses up an attempt.

    Args:
        after: seconds or a timedelta; None: as long as the job's backoff says.
        message: the reason, stored with the attempt.
    """

    __module__ = "wellos_jobs"  # where users import it from; rows store it as the error class

    def __init__(self, after: float | timedelta | None = None, message: str = "") -> None:
        self.after = None if after is None else in_seconds("after", after)
        super().__init__(message)


class Snooze(Exception):
    """Raise it inside a job to run it later without using up an attempt.

    Args:
        after: seconds or a timedelta.
        message: the reason, stored with the job.
    """

    __module__ = "wellos_jobs"  # where users import it from; rows store it as the error class

    def __init__(self, after: float | timedelta, message: str = "") -> None:
        self.after = in_seconds("after", after)
        super().__init__(message)


class Discard(Exception):
    """Raise it inside a job to fail for good now, whatever attempts are left: as a dead letter."""

    __module__ = "wellos_jobs"  # where users import it from; rows store it as the error class

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason)


# --- backoff --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after a failed attempt, made by ``exponential`` or ``fixed``; in seconds."""

    kind: Literal["exponential", "fixed"]
    base: float
    factor: float
    max: float
    jitter: float

    def delay(self, attempt: int, random: float) -> float:
        """Return the wait in seconds after attempt number ``attempt`` (from 1).

        ``random`` in [0, 1) varies it by up to ``jitter`` in both directions; 0.5 is the middle.
        Never above ``max``.
        """
        try:
            wait = min(self.base * self.factor ** (max(attempt, 1) - 1), self.max)
        except OverflowError:
            wait = self.max

        wait *= 1 + self.jitter * (2 * random - 1)
        return min(max(wait, 0.0), self.max)

    __call__ = delay


def exponential(
    base: float | timedelta,
    factor: float = 2,
    max: float | timedelta | None = None,
    jitter: float = 0.1,
) -> Backoff:
    """Wait ``base`` after the first failed attempt, then ``factor`` times longer after each one.

    ``base`` and ``max`` are seconds or timedeltas; without ``max`` it stops growing at one day.
    ``jitter`` 0.1 varies each wait by up to 10 % in both directions.

    Raises:
        ValueError: an argument is invalid; the message names it.
    """
    first = in_seconds("base", base)
    if first == 0:
        raise ValueError(
            "base is 0: an exponential backoff cannot grow from 0 seconds; use fixed(0)"
        )
    growth = _number("factor", factor, 1.0, 1000.0)

    if max is None:
        limit = DEFAULT_MAX_BACKOFF if first < DEFAULT_MAX_BACKOFF else first
    else:
        limit = in_seconds("max", max)
        if limit < first:
            raise ValueError(f"max is {max!r}, below base {base!r}: give a max of at least base")

    return Backoff("exponential", first, growth, limit, _number("jitter", jitter, 0.0, 1.0))


def fixed(seconds: float | timedelta, jitter: float = 0) -> Backoff:
    """Wait the same time after each failed attempt: seconds or a timedelta.

    Raises:
        ValueError: an argument is invalid; the message names it.
    """
    wait = in_seconds("seconds", seconds)
    spread = _number("jitter", jitter, 0.0, 1.0)
    return Backoff("fixed", wait, 1.0, wait * (1 + spread), spread)


def _number(name: str, value: float, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ValueError(f"{name} is {value!r}: it must be a number between {least:g} and {most:g}")
    return float(value)


DEFAULT_BACKOFF = exponential(2)


# --- decisions ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Try again in ``seconds``."""

    seconds: float


@dataclass(frozen=True, slots=True)
class SnoozeFor:
    """Run again in ``seconds``; the attempt does not count."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Fail:
    """Give up."""

    reason: FailureReason


RetryDecision = RetryAfter | SnoozeFor | Fail


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a job is tried, and which errors are retried.

    ``retry_on`` and ``discard_on`` are exception classes. ``discard_on`` wins over ``retry_on``,
    and both win over the default. What a job raises on purpose (``Retry``, ``Snooze``,
    ``Discard``) wins over all of them.
    """

    max_attempts: int = 3
    backoff: Backoff = DEFAULT_BACKOFF
    retry_on: tuple[type[BaseException], ...] = ()
    discard_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        attempts = self.max_attempts
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise ValueError(
                f"max_attempts is {attempts!r}: it must be a whole number of at least 1"
            )
        if not isinstance(self.backoff, Backoff):
            raise ValueError(
                f"backoff is {self.backoff!r}: make one with exponential(...) or fixed(...)"
            )

        object.__setattr__(self, "retry_on", _exception_classes("retry_on", self.retry_on))
        object.__setattr__(self, "discard_on", _exception_classes("discard_on", self.discard_on))

    def decide(
        self,
        error: BaseException,
        attempt: int,
        *,
        max_attempts: int | None = None,
        random: float = 0.5,
        now: datetime | None = None,
    ) -> RetryDecision:
        """Decide what happens after ``error`` in attempt number ``attempt`` (from 1).

        Args:
            max_attempts: of this one job, if it was enqueued with its own.
            random: in [0, 1), for the jitter.
            now: aware; without it a ``Retry-After`` header with a date is ignored.
        """
        if isinstance(error, Snooze):
            return SnoozeFor(error.after)

        reason = self._permanent(error)
        if reason is not None:
            return Fail(reason)

        if attempt >= (self.max_attempts if max_attempts is None else max_attempts):
            timed_out = isinstance(error, JobTimeout)
            return Fail(FailureReason.TIMEOUT if timed_out else FailureReason.EXHAUSTED)

        wait = error.after if isinstance(error, Retry) else retry_after(error, now)
        return RetryAfter(self.backoff.delay(attempt, random) if wait is None else wait)

    def _permanent(self, error: BaseException) -> FailureReason | None:
        """Return why this error is not retried, or None if it may be."""
        if isinstance(error, Discard):
            return FailureReason.NOT_RETRYABLE
        if isinstance(error, Retry):
            return None

        special = _special_reason(error)
        if self.discard_on and isinstance(error, self.discard_on):
            return special or FailureReason.NOT_RETRYABLE
        if isinstance(error, JobTimeout):
            return None

        if special is not None:
            # retry_on=(ValueError,) is about the job's body. To retry unreadable data or an
            # unknown job, our own exception has to be named.
            named = tuple(cls for cls in self.retry_on if issubclass(cls, WellosJobsError))
            return None if isinstance(error, named) else special

        if isinstance(error, self.retry_on):
            return None
        if isinstance(error, ValidationError) or is_refusal(error):
            return FailureReason.NOT_RETRYABLE
        return None


def _special_reason(error: BaseException) -> FailureReason | None:
    """Return the reason of errors that have one of their own."""
    if isinstance(error, UnknownJob):
        return FailureReason.UNKNOWN_JOB
    if isinstance(error, ResultNotStored):
        return FailureReason.BAD_RESULT
    if isinstance(error, (PayloadError, EncryptionError)):
        return FailureReason.BAD_PAYLOAD
    return FailureReason.TIMEOUT if isinstance(error, JobTimeout) else None


def _exception_classes(option: str, given: Any) -> tuple[type[BaseException], ...]:
    """Return exception classes, given as one class or several, as a tuple."""
    listed = isinstance(given, Iterable) and not isinstance(given, type)
    classes = tuple(given) if listed else (given,)

    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            raise ValueError(f"{option} has {cls!r}: give exception classes only")
    return classes
