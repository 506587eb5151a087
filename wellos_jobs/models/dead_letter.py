"""DeadLetter, a final failure of a job; ``dead_letter_of`` makes it and its audit entry."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..payload.failures import fingerprint
from ..states import AuditAction, DeadLetterStatus, FailureReason
from .audit import AuditEntry
from .fields import FreeChar, FreeText
from .job import JobRecord
from .rows import Row
from .users import user_key


class DeadLetter(Row):
    """One final failure of one job. A job that is replayed and fails again gets another.

    ``name``, ``queue`` and ``organization_id`` are copies of the job's values when it failed, so
    that dead letters are grouped and filtered without a join to the large job table.
    """

    job = models.ForeignKey(
        JobRecord, on_delete=models.CASCADE, related_name="dead_letters", verbose_name=_("job")
    )
    name = FreeChar(_("name"), max_length=180, blank=True, default="")
    queue = models.CharField(_("queue"), max_length=100, blank=True, default="")
    organization_id = models.CharField(_("organization"), max_length=64, blank=True, default="")
    reason = models.CharField(_("reason"), max_length=16, choices=FailureReason.choices)
    error_class = FreeChar(_("error class"), max_length=200, blank=True, default="")
    message = FreeText(_("message"), blank=True, default="")
    traceback = FreeText(_("traceback"), blank=True, default="")
    fingerprint = models.CharField(_("fingerprint"), max_length=16)
    status = models.CharField(
        _("status"), max_length=10, choices=DeadLetterStatus.choices, default=DeadLetterStatus.OPEN
    )
    created_at = models.DateTimeField(_("created"))
    resolved_by = user_key(_("resolved by"))
    resolved_at = models.DateTimeField(_("resolved"), null=True, blank=True)
    note = FreeText(_("note"), blank=True, default="")
    assigned_to = user_key(_("assigned to"))
    former_data = models.JSONField(_("data it failed with"), null=True, blank=True)
    """The job's data before it was replayed with edited data, in stored form."""

    class Meta:
        verbose_name = _("dead letter")
        verbose_name_plural = _("dead letters")
        ordering: ClassVar[list[str]] = ["-created_at", "-pk"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["status", "created_at"], name="wellos_letter_status_created"),
            # Covers the query that groups by fingerprint: it reads this index alone.
            models.Index(
                fields=["fingerprint", "status", "created_at", "organization_id"],
                name="wellos_letter_fingerprint",
            ),
            models.Index(
                fields=["organization_id", "created_at"], name="wellos_letter_organization"
            ),
            models.Index(fields=["-created_at"], name="wellos_letter_created"),
        ]
        permissions = [
            ("replay_deadletter", _("Can replay dead letters")),
            ("discard_deadletter", _("Can discard dead letters")),
            ("edit_deadletter", _("Can replay dead letters with edited data")),
            ("assign_deadletter", _("Can assign dead letters")),
        ]

    def __str__(self) -> str:
        return f"{self.error_class}: {self.message[:80]}"


def dead_letter_of(
    record: JobRecord,
    *,
    reason: FailureReason,
    error_class: str,
    message: str,
    traceback: str = "",
    attempts: int,
    failed_at: datetime,
) -> tuple[DeadLetter, AuditEntry]:
    """Return the dead letter and the audit entry of a failed job.

    Both are unsaved: the ledger inserts those of many jobs at once.
    """
    letter = DeadLetter(
        job=record,
        name=record.name,
        queue=record.queue,
        organization_id=record.organization_id,
        reason=reason,
        error_class=error_class,
        message=message,
        traceback=traceback,
        fingerprint=fingerprint(record.name, error_class, message, traceback),
        created_at=failed_at,
    )

    entry = AuditEntry(
        at=failed_at,
        action=AuditAction.FAILED.value,
        target_type="job",
        target_id=str(record.pk),
        detail={
            "name": record.name,
            "error": message,
            "attempts": attempts,
            "failed_at": failed_at.isoformat(),
        },
    )

    return letter, entry
