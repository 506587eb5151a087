"""What people type into the search of jobs: words, and prefixes such as ``state:failed`` or ``data.invoice_id:42``."""

from __future__ import annotations

import json
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

MAX_USERS = 50
"""How many users a search text may stand for."""
TAGS: dict[str, Callable[[str], object]] = {
    "$uuid": uuid.UUID,
    "$decimal": Decimal,
    "$date": date.fromisoformat,
    "$datetime": lambda text: datetime.fromisoformat(text.partition("[")[0]),
}
"""Under which of the tags of ``wellos_jobs.tags`` a value is looked for, too, if it can be read as one."""

DATED = frozenset({"org"})
"""What an index finds that has the time of creation, too."""
INDEXED = DATED | {"queue", "state", "by", "id"}
Among = Callable[[QuerySet[JobRecord], Q], QuerySet[JobRecord]]

_VERSION = 12
"""Which digit of a UUID is its version."""
_BEGINNING = re.compile(
    r"[0-9a-fA-F]{8,31}|[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){0,3}[0-9a-fA-F]{0,11}"
)
_TERM = re.compile(
    r'(?:(?P<prefix>name|queue|org|state|error|id|by|data(?:\.[^\s:".]+)+):)?(?:"(?P<quoted>[^"]*)"|(?P<word>\S+))'
)


class SearchFault(ValueError):
    """What was typed cannot be looked for; the text says why."""


@dataclass(frozen=True)
class Term:
    """One thing that is looked for. Without a prefix: anywhere."""

    prefix: str
    text: str
    is_quoted: bool = False


def parse(text: str) -> list[Term]:
    """Return what a search text asks for, all of which has to fit. Words without a prefix are one phrase."""
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
    """Return the rows that a search text means.

    What an index finds is applied first; ``among`` gets what that leaves, and returns those rows in
    which words are looked for.

    Raises:
        SearchFault: it names no state there is, or data that this person may not see.
    """
    terms = parse(text)
    if not may_see_data and any(term.prefix.startswith("data.") for term in terms):
        raise SearchFault(_("Data is searched only for those who may see it (“view_payload”)"))
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


def _is_known(rows: QuerySet[JobRecord], term: Term) -> bool:
    """Tell whether an index finds a term. A text without a prefix is known if a job has this id: RQ's are any text."""
    if term.prefix:
        return term.prefix in INDEXED
    return ids.parse_id(term.text) is not None or rows.filter(_by_id(term.text)).exists()


def sealed(text: str) -> list[str]:
    """Return the names of data that a search asks for and that some job keeps encrypted: it cannot be found there."""
    asked = {term.prefix.split(".")[1] for term in parse(text) if term.prefix.startswith("data.")}
    return (
        sorted(asked & {name for job in registry.all_jobs() for name in job.sensitive})
        if asked
        else []
    )


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
        raise SearchFault(
            _("There is no state “%(state)s”: there are %(states)s")
            % {"state": text, "states": states}
        )
    return text.lower()


def _by_id(text: str) -> Q:
    """Return what has this id, one of RQ's perhaps, or an id that begins with this text."""
    chosen = ids.parse_id(text)
    if chosen is not None:
        return Q(pk=chosen) | Q(rq_id=text)
    found = Q(rq_id=text)
    for first, last in _begun(text):
        found |= Q(pk__range=(first, last))
    return found


def _begun(text: str) -> set[tuple[uuid.UUID, uuid.UUID]]:
    """Return the ranges of ids that begin with a text: eight digits or more, with dashes where they belong or none."""
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
    """Return the keys of users: they may live in another database, so this is a query of its own."""
    users = get_user_model()._default_manager.filter(
        **{f"{get_user_model().USERNAME_FIELD}__icontains": text}
    )
    return list(users.values_list("pk", flat=True)[:MAX_USERS])


def _by_data(rows: QuerySet[JobRecord], alias: str, term: Term) -> QuerySet[JobRecord]:
    """Look at one place in the data; the text may stand there as itself, as a number, or under a tag."""
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
    try:
        value = json.loads(term.text)
    except ValueError:
        return
    if isinstance(value, (bool, int, float)):
        yield value
