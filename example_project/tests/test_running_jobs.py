"""What the site's jobs do when they run, by ``wellos_jobs.testing``: no worker, no Redis."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.core import mail
from django.test import Client, TestCase
from django.utils import timezone

from example_project.accounts.models import User
from example_project.invoices.document import generate_invoice
from example_project.invoices.issuing import issue, mail_invoice
from example_project.organizations.models import Organization
from wellos_jobs import JobHandle, JobState
from wellos_jobs.contrib import emails, notifications
from wellos_jobs.testing import CapturedJobs, JobsTestMixin, job_context, moved_clock

Drain = Callable[..., list[JobHandle]]


def test_an_issued_invoice_is_mailed_with_its_pdf(
    jobs_eager: CapturedJobs, client: Client, acme: Organization, make_invoice: Any
) -> None:
    invoice = make_invoice(acme, "A-1")
    client.post(f"/o/acme/invoices/{invoice.pk}/issue")

    message = mail.outbox[-1]
    assert (message.to, message.subject) == (["pay@initech.example"], "Invoice A-1 from Acme")
    assert len(message.attachments) == 1
    assert [job.state for job in jobs_eager.of(mail_invoice)] == [JobState.COMPLETED]


def test_an_invoice_without_lines_has_no_pdf_and_no_mail(
    jobs_captured: CapturedJobs, jobs_drain: Drain, acme: Organization, make_invoice: Any
) -> None:
    invoice = make_invoice(acme, "A-1")
    issue(invoice)
    jobs_captured.assert_enqueued(generate_invoice, 1, {"invoice_id": str(invoice.pk)})

    invoice.lines.all().delete()
    jobs_drain(until=timedelta(days=1), raise_errors=False)
    assert [job.state for job in jobs_captured.of(generate_invoice)] == [JobState.FAILED]
    assert "pay@initech.example" not in [to for message in mail.outbox for to in message.to]


def test_progress_is_reported(acme: Organization, make_invoice: Any) -> None:
    invoice = make_invoice(acme, "A-1")
    with job_context(generate_invoice) as run:
        generate_invoice(str(invoice.pk))
    assert run.reports == [(20, "rendering A-1"), (80, "storing"), (100, "A-1 is ready")]


def test_the_warning_comes_before_the_trial_ends(
    jobs_captured: CapturedJobs, jobs_drain: Drain, acme: Organization
) -> None:
    ends = timezone.now() + timedelta(days=14)
    User.objects.create_user("ada", "ada@wellos.example", organization=acme, trial_ends_at=ends)
    warn = notifications.trial_expiration_warning_job
    jobs_captured.assert_enqueued(warn, 1, run_at=ends - notifications.WARNING_PERIOD)

    with moved_clock(to=ends - notifications.WARNING_PERIOD - timedelta(minutes=1)):
        jobs_drain()
        assert [job.state for job in jobs_captured.of(warn)] == [JobState.DELAYED]
        jobs_drain(until=timedelta(minutes=2))
        assert [job.state for job in jobs_captured.of(warn)] == [JobState.COMPLETED]


class WelcomeTests(JobsTestMixin, TestCase):
    """The same with Django's own test case."""

    @classmethod
    def setUpTestData(cls) -> None:
        cls.acme = Organization.objects.create(slug="acme", name="Acme")

    def test_new_users_are_welcomed(self) -> None:
        User.objects.create_user("nils", "nils@wellos.example", organization=self.acme)
        self.jobs.assert_enqueued(emails.welcome_job, count=1, data={"to": "nils@wellos.example"})

        self.drain_jobs()
        self.assertEqual([message.to for message in mail.outbox], [["nils@wellos.example"]])
