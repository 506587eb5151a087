"""Admin pages. The classes are exported, so that projects can register them on their own site."""

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
from .audit.bulk_operations import BulkOperationAdmin
from .audit.log import AuditEntryAdmin
from .dashboard.site import QueuesAdmin
from .dead_letters.list import DeadLetterAdmin
from .flows_and_batches.batches import BatchAdmin
from .jobs.attempts import JobAttemptAdmin
from .jobs.list import JobRecordAdmin
from .schedules.admin import OrganizationReportScheduleAdmin, ScheduleAdmin

admin.site.register(JobRecord, JobRecordAdmin)
admin.site.register(JobAttempt, JobAttemptAdmin)
admin.site.register(DeadLetter, DeadLetterAdmin)
admin.site.register(AuditEntry, AuditEntryAdmin)
admin.site.register(Batch, BatchAdmin)
admin.site.register(BulkOperation, BulkOperationAdmin)
admin.site.register(Schedule, ScheduleAdmin)
admin.site.register(OrganizationReportSchedule, OrganizationReportScheduleAdmin)
admin.site.register(Queues, QueuesAdmin)

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
