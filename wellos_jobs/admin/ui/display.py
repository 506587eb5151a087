"""How things look in the admin: badges, durations, JSON, organizations and links. No query, no Redis."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.contrib.admin import AdminSite
from django.urls import NoReverseMatch, reverse
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ... import conf
from ...models import JobRecord
from ...models.statistic import BUCKETS
from ...states import JobState
from . import long_text

logger = logging.getLogger("wellos_jobs")

NOTHING = "-"
MAX_JSON_LENGTH = 100_000
"""Characters of a JSON value that are shown whole: more than a job's data may have by default."""
_DOTS = {"started": "active", "enqueued": "waiting", "changed priority": "changed"}
"""Words of a timeline that look like a state."""


def badge(word: str, label: object) -> SafeString:
    """A word of the glossary as a coloured badge. The label says it too: colour is never the only sign."""
    return format_html('<span class="wj-badge wj-{}">{}</span>', word, label)


def bar(percent: int, message: str = "") -> SafeString:
    """Progress as a bar with its number."""
    return format_html(
        '<span class="wj-progress" title="{}"><progress max="100" value="{}"></progress> {}%</span>',
        message,
        percent,
        percent,
    )


def duration(seconds: float | None) -> str:
    """Seconds in the two largest units: 350 ms, 4.2 s, 3 min 5 s, 2 h 10 min, 3 d 4 h."""
    if seconds is None:
        return NOTHING
    if seconds < 1:
        return _("%(n)d ms") % {"n": round(max(0.0, seconds) * 1000)}
    if seconds < 60:
        return _("%(n).1f s") % {"n": seconds}
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": minutes, "seconds": rest}
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return _("%(hours)d h %(minutes)d min") % {"hours": hours, "minutes": minutes}
    days, hours = divmod(hours, 24)
    return _("%(days)d d %(hours)d h") % {"days": days, "hours": hours}


def between(start: datetime | None, end: datetime | None) -> str:
    """The time from one moment to another."""
    return duration((end - start).total_seconds()) if start and end else NOTHING


def away(now: datetime, at: datetime) -> str:
    """How far off a moment is, before or after now."""
    return (
        _("in %(time)s") % {"time": between(now, at)}
        if at > now
        else _("%(time)s ago") % {"time": between(at, now)}
    )


def wait_time(job: JobRecord) -> str:
    """How long the job waited before its last run, or has waited, or has still to wait."""
    now = timezone.now()
    if job.state == JobState.DELAYED and job.run_at and job.run_at > now:
        return _("in %(time)s") % {"time": between(now, job.run_at)}
    if job.state == JobState.WAITING:
        return between(job.enqueued_at or job.created_at, now)
    if job.enqueued_at and job.started_at and job.enqueued_at > job.started_at:
        return NOTHING  # it went back to its queue and ended there: no run followed
    return between(job.enqueued_at, job.started_at)


def run_time(job: JobRecord) -> str:
    """How long the last run took, or has taken so far."""
    if job.state == JobState.ACTIVE:
        return between(job.started_at, timezone.now())
    return between(job.started_at, job.finished_at)


def block(text: str) -> SafeString | str:
    """A text with its line breaks, such as a traceback; the middle of a long one is left out."""
    return format_html('<pre class="wj-text">{}</pre>', long_text.cut(text)) if text else NOTHING


def as_json(value: Any) -> SafeString:
    """A masked JSON value, indented; the middle of one that is larger than data may be is left out."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return format_html('<pre class="wj-text">{}</pre>', long_text.cut(text, MAX_JSON_LENGTH))


def shortened(text: str, most: int = 90) -> str:
    """The first line of a text, cut."""
    first = text.strip().partition("\n")[0]
    return first if len(first) <= most else f"{first[: most - 1]}…"


def short_moment(at: datetime | None) -> str:
    """A date and time for a narrow column, in the current time zone."""
    return formats.date_format(timezone.localtime(at), "Y-m-d H:i") if at else NOTHING


def to_the_second(at: datetime) -> str:
    """A date and time to the second, in the current time zone."""
    return formats.date_format(timezone.localtime(at), "Y-m-d H:i:s")


def dot(word: str) -> SafeString:
    """A word of the glossary as a coloured dot, for beside a text that says it."""
    return format_html(
        '<span class="wj-dot wj-{}" aria-hidden="true"></span>', _DOTS.get(word, word)
    )


def bound(times: Any, name: str) -> str:
    """A percentile that came from a histogram, so an upper bound; a dash if nothing was measured."""
    if times is None:
        return NOTHING
    value = getattr(times, name)
    return (
        _("over %(time)s") % {"time": duration(BUCKETS[-1])}
        if value is None
        else f"≤ {duration(value)}"
    )


def moment_in(at: datetime) -> str:
    """A date and time with the name of its own zone, to the second where it is not a whole minute."""
    return formats.date_format(at, "Y-m-d H:i:s T" if at.second else "Y-m-d H:i T")


def search_link(site: AdminSite, model: str, text: str, label: str) -> SafeString | str:
    """A link to the rows of a model of this app that a search for a text finds."""
    try:
        url = reverse(f"admin:wellos_jobs_{model}_changelist", current_app=site.name)
    except NoReverseMatch:
        return label
    return format_html('<a href="{}?{}">{}</a>', url, urlencode({"q": text}), label)


def link(site: AdminSite, model: str, pk: object, label: object) -> SafeString | str:
    """A link to an object of this app in the same admin site, or the bare label if it is not registered there."""
    try:
        url = reverse(f"admin:wellos_jobs_{model}_change", args=[pk], current_app=site.name)
    except NoReverseMatch:
        return str(label)
    return format_html('<a href="{}">{}</a>', url, label)


def organizations(ids: Iterable[str]) -> dict[str, SafeString | str]:
    """Show each organization as ``ORGANIZATION_RESOLVER`` has it, asked once for each id."""
    return {chosen: organization(chosen, found) for chosen, found in resolved(ids).items()}


def has_resolver() -> bool:
    """Whether the project tells what an organization's id means."""
    return conf.current().organization_resolver is not None


def resolved(ids: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Return what ``ORGANIZATION_RESOLVER`` knows of each organization, asked once for each id."""
    resolver = conf.hook(conf.current().organization_resolver)
    return {chosen: _resolved(chosen, resolver) for chosen in set(ids) if chosen}


def organization(chosen: str, found: Mapping[str, Any]) -> SafeString | str:
    """Show one organization, by what the resolver found."""
    label = found.get("label") or chosen
    url = str(found.get("url") or "")
    if urlsplit(url).scheme not in {"", "http", "https"} or not url:
        return str(label)
    return format_html('<a href="{}">{}</a>', url, label)


def _resolved(chosen: str, resolver: Any) -> Mapping[str, Any]:
    if resolver is None:
        return {}
    try:
        return resolver(chosen) or {}
    except Exception:  # a page that lists jobs must not fail because a project's hook does
        logger.exception("ORGANIZATION_RESOLVER raised for organization %r", chosen)
        return {}
