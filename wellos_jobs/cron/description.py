"""Cron lines and intervals in plain English: "every 15 minutes", "at 08:00 every day". Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from .fields import LAST, LAST_WORKDAY, Field, Fields

_MONTHS = (
    "",
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_ORDINALS = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", LAST: "last"}
_FEW = 4
"""Up to this many times of day are listed individually."""
_MANY = 6
"""From more values than this a rule is made, if there is one."""


def describe_interval(period: timedelta) -> str:
    """Describe an interval in the largest unit that needs no fraction: ``every 15 minutes``."""
    for name, unit in (("hour", 3600), ("minute", 60)):
        if period % timedelta(seconds=unit) == timedelta(0):
            return _every(period // timedelta(seconds=unit), name)
    if period == timedelta(seconds=1):
        return "every second"
    return f"every {plain_seconds(period)} seconds"


def plain_seconds(period: timedelta) -> str:
    """Return seconds as a decimal number without an exponent, to the microsecond: ``1.5``."""
    whole, rest = divmod(period, timedelta(seconds=1))
    return str(whole) if not rest else f"{whole}.{rest.microseconds:06d}".rstrip("0")


def describe_fields(fields: Fields) -> str:
    """Describe a cron line, in lower case, so that it can continue a sentence: "Runs ..."."""
    times, on_each_day = _times(fields)
    days = _days(fields)
    if not days and on_each_day:
        days = "every day"

    seconds = _seconds(fields)
    if seconds and times == "every minute":
        # "every 10 seconds", not "every minute, every 10 seconds of the minute"
        times = seconds.removesuffix(" of the minute").replace("past the", "past every")
        seconds = ""

    joint = " " if days.startswith("on ") or (on_each_day and days.startswith("every ")) else ", "
    text = f"{times}{joint}{days}" if days else times
    return f"{text}, {seconds}" if seconds else text


def listed(words: Sequence[str]) -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def describe_gap(walls: Sequence[datetime], run: datetime, *, once: bool) -> str:
    """Describe what happens to wall times that a clock change skips.

    Args:
        walls: those wall times, in order; at least one.
        run: the first moment after the gap, aware.
        once: whether one run there replaces them; else they are skipped.
    """
    day = walls[0].date()
    at = f"{run:%H:%M}" if run.date() == day else f"{run:%H:%M} on {run.date()}"

    if len(walls) == 1:
        effect = f"it runs at {at}" if once else "that run is skipped"
        return f"{_clocks(walls)} does not exist on {day}; {effect}"

    effect = f"one run replaces them, at {at}" if once else "those runs are skipped"
    return f"{_clocks(walls)} do not exist on {day}; {effect}"


def describe_repeat(walls: Sequence[datetime], *, once: bool) -> str:
    """Describe what happens to wall times that occur twice: they run once or both times."""
    come, runs = ("comes", "it runs") if len(walls) == 1 else ("come", "they run")
    times = "once" if once else "both times"
    return f"{_clocks(walls)} {come} twice on {walls[0].date()}; {runs} {times}"


def _clocks(walls: Sequence[datetime]) -> str:
    if len(walls) <= _FEW:
        return listed([f"{wall:%H:%M}" for wall in walls])
    return f"{walls[0]:%H:%M} to {walls[-1]:%H:%M}"


def _every(count: int, name: str) -> str:
    return f"every {name}" if count == 1 else f"every {count} {name}s"


def _plural(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


# --- times of the day -----------------------------------------------------------------------------


def _times(fields: Fields) -> tuple[str, bool]:
    """Return the times of the day, and whether "every day" must follow if all days are chosen."""
    hours, minutes = fields.hour.values, fields.minute.values
    minute_step, hour_step = _even(fields.minute), _even(fields.hour)
    if fields.hour.is_any:
        return _times_of_every_hour(minutes, minute_step), False

    if len(hours) * len(minutes) <= _FEW:
        return f"at {listed([_at(hour, minute) for hour in hours for minute in minutes])}", True
    if len(minutes) == 1:
        return _hourly(hours, minutes[0], hour_step)

    first, last = _at(hours[0], minutes[0]), _at(hours[-1], minutes[-1])
    if len(hours) == 1 and _step(minutes):
        return f"{_every(_step(minutes), 'minute')} from {first} to {last}", True
    if minute_step and _step(hours) == 1:
        return f"{_every(minute_step, 'minute')} from {first} to {last}", True

    past = _past(minutes, minute_step)
    if hour_step:
        return f"{past} every {_ordinal(hour_step)} hour", False
    return f"{past} {_hours(hours)}", True


def _times_of_every_hour(minutes: tuple[int, ...], step: int) -> str:
    if minutes == (0,):
        return "every hour"
    if step and minutes[0] == 0:
        return _every(step, "minute")
    return f"{_past(minutes, 0)} every hour"


def _hourly(hours: tuple[int, ...], minute: int, step: int) -> tuple[str, bool]:
    """Describe one minute of several hours, as ``_times`` does."""
    if step and hours[0] == 0:
        past = f", at {_plural(minute, 'minute')} past the hour" if minute else ""
        return f"{_every(step, 'hour')}{past}", False

    if _step(hours):
        first, last = _at(hours[0], minute), _at(hours[-1], minute)
        return f"{_every(_step(hours), 'hour')} from {first} to {last}", True

    return f"at {listed([_at(hour, minute) for hour in hours])}", True


def _past(minutes: tuple[int, ...], even: int) -> str:
    step = even or (_step(minutes) if len(minutes) > _MANY else 0)
    if step and even and minutes[0] == 0:
        return f"{_every(step, 'minute')} in"
    if step:
        return (
            f"{_every(step, 'minute')} from {minutes[0]} to {_plural(minutes[-1], 'minute')} past"
        )
    unit = "minute" if minutes == (1,) else "minutes"
    return f"at {listed([str(minute) for minute in minutes])} {unit} past"


def _hours(hours: tuple[int, ...]) -> str:
    if _step(hours) == 1:
        return f"every hour from {hours[0]:02d}:00 to {hours[-1]:02d}:00"
    return f"{'hour' if len(hours) == 1 else 'hours'} {listed([str(hour) for hour in hours])}"


def _seconds(fields: Fields) -> str:
    seconds = fields.second.values
    if seconds == (0,):
        return ""
    if fields.second.is_any:
        return "every second of the minute"
    step = _even(fields.second)
    if step and seconds[0] == 0 and len(seconds) > 1:
        return f"{_every(step, 'second')} of the minute"
    if len(seconds) > _MANY and _step(seconds):
        span = f"from {seconds[0]} to {_plural(seconds[-1], 'second')}"
        return f"{_every(_step(seconds), 'second')} {span} past the minute"

    unit = "second" if seconds == (1,) else "seconds"
    return f"at {listed([str(second) for second in seconds])} {unit} past the minute"


def _at(hour: int, minute: int) -> str:
    return f"{hour:02d}:{minute:02d}"


def _step(values: tuple[int, ...]) -> int:
    """Return the distance between values if it is always the same, else 0."""
    steps = {after - before for before, after in pairwise(values)}
    return steps.pop() if len(steps) == 1 else 0


def _even(field: Field) -> int:
    """Return the step of values that continue evenly across the end of the unit, else 0."""
    step, size = _step(field.values), field.unit.high + 1
    return step if step and len(field.values) * step == size else 0


# --- days -----------------------------------------------------------------------------------------


def _days(fields: Fields) -> str:
    """Describe the days; '' for every day of the year."""
    months = ""
    if not fields.month.is_any:
        months = _span([_MONTHS[month] for month in fields.month.values], fields.month.values)

    by_day, by_weekday = not fields.day.is_any, not fields.weekday.is_any
    if not fields.needs_both_days and not (by_day and by_weekday):
        by_day = by_weekday = False  # one of them is enough, and one of them always matches

    if by_day and by_weekday and fields.needs_both_days:
        return f"{_of_month(fields.day, months)} if it is {_weekday_names(fields.weekday, 'a ')}"
    if by_day and by_weekday:
        joined = f"{_of_month(fields.day, '')} and {_weekdays(fields.weekday)}"
        return f"{joined}, in {months}" if months else joined
    if by_day:
        return _of_month(fields.day, months)
    if by_weekday:
        return _weekdays(fields.weekday) + (f" in {months}" if months else "")
    return f"every day in {months}" if months else ""


def _of_month(day: Field, months: str) -> str:
    if len(day.values) == 1 and day.values[0] > 0 and months and " " not in months:
        return f"on {day.values[0]} {months}"

    numbers = tuple(value for value in day.values if value > 0)
    words = []
    if len(numbers) > _MANY and _step(numbers) > 1:
        span = f"from the {_nth(numbers[0])} to the {_nth(numbers[-1])}"
        words.append(f"every {_ordinal(_step(numbers))} day {span}")
    elif numbers:
        words.append(_span([f"the {_nth(number)}" for number in numbers], numbers))

    words += ["the last workday"] if LAST_WORKDAY in day.values else []
    words += ["the last day"] if LAST in day.values else []
    return f"on {listed(words)} of {months or 'every month'}"


def _weekdays(weekday: Field) -> str:
    nths = [f"on {name}" for name in _nth_weekdays(weekday)]
    plain = ["every " + _weekday_names(weekday, "")] if weekday.values else []
    if plain and " to " in plain[0]:
        plain = [plain[0].removeprefix("every ")]
    return listed(plain + nths)


def _weekday_names(weekday: Field, article: str) -> str:
    # Sunday comes last, so that 0,5,6 is "Friday to Sunday".
    days = tuple(sorted(value or 7 for value in weekday.values))
    words = [f"{article}{_WEEKDAYS[day % 7]}" for day in days]
    if article:
        return " or ".join(words + _nth_weekdays(weekday))
    return _span(words, days)


def _nth_weekdays(weekday: Field) -> list[str]:
    return [
        f"the {_ORDINALS[nth.nth]} {_WEEKDAYS[nth.weekday]} of the month" for nth in weekday.nths
    ]


def _span(words: list[str], values: tuple[int, ...]) -> str:
    if len(values) > 2 and _step(values) == 1:
        return f"{words[0]} to {words[-1]}"
    return listed(words)


def _ordinal(number: int) -> str:
    # A step is always below 21 here, so "th" is right.
    return _ORDINALS.get(number, f"{number}th")


def _nth(number: int) -> str:
    ending = "th" if number in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
