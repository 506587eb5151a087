"""A mixin for Django's test cases."""

from __future__ import annotations

import unittest
from datetime import datetime, timedelta
from typing import Any

from .. import JobHandle
from . import captured, running


class JobsTestMixin(unittest.TestCase):
    """Captures what each test enqueues, as ``self.jobs``; runs it at once if ``jobs_eager`` is set.

    For example ``class OrderTests(JobsTestMixin, TestCase)``. A ``setUp`` of your own begins with
    ``super().setUp()``. What ``setUpTestData`` enqueues is not captured, but ``drain_jobs`` runs
    it.
    """

    jobs: captured.CapturedJobs
    jobs_eager = False

    def setUp(self) -> None:
        """Begin to capture jobs."""
        super().setUp()
        begin = running.eager if self.jobs_eager else captured.captured_jobs
        self.jobs = self.enterContext(begin())

    def drain_jobs(
        self,
        queue: str | None = None,
        until: datetime | timedelta | float | None = None,
        **options: Any,
    ) -> list[JobHandle]:
        """Run what is enqueued: see ``drain``, which takes the same arguments."""
        return running.drain(queue, until, **options)
