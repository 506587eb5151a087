"""The database rows: jobs, attempts, dead letters, schedules, batches, audit log, statistics.

Imports ``payload``, ``definitions``, ``cron`` and ``broker`` (to wake the clock). Users import the
models below.
"""

from .audit import AuditEntry
from .batch import Batch, JobDependency
from .bulk import BulkOperation
from .dead_letter import DeadLetter
from .installation import Installation
from .job import JobAttempt, JobRecord
from .ledger import LedgerCursor
from .log import JobLog
from .notice import NoticeWindow
from .queues import Queues
from .replacement import Replacement
from .report_schedule import OrganizationReportSchedule
from .schedule import Schedule
from .statistic import DayStatistic, HourStatistic, JobStatistic
from .unique import UniqueClaim
from .view import SavedView

__all__ = [
    "AuditEntry",
    "Batch",
    "BulkOperation",
    "DayStatistic",
    "DeadLetter",
    "HourStatistic",
    "Installation",
    "JobAttempt",
    "JobDependency",
    "JobLog",
    "JobRecord",
    "JobStatistic",
    "LedgerCursor",
    "NoticeWindow",
    "OrganizationReportSchedule",
    "Queues",
    "Replacement",
    "SavedView",
    "Schedule",
    "UniqueClaim",
]
