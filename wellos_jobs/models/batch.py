"""Batch, a group of jobs, and JobDependency, an edge between two jobs."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..definitions import ids
from ..states import BatchState
from .rows import Row


class Batch(Row):
    """A group of jobs.

    A batch is open until it is closed, and done once it is closed and all its jobs have ended. Its
    callbacks are created with it and blocked until then. The counters are set once, when it is
    done.
    """

    id = models.UUIDField(primary_key=True, default=ids.new_id, editable=False)
    name = models.CharField(_("name"), max_length=180)
    organization_id = models.CharField(_("organization"), max_length=64, blank=True, default="")
    state = models.CharField(
        _("state"), max_length=10, choices=BatchState.choices, default=BatchState.OPEN
    )
    total = models.PositiveIntegerField(_("jobs"), default=0)
    completed = models.PositiveIntegerField(_("completed"), default=0)
    failed = models.PositiveIntegerField(_("failed"), default=0)
    canceled = models.PositiveIntegerField(_("canceled"), default=0)
    on_complete = models.ForeignKey(
        "wellos_jobs.JobRecord", on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    on_success = models.ForeignKey(
        "wellos_jobs.JobRecord", on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(_("created"))
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    class Meta:
        verbose_name = _("batch")
        verbose_name_plural = _("batches")
        ordering: ClassVar[list[str]] = ["-created_at"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["state", "created_at"], name="wellos_batch_state_created"),
            models.Index(fields=["-created_at"], name="wellos_batch_created"),
        ]
        permissions = [
            ("cancel_batch", _("Can cancel batches")),
            ("retry_batch", _("Can retry batches")),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.id}"


class JobDependency(Row):
    """``job`` stays blocked until ``needs`` has completed."""

    job = models.ForeignKey(
        "wellos_jobs.JobRecord", on_delete=models.CASCADE, related_name="dependencies"
    )
    needs = models.ForeignKey(
        "wellos_jobs.JobRecord",
        on_delete=models.CASCADE,
        # A constraint locks the needed row on MariaDB: the ledger would wait for the INSERT.
        db_constraint=False,
        related_name="dependents",
    )

    class Meta:
        verbose_name = _("dependency")
        verbose_name_plural = _("dependencies")
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["job", "needs"], name="wellos_dependency_once"),
        ]

    def __str__(self) -> str:
        return f"{self.job_id} needs {self.needs_id}"
