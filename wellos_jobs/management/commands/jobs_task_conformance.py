"""``manage.py jobs_task_conformance``: what each backend for Django's Tasks does, as a table."""

from __future__ import annotations

import unittest
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import django
from django.core.management.base import BaseCommand, CommandError
from django.test import TransactionTestCase
from django.test.runner import DiscoverRunner
from django.test.utils import override_settings

from ... import broker
from ...database import default_database

SUITE = "wellos_jobs.testing.task_backend_conformance"
"""The suite. It is named, not imported: the package itself needs nothing of its test helpers."""


class Command(BaseCommand):
    help = (
        "Run the conformance suite for backends of Django's Tasks over Django's own and this one, "
        "in a test database, and print how many tests of each feature pass."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--redis",
            required=True,
            metavar="URL",
            help="an empty Redis database that nothing else uses, such as redis://localhost:6379/15",
        )

    def handle(self, *_: Any, redis: str, **__: Any) -> None:
        with override_settings(**_settings(redis)):
            _refuse_if_used(redis)
            suite = import_module(SUITE)
            with _test_databases():
                outcomes = {name: _run(mixin) for name, mixin in suite.BACKENDS.items()}

        self._print(suite.FEATURES, outcomes)
        if failures := [text for outcome in outcomes.values() for text in outcome.texts]:
            raise CommandError("\n".join(failures))

    def _print(self, features: tuple[str, ...], outcomes: dict[str, Outcome]) -> None:
        width = max(map(len, features)) + 2
        self.stdout.write(f"Django {django.__version__}\n\n")
        self.stdout.write("".ljust(width) + "".join(name.rjust(14) for name in outcomes))
        for feature in features:
            cells = [outcome.cell(feature).rjust(14) for outcome in outcomes.values()]
            self.stdout.write(feature.ljust(width) + "".join(cells))


def _settings(url: str) -> dict[str, Any]:
    """Return settings with one queue, on this Redis."""
    queue = {"URL": url, "SERIALIZER": "rq.serializers.JSONSerializer"}
    own = {"NOTIFY_ADMINS": False, "REDIS_IN_TESTS": True}
    return {"RQ_QUEUES": {"default": queue}, "WELLOS_JOBS": own}


def _refuse_if_used(url: str) -> None:
    if count := broker.source_client("default", "work").dbsize():
        raise CommandError(f"{url} has {count} keys: name an empty database of Redis")


@contextmanager
def _test_databases() -> Iterator[None]:
    runner = DiscoverRunner(verbosity=0, interactive=False)
    runner.setup_test_environment()
    try:
        databases = runner.setup_databases(aliases={default_database()})
        try:
            yield
        finally:
            runner.teardown_databases(databases)
    finally:
        runner.teardown_test_environment()


class Outcome(unittest.TestResult):
    """Counts tests by their feature."""

    def __init__(self) -> None:
        super().__init__()
        self.passed: Counter[str] = Counter()
        self.run_: Counter[str] = Counter()
        self.texts: list[str] = []

    def cell(self, feature: str) -> str:
        """Return passed and run tests of a feature; a dash if the backend does not claim it."""
        return f"{self.passed[feature]}/{self.run_[feature]}" if self.run_[feature] else "-"

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().addSuccess(test)
        self.run_[_feature(test)] += 1
        self.passed[_feature(test)] += 1

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addFailure(test, err)
        self._fail(test, self.failures[-1][1])

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addError(test, err)
        self._fail(test, self.errors[-1][1])

    def _fail(self, test: unittest.TestCase, text: str) -> None:
        self.run_[_feature(test)] += 1
        self.texts.append(f"{test}\n{text}")


def _feature(test: unittest.TestCase) -> str:
    method = getattr(test, getattr(test, "_testMethodName", ""), None)
    return str(getattr(method, "feature", "declaration"))


def _run(mixin: type) -> Outcome:
    members = {"databases": {default_database()}}
    case: Any = type(mixin.__name__, (mixin, TransactionTestCase), members)
    outcome = Outcome()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(outcome)
    return outcome
