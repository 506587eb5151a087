"""Set up and clear the demo: files, migrations, child processes, the partner's web service."""

from __future__ import annotations

import secrets
import shutil
import socket
from contextlib import ExitStack
from pathlib import Path

import redis
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections

from example_project import embedded, keyring

from .accounts import PEOPLE_PASSWORD
from .children import Child
from .partner import Partner

HOST = "127.0.0.1"
SHUTDOWN_SECONDS = 3
"""How long the worker waits for its jobs when the demo ends. If the demo was killed, so was Redis,
and they cannot end."""


def is_private() -> bool:
    """Return whether database and Redis belong to the demo, so that they may be emptied."""
    return bool(settings.REDIS_IS_EMBEDDED and settings.DATABASE_IS_EMBEDDED)


def clear() -> None:
    """Remove the emails of earlier runs and, if they belong to the demo, database, jobs and files.

    Raises:
        CommandError: another command is using them.
    """
    if settings.REDIS_IS_EMBEDDED and not embedded.started_here():
        raise CommandError(
            f"Another command of the example is running on {keyring.folder()} "
            "(a demo, a worker?): stop it first"
        )

    _remove(Path(settings.MAIL_FOLDER))
    if not is_private():
        return

    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.flushall()
    connections.close_all()  # a system check may have opened the file
    database = Path(settings.DATABASES["default"]["NAME"])
    for path in (database, *database.parent.glob(f"{database.name}-*")):
        path.unlink(missing_ok=True)
    _remove(Path(settings.MEDIA_ROOT))


def migrate() -> None:
    """Migrate the database."""
    call_command("migrate", verbosity=0, interactive=False)


def admin_password() -> str:
    """Return the admin's password, generated once and kept in ``.demo/secrets``."""
    return keyring.secret("admin-password", lambda: secrets.token_urlsafe(9))


def people_password() -> str:
    """Return the password of all members, which the login page shows if DEBUG is on."""
    return keyring.secret(PEOPLE_PASSWORD, lambda: secrets.token_urlsafe(6))


class Stage(ExitStack):
    """The worker, the site and the partner. Leaving the block stops them in reverse order."""

    def __init__(self, port: int, processes: int) -> None:
        super().__init__()
        self.port = port if _is_free(port) else _free_port()
        self.processes = processes
        self.worker_name = f"demo-{secrets.token_hex(3)}"
        self.partner = Partner()
        self.clock: Child | None = None

    @property
    def site_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def set(self) -> None:
        """Start the partner, the worker and the site."""
        self.partner.start()
        self.callback(self.partner.stop)

        arguments = [
            "manage.py",
            "rqworker",
            "--processes",
            str(self.processes),
            "--name",
            self.worker_name,
        ]
        arguments += ["--shutdown-timeout", str(SHUTDOWN_SECONDS)]
        self.worker = self._start("worker", arguments, WELLOS_LOG_LEVEL="DEBUG")

        server = [
            "-m",
            "uvicorn",
            "example_project.asgi:application",
            "--host",
            HOST,
            "--port",
            str(self.port),
        ]
        # Open pages stream their job's progress; do not wait for them on shutdown.
        self.site = self._start(
            "site", [*server, "--no-access-log", "--timeout-graceful-shutdown", "1"]
        )

    def start_clock(self) -> None:
        """Start the scheduler, after the jobs of the scenario are counted: it adds more jobs."""
        self.clock = self._start("scheduler", ["manage.py", "rqscheduler"])

    def check(self) -> None:
        """Raise ChildEnded if a child process has ended."""
        for child in (self.worker, self.site, self.clock):
            if child is not None:
                child.check_alive()

    def _start(self, name: str, arguments: list[str], **environment: str) -> Child:
        child = Child(name, arguments, BASE_URL=self.site_url, **environment)
        self.callback(child.stop)
        return child


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
