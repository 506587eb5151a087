"""Erase a person from what the app has stored about jobs: the account, and given texts.

Texts are looked for in every row, whichever way a database stores JSON. What is encrypted cannot be
searched, and open jobs keep their data: they would fail without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import models, transaction
from django.db.models import Q

from ..errors import InvalidOperation
from ..models import (
    AuditEntry,
    BulkOperation,
    DeadLetter,
    JobAttempt,
    JobLog,
    JobRecord,
    SavedView,
    Schedule,
)
from ..states import OPEN_STATES, AuditAction
from .audit import Actor

ERASED = "(erased)"
"""What stands in the place of an erased text."""

SHORTEST = 4
"""Characters of the shortest text that is looked for: a shorter one would be found anywhere."""

CHUNK = 500

COLUMNS: Mapping[type[models.Model], Sequence[str]] = {
    JobRecord: ("data", "result", "error", "progress_message", "context"),
    JobAttempt: ("message", "traceback"),
    JobLog: ("lines",),
    DeadLetter: ("message", "traceback", "note", "former_data"),
    AuditEntry: ("actor_name", "target_id", "reason", "detail"),
    BulkOperation: ("actor_name", "query", "options", "reason", "refusals", "stopped_by"),
    SavedView: ("name", "query"),
    Schedule: ("data",),
}
"""The columns in which texts of people stand."""


@dataclass
class Erasure:
    """How many rows were changed, by model, and the open jobs that still have a text."""

    changed: dict[str, int] = field(default_factory=dict)
    open_jobs: list[Any] = field(default_factory=list)


def erase_person(
    database: str,
    *,
    user_id: Any = None,
    username: str = "",
    texts: Iterable[str] = (),
    by: Any = None,
    reason: str = "",
    address: str = "",
) -> Erasure:
    """Erase a user's name, address and authorship, and texts such as an email address.

    ``user_id`` and ``username`` also find what a user has done who is deleted already. Repeat it
    after the open jobs have ended. The audit log keeps that somebody was erased, not who.

    Raises:
        InvalidOperation: there is nothing to look for, or a text is too short.
    """
    wanted = sorted({text for text in texts if text}, key=len, reverse=True)  # longest first
    if short := [text for text in wanted if len(text) < SHORTEST]:
        raise InvalidOperation(f"{short[0]!r} is too short: at least {SHORTEST} characters")
    if user_id is None and not username and not wanted:
        raise InvalidOperation("Give a user, or the texts to erase")

    found = Erasure()
    with transaction.atomic(using=database):
        if user_id is not None or username:
            _erase_account(database, user_id, username, found)
        if wanted:
            pattern = re.compile("|".join(map(re.escape, wanted)), re.IGNORECASE)
            for model, columns in COLUMNS.items():
                _erase_texts(database, model, columns, pattern, found)
        changed = dict(found.changed)
        actor = Actor(by, reason, address)
        actor.record(database, AuditAction.ERASED, "person", ERASED, changed=changed)
    return found


def _erase_account(database: str, user_id: Any, username: str, found: Erasure) -> None:
    def of(column: str, name: str = "") -> Q:
        condition = Q(**{column: user_id}) if user_id is not None else Q(pk__in=[])
        return condition | Q(**{name: username}) if name and username else condition

    stopped = Q(stopped_by=username) if username else Q(pk__in=[])
    anonymous = {"actor": None, "actor_name": ERASED, "address": ""}
    for model, condition, values in (
        (AuditEntry, of("actor", "actor_name"), anonymous),
        (BulkOperation, of("actor", "actor_name"), anonymous),
        (BulkOperation, stopped, {"stopped_by": ERASED}),
        (JobRecord, of("requested_by"), {"requested_by": None}),
        (DeadLetter, of("assigned_to"), {"assigned_to": None, "note": ""}),
        (DeadLetter, of("resolved_by"), {"resolved_by": None, "note": ""}),
    ):
        rows = model._base_manager.using(database).filter(condition)
        _count(found, model, rows.update(**values))
    views = SavedView._base_manager.using(database).filter(of("owner"))
    _count(found, SavedView, views.delete()[0])


def _erase_texts(
    database: str,
    model: type[models.Model],
    columns: Sequence[str],
    wanted: re.Pattern[str],
    found: Erasure,
) -> None:
    rows = model._base_manager.using(database)
    names = ["pk", *columns, *(["state"] if model is JobRecord else [])]
    for row in rows.order_by("pk").values(*names).iterator(chunk_size=CHUNK):
        changes = {
            column: new
            for column in columns
            if (new := _without(row[column], wanted)) != row[column]
        }
        if not changes:
            continue
        if row.get("state") in OPEN_STATES:
            found.open_jobs.append(row["pk"])
            continue
        _count(found, model, rows.filter(pk=row["pk"]).update(**changes))


def _without(value: Any, wanted: re.Pattern[str]) -> Any:
    """Return a value with each wanted text replaced, whatever its case; keys of JSON too."""
    if isinstance(value, str):
        return wanted.sub(ERASED, value)
    if isinstance(value, list):
        return [_without(item, wanted) for item in value]
    if isinstance(value, dict):
        return {_without(key, wanted): _without(item, wanted) for key, item in value.items()}
    return value


def _count(found: Erasure, model: type[models.Model], rows: int) -> None:
    if rows:
        label = model._meta.label
        found.changed[label] = found.changed.get(label, 0) + rows
