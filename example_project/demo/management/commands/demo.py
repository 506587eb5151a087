"""``manage.py demo [--exit]``: run jobs on sample data, check the results, serve the site."""

from __future__ import annotations

import logging
import os
import platform
import signal
import sys
import time
from argparse import ArgumentParser
from typing import Any

import django
from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import connection

from example_project import keyring
from example_project.demo import accounts, checks, clockwork, display, sample, scenario, stage
from example_project.demo.children import ChildEnded
from example_project.demo.visitor import Visitor

POLL_INTERVAL = 0.15
"""Seconds between two reads of the rows."""
CLOCK_SECONDS = 20.0
"""Time limit for the scheduler to start and run a schedule three times, once a second."""


class Command(BaseCommand):
    help = "Run jobs of every kind on sample data, check the results, and serve the site."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--exit", action="store_true", help="exit after the checks, with status 0 if all pass"
        )
        parser.add_argument(
            "--port",
            type=int,
            default=8000,
            help="port of the site (default 8000, or a free one if it is in use)",
        )
        parser.add_argument("--processes", type=int, default=2, help="worker processes (default 2)")
        parser.add_argument(
            "--deadline", type=float, default=90.0, help="time limit in seconds (default 90)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        signal.signal(signal.SIGTERM, _stop)
        signal.signal(signal.SIGHUP, _stop)
        started = time.monotonic()
        self.display = display.Display(sys.stdout)
        # Only in this process: the worker and the site log to files.
        logging.getLogger("wellos_jobs").setLevel(logging.WARNING)

        try:
            passed = self._demo(options, started)
        except KeyboardInterrupt:
            self.display.line("stopped")
            sys.exit(130)
        except ChildEnded as error:
            self.display.line(str(error))
            passed = False
        sys.exit(0 if passed else 1)

    def _demo(self, options: dict[str, Any], started: float) -> bool:
        say = self.display.line
        say(f"WellOS demo: {_versions()}")
        stage.clear()
        stage.migrate()
        password, people_password = stage.admin_password(), stage.people_password()
        data = sample.load(password, people_password)
        say(f"sample data: {data}")

        with stage.Stage(options["port"], options["processes"]) as setting:
            setting.set()
            visitor = Visitor(setting.site_url, sample.ADMIN, password)
            run = scenario.enqueue_all(data, setting.worker_name, setting.partner)
            took = 1000 * run.enqueue_seconds
            say(f"enqueued {len(run.about)} jobs in one transaction, {took:.0f} ms")
            say(f"worker: {options['processes']} processes, supervised")

            over = self._play(run, setting, visitor, time.monotonic() + options["deadline"])
            passed = self._check(run, setting, visitor) and over

            setting.start_clock()
            result = clockwork.play(setting.check, time.monotonic() + CLOCK_SECONDS)
            passed = self._show(result) and passed

            say()
            say(f"{'All as expected' if passed else 'NOT as expected'}; {_took(started)}.")
            if not options["exit"]:
                self._show_accounts(setting, password, people_password)
            self._show_files()
            if not options["exit"]:
                self._wait_for_ctrl_c(setting)
        return passed

    def _play(
        self, run: scenario.Run, setting: stage.Stage, visitor: Visitor, deadline: float
    ) -> bool:
        """Run the scenario until all jobs have ended; return whether they met the deadline."""
        while True:
            records = run.records()
            setting.check()
            if line := scenario.act(run, records, visitor):
                self.display.line(line)
            elif scenario.is_over(run, records):
                self.display.done()
                return True
            if time.monotonic() > deadline:
                self.display.line("the deadline has passed")
                return False
            self.display.progress(display.summary(records))
            time.sleep(POLL_INTERVAL)

    def _check(self, run: scenario.Run, setting: stage.Stage, visitor: Visitor) -> bool:
        records = run.records()
        self.display.line()
        for line in display.table(records, run.about):
            self.display.line(line)
        self.display.line()

        facts = checks.Facts(
            run, records, setting.partner, visitor, setting.worker.log, fresh=stage.is_private()
        )
        passed = True
        for result in checks.run_all(facts):
            passed = self._show(result) and passed
        return passed

    def _show(self, result: checks.Result) -> bool:
        """Print the result of a check, and return whether it passed."""
        mark = self.style.SUCCESS("ok  ") if result.passed else self.style.ERROR("FAIL")
        self.display.line(f"{mark}  {result.name}: {result.detail}")
        return result.passed

    def _show_accounts(self, setting: stage.Stage, password: str, people_password: str) -> None:
        say = self.display.line
        say(f"  site    {setting.site_url}/")
        for account in accounts.shown():
            say(f"            {account.username:<12} {people_password:<14} {account.organization}")
        admin = f"{sample.ADMIN:<12} {password:<14}"
        say(f"            {admin} all organizations, and {setting.site_url}/admin/")

    def _show_files(self) -> None:
        say, folder = self.display.line, keyring.folder()
        say(f"  mails   {settings.MAIL_FOLDER}")
        say(f"  files   {settings.MEDIA_ROOT}")
        say(f"  logs    {folder / 'worker.log'}, {folder / 'site.log'}, {folder / 'scheduler.log'}")

    def _wait_for_ctrl_c(self, setting: stage.Stage) -> None:
        self.display.line("The site, the worker and the scheduler run until you press Ctrl-C.")
        try:
            while True:
                setting.check()
                time.sleep(0.5)
        except KeyboardInterrupt:
            self.display.line("stopping")


def _took(started: float) -> str:
    begun = os.environ.get("WELLOS_MAKE_BEGUN")
    return display.took(time.monotonic() - started, time.time() - float(begun) if begun else None)


def _versions() -> str:
    redis = "embedded Valkey" if settings.REDIS_IS_EMBEDDED else "the Redis of REDIS_URL"
    versions = f"Django {django.get_version()}, Python {platform.python_version()}"
    return f"{versions}, {connection.display_name}, {redis}"


def _stop(*_: object) -> None:
    raise KeyboardInterrupt
