"""The example's own tests, run in a subprocess with the example's settings and a new Redis."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.db import connection

from ..support import demo_process
from ..support.processes import Process
from ..support.servers import RedisServer

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


def test_the_example_passes_its_own_tests(tmp_path: Path, db: None) -> None:
    url = None
    if connection.vendor != "sqlite":  # the database that is made there has this name after "test_"
        url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/site_{os.getpid()}").geturl()
    with RedisServer(tmp_path / "redis") as server:
        environment = {**demo_process.environment(tmp_path / "state", url), "REDIS_URL": server.url}
        pytest_run = [
            "-m",
            "pytest",
            "example_project",
            "--ds",
            "example_project.settings",
            "-p",
            "no:cacheprovider",
            "-p",
            "pytest_wellos_jobs",  # as its entry point says, once the package is installed
        ]
        process = Process([sys.executable, *pytest_run], environment, tmp_path / "pytest.out")
        try:
            assert process.wait(200) == 0, process.output()
        finally:
            process.end()
