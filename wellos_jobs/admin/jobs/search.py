"""Search of jobs by words and prefixes such as ``state:failed`` or ``data.invoice_id:42``."""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet
from django.db.models.fields.json import KeyTransform
from django.utils.translation import gettext as _

from ...definitions import ids, registry
from ...models import JobRecord
from ...states import JobState

MAX_TERMS = 20
"""How many prefixes and phrases a search may combine; each is a condition of its own."""
MAX_LEVELS = 30
"""How deep data can be nested."""
MAX_DIGITS = 9
"""Longest position in a list."""
MAX_USERS = 50
"""How many users a search text may match."""
TAGS: dict[str, Callable[[str], object]] = {
    "$uuid": uuid.UUID,
    "$decimal": Decimal,
    "$date": date.fromisoformat,
    "$datetime": lambda text: datetime.fromisoformat(text.partition("[")[0]),
}
"""JSON type tags under which a value is searched too, if it can be parsed as one."""

DATED = frozenset({"org"})
"""Prefixes whose index includes the creation time."""
INDEXED = DATED | {"queue", "state", "by", "id"}
Among = Callable[[QuerySet[JobRecord], Q], QuerySet[JobRecord]]

_VERSION = 12
"""The position of the version digit in a UUID."""
_BEGINNING = re.compile(
    r"[0-9a-fA-F]{8,31}|[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){0,3}[0-9a-fA-F]{0,11}"
)
_INTEGER = re.compile(r"[+-]?[\d_]*\d")
_NUMBER = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?")
_TERM = re.compile(
    r'(?:(?P<prefix>name|queue|org|state|error|id|by|data(?:\.[^\s:".]+)+):)?'
    r'(?:"(?P<quoted>[^"]*)"|(?P<word>\S+))'
)


class SearchError(ValueError):
    """An invalid search; the message says why."""


@dataclass(frozen=True)
class Term:
    """One search term; without a prefix it may match any searched column."""

    prefix: str
    text: str
    is_quoted: bool = False


def parse(text: str) -> list[Term]:
    """Split a search text into terms that must all match. Words without prefix are one phrase."""
    found, phrase = [], []
    for match in _TERM.finditer(text):
        prefix, quoted, word = match["prefix"] or "", match["quoted"], match["word"]
        if quoted is not None:
            found.append(Term(prefix, quoted, is_quoted=True))
        elif prefix:
            found.append(Term(prefix, word))
        else:
            phrase.append(word)
    return [*([Term("", " ".join(phrase))] if phrase else []), *found]


def search(
    rows: QuerySet[JobRecord], text: str, *, may_see_data: bool, among: Among
) -> QuerySet[JobRecord]:
    """Return the rows that match a search text.

    Indexed terms are applied first; ``among`` limits the remaining rows to those that are
    searched for words.

    Raises:
        SearchError: it has an unknown state, or searches data that the user may not see.
    """
    terms = _checked(parse(text))
    if not may_see_data and any(term.prefix.startswith("data.") for term in terms):
        raise SearchError(_("You need the permission “view_payload” to search data"))

    known = [term for term in terms if _is_known(rows, term)]
    words = [term for term in terms if term not in known]

    narrow = Q()
    for term in known:
        if term.prefix in DATED:
            rows = rows.filter(_condition(term))
        else:
            narrow &= _condition(term) if term.prefix else _by_id(term.text)

    if words and not any(term.prefix in {"", "id"} for term in known):
        rows = among(rows, narrow)
    rows = rows.filter(narrow)

    for number, term in enumerate(words):
        if term.prefix.startswith("data."):
            rows = _by_data(rows, f"searched_{number}", term)
        else:
            rows = rows.filter(_condition(term))
    return rows


def _checked(terms: list[Term]) -> list[Term]:
    """Return the terms. Raises SearchError for what databases cannot search for."""
    if len(terms) > MAX_TERMS:
        raise SearchError(_("Combine at most %(n)s prefixes and phrases") % {"n": MAX_TERMS})

    for term in terms:
        keys = term.prefix.split(".")[1:]
        if len(keys) > MAX_LEVELS:
            raise SearchError(_("Search at most %(n)s levels deep in data") % {"n": MAX_LEVELS})
        if wrong := [key for key in keys if _INTEGER.fullmatch(key) and len(key) > MAX_DIGITS]:
            raise SearchError(_("“%(key)s” is not a position in a list") % {"key": wrong[0][:20]})
        if negative := [key for key in keys if _INTEGER.fullmatch(key) and key[0] == "-"]:
            raise SearchError(_("“%(key)s” is not a position in a list") % {"key": negative[0]})
    return terms


def _is_known(rows: QuerySet[JobRecord], term: Term) -> bool:
    """Return whether a term is indexed; without a prefix, whether it is the id of a job."""
    if term.prefix:
        return term.prefix in INDEXED
    return ids.parse_id(term.text) is not None or rows.filter(_by_id(term.text)).exists()


def encrypted_names(text: str) -> list[str]:
    """Return the searched data names that some job encrypts, so they cannot be found there."""
    asked = {term.prefix.split(".")[1] for term in parse(text) if term.prefix.startswith("data.")}
    if not asked:
        return []
    return sorted(asked & {name for job in registry.all_jobs() for name in job.sensitive})


def _condition(term: Term) -> Q:
    match term.prefix:
        case "name":
            return Q(name__icontains=term.text)
        case "queue":
            return Q(queue=term.text)
        case "org":
            return Q(organization_id=term.text)
        case "state":
            return Q(state=_state(term.text))
        case "error":
            return Q(error__icontains=term.text)
        case "id":
            return _by_id(term.text)
        case "by":
            return Q(requested_by__in=_users(term.text))

    return _anywhere(term.text)


def _anywhere(text: str) -> Q:
    return (
        Q(name__icontains=text)
        | Q(organization_id__icontains=text)
        | Q(error__icontains=text)
        | Q(requested_by__in=_users(text))
    )


def _state(text: str) -> str:
    if text.lower() not in JobState.values:
        states = ", ".join(JobState.values)
        raise SearchError(
            _("Unknown state “%(state)s”; use one of %(states)s")
            % {"state": text, "states": states}
        )
    return text.lower()


def _by_id(text: str) -> Q:
    """Match jobs with this id or RQ id, or whose id begins with this text."""
    job_id = ids.parse_id(text)
    if job_id is not None:
        return Q(pk=job_id) | Q(rq_id=text)
    found = Q(rq_id=text)
    for first, last in _begun(text):
        found |= Q(pk__range=(first, last))
    return found


def _begun(text: str) -> set[tuple[uuid.UUID, uuid.UUID]]:
    """Return the ranges of ids that begin with at least eight digits, with or without dashes."""
    if not _BEGINNING.fullmatch(text) or len(text.replace("-", "")) > 31:
        return set()
    digits = text.replace("-", "")
    spans = ((first.replace("-", ""), last.replace("-", "")) for first, last in ids.SPANS)
    return {
        (uuid.UUID(digits + first[len(digits) :]), uuid.UUID(digits + last[len(digits) :]))
        for first, last in spans
        if len(digits) <= _VERSION or digits[_VERSION] == first[_VERSION]
    }


def _users(text: str) -> list[Any]:
    """Return user keys; a separate query, since users may be in another database."""
    users = get_user_model()._default_manager.filter(
        **{f"{get_user_model().USERNAME_FIELD}__icontains": text}
    )
    return list(users.values_list("pk", flat=True)[:MAX_USERS])


def _by_data(rows: QuerySet[JobRecord], alias: str, term: Term) -> QuerySet[JobRecord]:
    """Match a value in the data: as text, as a number, or under a type tag."""
    place: Any = "data"
    for key in term.prefix.split(".")[1:]:
        place = KeyTransform(key, place)

    tagged = {
        f"{alias}_{number}": KeyTransform(tag, place)
        for number, (tag, read) in enumerate(TAGS.items())
        if _can_be(read, term.text)
    }

    wanted = Q()
    for value in _values(term):
        wanted |= Q(**{alias: value})
    for name in tagged:
        wanted |= Q(**{name: term.text})
    return rows.alias(**{alias: place}, **tagged).filter(wanted)


def _can_be(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except (ValueError, ArithmeticError):
        return False
    return True


def _values(term: Term) -> Iterator[Any]:
    yield term.text
    if term.is_quoted:
        return
    if term.text in {"true", "false"}:
        yield term.text == "true"
    elif _NUMBER.fullmatch(term.text) and math.isfinite(number := _number(term.text)):
        yield number


def _number(text: str) -> int | float:
    try:
        return int(json.loads(text)) if isinstance(json.loads(text), int) else float(text)
    except ValueError:  # such as 007, which JSON lacks
        return math.nan
