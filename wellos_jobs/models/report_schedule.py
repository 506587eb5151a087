"""OrganizationReportSchedule: the schedule of an organization's report."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.db.models.signals import post_delete
from django.utils.translation import gettext_lazy as _

from .report_data import REPORT_FORMATS, REPORT_PREFIX
from .rows import RowManager
from .schedule import Schedule, ScheduleQuerySet, remember_removal


class OrganizationReportManager(RowManager["OrganizationReportSchedule"]):
    """Only schedules of organization reports."""

    def get_queryset(self) -> models.QuerySet[OrganizationReportSchedule]:
        rows: Any = ScheduleQuerySet(self.model, using=self._db, hints=self._hints)  # type: ignore[attr-defined]
        return rows.filter(removed_at=None, name__startswith=REPORT_PREFIX)  # type: ignore[no-any-return]


class OrganizationReportSchedule(Schedule):
    """The schedule of one organization's report: ``org-report:<organization_id>``."""

    objects: ClassVar[OrganizationReportManager] = OrganizationReportManager()  # type: ignore[assignment]

    class Meta:
        proxy = True
        verbose_name = _("organization report schedule")
        verbose_name_plural = _("organization report schedules")

    @property
    def report_type(self) -> str:
        """The name of the registered report to make."""
        return str(self.data.get("report_type", ""))

    @property
    def format(self) -> str:
        """``pdf`` or ``csv``."""
        return str(self.data.get("format", REPORT_FORMATS[0]))

    @property
    def recipients(self) -> list[str]:
        """Email addresses that receive the link."""
        return list(self.data.get("recipients", []))


post_delete.connect(
    remember_removal,
    sender=OrganizationReportSchedule,
    dispatch_uid="wellos_jobs.OrganizationReportSchedule.removed",
)
