"""No text in a CSV file is a formula, whatever the spreadsheet takes as the end of a cell."""

from __future__ import annotations

import pytest

from wellos_jobs.monitoring import csv_export


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("=1", "'=1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        (" =1", " '=1"),
        ("\n=1", "'\n'=1"),
        ("\t=1", "'\t'=1"),
        ("x;=1", "x;'=1"),
        ("x; +1", "x; '+1"),
        ("x\n-1", "x\n'-1"),
        ("\uff1d1", "'\uff1d1"),
        ("x;\uff0b1", "x;'\uff0b1"),
        ("\ufeff=1", "\ufeff'=1"),
        ("a-b, c=d", "a-b, c=d"),
        (-1, "-1"),
    ],
)
def test_formulas_are_guarded(given: object, written: str) -> None:
    _heading, line = csv_export.lines(["x"], [[given]])
    assert line.removesuffix("\r\n").strip('"') == written
