"""Tags and filters of the admin's templates."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template
from django.apps import apps
from django.utils.safestring import SafeString

from ..admin.ui import display, page

register = template.Library()

INTERVALS = (1, 2, 5, 10, 30)
"""Seconds between two refreshes that a person may choose."""


@register.inclusion_tag("admin/wellos_jobs/navigation.html", takes_context=True)
def wj_navigation(context: template.Context) -> dict[str, Any]:
    """Links to all pages of this app that the person may open."""
    return {"entries": page.navigation(context["request"])}


@register.inclusion_tag("admin/wellos_jobs/live_switch.html")
def wj_live_switch() -> dict[str, Any]:
    """The choice of how often a page refreshes itself; nothing without django-htmx."""
    return {"intervals": INTERVALS, "has_htmx": has_htmx()}


@register.simple_tag
def wj_has_htmx() -> bool:
    """Whether the script that refreshes parts of pages can be served."""
    return has_htmx()


def has_htmx() -> bool:
    """Tell whether django-htmx is installed as an app, so that its static files are found."""
    return apps.is_installed("django_htmx")


@register.filter
def wj_duration(seconds: float | None) -> str:
    """Seconds in words."""
    return display.duration(seconds)


@register.filter
def wj_moment(at: datetime | None) -> str:
    """A date and time, short."""
    return display.short_moment(at)


@register.simple_tag
def wj_badge(word: str, label: object = "") -> SafeString:
    """A state or another word as a badge."""
    return display.badge(word, label or word)


@register.simple_tag
def wj_bar(percent: int, message: str = "") -> SafeString:
    """Progress as a bar."""
    return display.bar(percent, message)


@register.simple_tag
def wj_between(start: datetime | None, end: datetime | None) -> str:
    """The time from one moment to another."""
    return display.between(start, end)


@register.simple_tag
def wj_clock(at: datetime) -> str:
    """A moment to the second, in the current time zone."""
    return display.to_the_second(at)


@register.simple_tag
def wj_dot(word: str) -> SafeString:
    """A state or another word as a dot; the text beside it says the same."""
    return display.dot(word)


@register.simple_tag
def wj_bound(times: Any, name: str) -> str:
    """A percentile, which is the upper bound of a bucket."""
    return display.bound(times, name)
