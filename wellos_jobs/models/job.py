"""JobRecord, one row per job, and JobAttempt, one row per attempt that did not complete."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from ..definitions import ids
from ..definitions.unique import Unique
from ..states import AttemptOutcome, JobState, OnFailure, Priority
from .fields import ExactCharField, FreeChar, FreeText
from .rows import Row
from .users import user_key

PRIORITIES = [
    (int(Priority.CRITICAL), pgettext_lazy("priority", "critical")),
    (int(Priority.HIGH), pgettext_lazy("priority", "high")),
    (int(Priority.NORMAL), pgettext_lazy("priority", "normal")),
    (int(Priority.LOW), pgettext_lazy("priority", "low")),
    (int(Priority.BULK), pgettext_lazy("priority", "bulk")),
]


class JobRecord(Row):
    """One job: the request, written by enqueue; progress and outcome, written by the ledger.

    After the INSERT only the ledger writes the run's columns. The one exception is a replay, which
    resets the row to ``waiting`` with fresh attempts and increments ``replays``.
    """

    id = models.UUIDField(primary_key=True, default=ids.new_id, editable=False)
    name = FreeChar(_("name"), max_length=180)
    queue = models.CharField(_("queue"), max_length=100)
    priority = models.PositiveSmallIntegerField(
        _("priority"), choices=PRIORITIES, default=int(Priority.NORMAL)
    )
    state = models.CharField(
        _("state"), max_length=10, choices=JobState.choices, default=JobState.WAITING
    )
    data = models.JSONField(_("data"), default=dict)
    version = models.PositiveSmallIntegerField(_("version of the data"), default=1)
    organization_id = models.CharField(_("organization"), max_length=64, blank=True, default="")
    requested_by = user_key(_("requested by"))
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    max_attempts = models.PositiveIntegerField(_("max attempts"), default=3)
    timeout = models.FloatField(_("timeout in seconds"), default=300.0)
    progress = models.PositiveSmallIntegerField(_("progress in percent"), default=0)
    progress_message = FreeChar(_("progress message"), max_length=200, blank=True, default="")
    result = models.JSONField(_("result"), null=True, blank=True)
    error = FreeText(_("error"), blank=True, default="")
    worker = FreeChar(_("worker"), max_length=120, blank=True, default="")
    context = models.JSONField(_("context"), default=dict, blank=True)
    schedule = models.ForeignKey(
        "wellos_jobs.Schedule",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        db_index=False,  # the index that begins with it also serves
        related_name="jobs",
        verbose_name=_("schedule"),
    )
    batch = models.ForeignKey(
        "wellos_jobs.Batch",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        # MariaDB checks a constraint whenever the state changes, which is in the same index: the
        # ledger would wait for transactions that add to the batch.
        db_constraint=False,
        db_index=False,  # the index that begins with it also serves
        related_name="jobs",
        verbose_name=_("batch"),
    )
    flow_id = models.UUIDField(_("flow"), null=True, blank=True)
    parent = models.ForeignKey(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="children",
        verbose_name=_("parent"),
    )
    on_failure = models.CharField(
        _("when a dependency fails"),
        max_length=6,
        choices=OnFailure.choices,
        default=OnFailure.CANCEL,
    )
    replays = models.PositiveIntegerField(_("replays"), default=0)
    rq_id = ExactCharField(_("RQ id"), max_length=180, null=True, blank=True, unique=True)
    created_at = models.DateTimeField(_("created"))
    run_at = models.DateTimeField(_("runs at"), null=True, blank=True)
    enqueued_at = models.DateTimeField(_("enqueued"), null=True, blank=True)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    unique: Unique | None = None
    """Set before the INSERT only: the ``Unique`` option, stored as ``UniqueClaim``."""
    unique_key: str = ""
    needs: Sequence[uuid.UUID] = ()
    """Set before the INSERT only: ids of the jobs it needs, stored as ``JobDependency``."""
    due: float | None = None
    """Set before the INSERT only: when a ``delay`` is over, by ``time.monotonic`` here."""

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        ordering: ClassVar[list[str]] = ["-created_at"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["state", "enqueued_at"], name="wellos_job_state_enqueued"),
            models.Index(fields=["state", "finished_at"], name="wellos_job_state_finished"),
            models.Index(fields=["queue", "state"], name="wellos_job_queue_state"),
            models.Index(fields=["name", "created_at"], name="wellos_job_name_created"),
            models.Index(fields=["organization_id", "created_at"], name="wellos_job_org_created"),
            models.Index(fields=["schedule", "created_at"], name="wellos_job_schedule"),
            models.Index(fields=["batch", "state"], name="wellos_job_batch_state"),
            models.Index(fields=["flow_id", "state"], name="wellos_job_flow_state"),
            models.Index(fields=["-created_at"], name="wellos_job_created"),
        ]
        permissions = [
            ("retry_job", _("Can retry jobs")),
            ("cancel_job", _("Can cancel jobs")),
            ("promote_job", _("Can promote delayed jobs")),
            ("change_job_priority", _("Can change the priority of jobs")),
            ("move_job", _("Can move jobs to other queues")),
            ("enqueue_job", _("Can enqueue copies of jobs with edited data")),
            ("cancel_flow", _("Can cancel flows")),
            ("retry_flow", _("Can retry flows")),
            ("view_payload", _("Can see the data and result of jobs")),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.id}"

    @property
    def is_foreign(self) -> bool:
        """Whether plain RQ code enqueued this job: the row is history only and never pushed."""
        return self.rq_id is not None


FRESH: Mapping[str, Any] = {
    "state": JobState.WAITING,
    "attempts": 0,
    "progress": 0,
    "progress_message": "",
    "result": None,
    "error": "",
    "worker": "",
    "run_at": None,
    "enqueued_at": None,
    "started_at": None,
    "finished_at": None,
}
"""The columns of a run, which the ledger writes: their values before the first attempt."""


class JobAttempt(Row):
    """An attempt that did not complete: outcome, worker, times and error."""

    job = models.ForeignKey(
        JobRecord, on_delete=models.CASCADE, related_name="attempt_set", verbose_name=_("job")
    )
    replay = models.PositiveIntegerField(_("replay"), default=0)
    number = models.PositiveIntegerField(_("number"))
    outcome = models.CharField(_("outcome"), max_length=10, choices=AttemptOutcome.choices)
    worker = FreeChar(_("worker"), max_length=120, blank=True, default="")
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended"))
    error_class = FreeChar(_("error class"), max_length=200, blank=True, default="")
    message = FreeText(_("message"), blank=True, default="")
    traceback = FreeText(_("traceback"), blank=True, default="")

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        ordering: ClassVar[list[str]] = ["job", "ended_at", "pk"]

    def __str__(self) -> str:
        return f"{self.job_id} #{self.number} {self.outcome}"
