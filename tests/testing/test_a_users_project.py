"""A project as ``startproject`` makes it, with tests of its own and a Redis that is not there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]

SETTINGS = """

INSTALLED_APPS += ["wellos_jobs", "django_rq", "shop"]
RQ_QUEUES = {{
    "default": {{
        "URL": "redis://127.0.0.1:{port}/0", "SERIALIZER": "rq.serializers.JSONSerializer"
    }}
}}
RQ = {{"QUEUE_CLASS": "wellos_jobs.queues.LaneQueue"}}
"""

JOBS = """
from django.core.mail import send_mail
from wellos_jobs import fixed, job


@job("confirm-order", backoff=fixed(60), max_attempts=2)
def confirm_order(number, fail=False):
    if fail:
        raise RuntimeError("mail server is away")
    send_mail("Order", str(number), None, ["customer@example.com"])
    return number
"""

TESTS = """
from django.core import mail
from django.db import transaction
from django.test import TestCase, TransactionTestCase

from shop.jobs import confirm_order
from wellos_jobs import JobState
from wellos_jobs.testing import JobsTestMixin


class Orders(JobsTestMixin, TestCase):
    def test_captured_and_drained(self):
        with transaction.atomic():
            handle = confirm_order.enqueue(number=7)
        self.jobs.assert_enqueued(confirm_order, count=1, data={"number": 7})
        self.drain_jobs()
        self.assertEqual([message.body for message in mail.outbox], ["7"])
        self.assertEqual(handle.result, 7)

    def test_retries(self):
        handle = confirm_order.enqueue(number=7, fail=True)
        self.drain_jobs(until=60, raise_errors=False)
        self.assertIs(handle.state, JobState.FAILED)


class EagerOrders(JobsTestMixin, TransactionTestCase):
    jobs_eager = True

    def test_eager(self):
        confirm_order.enqueue(number=8)
        self.assertEqual(len(mail.outbox), 1)


class Plain(TestCase):
    def test_nothing_is_pushed_and_nothing_waits(self):
        with self.captureOnCommitCallbacks(execute=True):
            handle = confirm_order.enqueue(number=9)
        self.assertIs(handle.state, JobState.WAITING)
"""

PYTEST = """
from django.core import mail

from shop.jobs import confirm_order


def test_eager(jobs_eager):
    confirm_order.enqueue(number=1)
    assert len(mail.outbox) == 1


def test_drain(jobs_drain, jobs_captured):
    confirm_order.enqueue(number=2)
    jobs_captured.assert_enqueued(confirm_order, data={"number": 2})
    assert mail.outbox == []
    jobs_drain()
    assert len(mail.outbox) == 1
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    run(folder, "-m", "django", "startproject", "site1", ".")
    with socket.socket() as listener:  # a port on which nobody listens once it is closed
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with (folder / "site1" / "settings.py").open("a") as settings:
        settings.write(SETTINGS.format(port=port))
    files = {"__init__": "", "jobs": JOBS, "tests": TESTS, "test_with_pytest": PYTEST}
    (folder / "shop").mkdir()
    for name, text in files.items():
        (folder / "shop" / f"{name}.py").write_text(textwrap.dedent(text))
    return folder


def run(folder: Path, *arguments: str) -> str:
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("WELLOS_TEST", "PYTEST_", "DJANGO_"))
        and key not in ("REDIS_URL", "DATABASE_URL", "OTHER_DATABASE_URL")
    }
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


def test_with_djangos_runner(project: Path) -> None:
    output = run(project, "-Wa", "manage.py", "test", "shop.tests")
    assert "Ran 4 tests" in output
    assert "Redis is unavailable" not in output


def test_with_pytest(project: Path) -> None:
    arguments = ("--ds", "site1.settings", "-p", "no:cacheprovider", "-p", "pytest_wellos_jobs")
    output = run(
        project, "-m", "pytest", "-q", *arguments, "shop/tests.py", "shop/test_with_pytest.py"
    )
    assert "6 passed" in output


def test_the_plugin_needs_no_settings(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n\n\ndef test_it():\n    assert 'wellos_jobs' not in sys.modules\n"
    )
    arguments = ("-p", "no:django", "-p", "no:cacheprovider", "-p", "pytest_wellos_jobs")
    assert "1 passed" in run(tmp_path, "-m", "pytest", "-q", *arguments)
