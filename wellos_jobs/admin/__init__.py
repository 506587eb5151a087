"""The admin pages. The classes are exported, so that a project can register them on a site of its own."""

from django.contrib import admin

from ..models import (
    AuditEntry,
    Batch,
    BulkOperation,
    DeadLetter,
    JobAttempt,
    JobRecord,
    OrganizationReportSchedule,
    Queues,
    Schedule,
)
from .attempts import JobAttemptAdmin
from .audit import AuditEntryAdmin
from .batches import BatchAdmin
from .bulk_operations import BulkOperationAdmin
from .dead_letters import DeadLetterAdmin
from .jobs import JobRecordAdmin
from .queues import QueuesAdmin
from .rq_pages import take_their_place
from .schedules import OrganizationReportScheduleAdmin, ScheduleAdmin

admin.site.register(JobRecord, JobRecordAdmin)
admin.site.register(JobAttempt, JobAttemptAdmin)
admin.site.register(DeadLetter, DeadLetterAdmin)
admin.site.register(AuditEntry, AuditEntryAdmin)
admin.site.register(Batch, BatchAdmin)
admin.site.register(BulkOperation, BulkOperationAdmin)
admin.site.register(Schedule, ScheduleAdmin)
admin.site.register(OrganizationReportSchedule, OrganizationReportScheduleAdmin)
admin.site.register(Queues, QueuesAdmin)
take_their_place()

__all__ = [
    "AuditEntryAdmin",
    "BatchAdmin",
    "BulkOperationAdmin",
    "DeadLetterAdmin",
    "JobAttemptAdmin",
    "JobRecordAdmin",
    "OrganizationReportScheduleAdmin",
    "QueuesAdmin",
    "ScheduleAdmin",
]
