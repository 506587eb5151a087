"""Which code a job waits for, and what the workers of its queue know of it. Read-only."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .. import broker
from ..broker import job_hash, keys, rq_workers

FIELDS = (
    job_hash.NAME,
    job_hash.VERSION,
    job_hash.CODE,
    job_hash.HELD_IN,
    job_hash.UNKNOWN,
)
"""The fields of a job's hash that ``wanted`` reads, besides its queue."""


@dataclass
class Fleet:
    """The workers of a queue: how many may know the code of a job, and which version of the job how
    many know."""

    may_know: int = 0
    versions: Counter[int] = field(default_factory=Counter)


def wanted(connection: broker.Client, found: Mapping[str, str]) -> str:
    """Return in a sentence for which code a job waits. ``found`` are fields of its hash."""
    fleet = _fleet(connection, found[job_hash.QUEUE], found[job_hash.NAME], found[job_hash.CODE])
    job, version = found[job_hash.NAME], int(found[job_hash.VERSION] or 1)
    if fleet.may_know:
        return _("It waits for a free worker that knows %(job)s version %(version)d.") % {
            "job": job,
            "version": version,
        }

    if not fleet.versions:
        return _("It waits for code: no worker here knows the job %(job)s yet.") % {"job": job}
    if max(fleet.versions) < version:
        return _(
            "It waits for code: job %(job)s version %(version)d; no worker here knows it yet"
            " (%(known)s)."
        ) % {"job": job, "version": version, "known": _known(fleet)}
    return _("It waits for code: no worker here takes its arguments yet. One said: %(said)s") % {
        "said": json.loads(found[job_hash.UNKNOWN] or "{}").get("message", "")
    }


def _known(fleet: Fleet) -> str:
    parts = [
        ngettext(
            "%(workers)d worker knows version %(version)d",
            "%(workers)d workers know version %(version)d",
            workers,
        )
        % {"workers": workers, "version": version}
        for version, workers in sorted(fleet.versions.items())
    ]
    return ", ".join(parts)


def _fleet(connection: Any, queue: str, name: str, code: str) -> Fleet:
    """Ask what the workers of a queue know. Four round trips."""
    sets = rq_workers.queue_sets_of(connection, queue)
    with connection.pipeline(transaction=False) as pipeline:
        for one in sets:
            pipeline.hexists(keys.unknown(one), code).hget(keys.jobs(one), name)
        replies = pipeline.execute()

    fleet = Fleet(may_know=replies[::2].count(False))
    fleet.versions.update(int(version) for version in replies[1::2] if version)
    return fleet
