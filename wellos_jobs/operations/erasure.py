"""Erase a person from what the app has stored about jobs: the account, and given texts.

Every table is read by primary key, a chunk at a time, and the rows of a chunk in which the person
stands are changed in a transaction of their own. What stopped midway is run again and finds the
rest. Texts are looked for in every row, whichever way a database stores JSON. What is encrypted
cannot be searched, and open jobs keep their data: they would fail without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from ..database import retry_conflicts
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

CHUNK = 200
"""Rows that are read at once, and at most changed in one transaction."""


# --- where people stand ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Authorship:
    """Columns that say who did something, and what an erasure stores instead."""

    user: str = ""
    """The column with the key of a user; '' if there is none."""
    name: str = ""
    """The column with a username; '' if there is none."""
    instead: Mapping[str, Any] | None = None
    """New values by column; None if the row is deleted."""


@dataclass(frozen=True)
class Table:
    """The columns of a model in which people stand: in texts of any kind, and as authors."""

    model: type[models.Model]
    texts: tuple[str, ...]
    authors: tuple[Authorship, ...] = ()
    texts_delete: bool = False
    """Whether a row with a wanted text is deleted instead of changed."""

    @property
    def columns(self) -> set[str]:
        """All columns that have to be read."""
        authors = {name for author in self.authors for name in (author.user, author.name) if name}
        return {"pk", *self.texts, *authors, *(["state"] if self.model is JobRecord else [])}

    def rows(self, database: str) -> models.QuerySet[Any]:
        """Return all rows of a database, removed schedules too."""
        return self.model._base_manager.using(database).order_by("pk")


_ANONYMOUS = {"actor": None, "actor_name": ERASED, "address": ""}

TABLES = (
    Table(
        JobRecord,
        ("data", "result", "error", "progress_message", "context"),
        (Authorship("requested_by", instead={"requested_by": None}),),
    ),
    Table(JobAttempt, ("message", "traceback")),
    Table(JobLog, ("lines",)),
    Table(
        DeadLetter,
        ("message", "traceback", "note", "former_data"),
        (
            Authorship("assigned_to", instead={"assigned_to": None, "note": ""}),
            Authorship("resolved_by", instead={"resolved_by": None, "note": ""}),
        ),
    ),
    Table(
        AuditEntry,
        ("actor_name", "target_id", "reason", "detail"),
        (Authorship("actor", "actor_name", _ANONYMOUS),),
    ),
    Table(
        BulkOperation,
        ("actor_name", "query", "options", "reason", "refusals", "stopped_by"),
        (
            Authorship("actor", "actor_name", _ANONYMOUS),
            Authorship(name="stopped_by", instead={"stopped_by": ERASED}),
        ),
    ),
    # Without the text two views could have the same name, which has to be unique.
    Table(SavedView, ("name", "query"), (Authorship("owner"),), texts_delete=True),
    Table(Schedule, ("data",)),
)


# --- whom to look for -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Person:
    """Whom to erase: an account, which may be deleted already, and texts such as an email address.

    Raises:
        InvalidOperation: there is nothing to look for, or a text is too short.
    """

    user_id: Any = None
    username: str = ""
    texts: Iterable[str] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        longest_first = sorted({text for text in self.texts if text}, key=len, reverse=True)
        object.__setattr__(self, "texts", tuple(longest_first))
        if longest_first and len(short := longest_first[-1]) < SHORTEST:
            raise InvalidOperation(
                _("“%(text)s” is too short: at least %(n)d characters")
                % {"text": short, "n": SHORTEST}
            )
        if self.user_id is None and not self.username and not longest_first:
            raise InvalidOperation(_("Give a user, or the texts to erase"))


@dataclass(frozen=True)
class Search:
    """What to look for in rows."""

    user_id: Any
    """As rows have it; None if no account has to be found."""
    names: frozenset[str]
    pattern: re.Pattern[str] | None = field(repr=False)

    def is_author(self, author: Authorship, row: Mapping[str, Any]) -> bool:
        """Return whether a row names the account."""
        if author.user and self.user_id is not None and row[author.user] == self.user_id:
            return True
        return bool(author.name) and row[author.name] in self.names

    def is_named_in(self, text: str) -> bool:
        """Return whether a text has a wanted text, or a username as a word of its own."""
        if self.pattern is not None and self.pattern.search(text):
            return True
        return any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) for name in self.names)

    def rows_of(self, author: Authorship) -> Q:
        """Return the condition for the rows that may name the account."""
        condition = Q(pk__in=[])
        if author.user and self.user_id is not None:
            condition |= Q(**{author.user: self.user_id})
        if author.name and self.names:
            condition |= Q(**{f"{author.name}__in": self.names})
        return condition


def search_for(person: Person) -> Search:
    """Return what to look for. An account that exists is found by its key or by its name.

    Raises:
        InvalidOperation: that is no key of a user, or the name is that of another account.
    """
    model = get_user_model()
    users = model._default_manager
    user_id = _key(model, person.user_id)
    named = (
        users.filter(**{model.USERNAME_FIELD: person.username}).first() if person.username else None
    )
    if named is not None and user_id not in (None, named.pk):
        raise InvalidOperation(
            _("The username %(name)s is that of user %(user)s, not of user %(other)s")
            % {"name": person.username, "user": named.pk, "other": user_id}
        )
    account = named if user_id is None else users.filter(pk=user_id).first()

    names = {person.username} if person.username else set()
    if account is not None:
        user_id = account.pk
        names.add(account.get_username())
    pattern = "|".join(map(re.escape, person.texts))
    return Search(
        user_id, frozenset(names), re.compile(pattern, re.IGNORECASE) if pattern else None
    )


def _key(model: type[models.Model], user_id: Any) -> Any:
    if user_id is None:
        return None
    try:
        return model._meta.pk.clean(user_id, None)
    except ValidationError:
        text = _("“%(text)s” is not the id of a user")
        raise InvalidOperation(text % {"text": user_id}) from None


# --- finding and erasing --------------------------------------------------------------------------


@dataclass
class Erasure:
    """How many rows have something to erase, by model, and the open jobs that keep a text."""

    changed: dict[str, int] = field(default_factory=dict)
    open_jobs: list[Any] = field(default_factory=list)

    def add(self, table: Table, edits: Iterable[_Edit]) -> None:
        """Count the edits of some rows."""
        label = table.model._meta.label
        for edit in edits:
            if edit.keeps:
                self.open_jobs.append(edit.key)
            if edit.changes:
                self.changed[label] = self.changed.get(label, 0) + 1


def find_person(database: str, person: Person) -> Erasure:
    """Return what ``erase_person`` would change. It changes nothing.

    Raises:
        InvalidOperation: as ``erase_person``.
    """
    search = search_for(person)
    found = Erasure()
    for table in TABLES:
        for rows in _chunks(database, table, search):
            found.add(table, _edits(table, rows, search))
    return found


def erase_person(
    database: str, person: Person, *, by: Any = None, reason: str = "", address: str = ""
) -> Erasure:
    """Erase a user's name, address and authorship, and texts such as an email address.

    Repeat it after the open jobs have ended, and if it stopped midway. The audit log keeps that
    somebody was erased, not who: an entry at the beginning, and one with the counts at the end.

    Raises:
        InvalidOperation: that is no key of a user, the name is that of another account, or the
            reason names the person.
    """
    search = search_for(person)
    actor = Actor(by, reason, address)
    if search.is_named_in(actor.reason):
        raise InvalidOperation(_("The reason names the person: the audit log must not"))
    actor.record(database, AuditAction.BEGAN_ERASING, "person", ERASED)

    found = Erasure()
    for table in TABLES:
        for rows in _chunks(database, table, search):
            keys = [edit.key for edit in _edits(table, rows, search)]
            if keys:
                step = partial(_erase, database, table, keys, search)
                found.add(table, retry_conflicts(database, step))

    counts = {"changed": dict(found.changed), "open_jobs": len(found.open_jobs)}
    actor.record(database, AuditAction.ERASED, "person", ERASED, **counts)
    return found


def rows_to_read(database: str, person: Person, most: int) -> int:
    """Return how many rows of a database have to be read for a person; ``most`` + 1 for more.

    Raises:
        InvalidOperation: as ``erase_person``.
    """
    search = search_for(person)
    count = 0
    for table in TABLES:
        count += _rows(database, table, search).order_by()[: most + 1 - count].count()
    return count


def _rows(database: str, table: Table, search: Search) -> models.QuerySet[Any]:
    """Return the rows to read: all of them if there are texts to look for."""
    rows = table.rows(database)
    if search.pattern is not None:
        return rows
    condition = Q(pk__in=[])
    for author in table.authors:
        condition |= search.rows_of(author)
    return rows.filter(condition)


def _chunks(database: str, table: Table, search: Search) -> Iterator[list[dict[str, Any]]]:
    rows = _rows(database, table, search).values(*table.columns)
    page = rows
    while chunk := list(page[:CHUNK]):
        yield chunk
        page = rows.filter(pk__gt=chunk[-1]["pk"])


def _erase(database: str, table: Table, keys: list[Any], search: Search) -> list[_Edit]:
    """Erase the person from these rows, as they are now, in one transaction."""
    rows = table.rows(database)
    with transaction.atomic(using=database):
        locked = rows.filter(pk__in=keys).select_for_update()
        edits = _edits(table, locked.values(*table.columns), search)

        if deleted := [edit.key for edit in edits if edit.deletes]:
            rows.filter(pk__in=deleted).delete()
        for values, same in _by_values(edits):
            rows.filter(pk__in=same).update(**values)
    return edits


# --- one row --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Edit:
    """What an erasure does to one row."""

    key: Any
    values: Mapping[str, Any] = field(default_factory=dict)
    deletes: bool = False
    keeps: bool = False
    """Whether it is an open job, which keeps a text."""

    @property
    def changes(self) -> bool:
        return self.deletes or bool(self.values)


def _edits(table: Table, rows: Iterable[Mapping[str, Any]], search: Search) -> list[_Edit]:
    """Return the edits of the rows in which the person stands."""
    edits = (_edit(table, row, search) for row in rows)
    return [edit for edit in edits if edit.changes or edit.keeps]


def _edit(table: Table, row: Mapping[str, Any], search: Search) -> _Edit:
    values: dict[str, Any] = {}
    for author in table.authors:
        if search.is_author(author, row):
            if author.instead is None:
                return _Edit(row["pk"], deletes=True)
            values |= author.instead

    texts = _texts(table, row, search.pattern) if search.pattern is not None else {}
    if texts and table.texts_delete:
        return _Edit(row["pk"], deletes=True)
    if texts and row.get("state") in OPEN_STATES:
        return _Edit(row["pk"], values, keeps=True)
    return _Edit(row["pk"], texts | values)


def _texts(table: Table, row: Mapping[str, Any], wanted: re.Pattern[str]) -> dict[str, Any]:
    """Return the columns that have a wanted text, without it."""
    found = {}
    for column in table.texts:
        value = _without(row[column], wanted)
        if value != row[column]:
            most = getattr(table.model._meta.get_field(column), "max_length", None)
            found[column] = value[:most] if isinstance(value, str) else value
    return found


def _without(value: Any, wanted: re.Pattern[str]) -> Any:
    """Return a value with each wanted text replaced, whatever its case; keys of JSON too."""
    if isinstance(value, str):
        return wanted.sub(ERASED, value)
    if isinstance(value, list):
        return [_without(item, wanted) for item in value]
    if isinstance(value, dict):
        return {_without(key, wanted): _without(item, wanted) for key, item in value.items()}
    return value


def _by_values(edits: Iterable[_Edit]) -> list[tuple[Mapping[str, Any], list[Any]]]:
    """Return the new values, each with the keys of the rows that get them."""
    groups: dict[str, tuple[Mapping[str, Any], list[Any]]] = {}
    for edit in edits:
        if edit.values:
            groups.setdefault(repr(edit.values), (edit.values, []))[1].append(edit.key)
    return list(groups.values())
