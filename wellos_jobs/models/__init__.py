"""The rows: what the database remembers of every job."""

from .audit import AuditEntry
from .batch import Batch, JobDependency
from .dead_letter import DeadLetter
from .job import JobAttempt, JobRecord
from .ledger import JobStatistic, LedgerCursor
from .queues import Queues
from .schedule import OrganizationReportSchedule, Schedule
from .unique import UniqueClaim

__all__ = [
    "AuditEntry",
    "Batch",
    "DeadLetter",
    "JobAttempt",
    "JobDependency",
    "JobRecord",
    "JobStatistic",
    "LedgerCursor",
    "OrganizationReportSchedule",
    "Queues",
    "Schedule",
    "UniqueClaim",
]
