"""What happens after a failed attempt: ``(error, attempt) -> decision``. No clock, no Redis, no database."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from django.core.exceptions import ValidationError

from ..errors import EncryptionError, JobTimeout, PayloadError, UnknownJob, WellosJobsError
from ..states import FailureReason

LONGEST_WAIT = 3650 * 86_400.0
"""The longest wait in seconds that anybody may ask for."""
LONGEST_RETRY_AFTER = 30 * 86_400.0
"""The longest wait in seconds that a server's ``Retry-After`` gets."""
DEFAULT_CAP = 86_400.0
"""Where an exponential backoff without ``max`` stops growing, in seconds."""


class Retry(Exception):  # a verb: what the job asks for
    """Raise it inside a job to try again later. It uses up an attempt.

    Args:
        after: seconds or a timedelta; None leaves it to the job's backoff.
        message: why, for the ledger.
    """

    __module__ = "wellos_jobs"  # where it is imported from, and what rows store as its class

    def __init__(self, after: float | timedelta | None = None, message: str = "") -> None:
        self.after = None if after is None else in_seconds("after", after)
        super().__init__(message)


class Snooze(Exception):
    """Raise it inside a job to run it later without using up an attempt.

    Args:
        after: seconds or a timedelta.
        message: why, for the ledger.
    """

    __module__ = "wellos_jobs"  # where it is imported from, and what rows store as its class

    def __init__(self, after: float | timedelta, message: str = "") -> None:
        self.after = in_seconds("after", after)
        super().__init__(message)


class Discard(Exception):
    """Raise it inside a job to give up now, however many attempts are left: it gets a dead letter."""

    __module__ = "wellos_jobs"  # where it is imported from, and what rows store as its class

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason)


def in_seconds(
    name: str, value: float | timedelta, least: float = 0.0, most: float = LONGEST_WAIT
) -> float:
    """Return a time in seconds.

    Raises:
        ValueError: it is no number or timedelta, or not between ``least`` and ``most``; the text
            names it.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise ValueError(f"{name} is {value!r}: give a number of seconds or a timedelta")
    if not least <= number <= most:
        raise ValueError(f"{name} is {value!r}: it must be between {least:g} and {most:g} seconds")
    return float(number)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after a failed attempt; made by ``exponential`` and ``fixed``. Times are seconds."""

    kind: Literal["exponential", "fixed"]
    base: float
    factor: float
    max: float
    jitter: float

    def delay(self, attempt: int, random: float) -> float:
        """Return the wait in seconds after attempt number ``attempt`` (from 1).

        ``random`` in [0, 1) spreads it by ``jitter`` to both sides; 0.5 is the middle. Never above
        ``max``.
        """
        try:
            plain = min(self.base * self.factor ** (max(attempt, 1) - 1), self.max)
        except OverflowError:
            plain = self.max
        return min(max(plain * (1 + self.jitter * (2 * random - 1)), 0.0), self.max)

    __call__ = delay


def exponential(
    base: float | timedelta,
    factor: float = 2,
    max: float | timedelta | None = None,
    jitter: float = 0.1,
) -> Backoff:
    """Wait ``base`` after the first failed attempt and ``factor`` times as long after each further one.

    ``base`` and ``max`` are seconds or timedeltas; without ``max`` it stops growing at one day.
    ``jitter`` 0.1 spreads each wait by 10 % to both sides.

    Raises:
        ValueError: an argument cannot be meant; the text names it.
    """
    first = in_seconds("base", base)
    if first == 0:
        raise ValueError(
            "base is 0: an exponential backoff needs more than 0 seconds to grow from (or use fixed(0))"
        )
    growth = _number("factor", factor, 1.0, 1000.0)
    cap = DEFAULT_CAP if max is None else in_seconds("max", max)
    if max is None:
        cap = first if first > cap else cap  # a base of two days stays two days
    elif cap < first:
        raise ValueError(f"max is {max!r}, below base {base!r}: give a max of at least base")
    return Backoff("exponential", first, growth, cap, _number("jitter", jitter, 0.0, 1.0))


def fixed(seconds: float | timedelta, jitter: float = 0) -> Backoff:
    """Wait the same time after each failed attempt: seconds or a timedelta.

    Raises:
        ValueError: an argument cannot be meant; the text names it.
    """
    wait = in_seconds("seconds", seconds)
    spread = _number("jitter", jitter, 0.0, 1.0)
    return Backoff("fixed", wait, 1.0, wait * (1 + spread), spread)


def _number(name: str, value: float, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ValueError(f"{name} is {value!r}: it must be a number between {least:g} and {most:g}")
    return float(value)


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Try again in ``seconds``."""

    seconds: float


@dataclass(frozen=True, slots=True)
class SnoozeFor:
    """Run later, in ``seconds``; the attempt does not count."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Fail:
    """Give up."""

    reason: FailureReason


RetryDecision = RetryAfter | SnoozeFor | Fail

DEFAULT_BACKOFF = exponential(2)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when a job is tried again.

    ``retry_on`` and ``discard_on`` are exception classes: ``discard_on`` wins over ``retry_on``,
    and that over the default classification. What a job raises on purpose (``Retry``, ``Snooze``,
    ``Discard``) wins over both.
    """

    max_attempts: int = 3
    backoff: Backoff = DEFAULT_BACKOFF
    retry_on: tuple[type[BaseException], ...] = ()
    discard_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        most = self.max_attempts
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise ValueError(f"max_attempts is {most!r}: it must be a whole number of at least 1")
        if not isinstance(self.backoff, Backoff):
            raise ValueError(
                f"backoff is {self.backoff!r}: make one with exponential(...) or fixed(...)"
            )
        object.__setattr__(self, "retry_on", _classes("retry_on", self.retry_on))
        object.__setattr__(self, "discard_on", _classes("discard_on", self.discard_on))

    def decide(
        self,
        error: BaseException,
        attempt: int,
        *,
        max_attempts: int | None = None,
        random: float = 0.5,
        now: datetime | None = None,
    ) -> RetryDecision:
        """Say what follows from ``error`` in attempt number ``attempt`` (from 1).

        Args:
            max_attempts: of this one job, if it was enqueued with its own.
            random: in [0, 1), for the jitter.
            now: aware; without it a ``Retry-After`` that is a date is not heeded.
        """
        if isinstance(error, Snooze):
            return SnoozeFor(error.after)
        reason = self._fatal(error)
        if reason is not None:
            return Fail(reason)
        if attempt >= (self.max_attempts if max_attempts is None else max_attempts):
            return Fail(
                FailureReason.TIMEOUT if isinstance(error, JobTimeout) else FailureReason.EXHAUSTED
            )
        asked = error.after if isinstance(error, Retry) else _retry_after(error, now)
        return RetryAfter(self.backoff.delay(attempt, random) if asked is None else asked)

    def _fatal(self, error: BaseException) -> FailureReason | None:
        """Return why no retry can mend this error, or None if one may."""
        if isinstance(error, Discard):
            return FailureReason.NOT_RETRYABLE
        if isinstance(error, Retry):
            return None
        own = _own_reason(error)
        if self.discard_on and isinstance(error, self.discard_on):
            return own or FailureReason.NOT_RETRYABLE
        if isinstance(error, JobTimeout):
            return None
        if own is not None:
            # retry_on=(ValueError,) speaks of the job's body; data that cannot be read has to be
            # named.
            named = tuple(one for one in self.retry_on if issubclass(one, WellosJobsError))
            return None if isinstance(error, named) else own
        if isinstance(error, self.retry_on):
            return None
        status = _status(error)
        refused = status is not None and 400 <= status < 500 and status != 429
        return (
            FailureReason.NOT_RETRYABLE if refused or isinstance(error, ValidationError) else None
        )


def _own_reason(error: BaseException) -> FailureReason | None:
    if isinstance(error, UnknownJob):
        return FailureReason.UNKNOWN_JOB
    if isinstance(error, (PayloadError, EncryptionError)):
        return FailureReason.BAD_PAYLOAD
    return FailureReason.TIMEOUT if isinstance(error, JobTimeout) else None


def _classes(name: str, given: Any) -> tuple[type[BaseException], ...]:
    classes = (given,) if isinstance(given, type) else given
    classes = tuple(classes) if isinstance(classes, Iterable) else (classes,)
    for one in classes:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise ValueError(f"{name} has {one!r}: it must hold exception classes")
    return classes


def _status(error: BaseException) -> int | None:
    """Return the HTTP status an exception carries, as the usual HTTP libraries write it."""
    if not isinstance(error, Exception):
        return None  # the code of a SystemExit is no HTTP status
    response = _look(error, "response")
    for owner, name in (
        (error, "status_code"),
        (error, "status"),
        (error, "code"),
        (response, "status_code"),
        (response, "status"),
    ):
        value = _look(owner, name)
        if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
            return value
    return None


def is_outage(error: BaseException) -> bool:
    """Tell whether an error says that a dependency does not answer as it should: a connection that fails, a timeout,
    or HTTP status 429 or 5xx."""
    status = _status(error)
    if status is not None:
        return status == 429 or status >= 500
    return isinstance(error, (ConnectionError, TimeoutError, JobTimeout))


def _retry_after(error: BaseException, now: datetime | None) -> float | None:
    """Return the seconds that a server's ``Retry-After`` header asks for, or None."""
    for owner in (error, _look(error, "response")):
        for name, value in _pairs(_look(_look(owner, "headers"), "items")):
            if name.lower() == "retry-after":
                return _header_seconds(value.strip(), now)
    return None


def _header_seconds(text: str, now: datetime | None) -> float | None:
    try:
        wait = float(text)
    except ValueError:
        if now is None:
            return None
        try:
            until = parsedate_to_datetime(text)
        except ValueError:
            return None
        # A date without a zone ("-0000") comes back naive; HTTP dates are always GMT.
        wait = (
            (until.replace(tzinfo=until.tzinfo or now.tzinfo) - now).total_seconds()
            if until
            else math.nan
        )
    if math.isnan(wait) or wait < 0:
        return 0.0 if wait < 0 else None
    return min(wait, LONGEST_RETRY_AFTER)


# The two below read a stranger's exception, whose attributes may be code: what that raises must not
# end the worker.


def _pairs(items: Callable[[], Iterable[tuple[object, object]]] | None) -> list[tuple[str, str]]:
    if items is None:
        return []
    try:
        return [(str(name), str(value)) for name, value in items()]
    except Exception:
        return []


def _look(owner: object, name: str) -> Any:
    try:
        return getattr(owner, name, None)
    except Exception:
        return None
