"""Schedule: a job that runs by the calendar; OrganizationReportSchedule, the same for an organization's report."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar, Self

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .. import alarm, conf, cron, payload, registry
from ..errors import CronError, PayloadError, UnknownJob
from ..states import CatchUp, Overlap

TIMING = ("cron", "time_zone", "starts_at", "ends_at", "enabled")
"""The columns that decide when a schedule runs next."""

CLOCK = ("next_run_at", "last_run_at", "last_job", "missed", "missed_at", "broken")
"""The columns that the clock writes, and nobody else unless the timing changes."""

REPORT_PREFIX = "org-report:"


class Schedule(models.Model):
    """When a job runs. The row is the truth: change or delete it, in whatever transaction, and the clock follows.

    ``time_zone`` is an IANA name; empty means the organization's (``ORGANIZATION_RESOLVER``), else the project's.
    ``next_run_at`` is None when the schedule never runs again or is switched off.
    """

    name = models.CharField(_("name"), max_length=180, unique=True)
    job_name = models.CharField(_("job"), max_length=180)
    data = models.JSONField(_("data"), default=dict, blank=True)
    cron = models.CharField(_("cron line"), max_length=120)
    time_zone = models.CharField(_("time zone"), max_length=64, blank=True, default="")
    organization_id = models.CharField(_("organization"), max_length=64, blank=True, default="", db_index=True)
    enabled = models.BooleanField(_("enabled"), default=True)
    catch_up = models.CharField(_("missed runs"), max_length=5, choices=CatchUp.choices, default=CatchUp.ONCE)
    catch_up_limit = models.PositiveIntegerField(_("most missed runs made up for"), default=100)
    overlap = models.CharField(_("overlap"), max_length=5, choices=Overlap.choices, default=Overlap.ALLOW)
    starts_at = models.DateTimeField(_("starts"), null=True, blank=True)
    ends_at = models.DateTimeField(_("ends"), null=True, blank=True)
    next_run_at = models.DateTimeField(_("next run"), null=True, blank=True, editable=False)
    last_run_at = models.DateTimeField(_("last run"), null=True, blank=True, editable=False)
    last_job = models.ForeignKey(
        "wellos_jobs.JobRecord",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
        verbose_name=_("last job"),
    )
    missed = models.PositiveIntegerField(_("runs missed"), default=0, editable=False)
    missed_at = models.DateTimeField(_("last missed"), null=True, blank=True, editable=False)
    broken = models.TextField(_("why it does not run"), blank=True, default="", editable=False)
    source = models.CharField(_("declared in"), max_length=10, blank=True, default="", editable=False)
    declared_cron = models.CharField(max_length=120, blank=True, default="", editable=False)
    declared_zone = models.CharField(max_length=64, blank=True, default="", editable=False)
    orphaned = models.BooleanField(default=False, editable=False)
    removed_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("schedule")
        verbose_name_plural = _("schedules")
        ordering: ClassVar[list[str]] = ["name"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["next_run_at"], name="wellos_schedule_next"),
        ]
        permissions = [("run_schedule", _("Can run schedules now"))]

    _timing: tuple[Any, ...] | None = None

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, update_fields: Iterable[str] | None = None, **kwargs: Any) -> None:
        """Check and store; when the timing has changed, the next run is set anew from now.

        A save that leaves the timing alone does not touch the clock's columns, so that a row loaded before a tick
        cannot undo it.

        Raises:
            ValidationError: the schedule cannot be meant; nothing is stored.
        """
        if update_fields is not None:
            update_fields = set(update_fields)
            if update_fields.isdisjoint({*TIMING, "job_name", "data"}):
                super().save(*args, update_fields=update_fields, **kwargs)
                return
        self.clean()
        if self._state.adding or self._timing is None or self.timing != self._timing:
            self.next_run_at = self.first_run_after(timezone.now())
            self.broken = ""
            if update_fields is not None:
                update_fields |= {"next_run_at", "broken"}
        elif update_fields is None:
            update_fields = {field.name for field in self._meta.concrete_fields if not field.primary_key} - {*CLOCK}
        super().save(*args, update_fields=update_fields, **kwargs)
        self._timing = self.timing
        transaction.on_commit(partial(alarm.ring), using=self._state.db, robust=True)

    @classmethod
    def from_db(cls, db: str | None, field_names: Collection[str], values: Collection[Any], **more: Any) -> Self:
        row = super().from_db(db, field_names, values, **more)
        loaded = set(field_names)
        row._timing = row.timing if loaded.issuperset(TIMING) else None
        return row

    @property
    def key(self) -> str:
        """What its ticks' ids are made from: unique over databases, and over schedules removed and made anew."""
        return f"{self._state.db}:{self.pk}:{self.name}"

    @property
    def timing(self) -> tuple[Any, ...]:
        """What decides when it runs."""
        return tuple(getattr(self, name) for name in TIMING)

    @property
    def zone(self) -> str:
        """The name of the zone in force: its own, its organization's, or the project's."""
        return self.time_zone or conf.organization_zone(self.organization_id) or str(conf.django_setting("TIME_ZONE"))

    def runs_after(self, moment: datetime, count: int = 1) -> list[datetime]:
        """Return the next runs after a moment, within start and end; fewer when there are no more.

        Raises:
            CronError: the line or the zone cannot be meant.
        """
        if self.starts_at is not None and moment < self.starts_at:
            moment = self.starts_at - timedelta(microseconds=1)
        runs = cron.next_runs(self.cron, self.zone, moment, count, anchor=self.starts_at)
        return [run for run in runs if self.ends_at is None or run <= self.ends_at]

    def first_run_after(self, moment: datetime) -> datetime | None:
        """Return the next run after a moment, or None when there is none or the schedule is switched off."""
        if not self.enabled or self.removed_at is not None:
            return None
        return next(iter(self.runs_after(moment)), None)

    def clean(self) -> None:
        """Check line, zone, job name, data against the job's signature, and the order of start and end."""
        faults: dict[str, str] = {}
        try:
            cron.parse(self.cron)
        except CronError as error:
            faults["cron"] = str(error)
        try:
            cron.zone(self.zone)
        except CronError as error:
            faults["time_zone"] = str(error)
        if self.starts_at and self.ends_at and self.ends_at <= self.starts_at:
            faults["ends_at"] = str(_("The end must be later than the start."))
        faults |= self._call_faults()
        if faults:
            raise ValidationError(faults)

    def _call_faults(self) -> dict[str, str]:
        try:
            definition = registry.get(self.job_name)
            if not isinstance(self.data, dict):
                return {"data": str(_("Give the job's arguments as a JSON object."))}
            payload.encode(definition.bind((), self.data), sensitive=definition.sensitive)
        except UnknownJob as error:
            return {"job_name": str(error)}
        except (TypeError, PayloadError) as error:
            return {"data": str(error)}
        return {}


class OrganizationReportManager(models.Manager["OrganizationReportSchedule"]):
    """Only the schedules of organization reports."""

    def get_queryset(self) -> models.QuerySet[OrganizationReportSchedule]:
        return super().get_queryset().filter(name__startswith=REPORT_PREFIX)


class OrganizationReportSchedule(Schedule):
    """The schedule of one organization's report: ``org-report:<organization_id>``."""

    objects: ClassVar[OrganizationReportManager] = OrganizationReportManager()

    class Meta:
        proxy = True
        verbose_name = _("organization report schedule")
        verbose_name_plural = _("organization report schedules")

    @property
    def report_type(self) -> str:
        """Which of the registered reports is made."""
        return str(self.data.get("report_type", ""))

    @property
    def format(self) -> str:
        """``pdf`` or ``csv``."""
        return str(self.data.get("format", "pdf"))

    @property
    def recipients(self) -> list[str]:
        """Who gets the link by mail."""
        return list(self.data.get("recipients", []))
