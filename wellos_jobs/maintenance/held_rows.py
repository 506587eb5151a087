"""Delete rows although the project may hold some of them.

A project may hold a row by a foreign key with PROTECT or RESTRICT, by a constraint of its own in
the database, or by a receiver of ``pre_delete`` or ``post_delete`` that raises. Such a row is kept,
and the others go: at once, or in the next pass if the receiver reports an outage of its own.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.db import InterfaceError, OperationalError, models, router, transaction
from django.db.models import Exists, OuterRef, ProtectedError, RestrictedError

from ..database import is_usable

logger = logging.getLogger("wellos_jobs")

Rows = models.QuerySet[Any]

BATCH = 1_000
"""Rows deleted in one transaction: few enough not to hold up the ledger."""

TRY_AGAIN_AFTER = 6 * 3600.0
"""Seconds after which rows that were held are tried again."""

_OUTAGES = (OperationalError, InterfaceError)
"""Errors that concern a database, not one row."""


class HeldRows:
    """What is known about rows that cannot be deleted. One object serves many passes.

    The name of each holder is logged once.
    """

    def __init__(self) -> None:
        self.has_new = False
        """Whether held rows were found since this was last reset: there may be more to delete."""
        self._keys: dict[str, set[Any]] = {}
        self._logged: set[tuple[str, str]] = set()
        self._forget_at = time.monotonic() + TRY_AGAIN_AFTER

    def delete(self, rows: Rows, most: int | None = None) -> int:
        """Delete rows in batches by primary key, and return how many. ``most`` limits the batches.

        MySQL cannot DELETE with a LIMIT and a subquery. The condition is checked again once the
        batch is locked: a job may have been retried, or a unique key taken over, meanwhile.

        Raises:
            OperationalError, InterfaceError: the database is unavailable.
        """
        if time.monotonic() > self._forget_at:
            self._keys.clear()
            self._forget_at = time.monotonic() + TRY_AGAIN_AFTER

        self._log_protected(rows)
        free = unprotected(rows)
        return sum(
            self._delete_batch(free, batch) for batch in itertools.islice(self._batches(free), most)
        )

    def _batches(self, rows: Rows) -> Iterator[list[Any]]:
        """Yield the primary keys of rows that are not known to be held."""
        known = self._keys.setdefault(rows.model._meta.label, set())
        in_order = rows.order_by("pk").values_list("pk", flat=True)
        keys = list(in_order[:BATCH])
        while keys:
            if batch := [key for key in keys if key not in known]:
                yield batch
            keys = list(in_order.filter(pk__gt=keys[-1])[:BATCH])

    def _delete_batch(self, rows: Rows, batch: Sequence[Any]) -> int:
        """Delete a batch in one transaction, or row by row if that fails."""
        try:
            return _delete(rows, batch)
        except Exception as error:  # a receiver may raise anything
            if _is_outage(error, rows.db):
                raise
            return sum(self._delete_one(rows, key) for key in batch)

    def _delete_one(self, rows: Rows, key: Any) -> int:
        """Delete one row; keep it if something holds it.

        Where a receiver reports an outage, further rows would wait for that as well: the error is
        raised.
        """
        try:
            return _delete(rows, [key])
        except Exception as error:
            if _is_outage(error, rows.db):
                raise
            label = rows.model._meta.label
            self._keys[label].add(key)
            self.has_new = True
            for holder in holders(error):
                self._log(label, holder, str(error))
            if isinstance(error, _OUTAGES):
                raise
            return 0

    def _log_protected(self, rows: Rows) -> None:
        label = rows.model._meta.label
        for relation in _protecting(rows.model, rows.db):
            holder = relation.related_model._meta.label
            if (label, holder) not in self._logged and rows.filter(_held_by(relation)).exists():
                self._log(label, holder, f"{relation.field.name} has on_delete PROTECT or RESTRICT")

    def _log(self, label: str, holder: str, why: str) -> None:
        if (label, holder) not in self._logged:
            self._logged.add((label, holder))
            logger.warning(
                "prune: rows of %s are kept because %s holds them: %s", label, holder, why
            )


def unprotected(rows: Rows) -> Rows:
    """Return the rows that no foreign key with PROTECT or RESTRICT points to."""
    for relation in _protecting(rows.model, rows.db):
        rows = rows.exclude(_held_by(relation))
    return rows


def holders(error: Exception) -> Iterable[str]:
    """Return what refused a deletion: labels of models, a receiver, or the database."""
    if isinstance(error, ProtectedError):
        return sorted({row._meta.label for row in error.protected_objects})
    if isinstance(error, RestrictedError):
        return sorted({row._meta.label for row in error.restricted_objects})

    return [_receiver(error) or f"the database ({type(error).__name__})"]


def _receiver(error: Exception) -> str:
    """Return the receiver of a signal that raised an error; '' if none did."""
    frame, in_signal = error.__traceback__, False
    while frame is not None:
        module = str(frame.tb_frame.f_globals.get("__name__", ""))
        if in_signal and module != "django.dispatch.dispatcher":
            return f"the receiver {module}.{frame.tb_frame.f_code.co_qualname}"
        in_signal = module == "django.dispatch.dispatcher"
        frame = frame.tb_next
    return ""


def _is_outage(error: Exception, database: str) -> bool:
    """Return whether an error concerns the whole database: not if a receiver's own one is away."""
    if not isinstance(error, _OUTAGES):
        return False
    return not _receiver(error) or not is_usable(database)


def _protecting(model: type[models.Model], using: str) -> list[Any]:
    """Return the relations with PROTECT or RESTRICT from tables of the same database."""
    return [
        relation
        for relation in model._meta.get_fields(include_hidden=True)
        if isinstance(relation, models.ForeignObjectRel)
        and getattr(relation, "on_delete", None) in (models.PROTECT, models.RESTRICT)
        and router.allow_migrate_model(using, relation.related_model)
    ]


def _held_by(relation: Any) -> Exists:
    target = relation.field.target_field.attname
    holding = relation.related_model._base_manager.filter(
        **{relation.field.attname: OuterRef(target)}
    )
    return Exists(holding)


def _delete(rows: Rows, batch: Sequence[Any]) -> int:
    every = rows.model._default_manager.using(rows.db)
    with transaction.atomic(using=rows.db):
        locked = every.filter(pk__in=batch).order_by("pk").select_for_update()
        list(locked.values_list("pk", flat=True))
        still = list(rows.filter(pk__in=batch).order_by().values_list("pk", flat=True))
        every.filter(pk__in=still).delete()
    return len(still)
