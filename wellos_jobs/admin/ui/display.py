"""Format values for the admin: badges, durations, JSON, links. No query, no Redis."""

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
"""JSON up to this length is shown in full: more than the default limit of a job's data."""
_DOTS = {"started": "active", "enqueued": "waiting", "changed priority": "changed"}
"""Timeline events that have the color of a state."""


def badge(word: str, label: object) -> SafeString:
    """Return a colored badge. The label carries the meaning, never the color alone."""
    return format_html('<span class="wj-badge wj-{}">{}</span>', word, label)


def bar(percent: int, message: str = "") -> SafeString:
    """Return a progress bar with its percentage."""
    return format_html(
        '<span class="wj-progress" title="{}">'
        '<progress max="100" value="{}"></progress> {}%</span>',
        message,
        percent,
        percent,
    )


def duration(seconds: float | None) -> str:
    """Format seconds in the two largest units: 350 ms, 4.2 s, 3 min 5 s, 2 h 10 min, 3 d 4 h."""
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
    """Return the formatted duration between two moments."""
    return duration((end - start).total_seconds()) if start and end else NOTHING


def away(now: datetime, at: datetime) -> str:
    """Return a moment relative to now: in 5 min, 3 d ago."""
    return (
        _("in %(time)s") % {"time": between(now, at)}
        if at > now
        else _("%(time)s ago") % {"time": between(at, now)}
    )


def wait_time(job: JobRecord) -> str:
    """Return how long the job waited, has been waiting, or will wait until it is due."""
    now = timezone.now()

    if job.state == JobState.DELAYED and job.run_at and job.run_at > now:
        return _("in %(time)s") % {"time": between(now, job.run_at)}
    if job.state == JobState.WAITING:
        return between(job.enqueued_at or job.created_at, now)
    if job.enqueued_at and job.started_at and job.enqueued_at > job.started_at:
        return NOTHING  # requeued and finished without another run
    return between(job.enqueued_at, job.started_at)


def run_time(job: JobRecord) -> str:
    """Return the duration of the last run, or of the current one so far."""
    if job.state == JobState.ACTIVE:
        return between(job.started_at, timezone.now())
    return between(job.started_at, job.finished_at)


def block(text: str) -> SafeString | str:
    """Return preformatted text such as a traceback, shortened in the middle if it is long."""
    return format_html('<pre class="wj-text">{}</pre>', long_text.cut(text)) if text else NOTHING


def as_json(value: Any) -> SafeString:
    """Return a masked JSON value, indented, shortened in the middle if it is very long."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return format_html('<pre class="wj-text">{}</pre>', long_text.cut(text, MAX_JSON_LENGTH))


def shortened(text: str, most: int = 90) -> str:
    """Return the first line of a text, truncated."""
    first = text.strip().partition("\n")[0]
    return first if len(first) <= most else f"{first[: most - 1]}…"


def short_moment(at: datetime | None) -> str:
    """Format a date and time for a narrow column, in the current time zone."""
    return formats.date_format(timezone.localtime(at), "Y-m-d H:i") if at else NOTHING


def to_the_second(at: datetime) -> str:
    """Format a date and time with seconds, in the current time zone."""
    return formats.date_format(timezone.localtime(at), "Y-m-d H:i:s")


def dot(word: str) -> SafeString:
    """Return a colored dot, to be placed beside a text with the same meaning."""
    return format_html(
        '<span class="wj-dot wj-{}" aria-hidden="true"></span>', _DOTS.get(word, word)
    )


def bound(times: Any, name: str) -> str:
    """Format a percentile from a histogram, which is an upper bound; a dash without data."""
    if times is None:
        return NOTHING
    value = getattr(times, name)
    return (
        _("over %(time)s") % {"time": duration(BUCKETS[-1])}
        if value is None
        else f"≤ {duration(value)}"
    )


def moment_in(at: datetime) -> str:
    """Format a date and time with its time zone; seconds only if they are not zero."""
    return formats.date_format(at, "Y-m-d H:i:s T" if at.second else "Y-m-d H:i T")


def search_link(site: AdminSite, model: str, text: str, label: str) -> SafeString | str:
    """Return a link to a search for ``text`` in the change list of a model."""
    try:
        url = reverse(f"admin:wellos_jobs_{model}_changelist", current_app=site.name)
    except NoReverseMatch:
        return label
    return format_html('<a href="{}?{}">{}</a>', url, urlencode({"q": text}), label)


def link(site: AdminSite, model: str, pk: object, label: object) -> SafeString | str:
    """Return a link to an object on this admin site, or just the label if it is not registered."""
    try:
        url = reverse(f"admin:wellos_jobs_{model}_change", args=[pk], current_app=site.name)
    except NoReverseMatch:
        return str(label)
    return format_html('<a href="{}">{}</a>', url, label)


def organizations(ids: Iterable[str]) -> dict[str, SafeString | str]:
    """Return the display of each organization; the resolver is called once per id."""
    return {key: organization(key, found) for key, found in resolved(ids).items()}


def has_resolver() -> bool:
    """Return whether the project has set ``ORGANIZATION_RESOLVER``."""
    return conf.current().organization_resolver is not None


def resolved(ids: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Return what ``ORGANIZATION_RESOLVER`` returns for each organization, called once per id."""
    resolver = conf.hook(conf.current().organization_resolver)
    return {key: _resolved(key, resolver) for key in set(ids) if key}


def organization(organization_id: str, found: Mapping[str, Any]) -> SafeString | str:
    """Return the display of one organization: its label, linked if the resolver gave a URL."""
    label = found.get("label") or organization_id
    url = str(found.get("url") or "")
    if urlsplit(url).scheme not in {"", "http", "https"} or not url:
        return str(label)
    return format_html('<a href="{}">{}</a>', url, label)


def _resolved(organization_id: str, resolver: Any) -> Mapping[str, Any]:
    if resolver is None:
        return {}
    try:
        return resolver(organization_id) or {}
    except Exception:  # an error in the project's hook must not break the page
        logger.exception("ORGANIZATION_RESOLVER raised for organization %r", organization_id)
        return {}
