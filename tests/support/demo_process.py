"""``manage.py demo`` as a process of its own, away from the test bed: with its own folder, settings
and servers."""

from __future__ import annotations

import email
import email.policy
import os
import signal
import sys
from email.message import EmailMessage
from pathlib import Path
from typing import Self

from . import test_run
from .processes import PROJECT, Process, children_of, wait_until
from .servers import free_port

SECONDS = 120.0
_OURS = {"DATABASE_URL", "OTHER_DATABASE_URL", "REDIS_URL", "JOBS_REDIS_URL", test_run.MARK}


class Demo:
    """One run. ``folder`` is what would be ``.demo/``."""

    def __init__(self, folder: Path, *arguments: str, database_url: str | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self.database_url = database_url
        command = [sys.executable, "manage.py", "demo", "--port", str(self.port), *arguments]
        self.process = Process(
            command, environment(folder, database_url), folder.with_suffix(".out")
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.is_running():
            self.process.signal(signal.SIGINT)
            self.process.wait(SECONDS)
        self.process.end()

    @property
    def site(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def output(self) -> str:
        return self.process.output()

    def mails(self) -> list[EmailMessage]:
        """Return the mails it sent, oldest first."""
        paths = sorted((self.folder / "mail").glob("*.eml"))
        return [
            email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            for path in paths
        ]

    def secret(self, name: str) -> str:
        return (self.folder / "secrets" / name).read_text()

    def descendants(self) -> list[int]:
        """Return the pids of all it has started, and of what those have started."""
        found, unseen = [], [self.process.pid]
        while unseen:
            children = children_of(unseen.pop())
            found += children
            unseen += children
        return found

    def wait_until_played(self) -> None:
        """Wait until all its jobs are done and checked."""
        self.process.wait_for_output("press Ctrl-C", SECONDS)

    def wait_until_working(self, processes: int = 2) -> list[int]:
        """Wait until worker, site and server are all there; return the pids."""
        # The supervisor with its workers and its housekeeping, the site, the server.
        return wait_until(
            lambda: len(pids := self.descendants()) >= processes + 4 and pids,
            60,
            "all of the demo's processes",
            [self.process],
        )


def environment(folder: Path, database_url: str | None = None) -> dict[str, str]:
    """Return the environment of the example's own commands on ``folder``."""
    values = {key: value for key, value in os.environ.items() if key not in _OURS}
    values |= {
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "WELLOS_DEMO_DIR": str(folder),
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "error",
    }
    if database_url:
        values["DATABASE_URL"] = database_url
    return values


def manage(folder: Path, *arguments: str) -> Process:
    """Start another command of the example on ``folder``; it logs beside the folder."""
    log = folder.parent / f"{folder.name}-{arguments[0]}.out"
    return Process(
        [sys.executable, str(PROJECT / "manage.py"), *arguments], environment(folder), log
    )
