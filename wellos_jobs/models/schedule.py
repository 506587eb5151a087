"""Schedule: a job that runs by the calendar."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, ClassVar, Self

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models, router, transaction
from django.db.models.signals import post_delete
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .. import conf, cron, payload
from ..broker import wakeup
from ..cron.timing import Timing
from ..definitions import registry
from ..errors import CronError, EncryptionError, PayloadError, UnknownJob, UnknownQueue
from ..organizations import organization_time_zone
from ..payload import tags
from ..states import CatchUp, Overlap
from .report_data import REPORT_PREFIX, report_faults
from .schedule_set import CHECKED, CLOCK, PLAN, ScheduleManager


class Schedule(models.Model):
    """When a job runs. The row is the truth: change or delete it, in whatever transaction, and the clock follows.

    ``time_zone`` is an IANA name; empty means the organization's (``ORGANIZATION_RESOLVER``), else
    the project's. When an organization has moved to another zone, save its schedules; at the latest
    they follow when they are due next.

    ``data`` is stored as a job's data is: sensitive arguments are encrypted. Python values and
    plain JSON are taken.

    ``next_run_at`` is None when the schedule never runs again or is switched off. While ``broken``
    says why it cannot run, it is the first run that was not made: once mended, it is made up for by
    the catch-up policy.
    """

    name = models.CharField(_("name"), max_length=180, unique=True)
    job_name = models.CharField(_("job"), max_length=180)
    data = models.JSONField(_("data"), default=dict, blank=True)
    cron = models.CharField(_("cron line"), max_length=120)
    time_zone = models.CharField(_("time zone"), max_length=64, blank=True, default="")
    organization_id = models.CharField(
        _("organization"), max_length=64, blank=True, default="", db_index=True
    )
    enabled = models.BooleanField(_("enabled"), default=True)
    catch_up = models.CharField(
        _("missed runs"), max_length=5, choices=CatchUp.choices, default=CatchUp.ONCE
    )
    catch_up_limit = models.PositiveIntegerField(
        _("most runs made at once"), default=100, validators=[MinValueValidator(1)]
    )
    overlap = models.CharField(
        _("overlap"), max_length=5, choices=Overlap.choices, default=Overlap.ALLOW
    )
    starts_at = models.DateTimeField(_("starts"), null=True, blank=True)
    ends_at = models.DateTimeField(_("ends"), null=True, blank=True)
    next_run_at = models.DateTimeField(_("next run"), null=True, blank=True, editable=False)
    planned_for = models.CharField(max_length=32, blank=True, default="", editable=False)
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
    source = models.CharField(
        _("declared in"), max_length=10, blank=True, default="", editable=False
    )
    declared = models.JSONField(default=dict, blank=True, editable=False)
    orphaned = models.BooleanField(default=False, editable=False)
    removed_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects: ClassVar[ScheduleManager] = ScheduleManager()

    class Meta:
        verbose_name = _("schedule")
        verbose_name_plural = _("schedules")
        ordering: ClassVar[list[str]] = ["name"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["next_run_at"], name="wellos_schedule_next"),
        ]
        permissions = [("run_schedule", _("Can run schedules now"))]

    _loaded_next_run: datetime | None = None

    def __str__(self) -> str:
        return self.name

    # --- storing ----------------------------------------------------------------------------------

    def save(
        self,
        *,
        force_insert: bool | tuple[models.base.ModelBase, ...] = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Check and store; when the timing differs from what is stored, the next run is set anew from now.

        The clock's columns are otherwise left alone, so that a row loaded before a tick cannot undo
        it. A new row takes the place of a removed one of its name.

        Raises:
            ValidationError: the schedule cannot be meant; nothing is stored.
            Schedule.DoesNotExist: it was removed since it was loaded.
        """
        database = using or router.db_for_write(type(self), instance=self)
        columns = None if update_fields is None else set(update_fields)
        if columns is not None and columns.isdisjoint(CHECKED):
            super().save(
                force_insert=force_insert,
                force_update=force_update,
                using=database,
                update_fields=columns,
            )
            return
        self.check_row()
        with transaction.atomic(using=database):
            stored = None if force_insert and self.pk is not None else self._stored(database)
            if stored is None:
                self.plan_new()
                super().save(force_insert=True, using=database)
            else:
                super().save(
                    force_update=True, using=database, update_fields=self._columns(stored, columns)
                )
            transaction.on_commit(wakeup.ring, using=database, robust=True)
        self._loaded_next_run = self.next_run_at

    @classmethod
    def from_db(
        cls, db: str | None, field_names: Collection[str], values: Collection[Any], **more: Any
    ) -> Self:
        row = super().from_db(db, field_names, values, **more)
        row._loaded_next_run = row.__dict__.get("next_run_at")
        return row

    def refresh_from_db(self, *args: Any, **options: Any) -> None:
        super().refresh_from_db(*args, **options)
        self._loaded_next_run = self.__dict__.get("next_run_at")

    def check_row(self) -> None:
        """Check every column that people fill in, and bring ``data`` into its stored form.

        Raises:
            ValidationError: the schedule cannot be meant.
        """
        fields = self._meta.concrete_fields
        self.clean_fields(
            exclude={field.name for field in fields if not field.editable or field.name == "data"}
        )
        self.clean()

    def plan_new(self) -> None:
        """Set the first run of a row that is not stored yet, unless it was given together with the row."""
        if not self.enabled or self.next_run_at is None or self.planned_for:
            self.next_run_at = self.first_run_after(timezone.now())
        self.planned_for, self.broken, self.removed_at = self._planned(), "", None

    def _stored(self, database: str) -> Schedule | None:
        """Return the row that a save is to change, locked; None when it is to be inserted."""
        rows = Schedule._base_manager.using(database).select_for_update()
        if self.pk is not None and not self._state.adding and self._state.db == database:
            stored = rows.filter(pk=self.pk, removed_at=None).first()
            if stored is None:
                raise self.DoesNotExist(f"Schedule {self.name!r} was removed since it was loaded")
            return stored
        if self.pk is not None and (found := rows.filter(pk=self.pk).first()):
            return found
        removed = rows.filter(name=self.name).exclude(removed_at=None).first()
        if removed is not None:
            self.pk = removed.pk
        return removed

    def _columns(self, stored: Schedule, wanted: set[str] | None) -> set[str]:
        """Return the columns to write over a stored row, after setting what follows from the change."""
        every = {field.name for field in self._meta.concrete_fields if not field.primary_key}
        if stored.removed_at is not None:
            self.plan_new()
            return every
        columns = (every if wanted is None else wanted) - CLOCK - {"removed_at"}
        if stored.planned_for != self._planned():
            self.next_run_at, self.planned_for, self.broken = (
                self.first_run_after(timezone.now()),
                self._planned(),
                "",
            )
            return columns | PLAN
        self.broken = ""
        if self.__dict__.get("next_run_at") == self._loaded_next_run:
            self.next_run_at = stored.next_run_at
            return columns | {"broken"}
        return columns | {
            "broken",
            "next_run_at",
        }  # somebody has put off a run, or brought one forward

    # --- when it runs -----------------------------------------------------------------------------

    @property
    def key(self) -> str:
        """What its ticks' ids are made from."""
        return f"{self._state.db}:{self.pk}:{self.name}"

    @property
    def zone(self) -> str:
        """The name of the zone in force: its own, its organization's, or the project's."""
        return (
            self.time_zone
            or organization_time_zone(self.organization_id)
            or str(conf.django_setting("TIME_ZONE"))
        )

    @property
    def timing(self) -> Timing:
        """Line, zone, start and end."""
        return Timing(self.cron, self.zone, self.starts_at, self.ends_at)

    def runs_after(self, moment: datetime, count: int = 1) -> list[datetime]:
        """Return the next runs after a moment, within start and end; fewer when there are no more.

        Raises:
            CronError: the line or the zone cannot be meant.
        """
        return self.timing.after(moment, count)

    def first_run_after(self, moment: datetime) -> datetime | None:
        """Return the next run after a moment, or None when there is none or the schedule is switched off."""
        if not self.enabled:
            return None
        return next(iter(self.runs_after(moment)), None)

    def _planned(self) -> str:
        """What ``next_run_at`` was worked out from."""
        return self.timing.digest if self.enabled else ""

    # --- what it says -----------------------------------------------------------------------------

    def clean(self) -> None:
        """Check line, zone, job name, data against the job's signature, and the order of start and end."""
        faults: dict[str, str] = {}
        try:
            self.cron = cron.parse(self.cron).line
        except CronError as error:
            faults["cron"] = str(error)
        try:
            cron.zone(self.zone)
        except CronError as error:
            faults["time_zone"] = str(error)
        faults |= self._bound_faults() | self._call_faults()
        if faults:
            raise ValidationError(faults)

    def _bound_faults(self) -> dict[str, str]:
        bounds = {"starts_at": self.starts_at, "ends_at": self.ends_at}
        for name, moment in bounds.items():
            if moment is not None and timezone.is_naive(moment):
                return {name: f"{moment!r} is a naive datetime: give it a time zone"}
        if self.starts_at and self.ends_at and self.ends_at <= self.starts_at:
            return {"ends_at": str(_("The end must be later than the start."))}
        return {}

    def _call_faults(self) -> dict[str, str]:
        try:
            definition = registry.get(self.job_name)
            conf.queue(definition.queue)
            if not isinstance(self.data, dict):
                return {"data": str(_("Give the job's arguments as a JSON object."))}
            plain = definition.bind((), payload.decode(self.data))
            sealed = {
                name: self.data[name]
                for name in definition.sensitive
                if _is_sealed(self.data.get(name))
            }
            self.data = payload.encode(plain, sensitive=definition.sensitive) | sealed
        except (UnknownJob, UnknownQueue) as error:
            return {"job_name": str(error)}
        except (TypeError, PayloadError, EncryptionError) as error:
            return {"data": str(error)}
        return report_faults(plain) if self.name.startswith(REPORT_PREFIX) else {}


def _is_sealed(value: Any) -> bool:
    """Tell whether a value is encrypted already: encrypting it anew would change the row at each save."""
    return isinstance(value, dict) and set(value) == {tags.ENCRYPTED}


def remember_removal(instance: Schedule, using: str, **_: Any) -> None:
    """Leave a mark when a declared schedule is deleted, wherever that was done, so that no sync brings it back."""
    if instance.source and instance.removed_at is None:
        values = {
            field.attname: getattr(instance, field.attname)
            for field in Schedule._meta.concrete_fields
        }
        mark = Schedule(
            **values
            | {"id": None, "next_run_at": None, "last_job_id": None, "removed_at": timezone.now()}
        )
        mark.save_base(raw=True, force_insert=True, using=using)


post_delete.connect(remember_removal, sender=Schedule, dispatch_uid="wellos_jobs.Schedule.removed")
