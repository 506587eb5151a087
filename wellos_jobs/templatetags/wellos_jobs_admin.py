"""Tags and filters of the admin templates."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template
from django.apps import apps
from django.utils.safestring import SafeString

from ..admin.ui import display, page

register = template.Library()

INTERVALS = (1, 2, 5, 10, 30)
"""Refresh intervals to choose from, in seconds."""


@register.inclusion_tag("admin/wellos_jobs/navigation.html", takes_context=True)
def wj_navigation(context: template.Context) -> dict[str, Any]:
    """Render links to all pages of this app that the user may open."""
    return {"entries": page.navigation(context["request"])}


@register.inclusion_tag("admin/wellos_jobs/live_switch.html")
def wj_live_switch() -> dict[str, Any]:
    """Render the choice of the refresh interval; nothing without django-htmx."""
    return {"intervals": INTERVALS, "has_htmx": has_htmx()}


@register.simple_tag
def wj_has_htmx() -> bool:
    """Return whether htmx is available."""
    return has_htmx()


def has_htmx() -> bool:
    """Return whether django-htmx is an installed app, so that its static files are served."""
    return apps.is_installed("django_htmx")


@register.filter
def wj_duration(seconds: float | None) -> str:
    """Format seconds as a duration."""
    return display.duration(seconds)


@register.filter
def wj_moment(at: datetime | None) -> str:
    """Format a date and time, short."""
    return display.short_moment(at)


@register.simple_tag
def wj_badge(word: str, label: object = "") -> SafeString:
    """Render a state or another word as a badge."""
    return display.badge(word, label or word)


@register.simple_tag
def wj_bar(percent: int, message: str = "") -> SafeString:
    """Render progress as a bar."""
    return display.bar(percent, message)


@register.simple_tag
def wj_between(start: datetime | None, end: datetime | None) -> str:
    """Format the duration between two moments."""
    return display.between(start, end)


@register.simple_tag
def wj_clock(at: datetime) -> str:
    """Format a date and time with seconds, in the current time zone."""
    return display.to_the_second(at)


@register.simple_tag
def wj_dot(word: str) -> SafeString:
    """Render a state or another word as a dot, beside a text with the same meaning."""
    return display.dot(word)


@register.simple_tag
def wj_bound(times: Any, name: str) -> str:
    """Format a percentile, which is the upper bound of a histogram bucket."""
    return display.bound(times, name)
