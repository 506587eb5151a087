"""Time entries as lines of a CSV file: how they are read, checked and written. No jobs here."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from itertools import islice
from typing import IO

from django import forms
from django.utils import timezone

from .models import Project, TimeEntry

COLUMNS = ("id", "day", "project", "description", "minutes", "billable")
ANSWERS = {"yes": True, "no": False}
DAY = 24 * 60


class LineForm(forms.Form):
    """What a line must say. ``id`` is the entry's key where it comes from: a line that comes again
    is known by it."""

    id = forms.CharField(max_length=64)
    day = forms.DateField(
        input_formats=["%Y-%m-%d"], error_messages={"invalid": "Write it like 2026-11-24."}
    )
    project = forms.CharField()
    description = forms.CharField(max_length=200)
    minutes = forms.IntegerField(min_value=1, max_value=DAY)
    billable = forms.ChoiceField(choices=[(answer, answer) for answer in ANSWERS])


class FaultyLine(ValueError):
    """A line that cannot be imported; the text says what to mend."""


def check_file(file: IO[bytes]) -> int:
    """Return the number of lines below the heading.

    Raises:
        ValueError: it is no such file; the text is for whoever uploaded it.
    """
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    try:
        lines = csv.reader(text, strict=True)
        heading = tuple(column.strip().lower() for column in next(lines, []))
        if heading != COLUMNS:
            raise ValueError(f"Its first line must be {','.join(COLUMNS)}")
        return sum(1 for _ in lines)
    except UnicodeDecodeError as error:
        raise ValueError("It is not a text file in UTF-8") from error
    except csv.Error as error:
        raise ValueError(f"It is not a CSV file: {error}") from error
    finally:
        text.detach()  # else the file is closed with it


def read(file: IO[bytes], start: int, count: int) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield some of the lines, with their numbers in the file; ``start`` 0 is the one below the
    heading."""
    lines = csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""))
    for line in islice(lines, start + 1, start + 1 + count):
        yield lines.line_num, dict(zip(COLUMNS, line, strict=False))


def entry(
    line: Mapping[str, str], projects: Mapping[str, Project], user_id: int | None
) -> TimeEntry:
    """Return the entry that a line spells, not saved yet.

    Raises:
        FaultyLine: a column is missing or wrong, or there is no such project.
    """
    form = LineForm({**line, "billable": line.get("billable", "").strip().lower()})
    if not form.is_valid():
        raise FaultyLine(
            " ".join(f"{column}: {faults[0]}" for column, faults in form.errors.items())
        )
    values = form.cleaned_data
    project = projects.get(values["project"].casefold())
    if project is None:
        raise FaultyLine(f"project: There is no project {values['project']!r}.")
    return TimeEntry(
        project=project,
        user_id=user_id,
        external_id=values["id"],
        day=values["day"],
        description=values["description"],
        minutes=values["minutes"],
        billable=ANSWERS[values["billable"]],
    )


def sample(projects: Iterable[Project], lines: int) -> Iterator[str]:
    """Yield the lines of a file to try: two of them are wrong, to show what becomes of those."""
    names = [project.name for project in projects] or ["Website"]
    today = timezone.localdate()
    yield f"{','.join(COLUMNS)}\r\n"
    for number in range(lines):
        project, minutes = names[number % len(names)], str(15 + number * 35 % 450)
        if number == 4:
            project = "Moon base"
        if number == 9:
            minutes = "-30"
        day = today - timedelta(days=number % 28)
        answer = "no" if number % 7 == 6 else "yes"
        yield f"sample-{number + 1},{day},{project},Sample work,{minutes},{answer}\r\n"
