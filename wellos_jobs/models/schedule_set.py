"""Sets of schedules: what a row's ``save`` does is done, too, where many are written; and which columns are whose."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.db import models, transaction

from ..broker import wakeup

if TYPE_CHECKING:
    from .schedule import Schedule

TIMING = frozenset({"cron", "time_zone", "organization_id", "starts_at", "ends_at", "enabled"})
"""The columns that decide when a schedule runs next."""

CHECKED = TIMING | {"name", "job_name", "data", "catch_up", "catch_up_limit", "overlap"}
"""The columns that people fill in."""

PLAN = frozenset({"next_run_at", "planned_for", "broken"})
"""The columns that are written when the timing changes, and by the clock."""

CLOCK = PLAN | {"last_run_at", "last_job", "missed", "missed_at"}
"""The columns that the clock writes."""


class ScheduleQuerySet(models.QuerySet["Schedule"]):
    """Plans rows anew, and checks them, also where their ``save`` is not called."""

    def bulk_create(self, objs: Iterable[Schedule], *args: Any, **options: Any) -> list[Schedule]:
        """As Django's; each row is checked and gets its next run."""
        rows = list(objs)
        for row in rows:
            row.check_row()
            row.plan_new()
        created = super().bulk_create(rows, *args, **options)
        transaction.on_commit(wakeup.ring, using=self.db, robust=True)
        return created

    def update(self, **changes: Any) -> int:
        """As Django's (and so is ``bulk_update``); where it matters, each row is checked and planned anew."""
        if CHECKED.isdisjoint(changes):
            return super().update(**changes)
        with transaction.atomic(using=self.db):
            keys = list(self.order_by().values_list("pk", flat=True))
            changed = super().update(**changes)
            for row in self.model._base_manager.using(self.db).filter(pk__in=keys):
                row.save(using=self.db)
        return changed


class ScheduleManager(models.Manager["Schedule"]):
    """The schedules that there are; those that were removed, but stay declared in code, are not among them."""

    def get_queryset(self) -> ScheduleQuerySet:
        return ScheduleQuerySet(self.model, using=self._db).filter(removed_at=None)
