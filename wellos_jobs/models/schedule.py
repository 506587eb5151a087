"""Schedule: a job that runs by a cron line, with its query set and manager."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Self

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models, router, transaction
from django.db.models.signals import post_delete
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .. import conf, cron, payload
from ..broker import scheduler_wakeup
from ..cron.timing import Timing
from ..definitions import registry
from ..definitions.definition import JobDefinition
from ..errors import CronError, EncryptionError, PayloadError, UnknownJob, UnknownQueue
from ..organizations import organization_time_zone
from ..states import CatchUp, Overlap
from .fields import FreeText
from .report_data import REPORT_PREFIX, report_errors
from .rows import Row, RowManager, RowQuerySet
from .versions import current_arguments, current_data

TIMING = frozenset({"cron", "time_zone", "organization_id", "starts_at", "ends_at", "enabled"})
"""The columns that decide when a schedule runs next."""

CHECKED = TIMING | {"name", "job_name", "data", "catch_up", "catch_up_limit", "overlap"}
"""The columns that users edit: they are validated on save."""

NEXT_RUN = frozenset({"next_run_at", "planned_for", "planned_at", "broken"})
"""The columns written when the timing changes, and by the clock."""

CLOCK = NEXT_RUN | {"last_run_at", "last_job", "missed", "missed_at"}
"""The columns that the clock writes."""


class ScheduleQuerySet(RowQuerySet["Schedule"]):
    """Does for bulk writes what ``Schedule.save`` does for one row: validate, set the next run."""

    def bulk_create(self, objs: Iterable[Schedule], *args: Any, **options: Any) -> list[Schedule]:
        """Like Django's, but each row is validated and gets its next run."""
        rows = list(objs)
        for row in rows:
            row.validate_row()
            row.set_first_run()

        created = super().bulk_create(rows, *args, **options)
        transaction.on_commit(scheduler_wakeup.wake, using=self.db, robust=True)
        return created

    def update(self, **changes: Any) -> int:
        """Like Django's, but rows whose editable columns change are validated and rescheduled.

        ``bulk_update`` calls this too.
        """
        if CHECKED.isdisjoint(changes):
            return super().update(**changes)

        with transaction.atomic(using=self.db):
            keys = list(self.order_by().values_list("pk", flat=True))
            changed = super().update(**changes)
            for row in self.model._base_manager.using(self.db).filter(pk__in=keys):
                if not changes.keys().isdisjoint({"job_name", "data"}):
                    row.set_data(row.data, row.version)
                row.save(using=self.db)
        return changed


class ScheduleManager(RowManager["Schedule"]):
    """Schedules that are not removed. A removed row stays while code still declares it."""

    def get_queryset(self) -> ScheduleQuerySet:
        rows = ScheduleQuerySet(self.model, using=self._db, hints=self._hints)  # type: ignore[attr-defined]
        return rows.filter(removed_at=None)


class Schedule(Row):
    """When a job runs. Change or delete the row in any transaction: the clock follows the commit.

    ``time_zone`` is an IANA name; empty means the organization's (``ORGANIZATION_RESOLVER``), else
    the project's. When an organization's zone changes, save its schedules; otherwise they notice at
    their next due time.

    ``data`` is stored like a job's data: sensitive arguments are encrypted. It accepts Python
    values and plain JSON. Data as they were loaded have the row's ``version``; what is assigned has
    the one that is declared, in which each save stores them.

    ``next_run_at`` is None when the schedule is disabled or never runs again. While ``broken``
    holds an error, it is the first run that was missed; once fixed, the catch-up policy applies.
    It was computed at ``planned_at`` from the timing that ``planned_for`` identifies; empty for a
    disabled schedule. By these the clock notices changes by SQL, and plans of a clock that was
    ahead.
    """

    name = models.CharField(_("name"), max_length=180, unique=True)
    job_name = models.CharField(_("job"), max_length=180)
    data = models.JSONField(_("data"), default=dict, blank=True)
    version = models.PositiveSmallIntegerField(_("version of the data"), default=1, editable=False)
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
        _("max catch-up runs"), default=100, validators=[MinValueValidator(1)]
    )
    overlap = models.CharField(
        _("overlap"), max_length=5, choices=Overlap.choices, default=Overlap.ALLOW
    )
    starts_at = models.DateTimeField(_("starts"), null=True, blank=True)
    ends_at = models.DateTimeField(_("ends"), null=True, blank=True)
    next_run_at = models.DateTimeField(_("next run"), null=True, blank=True, editable=False)
    planned_for = models.CharField(max_length=32, blank=True, default="", editable=False)
    planned_at = models.DateTimeField(null=True, blank=True, editable=False)
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
    broken = FreeText(_("why it does not run"), blank=True, default="", editable=False)
    source = models.CharField(
        _("declared in"), max_length=10, blank=True, default="", editable=False
    )
    declared = models.JSONField(default=dict, blank=True, editable=False)
    orphaned = models.BooleanField(default=False, editable=False)
    removed_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects: ClassVar[ScheduleManager] = ScheduleManager()
    every: ClassVar[RowManager[Self]] = RowManager()

    class Meta:
        base_manager_name = "every"
        verbose_name = _("schedule")
        verbose_name_plural = _("schedules")
        ordering: ClassVar[list[str]] = ["name"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["next_run_at"], name="wellos_schedule_next"),
        ]
        permissions = [("run_schedule", _("Can run schedules now"))]

    _loaded_next_run: datetime | None = None
    _loaded_work: tuple[str, dict[str, Any]] | None = None
    """The name and the data of its job as they were loaded: those have the row's version."""

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
        """Validate and store. If the timing has changed, compute the next run from now.

        Otherwise the clock's columns stay untouched, so that saving a row loaded before a tick does
        not undo it. A new row replaces a removed one with the same name.

        Raises:
            ValidationError: the schedule is invalid; nothing is stored.
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

        self.validate_row()
        with transaction.atomic(using=database):
            stored = None if force_insert and self.pk is not None else self._stored(database)
            if stored is None:
                self.set_first_run()
                super().save(force_insert=True, using=database)
            else:
                changed = self._changed_columns(stored, columns)
                super().save(force_update=True, using=database, update_fields=changed)
            transaction.on_commit(scheduler_wakeup.wake, using=database, robust=True)

        self._note_loaded()

    @classmethod
    def from_db(
        cls, db: str | None, field_names: Collection[str], values: Collection[Any], **more: Any
    ) -> Self:
        row = super().from_db(db, field_names, values, **more)
        row._note_loaded()
        return row

    def refresh_from_db(self, *args: Any, **options: Any) -> None:
        super().refresh_from_db(*args, **options)
        self._note_loaded()

    def _note_loaded(self) -> None:
        loaded = self.__dict__
        self._loaded_next_run = loaded.get("next_run_at")
        self._loaded_work = (loaded.get("job_name", ""), copy.deepcopy(loaded.get("data", {})))

    def validate_row(self) -> None:
        """Validate every editable column, and convert ``data`` to its stored form.

        Raises:
            ValidationError: the schedule is invalid.
        """
        fields = self._meta.concrete_fields
        self.clean_fields(
            exclude={field.name for field in fields if not field.editable or field.name == "data"}
        )
        self.clean()

    def set_first_run(self) -> None:
        """Set the first run of a new row, unless ``next_run_at`` was passed explicitly."""
        now = timezone.now()
        if not self.enabled or self.next_run_at is None or self.planned_for:
            self.next_run_at = self.first_run_after(now)
        self.planned_for, self.planned_at = self._timing_digest(), now
        self.broken, self.removed_at = "", None

    def _stored(self, database: str) -> Schedule | None:
        """Return the row that a save updates, locked; None when it inserts one."""
        rows = Schedule._base_manager.using(database).select_for_update()
        if self.pk is not None and not self._state.adding and self._is_row_of(database):
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

    def _is_row_of(self, database: str) -> bool:
        """Return whether the row was read from a database, or from a replica of it."""
        return database in (self._state.db, router.db_for_write(type(self), instance=self))

    def _changed_columns(self, stored: Schedule, wanted: set[str] | None) -> set[str]:
        """Return the columns to write over a stored row; set the next run if the timing changed."""
        every = {field.name for field in self._meta.concrete_fields if not field.primary_key}
        if stored.removed_at is not None:
            self.set_first_run()
            return every

        columns = (every if wanted is None else wanted) - CLOCK - {"removed_at"}
        if "data" in columns:
            columns |= {"version"}
        if stored.planned_for != self._timing_digest():
            now = timezone.now()
            self.next_run_at = self.first_run_after(now)
            self.planned_for, self.planned_at = self._timing_digest(), now
            self.broken = ""
            return columns | NEXT_RUN

        self.broken = ""
        if self.__dict__.get("next_run_at") == self._loaded_next_run:
            self.next_run_at = stored.next_run_at
            return columns | {"broken"}

        # the caller has postponed the next run, or brought it forward
        return columns | {"broken", "next_run_at"}

    # --- when it runs -----------------------------------------------------------------------------

    @property
    def key(self) -> str:
        """The part of a tick's id that identifies this schedule."""
        return f"{self._state.db}:{self.pk}:{self.name}"

    @property
    def zone(self) -> str:
        """The name of the effective time zone: its own, its organization's, or the project's."""
        return (
            self.time_zone
            or organization_time_zone(self.organization_id)
            or str(conf.django_setting("TIME_ZONE"))
        )

    @property
    def timing(self) -> Timing:
        """Cron line, zone, start and end."""
        return Timing(self.cron, self.zone, self.starts_at, self.ends_at)

    def runs_after(self, moment: datetime, count: int = 1) -> list[datetime]:
        """Return up to ``count`` runs after a moment, within start and end.

        Raises:
            CronError: the cron line or the zone is invalid.
        """
        return self.timing.after(moment, count)

    def first_run_after(self, moment: datetime) -> datetime | None:
        """Return the next run after a moment; None if there is none or the schedule is disabled."""
        if not self.enabled:
            return None
        return next(iter(self.runs_after(moment)), None)

    def _timing_digest(self) -> str:
        """Identifies the timing that ``next_run_at`` is computed from."""
        return self.timing.digest if self.enabled else ""

    # --- validation -------------------------------------------------------------------------------

    def clean(self) -> None:
        """Validate cron line, zone, job name, data (against the job's signature), start and end."""
        errors: dict[str, str] = {}

        try:
            self.cron = cron.parse(self.cron).line
            self.check_interval()
        except CronError as error:
            errors["cron"] = str(error)

        try:
            cron.zone(self.zone)
        except CronError as error:
            errors["time_zone"] = str(error)

        errors |= self._bound_errors() | self._job_errors()
        if errors:
            raise ValidationError(errors)

    def check_interval(self) -> None:
        """Check an enabled schedule against ``SHORTEST_INTERVAL``.

        Raises:
            CronError: it runs more often, or its line is invalid.
        """
        shortest = conf.current().shortest_interval
        gap = cron.shortest_gap(self.cron).total_seconds()
        if self.enabled and gap < shortest:
            raise CronError(
                f"{self.cron!r} runs every {gap:g} s, and the shortest interval is {shortest:g} s "
                "(WELLOS_JOBS['SHORTEST_INTERVAL']): choose a longer one"
            )

    def _bound_errors(self) -> dict[str, str]:
        bounds = {"starts_at": self.starts_at, "ends_at": self.ends_at}
        for name, moment in bounds.items():
            if moment is not None and timezone.is_naive(moment):
                return {name: f"{moment!r} is a naive datetime: give it a time zone"}

        if self.starts_at and self.ends_at and self.ends_at <= self.starts_at:
            return {"ends_at": str(_("The end must be later than the start."))}
        return {}

    def arguments(self, definition: JobDefinition) -> dict[str, Any]:
        """Return the job's arguments in the version that ``definition`` takes.

        Raises:
            PayloadError: the data are of a later version, or cannot be upgraded.
            EncryptionError: a sensitive value cannot be read for an upgrade.
        """
        is_as_loaded = self._loaded_work == (self.job_name, self.data)
        version = self.version if is_as_loaded else definition.version
        return current_arguments(definition, self.data, version)

    def set_data(self, data: Mapping[str, Any], version: int) -> None:
        """Set the data, which have the declared version even if they are what the row has."""
        self.data, self.version = dict(data), version
        self._loaded_work = None

    def current_data(self) -> Mapping[str, Any]:
        """Return the data in stored form, in the declared version; for people to edit."""
        definition = registry.find(self.job_name)
        return current_data(definition, self.data or {}, self.version)

    def _job_errors(self) -> dict[str, str]:
        try:
            definition = registry.get(self.job_name)
            conf.usable_queue(definition.queue)
            if not isinstance(self.data, dict):
                return {"data": str(_("Give the job's arguments as a JSON object."))}

            payload.check_typed(
                {
                    name: value
                    for name, value in self.data.items()
                    if name not in definition.sensitive or not payload.is_sealed(value)
                }
            )
            arguments = definition.bind((), self.arguments(definition))
            self.data = payload.encode(arguments, sensitive=definition.sensitive)
            self.version = definition.version
        except (UnknownJob, UnknownQueue) as error:
            return {"job_name": str(error)}
        except (TypeError, PayloadError, EncryptionError) as error:
            return {"data": str(error)}

        if not self.name.startswith(REPORT_PREFIX):
            return {}
        return report_errors(arguments, self.organization_id, self.name)


def remember_removal(instance: Schedule, using: str, **_: Any) -> None:
    """Keep a removed row when a declared schedule is deleted, so that no sync recreates it."""
    if not instance.source or instance.removed_at is not None:
        return

    values = {
        field.attname: getattr(instance, field.attname) for field in Schedule._meta.concrete_fields
    }
    values |= {
        "id": None,
        "next_run_at": None,
        "last_job_id": None,
        "removed_at": timezone.now(),
    }
    Schedule(**values).save_base(raw=True, force_insert=True, using=using)


post_delete.connect(remember_removal, sender=Schedule, dispatch_uid="wellos_jobs.Schedule.removed")
