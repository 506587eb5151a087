"""Read, validate and write time entries as lines of a CSV file."""

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
    """Validates a line. ``id`` is the entry's key in its source, used to recognize it again."""

    id = forms.CharField(max_length=64)
    day = forms.DateField(
        input_formats=["%Y-%m-%d"], error_messages={"invalid": "Write it as 2026-11-24."}
    )
    project = forms.CharField()
    description = forms.CharField(max_length=200)
    minutes = forms.IntegerField(min_value=1, max_value=DAY)
    billable = forms.ChoiceField(choices=[(answer, answer) for answer in ANSWERS])


class InvalidLine(ValueError):
    """A line cannot be imported; the message names the column."""


def check_file(file: IO[bytes]) -> int:
    """Return the number of lines after the header.

    Raises:
        ValueError: the file is not such a CSV file; the message is for the user.
    """
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    try:
        lines = csv.reader(text, strict=True)
        heading = tuple(column.strip().lower() for column in next(lines, []))
        if heading != COLUMNS:
            raise ValueError(f"The first line must be {','.join(COLUMNS)}")
        return sum(1 for _ in lines)
    except UnicodeDecodeError as error:
        raise ValueError("The file is not UTF-8 text") from error
    except csv.Error as error:
        raise ValueError(f"The file is not valid CSV: {error}") from error
    finally:
        text.detach()  # otherwise the file would be closed


def read(file: IO[bytes], start: int, count: int) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield ``count`` lines with their line numbers; ``start`` 0 is the line after the header."""
    lines = csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""))
    for line in islice(lines, start + 1, start + 1 + count):
        yield lines.line_num, dict(zip(COLUMNS, line, strict=False))


def entry(
    line: Mapping[str, str], projects: Mapping[str, Project], user_id: int | None
) -> TimeEntry:
    """Return an unsaved entry for a line.

    Raises:
        InvalidLine: a column is missing or invalid, or the project does not exist.
    """
    form = LineForm({**line, "billable": line.get("billable", "").strip().lower()})
    if not form.is_valid():
        errors = (f"{column}: {messages[0]}" for column, messages in form.errors.items())
        raise InvalidLine(" ".join(errors))

    values = form.cleaned_data
    project = projects.get(values["project"].casefold())
    if project is None:
        raise InvalidLine(f"project: There is no project {values['project']!r}.")

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
    """Yield the lines of a sample file, two of which are invalid."""
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
