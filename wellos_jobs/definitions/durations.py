"""Durations given as seconds or timedeltas, checked and returned as seconds."""

from __future__ import annotations

from datetime import timedelta

MAX_SECONDS = 3650 * 86_400.0
"""The longest duration that any option takes: ten years."""


def in_seconds(
    option: str, value: float | timedelta, least: float = 0.0, most: float = MAX_SECONDS
) -> float:
    """Return a duration in seconds.

    Raises:
        ValueError: it is not a number or timedelta, or not between ``least`` and ``most``. The
            message names the option.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ValueError(f"{option} is {value!r}: give a number of seconds or a timedelta")
    if not least <= seconds <= most:
        raise ValueError(
            f"{option} is {value!r}: it must be between {least:g} and {most:g} seconds"
        )
    return float(seconds)


def positive_seconds(owner: str, option: str, value: float | timedelta) -> float:
    """Return a duration above 0 in seconds; ``owner`` is the class whose option it is.

    Raises:
        ValueError: it is not a number or timedelta, or not above 0.
    """
    try:
        seconds = in_seconds(option, value)
    except ValueError as error:
        raise ValueError(f"{owner}: {error}") from error
    if not seconds > 0:
        raise ValueError(f"{owner}: {option} is {value!r}: it must be above 0 seconds")
    return seconds
