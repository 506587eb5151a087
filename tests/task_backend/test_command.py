"""``manage.py jobs_task_conformance`` prints a table, in a process of its own."""

from __future__ import annotations

import re

import pytest
from django.conf import settings

from ..support.processes import Fleet

pytestmark = pytest.mark.timeout(240)


def test_the_table_of_backends_and_features(processes: Fleet) -> None:
    url = f"{settings.REDIS_URL.rpartition('/')[0]}/9"
    command = processes.manage("jobs_task_conformance", "--redis", url)
    assert command.wait(200) == 0, command.output()

    table = dict(re.findall(r"^(\w+) +(\S.*)$", command.output(), re.M))
    assert re.fullmatch(r"- +- +2/2", table["transactions"])
    for feature in ("declaration", "arguments", "signals"):
        for cell in table[feature].split():
            passed, run = cell.split("/")
            assert passed == run
