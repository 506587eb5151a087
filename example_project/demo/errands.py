"""The demo's small jobs: one of each priority, rate-limited calls to a bank, a batch, a task."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from example_project.accounts.models import AccessToken, digest
from example_project.errands.jobs import limited_job, process_all
from example_project.errands.tasks import clear_sessions
from wellos_jobs import Batch, JobHandle, operations
from wellos_jobs.contrib import tasks
from wellos_jobs.models import JobRecord

from .sample import Sample

QUESTIONS = 12
"""More than the bank's limit of ten a second."""


@dataclass
class Errands:
    """The enqueued jobs, with a short description of each."""

    by_urgency: list[JobHandle] = field(default_factory=list)
    questions: list[JobHandle] = field(default_factory=list)
    batch: Batch | None = None
    task_id: str = ""
    """The id of the result of a task of ``django.tasks``."""
    about: dict[uuid.UUID, str] = field(default_factory=dict)


@transaction.atomic
def enqueue(sample: Sample, partner_url: str) -> Errands:
    """Enqueue the errands."""
    added = _tasks(sample)
    questions = limited_job.enqueue_bulk(
        [
            {
                "invoice_id": sample.invoices[number % len(sample.invoices)].pk,
                "url": f"{partner_url}/payments",
            }
            for number in range(QUESTIONS)
        ]
    )
    batch = process_all(sample.organizations[1])
    task_id: str = clear_sessions.enqueue().id
    items = JobRecord.objects.filter(batch=batch.id).values_list("pk", flat=True)

    about = {
        **{handle.id: text for handle, text in added.items()},
        **{handle.id: "paid?" for handle in questions},
        **dict.fromkeys(items, "days overdue"),
        uuid.UUID(task_id): "a task of Django's",
    }
    return Errands([*added], questions, batch, task_id, about)


def _tasks(sample: Sample) -> dict[JobHandle, str]:
    """Enqueue a task of each priority, the highest last, and return them with descriptions."""
    assert sample.import_into is not None
    project, organization = sample.import_into, sample.organizations[0].pk
    AccessToken.objects.update_or_create(
        digest=digest("a token that has leaked"),
        defaults={
            "user": sample.admin,
            "name": "leaked",
            "expires_at": timezone.now() + timedelta(days=30),
        },
    )

    old_lines, admin = {"organization_id": organization}, {"user_id": sample.admin.pk}
    hours = {"project_id": project.pk}
    return {
        tasks.add_cleanup(old_lines, organization=organization): "old rejected lines",
        tasks.add_background_sync(hours, organization=organization): project.name,
        tasks.add_user_action(hours, organization=organization): project.name,
        tasks.add_critical_task(admin, organization=organization): "a leaked token",
    }


def hurry(errands: Errands, sample: Sample) -> None:
    """Run the delayed cleanup now, to keep the demo short."""
    operations.promote(errands.by_urgency[0].record(), by=sample.admin, reason="a demo is short")
