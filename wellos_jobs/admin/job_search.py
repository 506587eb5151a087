"""What people type into the search of jobs: words, and prefixes such as ``state:failed`` or ``data.invoice_id:42``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet
from django.db.models.fields.json import KeyTransform
from django.utils.translation import gettext as _

from .. import ids, registry
from ..models import JobRecord
from ..states import JobState

MOST_USERS = 50
"""How many users a search text may stand for."""
TAGS = ("$uuid", "$decimal", "$date", "$datetime")
"""Under which of the tags of ``wellos_jobs.tags`` a value is looked for, too."""

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


def search(rows: QuerySet[JobRecord], text: str, *, may_see_data: bool) -> QuerySet[JobRecord]:
    """Return the rows that a search text means.

    Raises:
        SearchFault: it names no state there is, or data that this person may not see.
    """
    for number, term in enumerate(parse(text)):
        if not term.prefix.startswith("data."):
            rows = rows.filter(_condition(term))
        elif may_see_data:
            rows = _by_data(rows, f"searched_{number}", term)
        else:
            raise SearchFault(_("Data is searched only for those who may see it (“view_payload”)"))
    return rows


def sealed(text: str) -> list[str]:
    """Return the names of data that a search asks for and that some job keeps encrypted: it cannot be found there."""
    asked = {term.prefix.split(".")[1] for term in parse(text) if term.prefix.startswith("data.")}
    return sorted(asked & {name for job in registry.all_jobs() for name in job.sensitive}) if asked else []


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
    if ids.parse_id(text) is not None:
        return _by_id(text)
    return (
        Q(name__icontains=text)
        | Q(organization_id__icontains=text)
        | Q(error__icontains=text)
        | Q(requested_by__in=_users(text))
        | Q(rq_id=text)
    )


def _state(text: str) -> str:
    if text.lower() not in JobState.values:
        states = ", ".join(JobState.values)
        raise SearchFault(_("There is no state “%(state)s”: there are %(states)s") % {"state": text, "states": states})
    return text.lower()


def _by_id(text: str) -> Q:
    chosen = ids.parse_id(text)
    return Q(rq_id=text) if chosen is None else Q(pk=chosen) | Q(rq_id=text)


def _users(text: str) -> list[Any]:
    """Return the keys of users: they may live in another database, so this is a query of its own."""
    users = get_user_model()._default_manager.filter(**{f"{get_user_model().USERNAME_FIELD}__icontains": text})
    return list(users.values_list("pk", flat=True)[:MOST_USERS])


def _by_data(rows: QuerySet[JobRecord], alias: str, term: Term) -> QuerySet[JobRecord]:
    """Look at one place in the data; the text may stand there as itself, as a number, or under a tag."""
    place: Any = "data"
    for key in term.prefix.split(".")[1:]:
        place = KeyTransform(key, place)
    tagged = {f"{alias}_{number}": KeyTransform(tag, place) for number, tag in enumerate(TAGS)}
    wanted = Q()
    for value in _values(term):
        wanted |= Q(**{alias: value})
    for name in tagged:
        wanted |= Q(**{name: term.text})
    return rows.alias(**{alias: place}, **tagged).filter(wanted)


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
